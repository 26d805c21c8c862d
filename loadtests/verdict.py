"""The verdict: what the service accepted against what MongoDB holds.

Pure: documents are handed in one by one, in any order, and only their ids and a hash of their payload are kept.
"""

from __future__ import annotations

import string
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
from bson import ObjectId

from loadtests.answers import FOUND, Answers

FIELDS = {"_id", "type", "index", "payload", "timestamp"}
PAYLOAD_CHARACTERS = 512
_ALPHABET = (string.ascii_letters + string.digits).encode()
EXAMPLES = 5
# What k6 gave up, after 30 s at most, the service may take up after the last answer: its documents are of the run.
# Later ones are another's, so a finished run may be judged again.
GRACE = timedelta(seconds=35)
CLOCKS = timedelta(seconds=5)  # that the clock which stamps documents may differ from the one of k6's record


@dataclass(slots=True)
class Finding:
    """How many documents or ids share a fault, and the first few of them."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, identity: object) -> None:
        """One more."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(str(identity))


@dataclass(slots=True)
class Verdict:
    """What a comparison found; all findings but `unknown` and `undated` are faults of the service."""

    lost: Finding = field(default_factory=Finding)  # accepted, not stored
    doubled: Finding = field(default_factory=Finding)  # an id or a payload stored twice
    ghosts: Finding = field(default_factory=Finding)  # stored in this run, never accepted, no unknown outcome to blame
    malformed: Finding = field(default_factory=Finding)  # stored, but not what was promised
    phantoms: Finding = field(default_factory=Finding)  # answered as read, stored nowhere
    unknown: int = 0  # stored documents that requests with unknown outcome account for
    undated: int = 0  # never accepted, and nothing tells when they were made: no part of the verdict
    documents: int = 0  # all documents of the collection
    of_run: int = 0  # those of this run
    least_bytes: int = 0  # that the commands had which stored what was accepted: its documents alone


class Comparison:
    """Answers on one side, stored documents on the other. See every document once, then ask for the verdict.

    Of the run are documents with an accepted id, and those made from its start to 35 s after its stop.
    """

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._since = datetime.fromtimestamp(answers.started_s or 0, UTC)
        self._stopped = datetime.max.replace(tzinfo=UTC) - GRACE
        if answers.stopped_s is not None:
            self._stopped = datetime.fromtimestamp(answers.stopped_s, UTC)
        self._until = self._stopped + GRACE
        self._unaccepted: dict[object, int] = {}
        self._payloads: set[int] = set()
        self._unread = set(answers.reads)
        self._verdict = Verdict()

    def see(self, document: Mapping[str, Any]) -> None:
        """Take one stored document into account."""
        identity = document["_id"]
        if not isinstance(identity, Hashable):  # an id may be an object, which no set holds
            identity = str(identity)
        self._verdict.documents += 1
        accepted = self._answers.accepted
        self._unread.discard(identity)
        latest, places = self._until, range(self._answers.writes_per_request)
        if identity in accepted:
            latest, place = self._stopped + CLOCKS, accepted[identity]
            if place == FOUND:
                self._verdict.doubled.add(identity)
                return
            accepted[identity], places = FOUND, range(place, place + 1)
            self._verdict.least_bytes += len(bson.encode(document))
        else:
            made = _made_at(document)
            if made is None:
                self._verdict.undated += 1
                return
            if not self._since <= made <= self._until:
                return
            if identity in self._unaccepted:
                self._verdict.doubled.add(identity)
                return
            self._unaccepted[identity] = 1
        self._verdict.of_run += 1
        self._inspect(identity, document, latest, places)

    def _inspect(self, identity: object, document: Mapping[str, Any], latest: datetime, places: range) -> None:
        """Check the promised form, with an index in `places` (that of the id in its answer, where it is known) and a
        timestamp of the run, `latest` at most, and whether another document of this run has the same payload.

        Two of 512 random characters never agree by chance, so the same payload means one write stored under two ids.
        """
        payload, index, timestamp = (document.get(name) for name in ("payload", "index", "timestamp"))
        if (
            not isinstance(payload, str)
            or not _random_text(payload)
            or document.keys() != FIELDS
            or document["type"] != "write"
            or not isinstance(index, int)
            or isinstance(index, bool)
            or index not in places
            or not isinstance(timestamp, datetime)
            or not self._since - CLOCKS <= _aware(timestamp) <= latest
        ):
            self._verdict.malformed.add(identity)
        if not isinstance(payload, str):
            return
        fingerprint = hash(payload)  # 64 bits: a chance meeting among 2 million has odds of one in ten million
        if fingerprint in self._payloads:
            self._verdict.doubled.add(identity)
        self._payloads.add(fingerprint)

    def verdict(self) -> Verdict:
        """The outcome after all documents were seen. Call it once."""
        verdict, answers = self._verdict, self._answers
        for identity, place in answers.accepted.items():
            if place != FOUND:
                verdict.lost.add(identity)
        for identity in answers.repeated:
            verdict.lost.add(identity)
        for identity in self._unread:
            verdict.phantoms.add(identity)
        verdict.unknown = min(len(self._unaccepted), answers.unknown * answers.writes_per_request)
        for ghost in list(self._unaccepted)[verdict.unknown :]:
            verdict.ghosts.add(ghost)
        return verdict


def _random_text(payload: str) -> bool:
    """Whether it is 512 letters and digits."""
    return len(payload) == PAYLOAD_CHARACTERS and not payload.encode().translate(None, _ALPHABET)


def _made_at(document: Mapping[str, Any]) -> datetime | None:
    """When a document was made: by its id (UUIDv7, ObjectId), else by its timestamp, else None."""
    identity = document["_id"]
    if isinstance(identity, ObjectId):
        return identity.generation_time
    if isinstance(identity, str) and len(identity) == 36 and identity[14] == "7":
        try:
            milliseconds = int(identity[:8] + identity[9:13], 16)
            return datetime.fromtimestamp(milliseconds / 1000, UTC)
        except (ValueError, OverflowError, OSError):
            pass
    timestamp = document.get("timestamp")
    return _aware(timestamp) if isinstance(timestamp, datetime) else None


def _aware(timestamp: datetime) -> datetime:
    """MongoDB's times are UTC, also where a driver does not say so."""
    return timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)
