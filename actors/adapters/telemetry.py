"""RayTelemetry: numbers on Ray's metrics endpoint, under the names in docs/operations.md."""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge, Histogram

_SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0]
_NUMBERS = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0]


class RayTelemetry:
    """Satisfies `Telemetry`. Every name is exported as `ray_spillway_<name>` with the tag `part`; of a counter with
    `_total` behind it. A name ends in its unit."""

    def __init__(self, part: str) -> None:
        """`part`: the actor that reports, for example its name."""
        self._part = {"part": part}
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}

    def count(self, name: str, amount: float = 1, **tags: str) -> None:
        if amount <= 0:
            return  # Ray raises an error for a counter that stays where it is
        if name not in self._counters:
            self._counters[name] = Counter(f"spillway_{name}", tag_keys=("part", *tags))
        self._counters[name].inc(amount, tags=self._part | tags)

    def gauge(self, name: str, value: float, **tags: str) -> None:
        if name not in self._gauges:
            self._gauges[name] = Gauge(f"spillway_{name}", tag_keys=("part", *tags))
        self._gauges[name].set(value, tags=self._part | tags)

    def observe(self, name: str, value: float, **tags: str) -> None:
        if name not in self._histograms:
            boundaries = _SECONDS if name.endswith("_seconds") else _NUMBERS
            self._histograms[name] = Histogram(f"spillway_{name}", boundaries=boundaries, tag_keys=("part", *tags))
        self._histograms[name].observe(value, tags=self._part | tags)
