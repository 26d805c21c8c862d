"""Figures over time: each second by itself, and no window that is fuller than it was."""

from __future__ import annotations

import math
import os

import numpy as np
import psutil

from loadtests import series
from loadtests.answers import read_answers
from loadtests.processes import RUN_VARIABLE, Usage, Watch, part_of
from loadtests.samples import Sample, within
from loadtests.window import SECOND_NS, Stamp, worst_window


def test_each_second_has_its_own_percentiles() -> None:
    ends = [100.9, 100.1, 102.0]
    found = series.latency(ends, [30.0, 10.0, 500.0], [102.5], 100.0, 103.0)
    assert found.answered.tolist() == [2, 0, 1]
    assert found.failed.tolist() == [0, 0, 1]
    assert found.percentiles_ms[50][0] == 20.0
    assert math.isnan(found.percentiles_ms[99][1])
    assert found.percentiles_ms[99][2] == 500.0


def test_answers_after_the_last_full_second_are_left_out() -> None:
    assert series.latency([0.5, 1.2], [1.0, 2.0], [], 0.0, 1.4).answered.tolist() == [1]


def stamps(*offsets_s: float) -> list[Stamp]:
    return [Stamp(7 * SECOND_NS + round(at * SECOND_NS), 1000.0 + at, "insert", 9) for at in offsets_s]


def test_the_fullest_window_of_all_seconds_is_the_worst_window() -> None:
    generator = np.random.default_rng(5)
    seen = stamps(*sorted(generator.uniform(0.0, 9.0, 400)))
    _, fullest = series.commands(seen, 1000.0, 1010.0)
    assert fullest.max() == worst_window([stamp.monotonic_ns for stamp in seen])[0]


def test_a_window_is_half_open() -> None:
    _, fullest = series.commands(stamps(0.0, 0.5, 1.0), 1000.0, 1003.0)
    assert fullest.tolist() == [2, 2, 0]


def test_commands_outside_of_the_run_are_not_its_own() -> None:
    _, fullest = series.commands(stamps(0.0, 5.0, 9.5), 1001.0, 1009.0)
    assert fullest.sum() == 1
    assert series.commands([], 1000.0, 1002.0)[1].tolist() == [0, 0]


def sample(at_s: float, backlog: int | None = None, **cpu: float) -> Sample:
    return Sample(at_s, Usage(cpu_cores=cpu), backlog=backlog)


def test_a_sample_that_also_saw_the_time_before_the_load_is_none_of_it() -> None:
    seen = [sample(at_s) for at_s in (9.0, 9.9, 10.9, 11.9, 13.0)]
    assert [found.at_s for found in within(seen, 9.5, 12.0)] == [10.9, 11.9]


def test_parts_are_ordered_by_what_they_took() -> None:
    second, parts = series.cpu([sample(10.0, k6=0.1, Redis=0.4), sample(11.0, k6=0.2)], 10.0)
    assert second.tolist() == [0.0, 1.0]
    assert {name: curve.tolist() for name, curve in parts.items()} == {"Redis": [0.4, 0.0], "k6": [0.1, 0.2]}
    assert list(parts) == ["Redis", "k6"]


def test_a_status_that_says_nothing_is_no_backlog_of_zero() -> None:
    second, backlog = series.gauge([sample(1.0, 5), sample(2.0), sample(3.0, 0)], 1.0, "backlog")
    assert second.tolist() == [0.0, 1.0, 2.0]
    assert (backlog[0], math.isnan(backlog[1]), backlog[2]) == (5.0, True, 0.0)


GOOD = '{"status": "success", "reads": [], "writes": ["a", "b", "c", "d", "e"]}'


def test_recorded_times_are_read_with_the_answers() -> None:
    answers = read_answers(
        [
            "started 1000 5",
            f"2500 12.5 {GOOD}",
            "refused 503 1503 2600 3.0",
            "unknown 0 1050 2700 9.0",
            "stopped 3000 null",
        ]
    )
    assert (answers.requests, answers.refused, answers.unknown, answers.writes) == (1, 1, 1, 5)
    assert (answers.ends_s.tolist(), answers.took_ms.tolist()) == ([2.5], [12.5])
    assert answers.failed_ends_s.tolist() == [2.6, 2.7]


def test_a_scenario_may_write_one_document_a_request() -> None:
    one = '{"status":"success","reads":[],"writes":["a"]}'
    assert read_answers(["started 1000 1", f"2500 1.0 {one}"]).writes == 1
    assert read_answers(["started 1000 1", f"2500 1.0 {GOOD}"]).unknown == 1
    assert read_answers(["started 1000", f"2500 1.0 {one}"]).unknown == 1


def test_a_line_cut_short_is_an_unknown_outcome() -> None:
    for line in ("2500", "2500 1.0", f"2500 x {GOOD}", "2500 1.0 {"):
        assert read_answers(["started 1000", line]).unknown == 1, line


def test_processes_are_told_apart_by_their_command_lines() -> None:
    lines = {
        "ray::ServeReplica:spillway:Edge.handle_request": "Replicas",
        "ray::ServeReplica:hello:Hello.handle_request": "Hello world",
        "ray::BufferActor.append": "Buffers",
        "ray::MongoWriter": "Writer",
        "/somewhere/ray/core/src/ray/raylet/raylet --x": "Ray",
        "/usr/bin/redis-server 127.0.0.1:6390": "Redis",
        "/cache/ferretdb-3/ferretdb -listen": "FerretDB",
        "python -m loadtests.baselines.toy_drain": "Drain worker",
        "python -m uvicorn loadtests.baselines.queued:app": "uvicorn",
        "vim": "other",
    }
    assert {line: part_of(line) for line in lines} == lines


def test_the_laboratory_is_looked_at_beside_k6() -> None:
    watch = Watch(None)
    watch.follow(os.getppid())
    assert (watch.pids("laboratory"), watch.pids("k6")) == ([os.getpid()], [os.getppid()])
    assert set(watch.look().count) == {"laboratory", "k6"}


def test_a_process_below_a_root_is_the_runs_whatever_its_environment_says() -> None:
    """Redis writes its title over its environment; a kill that misses it proves nothing."""
    assert RUN_VARIABLE not in os.environ
    mine = part_of(" ".join(psutil.Process().cmdline()))
    assert os.getpid() in Watch("another run", roots=(os.getpid(),)).pids(mine)
    assert os.getpid() not in Watch("another run").pids(mine)
