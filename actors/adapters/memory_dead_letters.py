"""The double of the shelf of dead letters."""

from __future__ import annotations

from collections.abc import Sequence

from actors.core.dead_letter import EVERY, DeadLetter, Page, Selection


class MemoryDeadLetters:
    """Satisfies `DeadLetters`."""

    def __init__(self) -> None:
        self.letters: dict[str, DeadLetter] = {}
        self._numbers: dict[str, int] = {}  # of each letter, in the order they came
        self._last = 0

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            if letter.id not in self.letters:
                self._last += 1
                self.letters[letter.id], self._numbers[letter.id] = letter, self._last

    async def list(self, selection: Selection = EVERY, limit: int = 100, after: str = "") -> Page:
        newest = f"{max((self._numbers[id_] for id_ in self.letters), default=0)}-0"
        start, last = (int(part.partition("-")[0]) for part in (after or f"0-0_{newest}").split("_"))
        there = [letter for letter in self.letters.values() if start < self._numbers[letter.id] <= last]
        letters: list[DeadLetter] = []
        for scanned, letter in enumerate(there, 1):
            if selection.takes(letter):
                letters.append(letter)
            if len(letters) == limit and scanned < len(there):
                return Page(letters, scanned, f"{self._numbers[letter.id]}-0_{last}-0", newest, len(self.letters))
        return Page(letters, len(there), "", newest, len(self.letters))

    async def get(self, id: str) -> DeadLetter | None:
        return self.letters.get(id)

    async def remove(self, ids: Sequence[str]) -> int:
        return sum(self.letters.pop(id_, None) is not None for id_ in ids)

    async def size(self) -> int:
        return len(self.letters)
