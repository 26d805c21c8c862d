"""Are the tests worth anything? Each mutant breaks one promise of docs/guarantees.md in one place, and the test named
with it must turn red. `make mutants` runs them all, `python tests/mutants.py WORD` those whose name has the word.

No tool that makes up mutations by itself: what is asked here is whether *these* mistakes would be noticed, by name.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from tests.mutant_table import MUTANTS, Mutant  # noqa: E402

FOLDERS = ("actors", "cluster", "serve_app", "loadtests", "tests")
AT_ONCE = 2
LIMIT_S = 300.0  # for one mutant, on a machine that is busy with others


class Outdated(Exception):
    """The code has moved on, and the table has not."""


class Verdict(NamedTuple):
    mutant: Mutant
    fault: str  # why the mutant was not caught as it must be; empty when it was
    seconds: float


def check(mutants: Sequence[Mutant]) -> list[Verdict]:
    """The verdict on each; first of all their tests must be green on the code as it is. Raises `SystemExit`."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        names = sorted({test for mutant in mutants for test in mutant.tests})
        code, text = run_tests(copy_tree(Path(scratch) / "sound"), names)
        if code != 0:
            sys.exit(f"These tests must be green before any mutant is tried; pytest ended with {code}.\n{text[-4000:]}")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(lambda mutant: judge(mutant, Path(scratch)), mutants))


def judge(mutant: Mutant, scratch: Path) -> Verdict:
    began = time.monotonic()
    folder = copy_tree(scratch / re.sub(r"\W+", "-", mutant.name))
    fault = mutate(mutant, folder)
    if not fault:
        try:
            code, text = run_tests(folder, mutant.tests, LIMIT_S)
        except subprocess.TimeoutExpired:
            code, text = -1, f"no end after {LIMIT_S:.0f} s"
        survived = [test for test in mutant.tests if not re.search(rf"^FAILED {re.escape(test)}", text, re.MULTILINE)]
        if code != 1:  # 0: all green; 2 and above: no test was run to its end
            fault = f"pytest ended with {code}, not 1: {text.strip().splitlines()[-1]}"
        elif survived:
            fault = "still green: " + ", ".join(survived)
    shutil.rmtree(folder)
    print(f"{mutant.name}: {fault or 'caught'}", file=sys.stderr, flush=True)
    return Verdict(mutant, fault, time.monotonic() - began)


def mutate(mutant: Mutant, folder: Path) -> str:
    """Apply it; returns what is wrong with the table when the code has moved on."""
    file = folder / mutant.file
    try:
        file.write_text(mutated(mutant, file.read_text()))
    except Outdated as error:
        return str(error)
    return ""


def mutated(mutant: Mutant, source: str) -> str:
    """Its file with the mistake in it. Raises `Outdated`."""
    for old, new in mutant.edits:
        if (found := source.count(old)) != 1:
            raise Outdated(f"{mutant.file} has this {found} times, not once; mend the table: {old!r}")
        source = source.replace(old, new)
    return source


def copy_tree(target: Path) -> Path:
    for name in FOLDERS:
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", target)
    return target


def run_tests(folder: Path, tests: Sequence[str], limit_s: float | None = None) -> tuple[int, str]:
    """The exit code of pytest, and its short summary."""
    options = ["-q", "--tb=line", "-rf", "-p", "no:cacheprovider", "--hypothesis-profile=mutants"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=folder,
        env=os.environ | {"COLUMNS": "400", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=limit_s,
    )
    return ended.returncode, ended.stdout + ended.stderr


def main(words: Sequence[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if all(word in mutant.name for word in words)]
    if not chosen:
        sys.exit(f"No mutant is named so. There are: {', '.join(mutant.name for mutant in MUTANTS)}")
    began = time.monotonic()
    verdicts = check(chosen)
    table = Table("mutant", "promise", "caught by", "seconds", title="Check the checks")
    for mutant, fault, seconds in verdicts:
        told = f"[red]NOT CAUGHT[/red] {fault}" if fault else "\n".join(test.split("::")[-1] for test in mutant.tests)
        table.add_row(mutant.name, mutant.promise, told, f"{seconds:.0f}")
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    caught = sum(not verdict.fault for verdict in verdicts)
    console.print(f"{caught} of {len(verdicts)} mutants caught in {time.monotonic() - began:.0f} s")
    return 0 if caught == len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
