"""The baselines do the same job: the judge finds nothing wrong with their answers and documents."""

from __future__ import annotations

from loadtests.answers import read_answers
from loadtests.baselines.documents import answer, new_documents, pick
from loadtests.verdict import Comparison, Verdict


def test_documents_and_answers_are_what_ours_are() -> None:
    documents = new_documents()
    body = bytes(answer([], documents).body).decode()
    now_ms = int(documents[0]["timestamp"].timestamp() * 1000)
    comparison = Comparison(read_answers([f"started {now_ms}", body, f"stopped {now_ms + 1000} null"]))
    for document in documents:
        comparison.see(document)
    verdict = comparison.verdict()
    assert verdict == Verdict(documents=5, of_run=5, least_bytes=verdict.least_bytes)


def test_reads_are_five_different_documents_where_there_are_as_many() -> None:
    documents = [*new_documents(), *new_documents()]
    assert len(set(pick(documents))) == 5
    assert len(pick(documents[:3])) == 3
