"""Bare calls of an actor through Ray: `python -m loadtests.baselines.ray_call SECONDS BYTES CALLERS` prints JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from statistics import median
from typing import Any

import ray


@ray.remote(num_cpus=0, max_concurrency=1000)  # type: ignore[call-overload]  # its types are of functions only
class Echo:
    """Answers with a position, as a buffer does."""

    async def append(self, _payload: bytes) -> tuple[str, int]:
        return "1700000000000-0", 0


async def measure(seconds: float, size: int, callers: int) -> dict[str, float]:
    """Calls a second and their median (ms), of so many callers who ask again as soon as they were answered."""
    echo: Any = Echo.remote()  # type: ignore[attr-defined]
    payload = bytes(size)
    await echo.append.remote(payload)
    took: list[float] = []
    end = time.monotonic() + seconds

    async def ask() -> None:
        while (began := time.monotonic()) < end:
            await echo.append.remote(payload)
            took.append(time.monotonic() - began)

    await asyncio.gather(*(ask() for _ in range(callers)))
    return {"calls_per_s": len(took) / seconds, "median_ms": median(took) * 1000}


if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 1024 * 1024)
    print(json.dumps(asyncio.run(measure(float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))))
    ray.shutdown()
