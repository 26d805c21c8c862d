"""Faults: what the doubles are told to get wrong."""

from __future__ import annotations

from actors.core.errors import SpillwayError


class Faults:
    """Errors to be raised by the next calls of a double: `plan(verb, error)` per call, in order."""

    def __init__(self) -> None:
        self._planned: dict[str, list[SpillwayError]] = {}

    def plan(self, verb: str, *errors: SpillwayError) -> None:
        self._planned.setdefault(verb, []).extend(errors)

    def strike(self, verb: str) -> None:
        if self._planned.get(verb):
            raise self._planned[verb].pop(0)

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._planned.clear()
