"""Calls between actors: what Ray's failures mean to us, in one place."""

from __future__ import annotations

import asyncio
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from actors.core.errors import SpillwayError


class ActorAway(SpillwayError):
    """The actor does not answer. `began` tells whether it may have done what was asked."""

    code = "actor-away"

    def __init__(self, message: str = "", began: bool = False) -> None:
        super().__init__(message)
        self.args = (message, began)
        self.began = began


class Remote:
    """A named actor, looked up when first needed and again after its death.

    Errors of ours come back as values and are raised here.
    """

    def __init__(self, name: str, namespace: str) -> None:
        self.name = name
        self._namespace = namespace
        self._handle: Any = None

    async def call(self, method: str, *arguments: Any, timeout_s: float) -> Any:
        """The method's answer. Raises what the actor answered as an error, or `ActorAway`."""
        if self._handle is None:
            try:
                self._handle = ray.get_actor(self.name, namespace=self._namespace)
            except ValueError as error:
                raise ActorAway(f"there is no actor {self.name}", began=False) from error
        try:
            async with asyncio.timeout(timeout_s):
                answer = await getattr(self._handle, method).remote(*arguments)
        except RayActorError as error:
            self._handle = None
            raise ActorAway(f"{self.name} is being restarted", began=True) from error
        except TimeoutError as error:
            raise ActorAway(f"{self.name} did not answer {method} within {timeout_s:.1f} s", began=True) from error
        except RayError as error:
            raise ActorAway(f"{self.name}.{method} failed: {str(error).splitlines()[-1]}", began=True) from error
        if isinstance(answer, SpillwayError):
            raise answer
        return answer
