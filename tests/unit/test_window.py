"""The witness' record, and the busiest window in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.window import Stamp, Traffic, earlier, read_record, traffic, witnessed, worst_window
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


def test_a_record_is_readable_at_once_and_restarts_of_the_witness_erase_nothing(tmp_path: Path) -> None:
    path = tmp_path / "record"
    for restarts, stamp in enumerate(stamps(12), 1):
        record = Record(path)
        record.write(stamp)
        assert list(read_record(path)) == stamps(restarts)  # not closed, not flushed
        record.close()
        (tmp_path / f"another.{restarts}").write_text("the record of nobody")
    assert [old.name for old in earlier(path)] == [f"record.{number}" for number in range(1, 12)]


def test_a_restart_without_a_command_leaves_no_file(tmp_path: Path) -> None:
    for _ in range(3):
        Record(tmp_path / "record").close()
    assert earlier(tmp_path / "record") == []


def test_a_full_record_moves_on_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "record"
    record = Record(path, max_bytes=len(stamps(1)[0].line()) * 3)
    for stamp in stamps(30):
        record.write(stamp)
    record.close()
    assert 6 <= len(list(read_record(path))) <= 12
    assert list(read_record(path)) == stamps(30)[-len(list(read_record(path))) :]


def test_a_run_whose_first_commands_were_dropped_from_the_record_is_told(tmp_path: Path) -> None:
    path = tmp_path / "record"
    written = [Stamp(number * 10, 100.0 + number, "insert", 600) for number in range(9)]
    for stamp in written:
        record = Record(path, max_bytes=len(written[0].line()) * 2)
        record.write(stamp)
        record.close()
    assert list(read_record(path)) == written[-3:]
    assert witnessed(path, 106.0, 200.0) == Traffic(3, {"insert": 3}, 1800)
    assert witnessed(path, 105.9, 200.0) == Traffic(3, {"insert": 3}, 1800, reaches_back=False)
    for old in earlier(path):
        old.unlink()
    assert witnessed(path, 0.0, 200.0).reaches_back


def test_a_record_whose_first_file_is_there_reaches_back_to_whatever_began_before_it(tmp_path: Path) -> None:
    path = tmp_path / "record"
    for stamp in stamps(4):
        record = Record(path)
        record.write(stamp)
        record.close()
    assert witnessed(path, 0.0, 200.0) == Traffic(4, {"insert": 4}, 2400)
    earlier(path)[0].unlink()
    assert witnessed(path, 0.0, 200.0) == Traffic(3, {"insert": 3}, 1800, reaches_back=False)


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
    found = Stamp(30, 120.0, "find", 90)
    seen = traffic([*stamps(5, 99.9), *stamps(3, 100.0), found, *stamps(5, 120.1)], 100.0, 120.0)
    assert (seen.worst, seen.total, seen.commands, seen.written_bytes) == (4, 4, {"insert": 3, "find": 1}, 1800)
