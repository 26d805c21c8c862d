"""The Ray head and Serve, as one child of `up`: `python -m cluster.head CONFIG_FILE`, where the file is a `HeadConfig`.

Ends with a non-zero code when the application cannot be deployed or Ray stops answering, so that `up` can tell and
start it again. SIGTERM shuts Serve down, then Ray.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from cluster import serve_config

LOGICAL_CPUS = 8
"""Ray counts this many CPUs whatever the machine has: replicas reserve some, and reserving is not using."""
OBJECT_STORE_BYTES = 128 * 1024 * 1024
FAILURES_BEFORE_END = 5


@dataclass(frozen=True)
class HeadConfig:
    """What `up` tells the head."""

    serve_config: str
    http_host: str
    http_port: int
    dashboard_port: int
    metrics_port: int
    temp_dir: str

    def write(self, path: Path) -> None:
        """Stores it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2))

    @classmethod
    def read(cls, path: Path) -> HeadConfig:
        """The opposite of `write`."""
        return cls(**json.loads(path.read_text()))


def main(config_file: str) -> int:
    """Runs until SIGTERM (0), or until the service is beyond repair (1)."""
    signal.signal(signal.SIGTERM, _exit)
    config = HeadConfig.read(Path(config_file))

    import ray
    from ray import serve

    try:
        ray.init(
            address="local",
            num_cpus=LOGICAL_CPUS,
            num_gpus=0,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            dashboard_port=config.dashboard_port,
            namespace="serve",
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
            _metrics_export_port=config.metrics_port,
            _temp_dir=config.temp_dir,
        )
        signal.signal(signal.SIGTERM, _exit)  # ray.init has installed its own
        _deploy(config)
        return _watch()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if ray.is_initialized():
            serve.shutdown()  # type: ignore[no-untyped-call]
            ray.shutdown()


def _deploy(config: HeadConfig) -> None:
    from ray.serve._private.api import serve_start  # what `serve run` itself calls; there is no public way from a file
    from ray.serve.schema import ServeDeploySchema

    text = Path(config.serve_config).read_text()
    schema = ServeDeploySchema.model_validate(serve_config.for_a_run(text, config.http_host, config.http_port))
    client = serve_start(http_options=schema.http_options.model_dump(), proxy_location=schema.proxy_location)
    client.deploy_apps(schema, _blocking=False)


def _watch() -> int:
    """Looks at Serve now and then; returns when an application cannot be deployed or nobody answers for a while."""
    from ray import serve

    failures = 0
    ran: set[str] = set()
    while True:
        time.sleep(5.0 if ran else 0.5)
        try:
            applications = serve.status().applications
            failures = 0
        except Exception as error:
            failures += 1
            print(f"Serve does not answer ({failures}): {error}", flush=True)
            if failures >= FAILURES_BEFORE_END:
                return 1
            continue
        for name, application in applications.items():
            if application.status == "RUNNING" and name not in ran:
                ran.add(name)
                print(f"application {name} runs", flush=True)
            if application.status == "DEPLOY_FAILED" and name not in ran:
                print(f"application {name} cannot be deployed:\n{application.message}", flush=True)
                return 1


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
