"""Every metric a running service exports is in docs/operations.md, and every one of GET /metrics there is exported."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.service import ROOT, Service

# With its first event only: a calm service has none of these. tests/unit/test_metrics.py holds them to the code.
EVENTFUL = {
    "ray_spillway_refused_calls_total", "ray_spillway_flush_retries_total", "ray_spillway_dead_lettered_writes_total",
}  # fmt: skip


def documented(prefix: str) -> set[str]:
    section = (ROOT / "docs" / "operations.md").read_text().split("## Metrics")[1].split("\n## ")[0]
    return set(re.findall(rf"^\| `({prefix}\w+)", section, re.MULTILINE))


def scraped(url: str, prefix: str) -> set[str]:
    """Names as the tables give them: of a histogram without its endings."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        family.name if family.type == "histogram" else sample.name
        for family in families
        if family.name.startswith(prefix)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_every_exported_metric_is_listed_and_every_listed_one_exported(service: Service) -> None:
    for _ in range(5):
        assert service.get("/api/data")[0] == 200
    listed, address = documented("spillway_"), f"{service.url}/metrics"
    service.eventually(lambda: scraped(address, "spillway_") >= listed, 60)  # some are known after the first command
    assert scraped(address, "spillway_") <= listed

    config = json.loads((Path(service.environment["SPILLWAY_STATE_DIR"]) / "run" / "head.json").read_text())
    rays, address = documented("ray_spillway_"), f"http://127.0.0.1:{config['metrics_port']}/metrics"
    service.eventually(lambda: scraped(address, "ray_spillway_") >= rays - EVENTFUL, 90)  # Ray collects now and then
    assert scraped(address, "ray_spillway_") <= rays
