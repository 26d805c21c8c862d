"""What a run says beyond its thresholds: the generator's share, the breaking point, ours beside the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from loadtests import compare_page, contest
from loadtests.answers import Answers
from loadtests.compare_page import RIVAL
from loadtests.contest import Loss, Round
from loadtests.findings import StepFigures, breaking_point, generator_of, steps_of, wanted_of
from loadtests.generator import Load, thresholds_of
from loadtests.page import Page
from loadtests.processes import Usage
from loadtests.samples import Sample
from loadtests.scenario import Plan, Step
from loadtests.serve_api import running, with_replicas


def samples(k6: float, service: float, busy: float, count: int = 11) -> list[Sample]:
    usage = Usage(cpu_cores={"k6": k6, "Replicas": service}, machine_busy=busy)
    return [Sample(100.0 + second, usage) for second in range(count)]


def test_the_share_of_k6() -> None:
    found = generator_of(samples(0.5, 1.0, 0.8), cores=2, seconds=10.0, requests=1000, dropped=0)
    assert found.saturated is None
    assert (found.cores, found.share_of_machine) == (0.5, 0.25)
    assert found.share_of_used == pytest.approx(1 / 3)
    assert found.cpu_us_per_request == pytest.approx(5000.0)
    assert found.service_us_per_request == pytest.approx(10_000.0)
    assert found.others_cores == pytest.approx(0.1)


def test_the_laboratory_is_no_stranger_and_no_part_of_the_service() -> None:
    usage = Usage(cpu_cores={"k6": 0.5, "Replicas": 1.0, "laboratory": 0.3}, machine_busy=0.95)
    found = generator_of([Sample(100.0 + second, usage) for second in range(11)], 2, 10.0, 1000, 0)
    assert found.others_cores == pytest.approx(0.1)
    assert found.service_us_per_request == pytest.approx(10_000.0)


def test_k6_with_half_of_a_full_machine_is_saturated() -> None:
    assert generator_of(samples(1.0, 0.9, 0.95), 2, 10.0, 1000, 0).saturated is not None
    assert generator_of(samples(0.9, 1.0, 0.99), 2, 10.0, 1000, 0).saturated is None
    assert generator_of(samples(1.0, 0.5, 0.80), 2, 10.0, 1000, 0).saturated is None


def test_five_greedy_seconds_are_enough_and_four_are_not() -> None:
    calm, greedy = samples(0.1, 0.1, 0.2, count=60), samples(1.2, 0.8, 1.0, count=4)
    assert generator_of([*calm, *greedy, *calm], 2, 124.0, 1000, 0).saturated is None
    found = generator_of([*calm, *greedy, greedy[0], *calm], 2, 125.0, 1000, 0).saturated
    assert found == "saturated: k6 took 60% of a machine that was 100% busy for 5 s: it measured itself as well"
    assert generator_of([*calm, *greedy, greedy[0]], 2, 65.0, 1000, 0).saturated == found


def test_requests_that_were_not_begun_are_the_generators_fault() -> None:
    assert "20 requests" in (generator_of(samples(0.1, 0.1, 0.2), 2, 10.0, 980, 20).saturated or "")
    assert generator_of(samples(0.1, 0.1, 0.2), 2, 10.0, 990, 10).saturated is None


def test_k6_that_fills_the_quota_of_its_container_is_saturated_though_the_host_is_idle() -> None:
    assert generator_of(samples(1.0, 0.95, 0.03), 2, 10.0, 1000, 0).saturated is not None
    assert generator_of(samples(1.0, 0.95, 0.03), 64, 10.0, 1000, 0).saturated is None


def test_of_a_generator_that_nobody_watched_nobody_knows_whether_it_was_saturated() -> None:
    found = generator_of([], 2, 0.0, 0, 0)
    assert (found.cores, found.share_of_used, found.cpu_us_per_request) == (0.0, 0.0, None)
    assert found.service_us_per_request is None
    assert found.saturated == "not watched, so it may have been saturated"
    blind = "not watched after 9 s (OSError: no space left)"
    calm = generator_of(samples(0.5, 1.0, 0.8), 2, 99.0, 1000, 0, blind)
    assert calm.saturated == f"{blind}, so it may have been saturated"
    greedy = generator_of(samples(1.2, 0.8, 1.0), 2, 99.0, 1000, 0, blind)
    assert str(greedy.saturated).endswith(f"it measured itself as well; {blind}")


def metrics(p95: float, failed: float = 0.0, name: str = "users9") -> dict[str, Any]:
    return {
        f"http_req_duration{{scenario:{name}}}": {"values": {"med": 5.0, "p(95)": p95, "p(99)": p95}},
        f"http_req_failed{{scenario:{name}}}": {"values": {"rate": failed}},
    }


def step(name: str, users: int = 100) -> Step:
    return Step(name, 0.0, 10.0, users, None, (0.8, 0.8))


def answered(*ends_s: float) -> Answers:
    answers = Answers(started_s=1000.0, stopped_s=1030.0)
    answers.ends_s.extend(1000.0 + end_s for end_s in ends_s)
    return answers


def test_steps_are_read_from_the_figures_kept_apart() -> None:
    plan = Plan("stress", (step("a"), step("b")), 100, False)
    first, second = steps_of(plan, {"metrics": metrics(9.0, name="a")}, answered())
    assert (first.p95_ms, first.failed, second.p95_ms) == (9.0, 0.0, None)
    assert steps_of(Plan("flood", (step("a"),), 9, False), {"metrics": metrics(1.0)}, answered()) == []


def test_an_answer_without_success_failed_whatever_its_status() -> None:
    plan = Plan("stress", (step("a"), step("b")), 100, False)
    checks = {"checks{scenario:a}": {"values": {"rate": 0.9, "passes": 90, "fails": 10}}}
    first, second = steps_of(plan, {"metrics": metrics(9.0, 0.05, "a") | checks}, answered())
    assert (first.failed, first.broken, second.failed) == (0.1, "10.0% failed", 0.0)


def test_a_step_is_credited_with_what_was_answered_before_its_end() -> None:
    plan = Plan("stress", (step("a"), replace(step("b"), start_s=13.0)), 100, False)
    first, second = steps_of(plan, {}, answered(0.0, 9.999, 10.0, 12.9, 13.0, 22.9, 23.0))
    assert (first.answered_per_s, second.answered_per_s) == (0.2, 0.2)


def test_the_rate_that_a_step_must_reach_is_a_threshold() -> None:
    plan = Plan("stress", (replace(step("a"), wanted_per_s=0.2), step("b")), 100, False)
    (met,) = wanted_of(plan, steps_of(plan, {}, answered(1.0, 2.0)))
    (missed,) = wanted_of(plan, steps_of(plan, {}, answered(1.0, 10.0)))
    assert (met.metric, met.expression, met.met, met.value) == ("answered/s of a", ">=0.2", True, 0.2)
    assert (missed.met, missed.value) == (False, 0.1)


def figures(
    name: str, answered: float, p95: float = 10.0, failed: float = 0.0, offered: float | None = 100.0
) -> StepFigures:
    return StepFigures(name, 1, offered, answered, 5.0, p95, p95, failed, 0)


def test_users_who_wait_for_their_answers_offer_nothing_that_could_be_missed() -> None:
    """Else 1,219 requests/s of 1,200 users with 0.8 s of thought, which is what is wanted, would be a breakdown."""
    plan = Plan("stress", (step("a"), Step("b", 10.0, 10.0, 100, rate=50.0)), 100, False)
    assert [found.offered_per_s for found in steps_of(plan, {}, answered())] == [None, 50.0]
    assert figures("a", 60.0, offered=None).broken is None


def test_the_breaking_point_is_named() -> None:
    fine = figures("one", 100.0)
    assert breaking_point([fine, figures("two", 100.0, p95=2001.0)]) == "breaks at two: p95 2.0 s (one held)"
    assert breaking_point([fine, figures("two", 89.0), figures("three", 100.0)]).startswith("breaks at two: 89 of 100")
    assert breaking_point([figures("one", 100.0, failed=0.01)]) == "breaks at one: 1.0% failed (no step held)"
    assert breaking_point([fine, figures("two", 90.0, p95=2000.0)]) == "not reached: two held"
    never = figures("two", 0.0, p95=0.0, offered=None)  # as k6 tells of a step that Ctrl-C left out
    assert breaking_point([fine, never]) == "breaks at two: nothing was answered (one held)"


def test_thresholds_with_what_was_measured() -> None:
    summary = {
        "metrics": {
            "http_req_duration": {"values": {"p(95)": 2100.0}, "thresholds": {"p(95)<=2000": {"ok": False}}},
            "http_reqs{scenario:a}": {"values": {"count": 3}, "thresholds": {"count>=0": {"ok": True}}},
            "checks": {"values": {"rate": 1}, "thresholds": {"rate==1": {"ok": True}}},
            "checks{check:in 2 s}": {"values": {"rate": 0.98}, "thresholds": {"rate>0.99": {"ok": False}}},
        }
    }
    found = [(item.metric, item.expression, item.met, item.value) for item in thresholds_of(summary)]
    assert found == [
        ("checks", "rate==1", True, 1),
        ("checks{check:in 2 s}", "rate>0.99", False, 0.98),
        ("http_req_duration", "p(95)<=2000", False, 2100.0),
    ]
    assert thresholds_of({}) == []


@pytest.mark.parametrize(
    ("values", "threshold"), [({"rate": 0, "passes": 0, "fails": 0}, "rate==0"), ({"max": 0, "p(99)": 0}, "p(99)<1")]
)
def test_a_threshold_on_nothing_is_not_met_whatever_k6_says(values: dict[str, float], threshold: str) -> None:
    summary = {"metrics": {"any": {"values": values, "thresholds": {threshold: {"ok": True}}}}}
    assert [(found.met, found.value) for found in thresholds_of(summary)] == [(False, None)]


def test_only_what_was_given_reaches_the_scenario(tmp_path: Any) -> None:
    assert Load("flood", ("http://a", "http://b"), tmp_path).environment() == {"BASE_URL": "http://a,http://b"}
    given = Load("rate", ("http://a",), tmp_path, quick=True, users=5, seconds=2.5, rate=100).environment()
    assert given | {"BASE_URL": ""} == {
        "BASE_URL": "",
        "QUICK": "1",
        "USERS": "5",
        "SECONDS": "2.5",
        "RATE": "100",
        "CAPACITY": "100",
    }


# ------------------------------------------------------------------------------------------------------ the contest


def played(name: str, users: int, rate: float, p99: float = 50.0, lag_s: float | None = 0.5) -> Round:
    found: dict[str, Any] = {"requests_per_second": rate, "p99_ms": p99, "unknown_requests": 1, "refused_requests": 2}
    found["lag_most_s"] = lag_s
    return Round(name, users, found, [])


def test_medians_and_ratios() -> None:
    rounds = [played("ours", 64, rate) for rate in (300.0, 100.0, 200.0)] + [played("rival", 64, 100.0)]
    found = contest.standings(rounds)
    ours = contest.find(found, "ours", 64)
    assert ours is not None
    assert (ours.medians["requests_per_second"], ours.every_rate, ours.medians["not_accepted"]) == (
        200.0,
        [300.0, 100.0, 200.0],
        3,
    )
    assert contest.ratio(ours, found[1]) == 2.0
    assert contest.ratio(ours, found[1], "p50_ms") is None
    assert contest.ratio(ours, contest.standings([played("rival", 64, 0.0)])[0]) is None


def met(*rounds: Round) -> list[bool]:
    return [met for _, met in contest.goals(contest.standings(rounds), "ours", "rival")]


def test_goals_are_judged_for_the_loads_that_were_measured() -> None:
    few = [played("ours", 64, 170.0), played("rival", 64, 100.0, lag_s=9.0)]
    assert met(*few) == [True, True]
    assert met(played("ours", 64, 169.0), few[1]) == [True, False]
    many = [played("ours", 1000, 250.0, p99=1000.0), played("rival", 1000, 100.0)]
    assert met(*few, *many) == [True, True, True, True, False]
    assert met(few[1]) == []


def test_what_is_to_be_won_against_a_rival_that_was_not_measured_is_not_won() -> None:
    """The page is kept after each contender; a comparison may end early, by Ctrl-C or a rival that does not start."""
    ours = [played("ours", 64, 900.0)]
    assert met(*ours) == [True, False]
    page = compare_page.page_of(contest.standings(ours), [], ours, [("ours", ""), ("rival", "")], {})
    assert (page.passed, page.reasons[-1]) == (False, f"✗ 64 users: at least 1.7 times {RIVAL} (is unknown)")


def test_a_median_stands_beside_the_rounds_it_was_made_of() -> None:
    rounds = [played("ours", 8, rate) for rate in (1300.0, 1100.0, 1250.0)]
    page = compare_page.page_of(contest.standings(rounds), [], rounds, [("ours", "")], {})
    assert page.tables[0].rows[0][:2] == ("ours", "1,250 (1,300, 1,100, 1,250)")


def test_where_nothing_is_to_be_won_the_page_speaks_of_no_win() -> None:
    rounds = [played("ours", 8, 90.0), played("rival", 8, 900.0)]
    page = compare_page.page_of(contest.standings(rounds), [], rounds, [("ours", ""), ("rival", "")], {})
    assert (page.passed, "win" in page.verdict) == (True, False)


def test_a_drain_that_does_not_keep_up_wins_nothing() -> None:
    assert met(played("ours", 100, 900.0, lag_s=1.0)) == [False]
    assert met(played("ours", 100, 900.0, lag_s=None)) == [False]
    rounds = [played("ours", 100, 900.0, lag_s=lag_s) for lag_s in (0.5, 0.6, 9.0)]
    [(goal, _)] = contest.goals(contest.standings(rounds), "ours", "rival")
    assert "in the median round no write" in goal, "in another one writes waited for 9 s"


def killed(name: str, *problems: str) -> Loss:
    return Loss(name, 100, 0, 0, 0, 0, 0, 0, 1.0, list(problems))


def test_whatever_is_wrong_when_ours_is_killed_is_a_fault_and_of_a_baseline_it_is_a_figure() -> None:
    rounds = [played("ours", 100, 900.0)]
    about = [("ours", ""), ("rival", "")]

    def page(*losses: Loss) -> Page:
        return compare_page.page_of(contest.standings(rounds), losses, rounds, about, {})

    assert page(killed("ours"), killed("rival", "5 lost")).passed is True
    beyond = page(killed("ours", "101 commands reached MongoDB in one second, 100 are allowed"))
    assert (beyond.passed, beyond.reasons[-1][:34]) == (False, "when it was killed: 101 commands r")


def test_everyone_begins_in_turn() -> None:
    assert [contest.order(["a", "b", "c"], number)[0] for number in range(4)] == ["a", "b", "c", "a"]
    assert contest.order(["a", "b", "c"], 1) == ["b", "c", "a"]


def test_what_may_still_wait_is_not_called_lost() -> None:
    def lost(missing: int, queued: int | None) -> int | None:
        return Loss("x", 100, missing, queued, 0, 0, 0, 0, 1.0, []).lost

    assert (lost(10, 4), lost(10, 0), lost(10, None), lost(0, 9)) == (None, 10, 10, 0)


def test_what_nobody_can_tell_apart_lies_between_two_numbers() -> None:
    def told(missing: int, queued: int | None) -> str:
        return Loss("x", 9_000, missing, queued, 0, 0, 0, 0, 1.0, []).told

    assert (told(5_000, 4_000), told(10, 40), told(5_000, 0)) == ("1,000 to 5,000", "0 to 10", "5,000")


# ------------------------------------------------------------------------------------------------------ Serve's API


def serve(count: int, state: str = "RUNNING") -> dict[str, Any]:
    config = {"name": "spillway", "import_path": "a:b", "deployments": [{"name": "Edge", "num_replicas": 1, "x": 2}]}
    replicas = [{"state": state}] * count
    deployment = {"status": "HEALTHY", "replicas": replicas}
    application = {"deployed_app_config": config, "deployments": {"Edge": deployment}}
    http = {"host": "127.0.0.1", "port": 1, "y": 3}
    return {"proxy_location": "HeadOnly", "http_options": http, "applications": {"spillway": application}}


def test_only_the_number_of_replicas_changes() -> None:
    before = serve(1)
    assert with_replicas(before, 4) == {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": 1},
        "applications": [
            {"name": "spillway", "import_path": "a:b", "deployments": [{"name": "Edge", "num_replicas": 4, "x": 2}]}
        ],
    }
    assert before == serve(1)


def test_replicas_count_when_none_is_on_its_way() -> None:
    assert running(serve(2)) == 2
    assert running(serve(2, "STARTING")) == -1
    assert running({}) == -1
