"""GET /metrics: the service in Prometheus' text format, from the same numbers as GET /v1/status."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request

from serve_app.answers import Answer
from serve_app.health import StatusBoard
from serve_app.parameters import query

Status = dict[str, Any]


class Exported(NamedTuple):
    """One metric: how it is found in a status. A value that is not known is left out, and never given as 0."""

    name: str
    meaning: str
    value: Callable[[Status], Any]
    counter: bool = False


def _in(part: str, name: str) -> Callable[[Status], Any]:
    return lambda status: (status.get(part) or {}).get(name)


def _at(name: str) -> Callable[[Status], Any]:
    return lambda status: status.get(name)


EXPORTED = (
    Exported("spillway_ready", "1 while writes can be accepted.", _at("ready")),
    Exported("spillway_backlog_writes", "Writes accepted and not yet named by a Report.", _in("backlog", "writes")),
    Exported("spillway_backlog_bytes", "Their bytes.", _in("backlog", "bytes")),
    Exported("spillway_lag_seconds", "Age of the oldest of them.", _at("lag_s")),
    Exported("spillway_drain_eta_seconds", "Until they are gone; missing while they grow.", _at("drain_eta_s")),
    Exported("spillway_accepted_writes", "Writes accepted since the buffers started.", _at("accepted_total"), True),
    Exported("spillway_drained_writes", "Writes named by a Report since then.", _at("drained_total"), True),
    Exported("spillway_dead_lettered_writes", "Writes MongoDB refused since then.", _at("dead_lettered_total"), True),
    Exported("spillway_dead_letters", "Dead letters on the shelf.", _at("dead_letters")),
    Exported("spillway_commands_last_second", "To MongoDB in the last second.", _in("commands", "last_second")),
    Exported("spillway_worst_window_commands", "Most in any second so far.", _in("commands", "worst_window")),
    Exported("spillway_limit_commands", "Most that are allowed in any second.", _in("commands", "limit")),
    Exported("spillway_mean_command_writes", "Writes in one command, on average.", _in("batch", "mean_writes")),
    Exported("spillway_writer_epoch", "How many writers there have been.", _in("writer", "epoch")),
    Exported("spillway_writer_held_seconds", "Until the writer may send.", _in("writer", "held_s")),
)
UP = "spillway_up"


class _Board(Collector):
    """One scrape of one status."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(UP, "1 while this part answers.", labels=["part"])
        for part in ("redis", "mongodb"):
            state = self._status.get(part, "unknown")
            if state != "unknown":
                up.add_metric([part], float(state == "up"))
        yield up
        for metric in EXPORTED:
            value = metric.value(self._status)
            if value is not None:
                family = CounterMetricFamily if metric.counter else GaugeMetricFamily
                yield family(metric.name, metric.meaning, value=float(value))


class Metrics:
    def __init__(self, board: StatusBoard) -> None:
        self._board = board

    async def get(self, request: Request) -> Answer:
        """All replicas tell the same, at most half a second old."""
        query(request)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Board(await self._board.read()))
        return Answer(200, generate_latest(registry), CONTENT_TYPE_LATEST.encode())
