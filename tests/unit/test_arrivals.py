"""What a log remembers of the calls it has kept is bounded, and nothing that may be asked again is forgotten."""

from __future__ import annotations

import pytest

from actors.core import arrivals
from actors.core.arrivals import Arrivals, LaneCall


def test_the_lane_longest_silent_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "_LANES", 2)
    known = Arrivals()
    for at, (lane, number) in enumerate([("a", 1), ("b", 1), ("a", 2), ("c", 1)]):
        known.note(f"{at}-0", [LaneCall(lane, number, 1)])
    assert known.place(LaneCall("b", 1, 1)) is None
    assert known.place(LaneCall("a", 2, 1)) == ("2-0", 0)
    assert known.place(LaneCall("c", 1, 1)) == ("3-0", 0)


def test_a_lane_silent_for_ten_minutes_of_the_log_is_forgotten() -> None:
    known = Arrivals()
    known.note("1000-0", [LaneCall("old", 1, 1)])
    known.note("601000-0", [LaneCall("new", 1, 1)])
    assert known.place(LaneCall("old", 1, 1)) == ("1000-0", 0)
    known.note("601001-0", [LaneCall("new", 2, 1)])
    assert known.place(LaneCall("old", 1, 1)) is None
    assert known.place(LaneCall("new", 2, 1)) == ("601001-0", 0)


def test_a_call_that_comes_behind_a_later_one_of_its_lane_does_not_make_that_forgotten() -> None:
    known = Arrivals()
    known.note("1-0", [LaneCall("lane", 2, 1), LaneCall("lane", 1, 1)])
    assert known.place(LaneCall("lane", 2, 1)) == ("1-0", 0)
    assert known.place(LaneCall("lane", 1, 1)) == ("", 0)


def test_what_is_known_survives_as_text() -> None:
    known = Arrivals()
    known.note("1-0", [LaneCall("a", 3, 2), LaneCall("b", 1, 1)])
    again = Arrivals.loads(known.dumps())
    assert again.place(LaneCall("a", 3, 2)) == ("1-0", 0)
    assert again.place(LaneCall("b", 1, 1)) == ("1-0", 2)


@pytest.mark.parametrize("text", [b"", b"1-0", b"[]", b'{"lane": 1}', b'{"lane": [1, "1-0", 0, "more"]}', b'"\xff"'])
def test_a_text_that_is_something_else_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="no calls by their lanes"):
        Arrivals.loads(text)
