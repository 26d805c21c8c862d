"""GET /metrics, and that docs/operations.md lists every metric there is and none that there is not."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from edge import EdgeClient, problem
from fake_intake import UP
from prometheus_client.parser import text_string_to_metric_families

from actors.core.status import summarize
from serve_app.metrics import EXPORTED
from serve_app.metrics import UP as UP_METRIC

ROOT = Path(__file__).resolve().parents[2]
FULL: dict[str, Any] = UP | {
    "drained_total": 7, "dead_lettered_total": 2, "dead_letters": 1, "lag_s": 0.2, "drain_eta_s": 4.5,
    "writer": {"epoch": 3, "held_s": 0.0}, "mongodb": "down",
}  # fmt: skip


async def scrape(status: dict[str, Any]) -> dict[str, float]:
    """Every sample, by its name and labels."""
    edge = EdgeClient()
    edge.intake.up = status
    answer = await edge.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_it_tells_what_the_status_tells() -> None:
    assert await scrape(FULL) == {
        "spillway_ready": 1, "spillway_up[redis]": 1, "spillway_up[mongodb]": 0, "spillway_backlog_writes": 3,
        "spillway_backlog_bytes": 900, "spillway_lag_seconds": 0.2, "spillway_drain_eta_seconds": 4.5,
        "spillway_accepted_writes_total": 10, "spillway_drained_writes_total": 7,
        "spillway_dead_lettered_writes_total": 2, "spillway_dead_letters": 1, "spillway_commands_last_second": 7,
        "spillway_worst_window_commands": 100, "spillway_limit_commands": 100, "spillway_mean_command_writes": 12.5,
        "spillway_writer_epoch": 3, "spillway_writer_held_seconds": 0,
    }  # fmt: skip


async def test_what_is_not_known_is_missing_and_never_a_zero() -> None:
    unknown = {"ready": False, "mongodb": "unknown", "redis": "unknown", "drain_eta_s": None, "commands": None}
    assert await scrape(unknown) == {"spillway_ready": 0}
    assert await scrape(unknown | {"mongodb": "down"}) == {"spillway_ready": 0, "spillway_up[mongodb]": 0}
    assert await scrape(summarize([None], None)) == {"spillway_ready": 0, "spillway_up[redis]": 0}


async def test_a_parameter_is_refused_as_everywhere() -> None:
    problem(await EdgeClient().get("/metrics?name=x"), 400, "unknown-parameter")


def documented(prefix: str) -> set[str]:
    section = (ROOT / "docs" / "operations.md").read_text().split("## Metrics")[1].split("\n## ")[0]
    return set(re.findall(rf"^\| `({prefix}\w+)", section, re.MULTILINE))


def recorded() -> set[str]:
    """Names the code hands to `Telemetry`, as Ray exports them: a counter gets `_total`."""
    names: set[str] = set()
    for path in (ROOT / "actors").glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            is_telemetry = (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Attribute)
                and call.func.attr in ("count", "gauge", "observe")
                and isinstance(call.func.value, ast.Attribute)
                and call.func.value.attr == "_telemetry"
            )
            if not is_telemetry:
                continue
            name = call.args[0]
            assert isinstance(name, ast.Constant), f"{path.name}:{call.lineno}: a name that nobody can look up"
            names.add(f"ray_spillway_{name.value}{'_total' if call.func.attr == 'count' else ''}")
    return names


def test_the_list_of_the_ports_metrics_is_the_ports() -> None:
    exported = {metric.name + ("_total" if metric.counter else "") for metric in EXPORTED} | {UP_METRIC}
    assert documented("spillway_") == exported


def test_the_list_of_rays_metrics_is_what_the_code_records() -> None:
    assert documented("ray_spillway_") == recorded()


@pytest.mark.parametrize("name", sorted(documented("ray_spillway_") | documented("spillway_")))
def test_every_metric_has_a_base_unit_in_its_name_or_counts_things(name: str) -> None:
    assert not re.search(r"_(ms|millis|milliseconds|kb|mb|percent)(_|$)", name)
