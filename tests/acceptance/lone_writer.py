"""A second writer, started by hand beside a running service: `python -m tests.acceptance.lone_writer`.

The same class on the same lease and the same MongoDB, in a process of its own, as a second cluster would have it. It
asks MongoDB for documents as fast as its budget lets it, and prints its statistics as JSON lines ten times a second.
SIGTERM gives the lease back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from tests.acceptance.service import ROOT, Service

LANES = 8


class LoneWriter:
    """That process, seen from a test."""

    def __init__(self, service: Service, folder: Path) -> None:
        self._service = service
        self._output = folder / "lone-writer.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        record = self._service.status_of_run()
        environment = {
            **self._service.environment,
            "SPILLWAY_REDIS_URL": record["redis_url"],
            "SPILLWAY_MONGODB_URI": record["service_mongodb_uri"],
        }
        command = [sys.executable, "-m", "tests.acceptance.lone_writer"]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)

    def stop(self) -> None:
        """Gives the lease back; may be called twice."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(60)

    def samples(self) -> list[dict[str, Any]]:
        """Everything it has told so far."""
        lines = self._output.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def last(self) -> dict[str, Any]:
        """The latest of it; epoch 0 before the first."""
        return (self.samples() or [{"epoch": 0, "commands_total": 0}])[-1]


async def main() -> None:
    from actors.core.errors import SpillwayError
    from actors.remote import MongoWriter
    from cluster.launch import writer_config
    from cluster.settings import load

    settings = load()
    writer = MongoWriter(writer_config(settings))
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)

    async def ask() -> None:
        while True:
            if isinstance(await writer.find(settings.data_namespace, [uuid.uuid4().hex]), SpillwayError):
                await asyncio.sleep(0.05)

    askers = [asyncio.create_task(ask()) for _ in range(LANES)]
    while not end.is_set():
        print(json.dumps(await writer.stats()), flush=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(end.wait(), 0.1)
    for asker in askers:
        asker.cancel()
    await writer.release()


if __name__ == "__main__":
    asyncio.run(main())
