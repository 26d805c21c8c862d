"""One trial: load, a fault, its end, and whether every promise was kept (I1 to I8 of docs/guarantees.md)."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from tests.acceptance.flood import DATABASE, Flood, Users
from tests.acceptance.history import Findings
from tests.acceptance.readiness import Readiness
from tests.acceptance.service import ROOT, Service
from tests.acceptance.table import Row

FIRST_FAULT_S = 3.0
AFTER_S = 6.0  # load goes on for so long after the last fault has ended
READY_S = 5.0  # I6
NOTICED_S = 2.0  # I8
DRAIN_S = 300.0


@dataclass(frozen=True)
class Fault:
    """Something that is done to a running service, and how it is undone.

    Without `end` it is over as soon as it has been done: what was killed comes back by itself. `hides` is what
    readiness has to notice within two seconds: "redis" (not ready) or "mongodb" (ready, and says that it is down).
    """

    begin: Callable[[], Any]
    end: Callable[[], Any] | None = None
    lasts_s: float = 0.0
    at_s: float = FIRST_FAULT_S
    hides: str = ""


@dataclass
class Trial:
    """One row of the table, measured on a running service. `patience` stretches every bound on time: 1 as promised."""

    fault: str
    service: Service
    folder: Path
    seed: int
    patience: float = 1.0
    ready_s: float = READY_S
    row: Row = field(init=False)
    flood: Flood = field(init=False)
    readiness: Readiness = field(init=False)

    def __post_init__(self) -> None:
        self.row = Row(self.fault)

    @property
    def ready_within_s(self) -> float:
        """Seconds from the end of the faults in which it has to be ready."""
        return self.ready_s * self.patience

    def run(self, *faults: Fault, load_s: float | None = None, users: Users | None = None) -> Row:
        """Load, the faults at their times, then `measure` and `check`."""
        self.strike(*faults, load_s=load_s, users=users)
        return self.judge()

    def strike(self, *faults: Fault, load_s: float | None = None, users: Users | None = None) -> None:
        """Load until `load_s` or `AFTER_S` after the last fault; every fault that has begun is ended, come what may."""
        self.flood = Flood(self.service.url, self.folder, self.seed, users)
        self.readiness = Readiness(self.service.url)
        last = max((fault.at_s + fault.lasts_s for fault in faults), default=FIRST_FAULT_S)
        loads = len(self.service.aof_loads_s())
        asyncio.run(self._strike(faults, load_s or last + AFTER_S))
        self.row.load_s = sum(self.service.aof_loads_s()[loads:])

    def judge(self) -> Row:
        """Waits for the drain, counts, and raises `AssertionError` with everything that is wrong at once."""
        verdict = self._verify()
        findings = self._findings()
        row, figures = self.row, verdict["figures"]
        row.ok, row.fail, row.unknown = (self.flood.outcomes[name] for name in ("ok", "fail", "unknown"))
        row.lost = figures["lost"] + len(findings.lost)
        row.doubled = figures["doubled"] + len(findings.doubled)
        row.ghosts = figures["ghosts"] + len(findings.ghosts)
        row.worst_window, row.drained_s = figures["worst_window"], figures["drain_seconds"]
        wrong = [*verdict["problems"], *self._broken(findings)]
        assert not wrong, "\n".join([f"{self.fault}: {row}", *wrong])
        row.passed = True
        return row

    def _broken(self, findings: Findings) -> Iterable[str]:
        """One sentence for each promise that was not kept; the verifier has told of I1 to I4 for /api/data."""
        for kind in ("lost", "doubled", "ghosts", "disordered"):
            found = getattr(findings, kind)
            if found:
                yield f"{len(found)} {kind}: {'; '.join(found[:5])}"
        if not self.row.ok:
            yield "nothing was accepted: the trial shows nothing"
        if self.row.ready_s is None:
            yield "not ready again, or accepting nothing, when the load ended"
        elif self.row.ready_s - self.row.load_s > self.ready_within_s:
            yield f"ready {self.row.ready_s:.1f} s after the fault, not within {self.ready_within_s:.0f} s"
        if self.row.noticed_s is not None and self.row.noticed_s > NOTICED_S * self.patience:
            yield f"readiness noticed after {self.row.noticed_s:.1f} s, promised are {NOTICED_S:.0f} s"
        if self.flood.odd:
            yield f"{len(self.flood.odd)} answers outside of the contract: {'; '.join(self.flood.odd[:5])}"

    async def _strike(self, faults: tuple[Fault, ...], load_s: float) -> None:
        end = asyncio.Event()
        watching = asyncio.create_task(self.readiness.watch())
        flooding = asyncio.create_task(self.flood.run(end))
        ended = await asyncio.gather(*map(self._inflict, faults), asyncio.sleep(load_s), return_exceptions=True)
        over = max((at for at in ended if isinstance(at, float)), default=0.0)
        deadline = time.monotonic() + self.ready_within_s
        while self._back_s(over) is None and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        end.set()
        await flooding
        watching.cancel()
        for outcome in ended:
            if isinstance(outcome, BaseException):
                raise outcome
        self.row.ready_s = self._back_s(over)

    async def _inflict(self, fault: Fault) -> float:
        """Returns when it was over (monotonic s)."""
        await asyncio.sleep(fault.at_s)
        began = time.monotonic()
        try:
            await asyncio.to_thread(fault.begin)
            await asyncio.sleep(fault.lasts_s)
        finally:
            if fault.end is not None:
                await asyncio.to_thread(fault.end)
        over = time.monotonic()
        if fault.hides:
            noticed = self.readiness.noticed_s(began, fault.hides)
            assert noticed is not None, f"readiness did not notice that {fault.hides} was away for {over - began:.1f} s"
            self.row.noticed_s = noticed
        return over

    def _back_s(self, over: float) -> float | None:
        """Seconds from the end of the fault until it is ready for good and accepts; None if it never was."""
        ready = self.readiness.ready_s(over)
        accepted = [at - over for at in self.flood.accepted_at if at >= over]
        return max(ready, min(accepted)) if ready is not None and accepted else None

    def _verify(self) -> dict[str, Any]:
        """The verdict on /api/data by the judge that shares no code with the service."""
        addresses = self.service.status_of_run()
        command = [sys.executable, "loadtests/verify.py", str(self.folder), "--base-url", addresses["http_url"]]
        command += ["--mongodb-uri", addresses["mongodb_uri"], "--witness", addresses["witness_record"]]
        command += ["--drain-timeout", str(DRAIN_S)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DRAIN_S + 300)
        assert done.returncode in (0, 1), f"no verdict:\n{done.stdout}\n{done.stderr}"
        found: dict[str, Any] = json.loads((self.folder / "verdict.json").read_text())
        return found

    def _findings(self) -> Findings:
        """The verdict on everything else, read past the service and past the witness."""
        client: MongoClient[dict[str, Any]] = MongoClient(self.service.status_of_run()["mongodb_uri"])
        try:
            database = client[DATABASE]
            return self.flood.history.judge(database[self.flood.orders].find(), database[self.flood.edits].find())
        finally:
            client.close()


Trials = Callable[[Service, str], Trial]
"""Makes the trial of one fault, by the name it has in the table."""
