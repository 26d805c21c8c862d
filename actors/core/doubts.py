"""How large a command may be after commands like it were not done in time. Time is an argument."""

from __future__ import annotations

from typing import NamedTuple

from actors.core.batching import Command, Verb
from actors.core.pacing import SECOND_NS

NO_LIMIT = 1 << 62


class _Doubt(NamedTuple):
    noted_ns: int
    most: int
    until_ns: int


class Doubts:
    """A server that needs longer for a command than it is given may manage half of it.

    One command that was not answered, or that the server ended itself when its time was up, is taken for an accident.
    Each further one halves what commands for this verb and collection may carry, down to a single write.
    """

    def __init__(self, operation_s: float) -> None:
        """`operation_s`: how long a command may take. A dozen times as long without a further one that is not done, and
        commands are tried whole again."""
        self._forget_ns = int(12 * operation_s * SECOND_NS)
        self._of: dict[tuple[int, str], _Doubt] = {}

    def note(self, command: Command, began_ns: int, now: int) -> None:
        """`command` was not done in time. Those that are under way together have one cause and count once: a further
        one has begun after the last that counted had ended."""
        self._of = {kind: doubt for kind, doubt in self._of.items() if now < doubt.until_ns}
        kind = (command.verb, command.namespace)
        before = self._of.get(kind)
        if before is None:
            self._of[kind] = _Doubt(now, NO_LIMIT, now + self._forget_ns)
        elif began_ns > before.noted_ns:
            most = max(1, min(before.most, len(command.ids)) // 2)
            self._of[kind] = _Doubt(now, most, now + self._forget_ns)

    def most(self, command: Command, now: int, update_limit: int = NO_LIMIT) -> int:
        """Writes that a command for this verb and collection may carry now. `update_limit`: updates that the server
        takes at once in any case."""
        doubt = self._of.get((command.verb, command.namespace))
        most = doubt.most if doubt and now < doubt.until_ns else NO_LIMIT
        return min(most, update_limit) if command.verb == Verb.UPDATE else most
