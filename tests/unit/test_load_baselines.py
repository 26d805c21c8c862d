"""The baselines do the same job: the judge finds nothing wrong with their answers and documents."""

from __future__ import annotations

from loadtests.answers import read_answers
from loadtests.baselines.documents import answer, new_documents, pick
from loadtests.verdict import Comparison


def test_documents_and_answers_are_what_ours_are() -> None:
    documents = new_documents()
    body = bytes(answer([], documents).body).decode()
    comparison = Comparison(read_answers(["started 1000", body, "stopped 2000 null"]))
    for document in documents:
        comparison.see(document)
    verdict = comparison.verdict()
    assert (verdict.faults, verdict.of_run) == (0, 5)


def test_reads_are_five_different_documents_where_there_are_as_many() -> None:
    documents = [*new_documents(), *new_documents()]
    assert len(set(pick(documents))) == 5
    assert len(pick(documents[:3])) == 3
