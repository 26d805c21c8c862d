"""One session of trials: its seed, its folder, its rows, and how to repeat it."""

from __future__ import annotations

import os
import platform
import random
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster.state import StateFolder
from tests.acceptance.service import ROOT
from tests.acceptance.table import Row, markdown_table, text_table, write_between_markers

FIXED_SEED = 1
PATIENCE_IN_TEST = 6.0  # a machine that does other things as well; `make chaos` measures
PAGE = ROOT / "docs" / "guarantees.md"


@dataclass
class Session:
    """`folder` is kept when a test has failed, and removed otherwise."""

    seed: int
    patience: float
    chaos: bool
    write_table: bool
    folder: Path
    rows: list[Row] = field(default_factory=list)

    @classmethod
    def of(cls, config: pytest.Config) -> Session:
        chaos = bool(config.getoption("--chaos"))
        given = config.getoption("--seed")
        seed = given if given is not None else random.SystemRandom().randrange(2**31) if chaos else FIXED_SEED
        patience = config.getoption("--patience") or (1.0 if chaos else PATIENCE_IN_TEST)
        folder = ROOT / ".spillway" / "chaos" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        return cls(seed, patience, chaos, bool(config.getoption("--write-table")), folder)

    def header(self) -> str:
        return f"seed {self.seed}, commit {commit()}, patience {self.patience:g}"

    def room(self, name: str) -> Path:
        """A folder of its own for a service or a trial."""
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60]
        path, number = self.folder / slug, 1
        while path.exists():
            number += 1
            path = self.folder / f"{slug}-{number}"
        path.mkdir(parents=True)
        return path

    def summary(self, failed: Sequence[str]) -> Iterator[str]:
        """The table; then what was kept and how to repeat what failed, or a folder less."""
        if self.rows:
            yield text_table(self.rows)
        if failed:
            yield f"logs, answers and data are kept: {self.folder}"
            mode = " --chaos" if self.chaos else ""
            for nodeid in failed:
                yield f"repeat: RAY_AUTH_MODE=disabled .venv/bin/python -m pytest{mode} --seed {self.seed} '{nodeid}'"
        else:
            for state in self.folder.glob("*/state"):  # each has a folder for sockets elsewhere, with Ray's logs
                shutil.rmtree(StateFolder(state).sockets, ignore_errors=True)
            shutil.rmtree(self.folder, ignore_errors=True)
        if self.write_table and self.rows and not failed:
            measured = [row for row in self.rows if row.passed]  # what was skipped has a row too, and no figures
            write_between_markers(PAGE, markdown_table(measured, self._origin()))
            yield f"the table was written to {PAGE.relative_to(ROOT)}"

    def _origin(self) -> str:
        system = f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}"
        machine = f"{os.cpu_count()} cores, {system}, Python {platform.python_version()}"
        return f"`make chaos SEED={self.seed}`, commit {commit()}, {time.strftime('%Y-%m-%d')}, {machine}."


def commit() -> str:
    """The commit that is tried, with a mark when the files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"
