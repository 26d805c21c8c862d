"""What the parts are called. Pure: names only."""

from __future__ import annotations

from actors.core.sharding import stream_of

NAMESPACE = "spillway"  # Ray's namespace of our actors

# Part of every actor's name. Detached actors outlive a deployment and keep the code they were started with, so a change
# of what they say to each other must raise this, and `launch` ends those of an older generation. They keep their
# settings too: a digest of these is the other part.
GENERATION = 5
BUFFER, WRITER = "buffer-", "mongo-writer-"  # what the names begin with


def buffer_names(shards: int, digest: str) -> list[str]:
    """Actor names of a pool of `shards` buffers with the settings of this digest."""
    return [f"{BUFFER}{stream}-g{GENERATION}-{digest}" for stream in stream_names(shards)]


def stream_names(shards: int) -> list[str]:
    """Stream names of a pool of `shards` buffers."""
    return [stream_of(index, shards) for index in range(shards)]


def writer_name(digest: str) -> str:
    """Actor name of the one writer with the settings of this digest."""
    return f"{WRITER}g{GENERATION}-{digest}"
