"""A witness as a test has it: a process of its own between a driver and a MongoDB wire server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pymongo import MongoClient
from pymongo.uri_parser import parse_uri

from loadtests.window import read_record

ROOT = Path(__file__).resolve().parents[1]
START_S = 20.0


class Witness:
    """A witness process of its own on a port it picked."""

    def __init__(self, upstream: str, record: Path) -> None:
        self.record = record
        self.process = subprocess.Popen(
            [
                *(sys.executable, "loadtests/witness.py", "--listen", "127.0.0.1:0"),
                *("--upstream", upstream, "--record", str(record)),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()  # `witness: HOST:PORT -> ...`, once it listens
        assert said.startswith("witness: "), "the witness did not start; its complaint is above"
        self.address = said.split(" ")[1]

    @classmethod
    def before(cls, mongodb_uri: str, record: Path) -> Witness:
        """In front of the (first) server of a URI."""
        host, port = parse_uri(mongodb_uri)["nodelist"][0]
        return cls(f"{host}:{port}", record)

    def client(self) -> MongoClient[dict[str, object]]:
        return MongoClient(
            f"mongodb://{self.address}/?directConnection=true&retryWrites=false&retryReads=false",
            serverSelectionTimeoutMS=3000,
        )

    def names(self) -> list[str]:
        return [stamp.command for stamp in read_record(self.record)]

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=START_S)

    def end(self) -> None:
        """Whatever happened to it before."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
