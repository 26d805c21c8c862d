"""Figures over time, second by second, from what was recorded. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loadtests.samples import Sample
from loadtests.window import SECOND_NS, Stamp

Floats = NDArray[np.float64]
PERCENTILES = (50, 95, 99)
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Latency:
    """Each second of a run: answers and failures in it, and percentiles (ms) of the answers; NaN where there are none.

    `second` counts from the start of the run.
    """

    second: Floats
    answered: Floats
    failed: Floats
    percentiles_ms: dict[int, Floats]


def latency(ends_s: ArrayLike, took_ms: ArrayLike, failed_ends_s: ArrayLike, start_s: float, stop_s: float) -> Latency:
    """Requests by the second in which they ended. The last, broken second of a run is left out where it can be."""
    seconds = max(int(stop_s - start_s), 1)
    ends = np.asarray(ends_s, dtype=np.float64) - start_s
    took = np.asarray(took_ms, dtype=np.float64)
    order = np.argsort(ends, kind="stable")
    ends, took = ends[order], took[order]
    edges = np.searchsorted(ends, np.arange(seconds + 1, dtype=np.float64))
    curves = {percent: np.full(seconds, np.nan) for percent in PERCENTILES}
    for second in range(seconds):
        inside = took[edges[second] : edges[second + 1]]
        if inside.size:
            for percent, value in zip(PERCENTILES, np.percentile(inside, PERCENTILES), strict=True):
                curves[percent][second] = value
    failed = np.asarray(failed_ends_s, dtype=np.float64) - start_s
    failures, _ = np.histogram(failed, bins=np.arange(seconds + 1, dtype=np.float64))
    return Latency(np.arange(seconds, dtype=np.float64), np.diff(edges).astype(float), failures.astype(float), curves)


def commands(stamps: Sequence[Stamp], start_s: float, stop_s: float) -> tuple[Floats, Floats]:
    """Seconds since the start, and the fullest window of 1 s (commands) that ends in each. The wall clock selects."""
    inside = [stamp for stamp in stamps if start_s <= stamp.wall_s <= stop_s]
    seconds = max(int(np.ceil(stop_s - start_s)), 1)
    fullest = np.zeros(seconds)
    if inside:
        at = np.array(sorted(stamp.monotonic_ns for stamp in inside), dtype=np.int64)
        # Of the windows (t - 1 s, t] the fullest ends at a stamp; their number is a difference of ranks.
        count = np.arange(1, at.size + 1) - np.searchsorted(at, at - SECOND_NS, side="right")
        second = ((at - at[0]) / SECOND_NS + (min(stamp.wall_s for stamp in inside) - start_s)).astype(int)
        np.maximum.at(fullest, np.clip(second, 0, seconds - 1), count)
    return np.arange(seconds, dtype=np.float64), fullest


def cpu(samples: Sequence[Sample], start_s: float) -> tuple[Floats, dict[str, Floats]]:
    """Seconds since the start, and the CPU (cores) of each part there, the one that took most first."""
    second = np.array([sample.at_s - start_s for sample in samples])
    parts = {part for sample in samples for part in sample.usage.cpu_cores}
    curves = {part: np.array([sample.usage.cpu_cores.get(part, 0.0) for sample in samples]) for part in parts}
    return second, dict(sorted(curves.items(), key=lambda item: (-float(item[1].sum()), item[0])))


def memory(samples: Sequence[Sample], start_s: float) -> tuple[Floats, dict[str, Floats]]:
    """Seconds since the start, and the resident memory (MiB) of each part there."""
    second = np.array([sample.at_s - start_s for sample in samples])
    parts = sorted({part for sample in samples for part in sample.usage.rss_bytes})
    return second, {part: np.array([sample.usage.rss_bytes.get(part, 0) / MIB for sample in samples]) for part in parts}


def gauge(samples: Sequence[Sample], start_s: float, name: str) -> tuple[Floats, Floats]:
    """Seconds since the start, and `backlog` or `lag_s` there; NaN, drawn as a gap, where the service did not tell."""
    second = np.array([sample.at_s - start_s for sample in samples])
    return second, np.array([getattr(sample, name) for sample in samples], dtype=np.float64)
