"""One run of k6: begun on an empty record, looked at once a second, shown while it lasts, never left behind."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from loadtests.generator import Load, start_k6
from loadtests.processes import GENERATOR, Watch
from loadtests.samples import Sample, Sampler
from loadtests.scenario import Plan
from loadtests.verify import ANSWERS, SUMMARY, VERDICT

SAMPLES, K6_LOG = "samples.ndjson", "k6.log"


@contextmanager
def k6_run(
    k6: str, load: Load, plan: Plan, watch: Watch, status_url: str | None, console: Console, name: str | None = None
) -> Iterator[tuple[int, Sampler]]:
    """Let k6 run to its end; gives its exit code, and the sampler, which goes on until the block is left.

    Whatever ends the block, k6 does not outlive it. Raises GeneratorError when k6 cannot be
    started, OSError. Ctrl-C ends k6 by itself, and is told by the code.
    """
    for old in (ANSWERS, SUMMARY, VERDICT, "report.html", "report.json"):
        # k6 appends, so a run starts with an empty record; what was said of the one before is not said of this one.
        (load.out / old).unlink(missing_ok=True)
    sampler = Sampler(watch, status_url, load.out / ANSWERS, load.out / SAMPLES)
    process = start_k6(k6, load, plan.users, load.out / ANSWERS, load.out / SUMMARY, load.out / K6_LOG)
    try:
        watch.follow(process.pid)
        with sampler:
            yield _await(process, plan, sampler, console, name or plan.name), sampler
    finally:
        if process.poll() is None:
            process.kill()


def last_words(load: Load) -> str:
    """The end of what k6 complained of."""
    try:
        return (load.out / K6_LOG).read_text(errors="replace").strip()[-600:]
    except OSError:
        return "k6 left no log"


def _await(process: subprocess.Popen[bytes], plan: Plan, sampler: Sampler, console: Console, name: str) -> int:
    """Show how far k6 is until it has ended; returns its exit code. Ctrl-C is passed on once, and k6 waited for."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(name, total=plan.seconds)
        began, interrupted = time.monotonic(), False
        while True:
            try:
                return process.wait(0.5)
            except subprocess.TimeoutExpired:
                progress.update(task, completed=time.monotonic() - began, description=_live(name, sampler.seen))
            except KeyboardInterrupt:
                if not interrupted:
                    process.send_signal(signal.SIGINT)
                interrupted = True


def _live(name: str, seen: list[Sample]) -> str:
    if len(seen) < 2:
        return name
    before, now = seen[-2], seen[-1]
    rate = (now.requests - before.requests) / max(now.at_s - before.at_s, 1e-3)
    backlog = "" if now.backlog is None else f" · backlog {now.backlog:,}"
    k6 = now.usage.cpu_cores.get(GENERATOR, 0.0)
    return f"{name} · {rate:,.0f} requests/s{backlog} · k6 {k6:.1f} cores"
