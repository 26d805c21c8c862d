"""What operators do to a service under load: stop it, start it, deploy anew, resize the pool."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cluster.ray_environment import client_environment
from tests.acceptance.service import ROOT, Service
from tests.acceptance.trial import Fault, Trials

Start = Callable[..., Service]


@pytest.mark.chaos
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_stop_under_load_and_a_new_start_lose_nothing(start: Start, trial: Trials, by: signal.Signals) -> None:
    service = start()
    codes: list[int] = []
    name = f"{'Ctrl-C' if by is signal.SIGINT else by.name} to the whole service, and a new start"
    trial(service, name).run(Fault(lambda: codes.append(service.stop(by)), service.restart))
    assert codes == [0]
    assert "✓ Drained" in service.log.read_text()


@pytest.mark.chaos
def test_a_rolling_redeploy_under_load_loses_nothing(service: Service, trial: Trials) -> None:
    replica = service.actor("ServeReplica")

    def deploy() -> None:
        _serve_deploy(service, max_batch_items=999)
        service.eventually(lambda: not replica.is_running(), 120)
        service.eventually(service.ready, 60)

    trial(service, "Serve deployed anew with another setting").run(Fault(deploy))
    assert service.actor("ServeReplica").pid != replica.pid


@pytest.mark.chaos
def test_the_pool_resized_with_a_backlog_loses_nothing_and_keeps_order(start: Start, trial: Trials) -> None:
    service = start(SPILLWAY_BUFFERS="4", SPILLWAY_DRAIN_TIMEOUT_S="1")
    left: list[int] = []

    def resize(buffers: str) -> None:
        """MongoDB is held still for a while, so that the old pool leaves a backlog to the new one."""
        service.part("MongoDB").suspend()
        service.eventually(lambda: service.told("backlog", "writes") > 100, 60)
        time.sleep(2.0)
        left.append(service.told("backlog", "writes"))
        service.stop()
        service.restart(SPILLWAY_BUFFERS=buffers)

    trial(service, "4 buffers, then 1, then 3, each with a backlog").run(
        Fault(lambda: [resize("1"), resize("3")])
    )
    assert min(left) > 100
    assert len(service.told("buffers")) == 3


def _serve_deploy(service: Service, **args: int) -> None:
    """`serve deploy`, as an operator does it: the same application with other arguments."""
    record = service.status_of_run()
    config = yaml.safe_load((ROOT / "cluster" / "serve.yaml").read_text())
    host, port = service.url.removeprefix("http://").split(":")
    config["http_options"] |= {"host": host, "port": int(port)}
    config["applications"][0]["args"] = args
    file = service.folder / "serve.yaml"
    file.write_text(yaml.safe_dump(config))
    environment = {**service.environment, **client_environment(record["ray_token_file"], record["ray_address"])}
    command = [str(Path(sys.executable).parent / "serve"), "deploy", str(file), "-a", record["dashboard_url"]]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
