"""Census: how many documents each counted collection holds, known without asking each time."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from actors.core.errors import CommandFailed, CommandRefused, CommandUnknown, SpillwayError

_log = logging.getLogger("spillway")

_TRIES = 2  # of a count that is not answered; the first may be an accident of the connection


class Census:
    """A number that is not known is missing from `known`, and never a 0. No write needs it, so none waits long for one:
    a count that fails is not asked again until `renew`, and one that is twice not answered never.
    """

    def __init__(self, namespaces: Sequence[str]) -> None:
        self.known: dict[str, int] = {}
        self._namespaces = tuple(namespaces)
        self._due: list[str] = []
        self._counting = ""  # what is just being counted, as long as no write disturbs it
        self._doubtful: set[str] = set()
        self._unanswered: Counter[str] = Counter()
        self._told: set[str] = set()

    @property
    def is_due(self) -> bool:
        """Is there something to count, as soon as no write is under way?"""
        return bool(self._due)

    def renew(self, *, everything: bool) -> None:
        """MongoDB was away: ask for the numbers that are not known; `everything`: none of them is any more."""
        if everything:
            self.known.clear()
        self._doubtful.clear()
        self._due = [name for name in self._namespaces if name not in self.known and self._unanswered[name] < _TRIES]

    async def take(self, count: Callable[[str], Awaitable[int]]) -> None:
        """Ask for the next number that is due, with no write under way: nobody could tell which of them are in it.

        One that a write disturbs stays due. Raises what else `count` raises than that MongoDB does not do it: then
        MongoDB is away.
        """
        namespace = self._counting = self._due.pop(0)
        try:
            number = await count(namespace)
        except (CommandRefused, CommandFailed) as error:
            self._tell(namespace, error)
            return
        except CommandUnknown as error:
            self._unanswered[namespace] += 1
            if self._unanswered[namespace] >= _TRIES:
                self._tell(namespace, error)
            raise CommandUnknown(f"no answer to a count of {namespace}: {error}") from error
        self._unanswered[namespace] = 0
        if self._counting:
            self.known[namespace] = number
        else:
            self._due.append(namespace)

    def disturb(self, namespace: str) -> None:
        """A write begins."""
        if self._counting == namespace:
            self._counting = ""

    def grow(self, namespace: str, documents: int) -> None:
        """A command has added so many; negative: removed."""
        if namespace in self.known:
            self.known[namespace] += documents
        elif namespace in self._doubtful:
            self._doubtful.remove(namespace)
            self._due.append(namespace)

    def doubt(self, namespace: str) -> None:
        """A command has added some, nobody knows how many. They are counted when the next one is done: what keeps
        writes from being done may keep a count as long."""
        if self.known.pop(namespace, None) is not None:
            self._doubtful.add(namespace)

    def _tell(self, namespace: str, error: SpillwayError) -> None:
        if namespace not in self._told:
            _log.warning("MongoDB does not count %s, so its size is unknown: %s", namespace, error)
        self._told.add(namespace)
