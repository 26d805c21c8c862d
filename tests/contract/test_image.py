"""The image, without an engine: what its build sees, what it copies, and whether its Python steps work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.settings import Settings
from tests import image

ROOT = image.ROOT
PACKAGES = ("actors", "cluster", "serve_app")
MOST_BYTES = 2 * 1024 * 1024
IMPORTS = "import serve_app.app, actors.remote, cluster, cluster.up, cluster.head"


def tracked() -> list[str]:
    """What git knows of the packages; FerretDB's source is a stand-in for machines without a database."""
    listed = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for path in listed.stdout.splitlines() if not path.startswith("cluster/embedded/ferretdb/")]


def test_everything_the_image_copies_is_in_the_build_context_and_nothing_else_is() -> None:
    seen = list(image.context(ROOT))
    assert set(image.copied()) == {"requirements.txt", *PACKAGES}
    # A file that git does not know yet is on its way; it must not hide one that is missing.
    assert set(tracked()) <= set(seen)
    assert {path.split("/")[0] for path in seen} == {"requirements.txt", *PACKAGES}
    assert sum((ROOT / path).stat().st_size for path in seen) < MOST_BYTES


@pytest.mark.parametrize(
    "unwanted",
    [
        ".git/config",
        ".spillway/run/ray-token",
        ".venv/bin/python",
        ".env",
        "tests/unit/test_ids.py",
        "docs/architecture.md",
        "k8s/base/secret.yaml",
        "cluster/__pycache__/up.cpython-311.pyc",
        "cluster/embedded/ferretdb/ferretdb",
    ],
)
def test_what_is_secret_or_big_never_reaches_the_build(unwanted: str, tmp_path: Path) -> None:
    for path in (unwanted, "cluster/up.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert list(image.context(tmp_path)) == ["cluster/up.py"]


def test_the_base_is_pinned_and_the_same_in_both_stages() -> None:
    (argument,) = image.named("ARG")
    name, _, tag = argument.text.partition("=")
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", tag)
    assert {each.words[0] for each in image.named("FROM")} == {f"${{{name}}}"}


def test_it_runs_without_root_and_its_settings_are_known() -> None:
    (user,) = image.named("USER")
    assert user.text == "10001:10001"
    ours = [name for name in image.environment() if name.startswith("SPILLWAY_")]
    assert ours
    assert {name.removeprefix("SPILLWAY_").lower() for name in ours} <= set(Settings.model_fields)
    assert image.environment()["PYTHONPATH"] == image.named("WORKDIR")[0].text


def test_its_python_steps_make_an_environment_in_which_the_copied_files_work(tmp_path: Path) -> None:
    venv, app = tmp_path / "venv", tmp_path / "srv"
    places = {"/opt/venv": str(venv), image.copied()["requirements.txt"]: str(ROOT / "requirements.txt")}
    steps = [each.text for each in image.named("RUN") if "pip" in each.text or "-m venv" in each.text]
    assert len(steps) == 3
    base = tmp_path / "base"
    base.mkdir()
    (base / "python").symlink_to(Path(sys.executable).resolve())
    environment = {"PATH": f"{base}:{os.environ['PATH']}"}
    for step in steps:
        for place, here in places.items():
            step = step.replace(place, here)
        _run(["sh", "-euc", step], tmp_path, {**os.environ, **environment})

    image.assemble(app)
    clean = {"PATH": f"{venv}/bin:/usr/bin:/bin", "PYTHONPATH": str(app), "HOME": str(tmp_path)}
    _run(["python", "-c", IMPORTS], app, clean)
    program = image.named("CMD")[0].command
    assert "in the foreground" in _run([*program, "--help"], app, clean)


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    program = [str(Path(environment["PATH"].split(":")[0]) / command[0])] if command[0] == "python" else [command[0]]
    done = subprocess.run(
        [*program, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout
