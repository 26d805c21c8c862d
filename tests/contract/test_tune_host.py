"""k8s/tune-host.sh, on a /proc/sys and an /etc of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOUND = {
    "net/core/somaxconn": "4096",
    "net/ipv4/tcp_max_syn_backlog": "65536",  # more than is wanted
    "net/ipv4/ip_local_port_range": "32768\t60999",
    "net/ipv4/ip_local_reserved_ports": "",
    "net/ipv4/tcp_tw_reuse": "2",
}


class Kernel:
    """A /proc/sys and an /etc that belong to the test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, value in FOUND.items():
            path = root / "proc/sys" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{value}\n")

    def tune(self, *arguments: str, files: str = "4096", caller: str | None = None) -> str:
        """In a shell that says it may open so many files: a container cannot be given more than it has. `caller`: what
        a login of the one who called sudo says; None without sudo."""
        environment = {"PATH": os.environ["PATH"], "TUNE_ROOT": str(self.root)}
        environment["BASH_FUNC_ulimit%%"] = f"() {{ [[ $* == -Hn ]] && echo {files}; }}"
        if caller is not None:
            environment["SUDO_USER"] = "alice"
            environment["BASH_FUNC_su%%"] = f"() {{ [[ $* == '-s /bin/sh - alice -c ulimit -Hn' ]] && {caller}; }}"
        command = ["bash", str(ROOT / "k8s/tune-host.sh"), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def values(self) -> dict[str, str]:
        return {name: " ".join((self.root / "proc/sys" / name).read_text().split()) for name in FOUND}

    def files(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_showing_changes_nothing_and_tells_what_is_wanted_and_why(kernel: Kernel) -> None:
    before, files = kernel.values(), kernel.files()
    *rows, last = kernel.tune().splitlines()
    marks = {row.split()[1]: row.split()[0] for row in rows}
    assert marks["net.core.somaxconn"] == "✗"
    assert marks["net.ipv4.tcp_max_syn_backlog"] == "✓"
    assert len(marks) == len(FOUND) + 1  # and nofile
    assert last == "→ sudo k8s/tune-host.sh --apply"
    assert (kernel.values(), kernel.files()) == (before, files)


def test_what_was_applied_is_well_survives_a_reboot_and_can_be_taken_back(kernel: Kernel) -> None:
    before, files = kernel.values(), kernel.files()
    kernel.tune("--apply")
    applied = kernel.values()
    assert "--apply" not in kernel.tune(), "whatever this shell's nofile is until the next login"
    assert applied == {
        **before,
        "net/core/somaxconn": "16384",
        "net/ipv4/ip_local_port_range": "10000 65535",
        "net/ipv4/ip_local_reserved_ports": "10002-21000,30000-32767",
        "net/ipv4/tcp_tw_reuse": "1",
    }
    persistent = (kernel.root / "etc/sysctl.d/90-spillway.conf").read_text()
    assert "net.core.somaxconn=16384" in persistent
    assert "syn_backlog" not in persistent  # it was well, and is none of our business
    assert "65536" in (kernel.root / "etc/security/limits.d/90-spillway.conf").read_text()

    (kernel.root / "proc/sys/net/core/somaxconn").write_text("128\n")  # somebody else
    kernel.tune("--apply")  # again: the former values are still those of before
    assert kernel.values() == applied
    kernel.tune("--revert")
    assert kernel.values() == before
    assert kernel.files() == files


@pytest.mark.parametrize(
    ("files", "caller", "raised"),
    [
        ("65535", None, {"*", "root"}),
        ("65536", None, set()),
        ("unlimited", None, set()),
        ("1048576", "echo 70000; echo 4096", {"*"}),  # a profile greets first
        ("4096", "echo 1048576", {"root"}),
        ("4096", "echo 65535", {"*", "root"}),
        ("1048576", "echo unlimited", set()),
        ("4096", "false", {"*", "root"}),  # unknown
        ("1048576", "echo no such user", set()),  # unknown
    ],
)
def test_who_may_open_too_few_files_gets_more_and_no_limit_is_lowered(
    kernel: Kernel, files: str, caller: str | None, raised: set[str]
) -> None:
    told = kernel.tune("--apply", files=files, caller=caller)
    path = kernel.root / "etc/security/limits.d/90-spillway.conf"
    lines = path.read_text().splitlines() if path.exists() else []
    assert sorted(lines) == sorted(f"{who} {kind} nofile 65536" for who in raised for kind in ("hard", "soft"))
    assert ("next login" in told) == bool(raised)
    is_unknown = caller is None or "echo" not in caller or "such" in caller
    assert ("Another user's may be lower" in told) == (is_unknown and not raised)


def test_a_limit_that_is_high_enough_by_what_was_applied_stays(kernel: Kernel) -> None:
    kernel.tune("--apply", files="4096", caller="echo 4096")
    before = (kernel.root / "etc/security/limits.d/90-spillway.conf").read_text()
    kernel.tune("--apply", files="65536", caller="echo 4096")
    assert (kernel.root / "etc/security/limits.d/90-spillway.conf").read_text() == before


@pytest.mark.parametrize(
    ("found", "applied"),
    [
        ("8080,9000-9100", "8080,9000-9100,10002-21000,30000-32767"),  # somebody else's stay
        ("10002-21000", "10002-21000,10002-21000,30000-32767"),  # the kernel joins them
        ("9000-21005,30000-32767", "9000-21005,30000-32767"),
        ("10002-20999,30000-32767", "10002-20999,30000-32767,10002-21000,30000-32767"),
    ],
)
def test_ports_that_are_reserved_stay_reserved(kernel: Kernel, found: str, applied: str) -> None:
    (kernel.root / "proc/sys/net/ipv4/ip_local_reserved_ports").write_text(f"{found}\n")
    kernel.tune("--apply")
    assert kernel.values()["net/ipv4/ip_local_reserved_ports"] == applied
    kernel.tune("--revert")
    assert kernel.values()["net/ipv4/ip_local_reserved_ports"] == found


def test_taking_back_what_was_never_applied_is_refused(kernel: Kernel) -> None:
    with pytest.raises(AssertionError, match="Nothing was applied"):
        kernel.tune("--revert")


def test_without_root_it_names_the_command_that_has_it(tmp_path: Path) -> None:
    script = tmp_path / "tune-host.sh"
    shutil.copy(ROOT / "k8s/tune-host.sh", script)
    nobody = ["setpriv", "--reuid=65534", "--clear-groups"] if os.getuid() == 0 else []
    with script.open() as text:  # by standard input: the folder is closed to others
        done = subprocess.run([*nobody, "bash", "-s", "--", "--apply"], stdin=text, capture_output=True, text=True)
    assert done.returncode == 1
    assert "sudo k8s/tune-host.sh --apply" in done.stderr
