"""The HTTP edge: requests become writes and questions for an `Intake`, and what it says becomes answers.

app.py          the Ray deployment around it; the only file here that knows Ray
direct.py       the port it listens on itself; protocol.py HTTP there, and where Serve listens
unread.py       answers that their callers do not take
logs.py         where warnings and errors go
autoscaling.py  how many replicas, by the requests of both ports
api.py          the ASGI callable; routes.py the table of what it serves
data.py         GET /api/data, GET /api/stats
writes.py       POST, PUT, PATCH, DELETE and batches of documents
reads.py        GET of a document: near cache, then the intake
receipts.py     what became of an accepted write
dead_letters.py what MongoDB refused
health.py       probes and GET /v1/status
metrics.py      GET /metrics: the same for Prometheus
docs_page.py    /openapi.json, /docs and /problems/{code}
contract.py     the OpenAPI description of every route; schemas.py the bodies in it
appends.py      appends that outlive the client that asked for them
turns.py        how many requests are worked on at once; deadlines.py one timer for all who wait
breather.py     work that takes long lets others be answered in between
pool.py         which documents /api/data reads; records.py which it writes
quota.py        how much one caller may write, and who a caller is
parameters.py   names, query, Prefer, Idempotency-Key
hosts.py        the names under which the service may be asked
bodies.py       request bodies, within their limits and of a known type
documents.py    strict JSON and extended JSON <-> BSON
patches.py      merge patch -> MongoDB update, and such an update applied to a document
ids.py          ids we make, and `_id` <-> text
near_cache.py   documents this replica read a moment ago
answers.py      an HTTP answer in bytes; errors.py every problem, its status and its text; limits.py the bounds
"""
