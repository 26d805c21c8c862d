"""The bodies of answers, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

StateName = Literal["logged", "stored", "dead-lettered"]


class Problem(BaseModel):
    """RFC 9457. Further members depend on the code."""

    type: str = Field(description="/problems/{code}: a page that says what to do.")
    title: str
    status: int
    detail: str = Field(description="What is wrong here, and what to do.")
    code: str = Field(description="Stable, for machines.")
    field: str = Field("", description="The field, parameter or header at fault.")
    retry_after_s: int = Field(0, description="The same as the header Retry-After.")
    instance: str = Field("", description="Names this one occurrence in the service's log.")
    id: str = Field("", description="outcome-unknown: the id under which sending the same again is safe.")
    ids: list[str] = Field([], description="outcome-unknown: the ids of all its writes.")
    reason: str = Field("", description="rejected-by-mongodb: what MongoDB said.")
    receipt: str = Field("", description="rejected-by-mongodb: of the write, which is a dead letter now.")
    items: list[dict[str, Any]] = Field(
        [], description="nothing-accepted: each item of the batch with its own problem."
    )


class DataAnswer(BaseModel):
    """Five documents read and five written."""

    status: Literal["success"]
    reads: list[str] = Field(
        description="Ids of the documents read; fewer than five only when fewer can be read.", max_length=5
    )
    writes: list[str] = Field(
        description="Ids of the documents written, durable in the log.", min_length=5, max_length=5
    )
    timestamp: str = Field(json_schema_extra={"format": "date-time"})


class Stats(BaseModel):
    total_documents: int = Field(description="Documents stored in MongoDB.", ge=0)
    timestamp: str = Field(json_schema_extra={"format": "date-time"})


class Alive(BaseModel):
    status: Literal["alive"]


class Ready(BaseModel):
    status: Literal["ready"]
    mongodb: str = Field(description="up, down or unknown. Writes are accepted while it is down.")
    redis: str
    details: dict[str, Any] = Field({}, description="With ?verbose: the same as /v1/status.")


class Accepted(BaseModel):
    """A write that is durable."""

    id: str = Field(
        description="The document's _id as text: a string itself, anything else as canonical extended JSON."
    )
    receipt: str = Field(description="Ask /v1/receipts/{receipt} what became of it.")
    state: StateName = Field(description="logged: in the durable log. stored: in MongoDB.")


class Item(BaseModel):
    """One document of a batch, kept (id, receipt, state) or not (error); both when MongoDB refused it meanwhile."""

    index: int = Field(ge=0)
    id: str = ""
    receipt: str = ""
    state: StateName = "logged"
    error: Problem | None = None


class BatchAnswer(BaseModel):
    items: list[Item] = Field(description="In the order given.")
    accepted: int = Field(ge=1)
    rejected: int = Field(ge=0)


class ReceiptAnswer(BaseModel):
    receipt: str
    id: str
    namespace: str
    state: StateName
    reason: str = Field("", description="dead-lettered: what MongoDB said.")


class Backlog(BaseModel):
    model_config = ConfigDict(extra="allow")

    writes: int | None = Field(description="Accepted and not yet stored; null while a buffer does not answer.")
    bytes: int | None


class Commands(BaseModel):
    model_config = ConfigDict(extra="allow")

    last_second: int | None = Field(description="Null while the writer does not answer, as the others.")
    worst_window: int | None = Field(description="Most commands in any window of one second so far.")
    limit: int | None


class Batch(BaseModel):
    model_config = ConfigDict(extra="allow")

    mean_writes: float | None = Field(description="In one command, since the writer's start; null before the first.")
    last_writes: int | None = None
    largest_writes: int | None = None


class Status(BaseModel):
    """Numbers for operators. A figure of a part that does not answer is null, or missing where nobody answers."""

    model_config = ConfigDict(extra="allow")

    ready: bool = Field(description="Can writes be accepted?")
    mongodb: str
    redis: str
    accepted_total: int | None = Field(None, description="Since the buffers started; null while one does not answer.")
    drained_total: int | None = Field(None, description="Stored, or dead letters; null as accepted_total.")
    dead_lettered_total: int | None = Field(None, description="Writes MongoDB refused; null as accepted_total.")
    dead_letters: int | None = Field(None, description="Those on the shelf now; null when it does not answer.")
    accepted_per_s: float | None = None
    drained_per_s: float | None = None
    backlog: Backlog | None = None
    lag_s: float | None = Field(None, description="Age of the oldest write not yet stored; null as the backlog.")
    drain_eta_s: float | None = Field(
        None, description="Until the backlog is empty, at the present rate; null when it does not shrink."
    )
    commands: Commands | None = None
    batch: Batch | None = None
    writer: dict[str, Any] | None = None
    buffers: list[dict[str, Any]] = []
    documents: dict[str, int] = Field({}, description="Documents stored, by namespace.")


class DeadLetterItem(BaseModel):
    """A write that MongoDB refused, without its body."""

    id: str
    namespace: str
    document_id: str
    kind: Literal["insert", "put", "patch", "delete"]
    reason: str
    attempts: int = Field(description="Times the write was handed to MongoDB's writer, up to the refusal.", ge=1)
    accepted_at: str = Field(json_schema_extra={"format": "date-time"})
    rejected_at: str = Field(json_schema_extra={"format": "date-time"})
    bytes: int = Field(description="Of the body, as BSON.", ge=0)


class DeadLetterAnswer(DeadLetterItem):
    """A write that MongoDB refused, with all that is needed to judge it."""

    body_base64: str = Field(description="The original bytes: BSON, for a patch of the update; empty for a delete.")
    body: dict[str, Any] = Field(
        {}, description="The same as relaxed extended JSON; missing when the bytes are no readable document."
    )


class _Paged(BaseModel):
    scanned: int = Field(description="Letters looked at for this page, whether meant or not.", ge=0)
    next: str | None = Field(description="The `after` of the next page; null when this was the last.")
    end: str = Field(description="The place of the newest letter when this was asked for.")
    size: int = Field(description="Letters there then, whether meant or not.", ge=0)


class DeadLetterPage(_Paged):
    items: list[DeadLetterItem] = Field(description="Oldest first; perhaps none, with more on the next page.")


class ReplayedPage(_Paged):
    replayed: int = Field(description="In the durable log again, and letters no more.", ge=0)
    stored: int = Field(description="Of these, in MongoDB when this was answered.", ge=0)
    rejected_again: int = Field(description="Of these, refused again: letters once more, under new ids.", ge=0)


class DiscardedPage(_Paged):
    discarded: int = Field(description="Gone for good.", ge=0)


ANSWERS: tuple[type[BaseModel], ...] = (
    Problem, DataAnswer, Stats, Alive, Ready, Accepted, BatchAnswer, ReceiptAnswer, Status,
    DeadLetterItem, DeadLetterAnswer, DeadLetterPage, ReplayedPage, DiscardedPage,
)  # fmt: skip
