"""What the users of a flood did by name, and whether MongoDB holds what that makes. Pure: answers and documents in.

Documents of /api/data are judged by `loadtests/verify.py`; here are the requests it does not know. Every id and every
key belongs to one user, who sends the next request after the answer to the last: so the order of acceptance is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]


@dataclass
class Findings:
    """Faults of the service, one sentence each."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    ghosts: list[str] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)  # an older version than the last accepted one


@dataclass
class _Order:
    """One Idempotency-Key: the ids it was answered with, and whether a request under it has an unknown outcome."""

    ids: set[str] = field(default_factory=set)
    unknown: bool = False


@dataclass
class _Life:
    """One document: what the accepted writes make of it, and what it may be as well after one unknown outcome."""

    accepted: Document | None = None
    touched: bool = False
    maybe: list[Document | None] = field(default_factory=list)


class History:
    """Everything that was sent by name."""

    def __init__(self) -> None:
        self._orders: dict[str, _Order] = {}
        self._lives: dict[str, _Life] = {}
        self._stale: list[str] = []

    def ordered(self, key: str, outcome: str, id: str = "") -> None:
        """A POST under an Idempotency-Key ended as `outcome`: ok (with the id answered), fail or unknown."""
        order = self._orders.setdefault(key, _Order())
        if outcome == "ok":
            order.ids.add(id)
        order.unknown = order.unknown or outcome == "unknown"

    def edited(self, id: str, outcome: str, after: Document | None) -> bool:
        """A PUT, PATCH or DELETE ended as `outcome`; `after` is what it makes of the document, None for a deletion.

        False when the id is not to be used again: nobody can tell what the next write finds.
        """
        life = self._lives.setdefault(id, _Life())
        if outcome == "ok":
            life.accepted, life.touched = after, True
        elif outcome == "unknown":
            life.maybe.append(after)
            return False
        return True

    def read(self, id: str, found: Document | None) -> None:
        """A GET past the caches answered `found`, None for 404, after the last edit of the id was accepted."""
        if _plain(found) != self._lives[id].accepted:
            self._stale.append(f"{id} was read as {found}, accepted was {self._lives[id].accepted}")

    def judge(self, orders: Iterable[Mapping[str, Any]], edits: Iterable[Mapping[str, Any]]) -> Findings:
        """Against all documents of the two collections, after the drain."""
        findings = Findings(disordered=list(self._stale))
        self._judge_orders(list(orders), findings)
        self._judge_edits({str(document["_id"]): dict(document) for document in edits}, findings)
        return findings

    def _judge_orders(self, documents: list[Mapping[str, Any]], findings: Findings) -> None:
        stored = Counter(str(document.get("order")) for document in documents)
        ids = {str(document["_id"]) for document in documents}
        for key, order in self._orders.items():
            if len(order.ids) > 1:
                findings.doubled.append(f"key {key} was answered with the ids {sorted(order.ids)}")
            findings.lost.extend(f"{id} of key {key}" for id in sorted(order.ids - ids))
            if stored[key] > 1:
                findings.doubled.append(f"key {key} has {stored[key]} documents")
            if stored[key] and not order.ids and not order.unknown:
                findings.ghosts.append(f"key {key} was refused each time and has a document")
        findings.ghosts.extend(f"a document of key {key}, never sent" for key in stored if key not in self._orders)

    def _judge_edits(self, documents: dict[str, Document], findings: Findings) -> None:
        for id, life in self._lives.items():
            found = _plain(documents.get(id))
            if found == life.accepted or found in life.maybe:
                continue
            said = f"{id} is {found}, accepted was {life.accepted}"
            if not life.touched:
                findings.ghosts.append(said)
            elif found is None:
                findings.lost.append(said)
            else:
                findings.disordered.append(said)
        findings.ghosts.extend(f"{id}, never sent" for id in documents if id not in self._lives)


def _plain(document: Mapping[str, Any] | None) -> Document | None:
    """Without its id, which is known."""
    return None if document is None else {name: value for name, value in document.items() if name != "_id"}
