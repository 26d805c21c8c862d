"""Which of a replica's actors nobody brings back: known for sure, or not said."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from actors.adapters.clock import settle
from cluster.roll_call import RollCall

OURS = ("buffer", "writer")


class Ray:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[Collection[str]]] = []

    def present(self) -> asyncio.Future[Collection[str]]:
        self.asked.append(asyncio.get_running_loop().create_future())
        return self.asked[-1]

    async def answer(self, *names: str) -> None:
        self.asked[-1].set_result(names)
        await settle()


async def test_actors_that_were_ended_for_others_are_named_for_as_long_as_they_are_gone() -> None:
    ray = Ray()
    roll = RollCall(OURS, ray.present)
    assert roll.gone() == [], "nobody has been asked before"
    for _ in range(3):
        await ray.answer("another buffer", "another writer")
        assert roll.gone() == ["buffer", "writer"]
    await ray.answer(*OURS)
    assert roll.gone() == []


async def test_what_is_known_stays_so_until_ray_answers_again() -> None:
    """It may take longer than from one check to the next, and Serve counts only failures in a row."""
    ray = Ray()
    roll = RollCall(OURS, ray.present)
    roll.gone()
    await ray.answer("another buffer", "another writer")
    assert [roll.gone() for _ in range(5)] == [["buffer", "writer"]] * 5
    await ray.answer(*OURS)
    assert roll.gone() == []


async def test_a_single_one_that_is_gone_is_named_too() -> None:
    ray = Ray()
    roll = RollCall(OURS, ray.present)
    roll.gone()
    await ray.answer("writer", "another buffer")
    assert roll.gone() == ["buffer"]


async def test_a_ray_that_does_not_answer_says_nothing_and_is_asked_once() -> None:
    ray = Ray()
    roll = RollCall(OURS, ray.present)
    assert [roll.gone() for _ in range(100)] == [[]] * 100
    assert len(ray.asked) == 1
    ray.asked[-1].set_exception(TimeoutError("GCS"))
    assert roll.gone() == []
    await ray.answer(*OURS)
    assert roll.gone() == []


@pytest.mark.parametrize("left", [(), ("buffer",)], ids=["a drain", "a writer that cannot begin"])
async def test_where_no_others_have_come_nobody_is_missed(left: tuple[str, ...]) -> None:
    """New replicas, one after the other, would begin a drained service anew, or take down one that can keep writes."""
    ray = Ray()
    roll = RollCall(OURS, ray.present)
    roll.gone()
    await ray.answer(*left)
    assert roll.gone() == []
