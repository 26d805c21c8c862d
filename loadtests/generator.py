"""k6: where it is, what it needs from the machine, and one run of it."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from loadtests.service import ROOT

# Beside one socket a user: k6's own files, the runtime's pollers, sockets not yet closed.
SPARE_FILES = 256
INTERRUPTED = 105  # k6's exit code after Ctrl-C
THRESHOLDS_FAILED = 99


class GeneratorError(RuntimeError):
    """k6 cannot run here; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Load:
    """One flood: users, its length in k6's notation (`60s`, `5m`), the addresses asked, the folder for the records."""

    users: int
    duration: str
    base_urls: tuple[str, ...]
    out: Path


def allow_files(users: int) -> None:
    """Raise this process' limit of open files, which k6 inherits. Raises GeneratorError with the command that helps."""
    needed = users + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise GeneratorError(
                f"{users} users need {needed} open files, this shell may have {hard}; "
                f"as root: prlimit --pid $$ --nofile={needed}:{needed}"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def find_k6() -> str:
    """k6's path: the environment's K6, else what `python -m cluster tool k6` finds or builds, else the PATH's.

    A build is shown as it goes. Raises GeneratorError.
    """
    given = os.environ.get("K6")
    if given:
        return given
    asked = subprocess.run(
        [sys.executable, "-m", "cluster", "tool", "k6"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    lines = asked.stdout.strip().splitlines()
    if asked.returncode == 0 and lines:
        return lines[-1].strip()
    found = shutil.which("k6")
    if found is None:
        raise GeneratorError("k6 was not found: put it on the PATH or name it in K6")
    return found


def run_k6(k6: str, load: Load, answers: Path, summary: Path) -> int:
    """Run `flood.js` with k6's own output on this terminal; returns k6's exit code.

    Ctrl-C reaches k6 too, which then ends its requests by itself: it is waited for, so that its record is whole.
    Raises GeneratorError when it cannot be started.
    """
    command = [
        *(k6, "run", "--no-usage-report", "--address", ""),
        # Only console.log goes to the file; k6's own complaints stay on the terminal.
        *("--console-output", str(answers), "--log-format", "raw"),
        str(Path(__file__).with_name("flood.js")),
    ]
    environment = os.environ | {
        "BASE_URL": ",".join(load.base_urls),
        "VUS": str(load.users),
        "DURATION": load.duration,
        "SUMMARY": str(summary),
    }
    try:
        process = subprocess.Popen(command, env=environment)
    except OSError as error:
        raise GeneratorError(f"k6 cannot be started: {error}") from error
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue
        except BaseException:
            process.send_signal(signal.SIGTERM)
            raise
