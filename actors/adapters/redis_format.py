"""The format of a log: one number for the forms of everything that is kept in Redis under a prefix, as `format`.

A version reads every format up to its own, and marks the log with its own when it opens it. None has been marked before
the number came, so a log without one is older than all.
"""

from __future__ import annotations

from actors.adapters.redis_link import Client

FORMAT = 1
"""To be raised when something is kept in a form that the versions of this number would not read, or would misread."""


def newer(client: Client, prefix: str, found: int) -> str:
    """Why a log of the format `found` is not opened, and what is to be done."""
    at = client.connection_pool.connection_kwargs
    where = at.get("path") or f"{at.get('host', 'localhost')}:{at.get('port', 6379)}/{at.get('db', 0)}"
    return (
        f"the log under the key prefix {prefix} in the Redis at {where} has format {found}, so a newer version has "
        f"written it; this one reads formats up to {FORMAT}. Start the newer version again. To go back nevertheless, "
        "drain with that one, and start this one under another SPILLWAY_KEY_PREFIX "
        '("Upgrade, and back" in docs/operations.md)'
    )
