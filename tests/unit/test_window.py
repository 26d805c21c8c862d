"""The witness' record, and the busiest window in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.window import Stamp, previous, read_record, traffic, worst_window
from loadtests.witness import Record

# ------------------------------------------------------------------------------------------------ the worst window


def brute_force(stamps: list[int], window: int) -> int:
    """The fullest of all windows that begin at any whole number near the stamps."""
    if not stamps:
        return 0
    starts = range(min(stamps) - window, max(stamps) + 1)
    return max(sum(start <= stamp < start + window for stamp in stamps) for start in starts)


@given(st.lists(st.integers(0, 60), max_size=25), st.integers(1, 20))
def test_worst_window_agrees_with_brute_force(stamps: list[int], window: int) -> None:
    count, start = worst_window(stamps, window)
    assert count == brute_force(stamps, window)
    assert count == sum(start <= stamp < start + window for stamp in stamps)


def test_windows_are_half_open() -> None:
    assert worst_window([0, 1_000_000_000]) == (1, 0)
    assert worst_window([0, 999_999_999]) == (2, 0)


def test_a_window_needs_a_length() -> None:
    with pytest.raises(ValueError, match="positive"):
        worst_window([1], 0)


# ------------------------------------------------------------------------------------------------------ the record


def stamps(count: int, wall_s: float = 100.0) -> list[Stamp]:
    return [Stamp(number * 10, wall_s, "insert", 600) for number in range(count)]


def test_a_record_is_readable_at_once_and_a_new_one_keeps_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "record"
    first = Record(path)
    first.write(stamps(1)[0])
    assert list(read_record(path)) == stamps(1)  # not closed, not flushed
    second = Record(path)
    second.write(stamps(2)[1])
    assert list(read_record(path)) == stamps(2)
    third = Record(path)
    assert list(read_record(path)) == [stamps(2)[1]]
    for record in (first, second, third):
        record.close()


def test_a_full_record_moves_on(tmp_path: Path) -> None:
    path = tmp_path / "record"
    record = Record(path, max_bytes=len(stamps(1)[0].line()) * 3)
    for stamp in stamps(8):
        record.write(stamp)
    record.close()
    assert len(path.read_text().splitlines()) <= 4
    assert list(read_record(path)) == stamps(8)[-len(list(read_record(path))) :]
    assert previous(path).exists()


def test_a_cut_last_line_is_passed_over_and_a_damaged_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "record"
    path.write_text(stamps(1)[0].line() + "123 4")
    assert list(read_record(path)) == stamps(1)
    path.write_text("nonsense\n" + stamps(1)[0].line())
    with pytest.raises(ValueError, match="record:1 is no stamp"):
        list(read_record(path))
    with pytest.raises(ValueError, match="no record"):
        list(read_record(tmp_path / "other"))


def test_traffic_is_restricted_to_the_run() -> None:
    seen = traffic([*stamps(5, 99.0), *stamps(3, 100.0), *stamps(5, 121.0)], 100.0, 120.0)
    assert (seen.worst, seen.total, seen.commands) == (3, 3, {"insert": 3})
