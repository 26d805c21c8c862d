"""`python -m loadtests limits`: what hello world, an actor call and an append reach here, and how near ours comes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from rich.console import Console

from loadtests import facts
from loadtests.contender import Program, await_ready, free_port
from loadtests.generator import Load
from loadtests.page import Page, Table, number
from loadtests.processes import RUN_VARIABLE, Watch
from loadtests.serve_api import deploy_beside
from loadtests.servers import path_of, redis_command
from loadtests.service import ROOT, ServiceError, wait_for_drain
from loadtests.spillway import Spillway
from loadtests.throughput import throughput, warm_up

HELLO = "loadtests.baselines.hello"
USERS = 64
APPEND_BYTES = 3_500  # five documents of 512 characters, as frames
APPENDS = 10  # in one pipeline
DRAIN_S = 60.0
SHARE = 0.5  # of what ours gets through at the front door: offered to both, for what a request costs under equal load
OURS_SERVE, HELLO_SERVE = "ours, front door", "hello world, front door"
OURS_SAME, HELLO_SAME = "ours, front door, equal load", "hello world, front door, equal load"
OURS_DIRECT, HELLO_DIRECT = "ours, direct port", "hello world, uvicorn"


@dataclass(frozen=True, slots=True)
class Pace:
    """How many a second, and the CPU of one (µs) by part of what ran; `listener` took and answered them. Where k6
    asked, its cores and its warnings (see `Generator`)."""

    name: str
    per_s: float
    cpu_us: dict[str, float]
    listener: str = ""
    k6_cores: float | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def answering_us(self) -> float:
        """CPU of what takes the request and answers it."""
        return sum(self.cpu_us.get(part, 0.0) for part in (self.listener, "HAProxy"))

    @property
    def keeping_us(self) -> float:
        """The same, and all of the buffers and Redis: without them ours may not answer. Their part of the drain is in
        it, which comes after the answer."""
        return self.answering_us + sum(self.cpu_us.get(part, 0.0) for part in ("Buffers", "Redis"))


def limits(folder: Path, seconds: float, repeats: int, console: Console, k6: str) -> Page:
    """Measure each in turn, `repeats` times; keep limits.json and limits.html up to date, and return the page.

    Raises ServiceError when something does not start, GeneratorError, OSError.
    """
    bench = _Bench(folder, seconds, console, k6)
    paces: list[Pace] = []
    about = facts.where(k6)

    def note(pace: Pace) -> None:
        paces.append(pace)
        keep()
        k6_part = "" if pace.k6_cores is None else f"; k6 {pace.k6_cores:.2f} cores"
        console.print(f"  {pace.name}: {number(pace.per_s)}/s {_parts(pace)}{k6_part}", highlight=False)

    def keep() -> Page:
        """After each: what was measured stays when a later one cannot be."""
        page = page_of(paces, seconds, about)
        page.write(folder, "limits", {"paces": [asdict(pace) for pace in paces], "facts": about})
        return page

    service = Spillway(folder / "spillway")
    with console.status("starting the service"):
        service.start()
    try:
        with console.status("deploying hello world beside it"):
            deploy_beside(service.addresses, "hello", "/hello", f"{HELLO}:deployed")
        front = service.addresses.door("front")
        direct = service.addresses.door("direct")
        watch = Watch(service.target().run_id, service.target().roots)

        def ask(name: str, listener: str, url: str, rate: float | None = None) -> None:
            note(bench.ask(name, listener, url, watch, rate, lambda: _drain(str(direct))))

        for _ in range(repeats):
            ask(HELLO_SERVE, "Hello world", f"{front}/hello")
            ask(OURS_SERVE, "Replicas", f"{front}/api/data")
            ask(OURS_DIRECT, "Replicas", f"{direct}/api/data")
        rate = SHARE * median([pace.per_s for pace in paces if pace.name == OURS_SERVE])
        for _ in range(repeats):
            ask(HELLO_SAME, "Hello world", f"{front}/hello", rate)
            ask(OURS_SAME, "Replicas", f"{front}/api/data", rate)
    finally:
        with console.status("stopping the service"):
            service.stop()
    for _ in range(repeats):
        note(_hello(bench))
        note(_ray_calls(seconds))
        note(_appends(folder, seconds))
    return keep()


@dataclass(frozen=True, slots=True)
class _Bench:
    """Where each is measured, for how long, and by what."""

    folder: Path
    seconds: float
    console: Console
    k6: str

    def ask(
        self,
        name: str,
        listener: str,
        url: str,
        watch: Watch,
        rate: float | None = None,
        drained: Callable[[], None] = lambda: None,
    ) -> Pace:
        """One address, without thought or at `rate` requests/s; what is still to be done then belongs to the cost."""
        slug = name.replace(" ", "-").replace(",", "")
        out = self.folder / f"{slug}-{1 + len(list(self.folder.glob(f'{slug}-[0-9]*')))}"  # of each round
        load = Load("bare", (url,), out, users=None if rate else USERS, seconds=self.seconds, rate=rate)
        warm_up(load, self.console, self.k6)
        drained()
        watch.look()
        began = time.monotonic()
        got = throughput(load, self.console, self.k6)
        drained()
        took = time.monotonic() - began
        cores = watch.look().cpu_cores
        cpu_us = {part: used * took / got.requests * 1e6 for part, used in cores.items() if used}
        return Pace(name, got.per_s, cpu_us, listener, got.generator.cores, got.generator.warnings())


def _drain(url: str) -> None:
    if wait_for_drain(url, DRAIN_S).seconds is None:
        raise ServiceError(f"{url} still has a backlog after {DRAIN_S:.0f} s")


def _hello(bench: _Bench) -> Pace:
    run_id, port = os.urandom(8).hex(), free_port()
    command = [sys.executable, "-m", "uvicorn", f"{HELLO}:app", "--port", str(port), "--no-access-log"]
    command += ["--loop", "uvloop", "--http", "httptools", "--log-level", "warning"]
    program = Program(command, bench.folder / "hello.log", {RUN_VARIABLE: run_id})
    program.start()
    assert program.process is not None
    try:
        url = f"http://127.0.0.1:{port}"
        await_ready(url, program.process, program.log, 60)
        return bench.ask(HELLO_DIRECT, "uvicorn", url, Watch(run_id))
    finally:
        program.stop(15, 10)


def _ray_calls(seconds: float) -> Pace:
    command = [sys.executable, "-m", "loadtests.baselines.ray_call", f"{seconds:g}", str(APPEND_BYTES), str(USERS)]
    environment = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        raise ServiceError(f"the actor could not be called: {done.stderr[-500:]}")
    return Pace(f"call of an actor through Ray, {USERS} at once", json.loads(done.stdout)["calls_per_s"], {})


def _appends(folder: Path, seconds: float) -> Pace:
    """Entries of five documents, ten in a pipeline, each pipeline synced to disk before its answer."""
    port, data = free_port(), folder / "redis"
    data.mkdir(exist_ok=True)
    program = Program(redis_command(path_of("redis-server"), port, data, "always"), folder / "redis.log", {})
    program.start()
    try:
        client = Redis(port=port, retry=Retry(ConstantBackoff(0.1), 50))
        client.ping()
        payload, done, end = os.urandom(APPEND_BYTES), 0, time.monotonic() + seconds
        while time.monotonic() < end:
            pipeline = client.pipeline(transaction=False)
            for _ in range(APPENDS):
                pipeline.xadd("log", {"w1": payload}, maxlen=10_000)
            pipeline.execute()
            done += APPENDS
        return Pace(f"XADD, {APPENDS} in a pipeline, fsync always", done / seconds, {})
    finally:
        program.stop(15, 10)


_NOTE = (
    "To answer: the replica that was asked and HAProxy, or uvicorn. Until it is kept: the buffers and Redis as well, "
    "with their part of the drain; the rest of the drain stands among the parts. Users without thought get more "
    "through hello world, and the fuller a turn of an event loop, the less of it each request pays; so what a request "
    "costs is told by equal load."
)


def page_of(paces: Sequence[Pace], seconds: float, about: dict[str, str]) -> Page:
    """Medians, and the ratios that count."""
    names = dict.fromkeys(pace.name for pace in paces)
    found = {name: _median([pace for pace in paces if pace.name == name]) for name in names}
    rows = [
        (
            name,
            number(pace.per_s),
            number(pace.answering_us or None),
            number(pace.keeping_us if pace.keeping_us > pace.answering_us else None),
            _parts(pace),
            number(pace.k6_cores, digits=2),
        )
        for name, pace in found.items()
    ]
    ratios = [
        f"{ours} / {hello}: {found[ours].answering_us / found[hello].answering_us:.2f} to answer, "
        f"{found[ours].keeping_us / found[hello].answering_us:.2f} until it is kept"
        for ours, hello in ((OURS_SAME, HELLO_SAME), (OURS_SERVE, HELLO_SERVE), (OURS_DIRECT, HELLO_DIRECT))
        if ours in found and hello in found and found[hello].answering_us
    ]
    warnings = {f"{pace.name}: {warning}" for pace in paces for warning in pace.warnings}
    head = ("", "a second", "µs CPU to answer one", "until it is kept", "µs CPU by part", "k6 (cores)")
    return Page(
        title="What could be reached at most",
        subtitle=f"{USERS} users or callers, or so many requests a second; {seconds:.0f} s each, medians; "
        + time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        passed=None,
        verdict="; ".join(ratios),
        warnings=sorted(warnings),
        tables=[Table("Paces", head, rows, _NOTE)],
        facts=about,
    )


def _median(paces: Sequence[Pace]) -> Pace:
    parts = dict.fromkeys(part for pace in paces for part in pace.cpu_us)
    cpu = {part: median([pace.cpu_us.get(part, 0.0) for pace in paces]) for part in parts}
    k6 = [pace.k6_cores for pace in paces if pace.k6_cores is not None]
    per_s = median([pace.per_s for pace in paces])
    return Pace(paces[0].name, per_s, cpu, paces[0].listener, k6_cores=median(k6) if k6 else None)


def _parts(pace: Pace) -> str:
    shown = sorted(pace.cpu_us.items(), key=lambda item: -item[1])
    return ", ".join(f"{part} {used:,.0f}" for part, used in shown if used >= 1)
