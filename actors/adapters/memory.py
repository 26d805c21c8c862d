"""Doubles of every port, shipped: the whole service runs on them in one process, and the contract tests bind them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from actors.adapters.clock import ManualClock
from actors.adapters.faults import Faults
from actors.adapters.memory_dead_letters import MemoryDeadLetters
from actors.adapters.memory_store import MemoryStore
from actors.core.arrivals import Arrivals, LaneCall
from actors.core.dead_letter import DeadLetter
from actors.core.errors import Fenced, SpillwayError
from actors.core.pacing import SECOND_NS
from actors.core.ports import Appended, Grant, Keyed, KeyedAnswer, Logged
from actors.core.position import NOTHING, order

__all__ = [
    "Faults",
    "MemoryCache",
    "MemoryDeadLetters",
    "MemoryLease",
    "MemoryLog",
    "MemoryStore",
    "RecordingTelemetry",
]


@dataclass(slots=True)
class _Disk:
    """What a stream leaves behind when its owner dies."""

    faults: Faults = field(default_factory=Faults)
    entries: dict[str, bytes] = field(default_factory=dict)
    history: dict[str, bytes] = field(default_factory=dict)  # every entry there ever was, for a judge
    arrivals: Arrivals = field(default_factory=Arrivals)
    once: dict[str, tuple[str, str, float]] = field(default_factory=dict)  # fingerprint, position, end (wall clock)
    last: str = NOTHING
    epoch: int = 0
    owner: object = None
    late: list[tuple[int, bytes, Sequence[Keyed], Sequence[LaneCall]]] = field(default_factory=list)


class MemoryLog:
    """Satisfies `WriteLog`. It survives its owner: a `Buffer` on `another` of it has crashed and come back.

    Faults, beside the verbs: "append reply" for an answer lost after the append, "append late" for an append that
    arrives only with `land`.
    """

    def __init__(
        self,
        stream: str = "0of1",
        dead_letters: MemoryDeadLetters | None = None,
        clock: ManualClock | None = None,
        disk: _Disk | None = None,
        *,
        once_ttl_s: float = 86_400.0,
        once_max: int = 1_000_000,
    ) -> None:
        self.shelf = dead_letters or MemoryDeadLetters()
        self._stream = stream
        self._clock = clock or ManualClock()
        self._disk = disk or _Disk()
        self._once_ttl_s = once_ttl_s
        self._once_max = once_max
        self._epoch = 0
        self._owner = f"{stream}/{uuid4().hex}"

    def another(self) -> MemoryLog:
        """The same stream, as another process sees it."""
        return MemoryLog(
            self._stream, self.shelf, self._clock, self._disk, once_ttl_s=self._once_ttl_s, once_max=self._once_max
        )

    @property
    def faults(self) -> Faults:
        return self._disk.faults

    @property
    def entries(self) -> dict[str, bytes]:
        return self._disk.entries

    @property
    def history(self) -> dict[str, bytes]:
        return self._disk.history

    @property
    def stream(self) -> str:
        return self._stream

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def owner(self) -> str:
        return self._owner

    async def open(self) -> int:
        self.faults.strike("open")
        self._disk.owner = self
        return self._begin()

    async def reopen(self) -> int:
        self.faults.strike("reopen")
        self._refuse_former()
        return self._begin()

    def _refuse_former(self) -> None:
        if self._disk.owner is not self:
            raise Fenced("a newer owner has taken over")

    def _begin(self) -> int:
        self._disk.epoch += 1
        self._epoch = self._disk.epoch
        return self._epoch

    async def append(self, payload: bytes, keyed: Sequence[Keyed] = (), calls: Sequence[LaneCall] = ()) -> Appended:
        self.faults.strike("append")
        try:
            self.faults.strike("append late")
        except SpillwayError:
            self._disk.late.append((self._epoch, payload, keyed, calls))
            raise
        if self._epoch != self._disk.epoch:
            raise Fenced(f"a newer owner has epoch {self._disk.epoch}")
        appended = self._keep(payload, keyed, calls)
        self.faults.strike("append reply")
        return appended

    def land(self) -> None:
        """What was on its way arrives now; what belongs to a past epoch is refused."""
        for epoch, payload, keyed, calls in self._disk.late:
            if epoch == self._disk.epoch:
                self._keep(payload, keyed, calls)
        self._disk.late.clear()

    def place(self, call: LaneCall) -> tuple[str, int] | None:
        return self._disk.arrivals.place(call)

    async def replay(self, after: str | None = None) -> AsyncIterator[Logged]:
        self.faults.strike("replay")
        for position, payload in list(self.entries.items()):
            if order(position) > order(after or NOTHING):
                yield Logged(position, payload)

    async def acknowledge(self, position: str) -> None:
        self.faults.strike("acknowledge")
        self._refuse_former()
        self._disk.entries = {p: entry for p, entry in self.entries.items() if order(p) > order(position)}

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        self.faults.strike("dead_letter")
        gone = self.history.keys() - self.entries.keys()
        await self.shelf.add([letter for letter in letters if letter.id.split("/")[1] not in gone])

    async def last_position(self) -> str:
        self.faults.strike("last_position")
        return self._disk.last

    async def ping(self) -> None:
        self.faults.strike("ping")
        self._refuse_former()

    def _keep(self, payload: bytes, keyed: Sequence[Keyed], calls: Sequence[LaneCall]) -> Appended:
        plain = self._add(payload) if payload else ""
        if plain:
            self._disk.arrivals.note(plain, calls)
        now_s = self._clock.wall_s()
        once = self._disk.once = {key: known for key, known in self._disk.once.items() if known[2] > now_s}
        answers = []
        for item in keyed:
            fingerprint, position, _ = once.get(item.key, (item.fingerprint, "", 0.0))
            if fingerprint != item.fingerprint:
                answers.append(KeyedAnswer("", fresh=False, conflict=True))
            elif position:
                answers.append(KeyedAnswer(position, fresh=False))
            elif len(once) >= self._once_max:
                answers.append(KeyedAnswer("", fresh=False, full=True))
            else:
                position = f"{self._stream}/{self._add(item.payload)}"
                once[item.key] = (item.fingerprint, position, now_s + self._once_ttl_s)
                answers.append(KeyedAnswer(position, fresh=True))
        return Appended(plain, answers)

    def _add(self, payload: bytes) -> str:
        milliseconds, sequence = order(self._disk.last)
        now_ms = int(self._clock.wall_s() * 1000)
        self._disk.last = f"{now_ms}-0" if now_ms > milliseconds else f"{milliseconds}-{sequence + 1}"
        self.entries[self._disk.last] = self.history[self._disk.last] = payload
        return self._disk.last


@dataclass(slots=True)
class _LeaseKey:
    epoch: int = 0
    until_ns: int = 0
    clean: bool = True
    operation_s: float = 0.0


class MemoryLease:
    """Satisfies `Lease`. `rival` makes it look as if another writer had taken over; `another` is one."""

    def __init__(
        self,
        clock: ManualClock,
        *,
        ttl_s: float = 3.0,
        operation_s: float = 5.0,
        clean: bool = True,
        key: _LeaseKey | None = None,
    ) -> None:
        """`operation_s`: see `RedisLease`. `clean`: how the writer before the first one ended."""
        self.faults = Faults()
        self.rival = False
        self.released = False
        self._ttl_s = ttl_s
        self._operation_s = operation_s
        self._clock = clock
        self._key = key or _LeaseKey(clean=clean)
        self._epoch = 0

    def another(self, operation_s: float = 0.0) -> MemoryLease:
        """The same lease, as another writer sees it, maybe one of another operation time."""
        return MemoryLease(self._clock, ttl_s=self._ttl_s, operation_s=operation_s or self._operation_s, key=self._key)

    @property
    def ttl_s(self) -> float:
        return self._ttl_s

    async def acquire(self) -> Grant | None:
        self.faults.strike("acquire")
        if self.rival or self._clock.now_ns() < self._key.until_ns:
            return None
        clean, self._key.clean = self._key.clean, False
        self._key.operation_s = max(self._operation_s, 0.0 if clean else self._key.operation_s)
        self._key.epoch += 1
        self._epoch = self._key.epoch
        self._extend()
        return Grant(self._epoch, 0.0 if clean else self._key.operation_s)

    async def renew(self, *, alone: bool = False) -> bool:
        self.faults.strike("renew")
        if self.rival or self._key.epoch != self._epoch:
            return False
        if alone:
            self._key.operation_s = self._operation_s
        self._extend()
        return True

    async def release(self) -> None:
        self.faults.strike("release")
        if self._key.epoch == self._epoch:
            self.released = self._key.clean = True
            self._key.until_ns = 0

    def _extend(self) -> None:
        self._key.until_ns = self._clock.now_ns() + round(self._ttl_s * SECOND_NS)


class MemoryCache:
    """Satisfies `Cache`."""

    def __init__(self, max_entries: int = 20_000) -> None:
        self._max_entries = max_entries
        self.faults = Faults()
        self.documents: dict[str, bytes] = {}

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self.documents.get(key) for key in keys]

    async def put(self, documents: dict[str, bytes]) -> None:
        older = [(key, document) for key, document in self.documents.items() if key not in documents]
        self.documents = dict([*older, *documents.items()][-self._max_entries :])

    async def drop(self, keys: Sequence[str]) -> None:
        self.faults.strike("drop")
        for key in keys:
            self.documents.pop(key, None)


class RecordingTelemetry:
    """Satisfies `Telemetry`; remembers everything."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str, float, dict[str, Any]]] = []

    def count(self, name: str, amount: float = 1, **tags: str) -> None:
        self.records.append(("count", name, amount, tags))

    def gauge(self, name: str, value: float, **tags: str) -> None:
        self.records.append(("gauge", name, value, tags))

    def observe(self, name: str, value: float, **tags: str) -> None:
        self.records.append(("observe", name, value, tags))
