"""Census: how many documents each counted collection holds, known without asking each time."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from actors.core.errors import CommandForbidden, CommandRefused

_log = logging.getLogger("spillway")


class Census:
    """A number that is not known is missing from `known`, and never a 0."""

    def __init__(self, namespaces: Sequence[str]) -> None:
        self.known: dict[str, int] = {}
        self._namespaces = tuple(namespaces)
        self._refused: set[str] = set()

    @property
    def complete(self) -> bool:
        """Is every number known?"""
        return len(self.known) == len(self._namespaces)

    async def take(self, count: Callable[[str], Awaitable[int]]) -> None:
        """Ask for all numbers. One that MongoDB refuses, as for want of a right, stays unknown: no write needs it.

        Raises what else `count` raises: a MongoDB that fails may do better soon.
        """
        for namespace in self._namespaces:
            self.known.pop(namespace, None)
            try:
                self.known[namespace] = await count(namespace)
            except (CommandRefused, CommandForbidden) as error:
                if namespace not in self._refused:
                    _log.warning("MongoDB does not count %s, so its size is unknown: %s", namespace, error)
                self._refused.add(namespace)

    def grow(self, namespace: str, documents: int) -> None:
        """A command has added so many; negative: removed."""
        if namespace in self.known:
            self.known[namespace] += documents
