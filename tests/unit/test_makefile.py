"""How `make` comes to its virtual environment, with a Python that is a shell script."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = """#!/bin/sh
case "$*" in
  "-m venv --clear .venv")
    rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python
    test -e no-ensurepip && exit 1
    touch .venv/pip ;;
  "-m pip "*) test -e .venv/pip || { echo "No module named pip" >&2; exit 1; } ;;
esac
echo "$*" >> calls
env > environment
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="this machine has no make")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "requirements.txt").touch()
    return tmp_path


def venv(project: Path, *choice: str, **shell: str) -> subprocess.CompletedProcess[str]:
    return make(project, "venv", *(choice or (f"PYTHON={project / 'python'}",)), **shell)


def make(project: Path, *arguments: str, out: int = subprocess.PIPE, **shell: str) -> subprocess.CompletedProcess[str]:
    ours = ("MAKE", "MFLAGS", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | shell
    command = ["make", "-f", str(ROOT / "Makefile"), *arguments]
    return subprocess.run(
        command, cwd=project, env=environment, stdout=out, stderr=subprocess.PIPE, text=True, check=False
    )


def test_a_debian_without_venv_is_told_what_to_install_and_the_next_try_begins_anew(project: Path) -> None:
    (project / "no-ensurepip").touch()
    for _ in range(2):
        failed = venv(project)
        assert failed.returncode != 0
        assert "On Debian and Ubuntu: apt-get install python3-venv" in failed.stderr
        assert "No module named pip" not in failed.stderr
        assert (project / ".venv" / "bin" / "python").exists(), "what such a Debian leaves"
    (project / "no-ensurepip").unlink()
    made = venv(project)
    assert made.returncode == 0, made.stderr
    assert "install --quiet" in (project / "calls").read_text()


def test_a_sound_environment_is_kept_when_the_requirements_change(project: Path) -> None:
    assert venv(project).returncode == 0
    (project / "calls").unlink()
    later = (project / "requirements.txt").stat().st_mtime + 1_000
    os.utime(project / "requirements.txt", (later, later))
    assert venv(project).returncode == 0
    calls = (project / "calls").read_text()
    assert "install --quiet" in calls
    assert "-m venv" not in calls


def test_an_environment_whose_python_has_gone_is_made_anew(project: Path) -> None:
    """As after an upgrade of the system's."""
    assert venv(project).returncode == 0
    (project / "calls").unlink()
    (project / ".venv" / "bin" / "python").unlink()
    (project / ".venv" / "bin" / "python").symlink_to(project / "gone")
    made = venv(project)
    assert made.returncode == 0, made.stderr
    assert "-m venv --clear .venv" in (project / "calls").read_text()


def test_what_a_shell_says_to_other_programs_reaches_neither_pip_nor_the_service(project: Path) -> None:
    others = ("PYTHONHOME", "PYTHONPATH", "PYTHONSAFEPATH", "RAY_ADDRESS", "RAY_AUTH_TOKEN")
    made = venv(project, **dict.fromkeys(others, "/theirs"), PIP_USER="yes", PIP_INDEX_URL="https://mirror")
    assert made.returncode == 0, made.stderr
    seen = dict(line.split("=", 1) for line in (project / "environment").read_text().splitlines() if "=" in line)
    assert not seen.keys() & set(others)
    assert (seen["PIP_USER"], seen["PIP_INDEX_URL"]) == ("0", "https://mirror")
    assert seen["PYTHONIOENCODING"] == ":replace"


def test_one_after_the_other_and_to_the_terminal_whatever_makeflags_say(project: Path) -> None:
    alone = "test -t 1 && mkdir busy && head -c 20000000 /dev/zero | cksum > sum && rmdir busy"
    shown, terminal = os.openpty()
    done = make(project, f"--eval=one two three:; @{alone}", "one", "two", "three", out=terminal, MAKEFLAGS="-j3 -O")
    os.close(terminal)
    os.close(shown)
    assert done.returncode == 0, done.stderr


def test_the_first_python_that_can_make_a_venv_is_taken(project: Path) -> None:
    """Debian's can not where python3-venv is missing; another one in the PATH may."""
    without = project / "without"
    without.write_text("#!/bin/sh\necho \"$*\" >> without.calls\nexit 1\n")
    without.chmod(0o755)
    made = venv(project, f"PYTHONS={project / 'absent'} {without} {project / 'python'} {without}")
    assert made.returncode == 0, made.stderr
    assert "-m venv --clear .venv" in (project / "calls").read_text()
    assert set((project / "without.calls").read_text().splitlines()) == {"-I -c import ensurepip"}
