"""What a trace of Redis says about what the disk holds: the judge of the power cut, judged."""

from __future__ import annotations

from tests.acceptance.disk import Sync, synced_at, syncs_of

AOF = "8</data/appendonly.aof>"


def line(at_s: float, what: str, thread: int = 7) -> str:
    return f"{thread} {at_s:.6f} {what}"


def wrote(at_s: float, size: int, fd: str = AOF) -> str:
    return line(at_s, f'write({fd}, ""..., {size}) = {size} <0.000100>')


def test_a_sync_covers_what_was_written_before_it_and_holds_from_its_end() -> None:
    trace = [wrote(1.0, 100), line(1.5, f"fdatasync({AOF}) = 0 <0.250000>"), wrote(2.0, 10)]
    assert syncs_of(trace, 1000) == [Sync(1.75, 1100)]


def test_what_is_written_while_another_thread_syncs_is_not_covered() -> None:
    """So it is with `everysec`, where a thread of its own syncs."""
    trace = [
        wrote(1.0, 100),
        line(1.5, f"fdatasync({AOF} <unfinished ...>", thread=9),
        wrote(1.6, 10),
        line(2.5, "<... fdatasync resumed>) = 0 <1.000000>", thread=9),
        line(3.0, f"fdatasync({AOF}) = 0 <0.500000>", thread=9),
    ]
    assert syncs_of(trace, 0) == [Sync(2.5, 100), Sync(3.5, 110)]


def test_a_write_counts_when_it_has_ended_and_with_what_was_taken_of_it() -> None:
    trace = [
        line(1.0, f'write({AOF}, ""..., 100 <unfinished ...>'),
        line(1.1, "<... write resumed>) = 60 <0.100000>"),
        line(1.2, f'write({AOF}, ""..., 40) = -1 ENOSPC (No space left on device) <0.000010>'),
        line(1.25, f"fdatasync({AOF}) = 0 <0.500000>"),
    ]
    assert syncs_of(trace, 0) == [Sync(1.75, 60)]


def test_a_sync_that_failed_and_other_files_make_nothing_durable() -> None:
    trace = [
        wrote(1.0, 100),
        line(1.1, f"fdatasync({AOF}) = -1 EIO (Input/output error) (INJECTED) <0.000010>"),
        wrote(1.2, 5, fd="9<socket:[4711]>"),
        line(1.3, "fdatasync(5</data/other>) = 0 <0.500000>"),
        line(1.4, "+++ killed by SIGKILL +++"),
    ]
    assert syncs_of(trace, 0) == []


def test_what_a_power_cut_leaves_is_what_the_last_sync_before_it_covered() -> None:
    syncs = [Sync(1.0, 100), Sync(2.0, 250)]
    assert [synced_at(syncs, when_s, 40) for when_s in (0.9, 1.0, 1.9, 2.0, 9.0)] == [40, 100, 100, 250, 250]
