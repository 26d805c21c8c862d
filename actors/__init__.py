"""Everything that buffers and writes. It has never heard of HTTP or of Kubernetes.

core/      values and arithmetic: no clock, no I/O, no third-party import
budget.py  Budget: waits until a command may leave, so that MongoDB never sees too many
buffer.py  Buffer: accept, log, batch, flush, acknowledge; replays on start
writer.py  Writer: merges the buffers' commands, spends the budget, reports; all reads too
adapters/  one product a file, each behind one port
remote.py  BufferActor and MongoWriter: the Ray shells, and handles dressed as ports
"""
