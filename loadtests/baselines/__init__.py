"""What a user would write instead: three services that answer `GET /api/data` as ours does. They import nothing of it.

Each is meant as good code of its kind, with what a careful user takes: uvloop, httptools, orjson, pipelining, pools.
Each also answers `/readyz` and `/v1/status` (its backlog), so that the same scenarios and the same judge fit them all.

| file | kind |
|---|---|
| `straight.py` | each document straight to MongoDB; the answer comes when MongoDB has it |
| `queued.py`, `drain.py` | five documents pipelined into a Redis stream without fsync; a worker drains it in batches |
| `toy.py`, `toy_drain.py` | the form found in the wild: tiny messages, and a worker that stores 100 documents/s |
"""
