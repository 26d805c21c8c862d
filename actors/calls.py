"""Calls between actors: what failures of Ray and of a channel mean to us, in one place."""

from __future__ import annotations

import asyncio
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from actors.channel import CallFailed, Channel, ChannelFull, ChannelLost
from actors.core.errors import SpillwayError

_CHANNEL_S = 30.0  # an actor that is being restarted answers when it is back


class ActorAway(SpillwayError):
    """The actor does not answer. `began` tells whether it may have done what was asked."""

    code = "actor-away"

    def __init__(self, message: str = "", began: bool = False) -> None:
        super().__init__(message)
        self.args = (message, began)
        self.began = began


class ActorGone(ActorAway):
    """There is no such actor, so nobody restarts it: to wait for it is in vain. It surely has not begun."""

    code = "actor-gone"


class Remote:
    """A named actor, looked up when first needed and again after its death.

    Calls go through Ray until there is a channel, which there never is to an actor on another machine. Errors of ours
    come back as values and are raised here.
    """

    def __init__(self, name: str, namespace: str) -> None:
        self.name = name
        self._namespace = namespace
        self._handle: Any = None
        self._channel: Channel | None = None
        self._opening: asyncio.Task[None] | None = None
        self._finding: asyncio.Task[Any] | None = None  # one for all calls: a lookup that hangs holds a thread

    async def call(self, method: str, *arguments: Any, timeout_s: float) -> Any:
        """The method's answer. Raises what the actor answered as an error, `ActorAway` or `ActorGone`."""
        began = False
        try:
            async with asyncio.timeout(timeout_s):
                channel = self._open_one()
                if channel is not None:
                    began = True
                    answer = await channel.call(method, *arguments)
                else:
                    handle = self._handle or await self._found()
                    began = True
                    answer = await getattr(handle, method).remote(*arguments)
        except (RayActorError, ChannelLost) as error:
            self._handle = self._channel = None
            raise ActorAway(f"{self.name} is being restarted", began=True) from error
        except ChannelFull as error:
            raise ActorAway(f"{self.name} hangs: it does not read what it is asked", began=False) from error
        except TimeoutError as error:
            raise ActorAway(f"{self.name} did not answer {method} within {timeout_s:.1f} s", began=began) from error
        except (RayError, CallFailed) as error:
            raise ActorAway(f"{self.name}.{method} failed: {str(error).splitlines()[-1]}", began=began) from error
        if isinstance(answer, SpillwayError):
            raise answer
        return answer

    def _open_one(self) -> Channel | None:
        if self._channel is not None and not self._channel.is_open:  # closed between two calls: nothing was asked of it
            self._handle = self._channel = None
        return self._channel

    async def _found(self) -> Any:
        """The actor's handle. Raises `ActorGone` when there is no such actor."""
        if self._finding is None or self._finding.done():
            self._finding = asyncio.create_task(self._find())
        return await asyncio.shield(self._finding)

    async def _find(self) -> Any:
        """In a thread: while Ray's head does not answer, this would stop all else in the process, time limits too."""
        try:
            self._handle = await asyncio.to_thread(ray.get_actor, self.name, namespace=self._namespace)
        except ValueError as error:
            raise ActorGone(f"there is no {self.name} any more: another version or a drain ended it") from error
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open_channel(self._handle))
        return self._handle

    async def _open_channel(self, handle: Any) -> None:
        """Beside the calls, which go through Ray meanwhile. Nobody waits for it: without it all goes, slower."""
        try:
            async with asyncio.timeout(_CHANNEL_S):
                self._channel = await Channel.connect(await handle.channel.remote())
        except (RayError, TimeoutError):
            self._handle = None  # it died again; the next call looks it up and comes back here
        except OSError:
            if handle is not self._handle:  # it has been restarted under another handle
                self._handle = None
            # else it lives on another machine
