"""The table of mutants is about the code as it is. Whether they are caught takes longer, and is for `make mutants`."""

from __future__ import annotations

import re

import pytest

from tests.conftest import KEEPERS
from tests.mutant_table import MUTANTS, Mutant
from tests.mutants import ROOT, mutated


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_text_that_a_mutant_changes_is_in_the_code_once_and_its_tests_exist(mutant: Mutant) -> None:
    mutated(mutant, (ROOT / mutant.file).read_text())
    for named in mutant.tests:
        file, _, test = named.partition("::")
        name, _, case = test.rstrip("]").partition("[")
        source = (ROOT / file).read_text()
        assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), f"{file} has no {name}"
        kept = "fixture(**KEEPERS)" in source and case in KEEPERS["ids"]
        assert not case or kept or f'"{case}"' in source
