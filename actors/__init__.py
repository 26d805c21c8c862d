"""Everything that buffers and writes. It has never heard of HTTP or of Kubernetes.

core/            values and arithmetic: no clock, no I/O, no third-party import
adapters/        one product a file, each behind one port

buffer.py        Buffer: owns one stream; the next seven belong to it
appends.py       what a caller wants kept, and what it is told
inflow.py        from the callers into the log; room.py how full it is
backlog.py       what no Report has named yet, in memory
outflow.py       from the backlog to the writer, and out of the log
heritage.py      the streams of an earlier pool, poured first
lookup.py        reads: backlog, shared cache, MongoDB

writer.py        Writer: every command to MongoDB leaves from here; the next seven belong to it
outbox.py        the buffers' commands, merged
budget.py        waits until a command may leave, so that MongoDB never sees too many
tenure.py        whether this process is the one that may send
reads.py         questions to MongoDB, gathered
census.py        how many documents there are
pulse.py         whether MongoDB answers; tally.py what was sent

remote.py        BufferActor and MongoWriter: the Ray shells; life.py how their processes end
remote_intake.py the pool of buffers as the HTTP edge sees it; remote_sink.py the writer as a buffer sees it
calls.py         calls between actors; channel.py the socket that they go over
lane.py          appends of a replica to one buffer, many a call
read_lane.py     its reads; watch.py its waits for MongoDB
"""
