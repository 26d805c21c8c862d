"""Every option of the service, read in one place.

Values come, highest first, from: keyword arguments (the `args` of the Serve config), the environment,
the YAML file named by `SPILLWAY_CONFIG`, the defaults below. `cluster/settings.example.yaml` lists them all.
"""

from __future__ import annotations

import os
from typing import Any

from pydantic import AliasChoices, AliasGenerator, Field, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from cluster import config_file
from cluster.contradictions import contradictions

ENV_PREFIX = "SPILLWAY_"
CONFIG_FILE_VARIABLE = "SPILLWAY_CONFIG"

KIB = 1024
MIB = 1024 * KIB
TIB = 1024 * 1024 * MIB
TEN_YEARS_S = 3650 * 86_400

_NOTHING_STARTED = "Bad settings; nothing was started."

_OTHER_NAMES = {
    "redis_url": ("REDIS_URL",),
    "mongodb_uri": ("MONGODB_URI", "MONGO_URI"),
    "max_queue_size": ("MAX_QUEUE_SIZE",),
    "batch_size": ("BATCH_SIZE",),
    "batch_timeout_ms": ("BATCH_TIMEOUT_MS",),
    "cache_ttl_s": ("CACHE_TTL",),
}


class SettingsError(ValueError):
    """A setting is missing or wrong; the message names it and what it may be."""


def variable(name: str) -> str:
    """The setting `name` in the environment."""
    return f"{ENV_PREFIX}{name.upper()}"


def _known_as(name: str) -> AliasChoices:
    """`name` in YAML and keyword arguments, SPILLWAY_NAME in the environment, and the names other services use."""
    return AliasChoices(name, variable(name), *_OTHER_NAMES.get(name, ()))


def _option(default: Any, comment: str, **limits: Any) -> Any:
    return Field(default, description=comment, **limits)


class Settings(BaseSettings):
    """All options, frozen; units are in the names. Raises `SettingsError` through `load`, never a bare traceback."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        case_sensitive=True,  # else HTTP_PORT or BUFFERS of somebody else would be ours too
        env_file=None,
        alias_generator=AliasGenerator(validation_alias=_known_as),
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    # Where the parts are
    redis_url: str = _option(
        "redis://127.0.0.1:6379/0",
        "The durable log. Must run with appendonly yes, appendfsync always, noeviction.",
        repr=False,
    )
    mongodb_uri: str = _option(
        "mongodb://127.0.0.1:27017", "The database behind. In production a replica set.", repr=False
    )
    key_prefix: str = _option(
        "spillway",
        "First part of every Redis key; two services may share a Redis under two prefixes.",
        pattern=r"^[a-z][a-z0-9-]{0,31}$",
    )
    http_host: str = _option("127.0.0.1", "Address of the front door and the direct port, IPv4; loopback unless set.")
    http_port: int = _option(8000, "Port of Serve's front door.", ge=1, le=65535)
    direct_port: int = _option(
        8080, "Port every replica shares without the front door's extra hop; 0 switches it off.", ge=0, le=65535
    )

    # The log
    buffers: int = _option(1, "Buffering actors; each owns one stream. One serves two cores best.", ge=1, le=256)
    max_queue_size: int = _option(
        200_000, "Writes waiting in all buffers together; above it new writes get a 503.", ge=1, le=1_000_000_000
    )
    max_queue_bytes: int = _option(
        256 * MIB,
        "Bytes waiting in all buffers together; keep it well below Redis' maxmemory.",
        ge=1 * MIB,
        le=1 * TIB,
    )
    max_pending_calls: int = _option(
        10_000,
        "Calls through Ray that one actor serves at once; on one machine a channel takes 1,000 a connection instead.",
        ge=10,
        le=1_000_000,
    )
    allow_unsafe_redis: bool = _option(
        False, "Development only: start although Redis may lose or evict what it acknowledged."
    )

    # The pour
    batch_size: int = _option(
        1_000,
        "Writes in one flush at most. 200 is the customary value; 1,000 measured better (docs/decisions).",
        ge=1,
        le=100_000,
    )
    batch_max_bytes: int = _option(
        8 * MIB, "Bytes in one flush at most; one command may carry 16 MiB.", ge=64 * KIB, le=15 * MIB
    )
    batch_timeout_ms: int = _option(
        150,
        "Longest a write lingers for company before it is flushed; nobody who waits for MongoDB is kept waiting by it.",
        ge=0,
        le=60_000,
    )
    rate_limit_per_s: int = _option(
        100, "Commands MongoDB sees in any window of one second, whoever caused them.", ge=2, le=1_000_000
    )
    operation_bytes: int = _option(
        0,
        "Bytes that count as one command; cloud volumes count 262144. 0: a command counts once, whatever it carries.",
        ge=0,
        le=16 * MIB,
    )
    writer_lanes: int = _option(
        4,
        "Commands in flight at once. The ring holds rate_limit_per_s - writer_lanes slots (docs/guarantees.md).",
        ge=1,
        le=64,
    )
    mongodb_timeout_s: float = _option(
        5.0,
        "Longest one command may take; after an unclean end a new writer also waits this long before its first.",
        gt=0,
        le=120,
    )
    writer_lease_s: float = _option(
        3.0, "How long a silent writer keeps the right to write; the next one waits for its end.", ge=0.5, le=60
    )
    write_concern: str = _option(
        "majority",
        "MongoDB write concern w, with the journal. Under 1 a failover may take back what has left the log.",
    )

    # The edge
    request_timeout_s: float = _option(5.0, "Longest an append waits for its turn, and then for the log.", gt=0, le=60)
    max_wait_s: float = _option(30.0, "Longest `Prefer: wait` and `?ack=db` wait for MongoDB.", gt=0, le=300)
    max_document_bytes: int = _option(1 * MIB, "One document, as BSON.", ge=1 * KIB, le=15 * MIB)
    max_body_bytes: int = _option(8 * MIB, "One HTTP body.", ge=1 * KIB, le=64 * MIB)
    max_batch_items: int = _option(1_000, "Documents in one batch request.", ge=1, le=10_000)
    idempotency_ttl_s: int = _option(
        86_400, "How long an Idempotency-Key is remembered.", ge=60, le=TEN_YEARS_S
    )
    idempotency_max_keys: int = _option(
        500_000,
        "Idempotency-Keys remembered at most, some 300 bytes of Redis each; beyond it new ones get a 503.",
        ge=1,
        le=1_000_000_000,
    )
    allowed_hosts: str = _option(
        "",
        "Host names besides localhost, or patterns, with commas between. Empty: none on loopback, any elsewhere.",
        pattern=r"^[A-Za-z0-9_*?., -]{0,1000}$",
    )
    databases: str = _option(
        "*",
        "Databases callers may name, or patterns, with commas between: what the MongoDB user may write to.",
        pattern=r"^[A-Za-z0-9_*?, -]{1,1000}$",
    )
    data_namespace: str = _option(
        "assessmentdb.records",
        "The collection behind /api/data and /api/stats.",
        pattern=r"^[A-Za-z0-9_-]{1,63}\.[A-Za-z0-9_][A-Za-z0-9_.-]{0,119}$",
    )

    # Quota of a caller
    quota_per_s: float = _option(
        0.0,
        "Writes one caller may send per second, in each replica; beyond it 429. 0 switches it off.",
        ge=0,
        le=1_000_000,
    )
    quota_burst: int = _option(
        2_000, "Writes one caller may send at once; a whole batch costs as many as it has.", ge=1, le=10_000_000
    )
    quota_max_callers: int = _option(
        10_000, "Callers remembered per replica; beyond it the one seen longest ago begins anew.", ge=1, le=10_000_000
    )
    quota_caller_header: str = _option(
        "",
        "Header in which a trusted proxy names the caller; empty: the address that connected is the caller.",
        pattern=r"^[A-Za-z0-9-]{0,64}$",
    )
    trusted_proxies: str = _option("127.0.0.1,::1", "Addresses or networks whose quota_caller_header is believed.")

    # Reads
    near_cache_ttl_s: float = _option(1.0, "Age of a document in a replica's own cache.", ge=0, le=60)
    near_cache_max_entries: int = _option(10_000, "Documents in a replica's own cache.", ge=0, le=1_000_000)
    cache_ttl_s: int = _option(
        300, "Age of a document in the shared Redis cache; 0 switches it off.", ge=0, le=TEN_YEARS_S
    )
    cache_max_entries: int = _option(20_000, "Documents in the shared cache, per buffer.", ge=0, le=10_000_000)

    # A run on this machine (`make up`)
    state_dir: str = _option(".spillway", "Data, logs and addresses of a run; a relative path begins at the project.")
    drain_timeout_s: float = _option(
        60.0, "Longest a stopping service waits for its backlog; what is left stays in the log.", ge=0, le=3600
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        path = os.environ.get(CONFIG_FILE_VARIABLE)
        if not path:
            return (init_settings, env_settings)
        try:
            values = config_file.read(path)
        except ValueError as error:
            raise SettingsError(f"{_NOTHING_STARTED}\n  {CONFIG_FILE_VARIABLE} names {path!r}: {error}") from None
        return (init_settings, env_settings, InitSettingsSource(settings_cls, values))


def load(**overrides: Any) -> Settings:
    """The settings of this process. Raises `SettingsError` whose text names each setting at fault, never its value.

    `overrides` go by the options' own names alone; `Settings` would take those of the environment too.
    """
    if strangers := sorted(set(overrides) - set(Settings.model_fields)):
        faults = [f"  {name}: no option is called so; their names: cluster/settings.example.yaml" for name in strangers]
        raise SettingsError("\n".join([_NOTHING_STARTED, *faults]))
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        faults = [f"  {_setting_name(fault['loc'])}: {fault['msg']}" for fault in error.errors()]
        raise SettingsError("\n".join([_NOTHING_STARTED, *faults])) from None
    wrong = [f"  {name}: {why}" for name, why in contradictions(settings)]
    if wrong:
        raise SettingsError("\n".join([_NOTHING_STARTED, *wrong]))
    return settings


def _setting_name(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "settings"
