"""compose.yaml and the monitoring beside it: what they name exists, what they publish stays on this machine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.footprint import least_maxmemory_bytes
from cluster.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "k8s/monitoring"
END_OF_RAY_S = 30  # `stop_timeout_s` of the head in cluster/parts.py
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
BOARD = json.loads((MONITORING / "spillway.json").read_text())
METRIC = re.compile(r"\b(?:ray_)?spillway_[a-z_]+\b")


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


def mounts(service: dict[str, Any]) -> list[list[str]]:
    return [mount.split(":") for mount in service.get("volumes", [])]


def test_the_parts_are_the_service_redis_mongodb_prometheus_and_grafana() -> None:
    assert set(SERVICES) == {"spillway", "redis", "mongodb", "prometheus", "grafana"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned_and_every_part_says_when_it_is_well(name: str) -> None:
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+(-[a-z]+)?", SERVICES[name]["image"])
    ours = (ROOT / "Dockerfile").read_text() if name == "spillway" else ""
    assert "healthcheck" in SERVICES[name] or "\nHEALTHCHECK " in ours


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


def test_redis_and_mongodb_are_on_a_network_without_a_way_out_and_publish_nothing() -> None:
    assert COMPOSE["networks"]["back"]["internal"] is True
    for name in ("redis", "mongodb"):
        assert SERVICES[name]["networks"] == ["back"]
        assert "ports" not in SERVICES[name]


def test_every_variable_of_the_service_is_a_setting_and_the_addresses_are_parts_of_it() -> None:
    environment = SERVICES["spillway"]["environment"]
    known = {f"SPILLWAY_{name.upper()}" for name in Settings.model_fields}
    assert set(environment) <= known
    for name, part in (("SPILLWAY_REDIS_URL", "redis"), ("SPILLWAY_MONGODB_URI", "mongodb")):
        assert f"//{part}:" in environment[name]
        assert SERVICES["spillway"]["depends_on"][part] == {"condition": "service_healthy"}


def test_pages_under_a_strange_name_are_refused_where_it_is_published_on_loopback_and_prometheus_is_not() -> None:
    (allowed,) = re.findall(r":-(.+)}$", SERVICES["spillway"]["environment"]["SPILLWAY_ALLOWED_HOSTS"])
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["spillway"]["ports"])
    prometheus = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    groups = [group for job in prometheus["scrape_configs"] for group in job["static_configs"]]
    assert {target.partition(":")[0] for group in groups for target in group["targets"]} == {allowed}


def test_the_service_is_given_the_time_to_drain() -> None:
    drain_s = float(SERVICES["spillway"]["environment"]["SPILLWAY_DRAIN_TIMEOUT_S"])
    assert seconds(SERVICES["spillway"]["stop_grace_period"]) >= drain_s + END_OF_RAY_S


def test_the_kernel_of_the_service_is_tuned_as_a_host_is() -> None:
    rows = re.findall(r'^    "(net[^|]+)\|[^|]+\|([^|]+)\|', (ROOT / "k8s/tune-host.sh").read_text(), re.MULTILINE)
    tuned = SERVICES["spillway"]["sysctls"]
    assert {"net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports"} <= set(tuned)
    assert tuned.items() <= dict(rows).items()


def test_redis_is_as_durable_as_the_service_demands() -> None:
    command = SERVICES["redis"]["command"]
    for wanted in ("--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"):
        assert wanted in command


def test_redis_has_the_memory_that_the_bounds_may_need() -> None:
    gigabytes = re.search(r"--maxmemory (\d+)gb", SERVICES["redis"]["command"])
    assert gigabytes
    assert int(gigabytes[1]) * 1024**3 >= least_maxmemory_bytes(Settings())


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_is_a_volume_or_a_file_of_ours_that_nobody_writes(name: str) -> None:
    for source, target, *flags in mounts(SERVICES[name]):
        if source.startswith("."):
            assert (ROOT / source).is_file()
            assert flags == ["ro"], target
        else:
            assert source in COMPOSE["volumes"]


@pytest.mark.parametrize(("name", "target"), [("redis", "/data"), ("mongodb", "/data/db")])
def test_what_must_last_is_on_a_volume(name: str, target: str) -> None:
    """Where the images of the two keep what they store."""
    (source,) = (source for source, place, *_ in mounts(SERVICES[name]) if place == target)
    assert source in COMPOSE["volumes"]


def test_prometheus_asks_the_service_and_grafana_asks_prometheus() -> None:
    (job,) = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    assert target == f"spillway:{Settings.model_fields['http_port'].default}"
    (source,) = yaml.safe_load((MONITORING / "datasource.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    asked = {target["datasource"]["uid"] for panel in BOARD["panels"] for target in panel["targets"]}
    assert asked == {source["uid"]}


def test_the_board_is_where_its_provider_looks() -> None:
    (provider,) = yaml.safe_load((MONITORING / "boards.yml").read_text())["providers"]
    places = [target for _, target, *_ in mounts(SERVICES["grafana"])]
    assert f"{provider['options']['path']}/spillway.json" in places
    assert SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] in places


def test_every_metric_on_the_board_is_documented_and_it_shows_what_needs_a_person() -> None:
    documented = set(METRIC.findall((ROOT / "docs/operations.md").read_text()))
    used = {name for panel in BOARD["panels"] for each in panel["targets"] for name in METRIC.findall(each["expr"])}
    assert len(used) >= 8
    assert used <= documented
    assert {"spillway_ready", "spillway_dead_letters"} <= used


def test_no_two_panels_overlap_and_each_says_what_it_shows() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        assert panel["description"]
        taken |= cells
