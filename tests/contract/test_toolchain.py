"""A tool is built by one process at a time, and who builds or waits can be stopped. The commands are real."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from cluster.embedded import mongo_server, ports, toolchain
from cluster.embedded.steps import Steps
from cluster.state import PROJECT_ROOT, StateFolder
from tests.contract.patience import until


class Stop(Exception):
    """Somebody asks for a stop."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = toolchain.cache_folder()
    folder.mkdir(parents=True)
    return folder


def building(steps: Steps, script: str) -> Path:
    """The program `tool`, which a shell puts together."""

    def build(folder: Path, log: Path) -> None:
        with steps.step("Building the tool") as tick:
            toolchain.run(["sh", "-c", script], log, tick, hint="", cwd=folder)

    return toolchain.cached(steps, "tool-1", "tool", build)


def test_a_build_that_is_stopped_ends_with_all_it_has_started_and_leaves_nothing(cache: Path) -> None:
    log, compilers, scratch = cache / "logs" / "tool-1.log", list[psutil.Process](), list[Path]()

    def stop_once_it_compiles() -> None:
        if log.exists() and (said := log.read_text()).endswith("\n"):
            pid, folder = said.split()
            compilers.append(psutil.Process(int(pid)))
            scratch.append(Path(folder))
            assert os.getsid(compilers[0].pid) != os.getsid(0), "Ctrl-C in our terminal would look like a failed build"
            raise Stop

    steps = Steps(Console(stderr=True), stop_once_it_compiles)
    with pytest.raises(Stop):
        building(steps, "echo half > tool; touch $TMPDIR/object; sleep 60 & echo $! $TMPDIR; wait")
    assert not scratch[0].exists()
    until(lambda: not compilers[0].is_running() or compilers[0].status() == psutil.STATUS_ZOMBIE)
    assert list((cache / "tool-1").iterdir()) == []
    assert building(Steps(Console(stderr=True)), "echo whole > tool").read_text() == "whole\n"


def test_what_the_shell_builds_for_and_where_the_project_lies_is_no_matter(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "go.work").write_text("go 1.25\n")
    for name, value in {"GOOS": "windows", "GOARCH": "arm", "GOFLAGS": "", "GOWORK": ""}.items():
        monkeypatch.setenv(name, value)
    for name in ("HOME", "GOPATH"):
        monkeypatch.delenv(name, raising=False)
    asked = ["env", "GOOS", "GOHOSTARCH", "GOARCH", "GOWORK", "GOPATH"]
    toolchain.run_go(Steps(Console(stderr=True)), "Asking Go", asked, cache / "log", cwd=tmp_path)
    system, machine, builds_for, workspace, home = (cache / "log").read_text().splitlines()
    assert (system, builds_for, workspace) == ("linux", machine, "off")
    assert home, "the modules are kept there"


def test_the_cache_is_enough_for_who_has_no_home(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOPATH", raising=False)
    monkeypatch.setenv("HOME", "/proc/none")
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.chdir(tmp_path)
    toolchain.run_go(Steps(Console(stderr=True)), "Asking Go", ["env", "GOPATH"], cache / "log", cwd=PROJECT_ROOT)
    assert (cache / "log").read_text().strip() == str(cache / "go")
    assert toolchain.cache_folder() == cache, "go and FerretDB are started in other folders"


def test_a_user_without_a_folder_is_told_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    with pytest.raises(toolchain.BuildFailed, match=r"/proc/none.*named by HOME, or XDG_CACHE_HOME"):
        building(Steps(Console(stderr=True)), "echo whole > tool")


def test_who_waits_for_another_build_says_so_and_can_be_stopped(cache: Path) -> None:
    def stop() -> None:
        raise Stop

    console = Console(record=True)
    with (cache / "tool-1.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Stop):
            building(Steps(console, stop), "echo mine > tool")
        assert "Waiting for another build of tool" in console.export_text()

        def ends() -> None:
            (cache / "tool-1" / "tool").write_text("theirs")
            other.close()

        assert building(Steps(console, ends), "echo mine > tool").read_text() == "theirs"


@pytest.mark.parametrize("by", ["SIGINT", "make down"])
def test_a_first_start_that_waits_for_a_build_heeds_ctrl_c_and_make_down(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setenv("PATH", "/bin")
    if mongo_server.mongod_on_path():
        pytest.skip("nothing has to be built here: there is a mongod")
    sources = [(toolchain.FERRETDB_SOURCE / name).read_bytes() for name in ("main.go", "go.mod", "go.sum")]
    state, log, command = tmp_path / "state", tmp_path / "up.log", [sys.executable, "-m", "cluster"]
    monkeypatch.setenv("SPILLWAY_STATE_DIR", str(state))
    monkeypatch.setenv("SPILLWAY_HTTP_PORT", str(ports.free_port(0)))
    with (cache / f"ferretdb-{toolchain.digest(sources)}.lock").open("w") as other, log.open("wb") as output:
        fcntl.flock(other, fcntl.LOCK_EX)
        up = subprocess.Popen([*command, "up"], cwd=PROJECT_ROOT, stdout=output, stderr=output)
        try:
            until(lambda: "Waiting for another build of ferretdb" in log.read_text())
            if by == "make down":
                done = subprocess.run([*command, "down"], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=60)
                assert done.stdout.splitlines()[-1] == "Stopped.", done.stdout
            else:
                up.send_signal(signal.SIGINT)
            assert up.wait(30) == 0
        finally:
            up.kill()
            up.wait()
    assert "Stopped before it was ready." in log.read_text()
    shutil.rmtree(StateFolder(state).sockets)
