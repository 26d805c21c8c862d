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
    mkdir -p .venv/bin && cp "$0" .venv/bin/python
    test -e no-ensurepip && exit 1
    touch .venv/pip ;;
  "-m pip "*) test -e .venv/pip || { echo "No module named pip" >&2; exit 1; } ;;
esac
echo "$*" >> calls
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="this machine has no make")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "requirements.txt").touch()
    return tmp_path


def venv(project: Path, *choice: str) -> subprocess.CompletedProcess[str]:
    ours = ("MAKE", "MFLAGS", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    command = ["make", "-f", str(ROOT / "Makefile"), "venv", *(choice or (f"PYTHON={project / 'python'}",))]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


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


def test_the_first_python_that_can_make_a_venv_is_taken(project: Path) -> None:
    """Debian's can not where python3-venv is missing; another one in the PATH may."""
    without = project / "without"
    without.write_text("#!/bin/sh\necho \"$*\" >> without.calls\nexit 1\n")
    without.chmod(0o755)
    made = venv(project, f"PYTHONS={project / 'absent'} {without} {project / 'python'} {without}")
    assert made.returncode == 0, made.stderr
    assert "-m venv --clear .venv" in (project / "calls").read_text()
    assert set((project / "without.calls").read_text().splitlines()) == {"-c import ensurepip"}
