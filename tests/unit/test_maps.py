"""The map at the head of a large folder names each file in it, and none that has gone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("folder", ["actors", "serve_app", "loadtests"])
def test_the_map_of_a_folder_names_its_files(folder: str) -> None:
    there = {path.name for path in (ROOT / folder).glob("*.py") if not path.name.startswith("__")}
    assert set(re.findall(r"\w+\.py", (ROOT / folder / "__init__.py").read_text())) == there
