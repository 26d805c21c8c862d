"""The Ray Serve shell: the only file here that knows Ray.

It must not say `from __future__ import annotations`: Serve's typed builder would then get a raw dict and check nothing.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict
from ray import serve

from actors.life import calm_collector
from cluster import launch
from cluster.settings import Settings, load
from serve_app import logs, protocol
from serve_app.api import EdgeLimits, make_app
from serve_app.autoscaling import DIRECT_REQUESTS
from serve_app.direct import DirectPort

_START_S = 20.0  # a replica that cannot reach its log after this starts all the same and says so at /readyz


class Args(BaseModel):
    """`args` of the Serve config: any option of `cluster.settings.Settings`, by its name; `load` refuses others."""

    model_config = ConfigDict(extra="allow")


@serve.deployment(name="Edge", max_ongoing_requests=20_000)
@serve.ingress()
class Edge:
    """One replica: the HTTP contract on top of the pool of buffers."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        logs.keep_records()
        protocol.install()
        await launch.refuse_unsafe_redis(settings)
        self._intake = launch.ensure_actors(settings)
        self._roll_call = launch.roll_call(settings)
        await launch.refuse_unsafe_log(self._intake, _START_S)
        self._app = make_app(self._intake, _limits(settings))
        self._direct = DirectPort(self._app, settings.http_host, settings.direct_port)
        calm_collector()

    async def check_health(self) -> None:
        """Asked by Serve every few seconds, the first time when the replica is ready for requests.

        Raises when the actors that this replica was made for are no more, because a replica of another version has
        ended them. It could not keep a write ever again. After the third time Serve puts one of the version that is
        wanted in its place, which ends the others' actors in turn. One that is being restarted is no such case.
        """
        logs.keep_records()
        if gone := self._roll_call.gone():
            why = "A replica of another version, or with other settings, has ended them; Serve replaces this one."
            raise RuntimeError(f"This replica can keep no writes: there is no {' and no '.join(gone)}. {why}")
        self._direct.open()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Asked by Serve before each decision on the number of replicas; it cannot see the direct port by itself."""
        return {DIRECT_REQUESTS: float(self._direct.ongoing)}

    async def __del__(self) -> None:
        """Called by Serve when the replica leaves."""
        await self._direct.close()
        await self._app.finish()

    def __serve_build_asgi_app__(self) -> Any:
        return self._app


def build(args: Args) -> serve.Application:
    """The application that `import_path` names. Raises `SettingsError` naming each setting at fault."""
    return Edge.bind(load(**(args.model_extra or {})))  # type: ignore[attr-defined, no-any-return]


def _limits(settings: Settings) -> EdgeLimits:
    return EdgeLimits(**{name: getattr(settings, name) for name in EdgeLimits.__dataclass_fields__})
