"""The judge of named writes finds each kind of fault, and takes every allowed ending."""

from __future__ import annotations

from typing import Any

from tests.acceptance.history import History


def judge(history: History, orders: Any = (), edits: Any = ()) -> dict[str, int]:
    findings = history.judge(orders, edits)
    return {kind: len(found) for kind, found in vars(findings).items() if found}


def test_an_order_answered_and_stored_once_is_fine() -> None:
    history = History()
    history.ordered("k", "unknown")
    history.ordered("k", "ok", "1")
    history.ordered("k", "ok", "1")
    assert judge(history, [{"_id": "1", "order": "k"}]) == {}


def test_an_order_answered_and_not_stored_is_lost() -> None:
    history = History()
    history.ordered("k", "ok", "1")
    assert judge(history) == {"lost": 1}


def test_a_key_with_two_documents_is_doubled_and_so_is_one_with_two_ids() -> None:
    history = History()
    history.ordered("k", "ok", "1")
    assert judge(history, [{"_id": "1", "order": "k"}, {"_id": "2", "order": "k"}]) == {"doubled": 1}
    history.ordered("k", "ok", "2")
    assert judge(history, [{"_id": "1", "order": "k"}, {"_id": "2", "order": "k"}]) == {"doubled": 2}


def test_a_refused_order_that_is_stored_is_a_ghost_and_an_unknown_one_is_not() -> None:
    history = History()
    history.ordered("refused", "fail")
    history.ordered("unknown", "unknown")
    stored = [{"_id": key, "order": key} for key in ("refused", "unknown", "never sent")]
    assert judge(history, stored) == {"ghosts": 2}


def test_the_last_accepted_version_or_the_one_in_doubt_may_be_there() -> None:
    history = History()
    assert history.edited("a", "ok", {"version": 1})
    assert history.edited("a", "fail", {"version": 2})
    assert not history.edited("a", "unknown", {"version": 3})
    assert judge(history, edits=[{"_id": "a", "version": 1}]) == {}
    assert judge(history, edits=[{"_id": "a", "version": 3}]) == {}
    assert judge(history, edits=[{"_id": "a", "version": 2}]) == {"disordered": 1}
    assert judge(history) == {"lost": 1}


def test_an_accepted_deletion_that_left_the_document_is_out_of_order() -> None:
    history = History()
    history.edited("a", "ok", {"version": 1})
    history.edited("a", "ok", None)
    assert judge(history) == {}
    assert judge(history, edits=[{"_id": "a", "version": 1}]) == {"disordered": 1}


def test_a_document_whose_only_edit_was_refused_is_a_ghost() -> None:
    history = History()
    history.edited("a", "fail", {"version": 1})
    assert judge(history) == {}
    assert judge(history, edits=[{"_id": "a", "version": 1}, {"_id": "b"}]) == {"ghosts": 2}


def test_a_read_of_an_older_version_is_out_of_order() -> None:
    history = History()
    history.edited("a", "ok", {"version": 2})
    history.read("a", {"_id": "a", "version": 2})
    assert judge(history, edits=[{"_id": "a", "version": 2}]) == {}
    history.read("a", {"_id": "a", "version": 1})
    assert judge(history, edits=[{"_id": "a", "version": 2}]) == {"disordered": 1}
