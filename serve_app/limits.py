"""What the edge allows, in one frozen object with the names of the settings."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """Bounds of requests and caches; units are in the names, defaults are those of the settings."""

    max_document_bytes: int = 1 * MIB  # one document, as BSON
    max_body_bytes: int = 8 * MIB  # one HTTP body
    max_batch_items: int = 1_000  # documents in one batch
    max_wait_s: float = 30.0  # longest `Prefer: wait` and `?ack=db` are honoured
    request_timeout_s: float = 5.0  # longest wait for a turn; then for the append, which the edge checks a second later
    idempotency_ttl_s: int = 86_400  # how long the intake remembers an Idempotency-Key; said in the documentation
    http_host: str = "127.0.0.1"  # the address it listens on
    allowed_hosts: str = ""  # names it may be asked under, besides localhost: names or patterns, separated by commas
    databases: str = "*"  # that callers may name: names or patterns, separated by commas
    data_namespace: str = "assessmentdb.records"  # "database.collection" behind /api/data and /api/stats
    near_cache_ttl_s: float = 1.0
    near_cache_max_entries: int = 10_000
    quota_per_s: float = 0.0  # writes per second and caller; 0: no quota
    quota_burst: int = 2_000  # writes a caller may send at once
    quota_max_callers: int = 10_000
    quota_caller_header: str = ""  # names the caller, when a trusted proxy says so
    trusted_proxies: str = "127.0.0.1,::1"
