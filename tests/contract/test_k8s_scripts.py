"""The shell scripts of k8s/ but tune-host.sh, on a PATH of tools that write down what they are told.

There is no cluster here: that the steps are the right ones is for k8s/first-run.md to show.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "k8s").glob("*.sh"))
VERSIONS = {
    "kubectl": "Client Version: v1.34.2",
    "helm": "v3.19.0+g3d8990f",
    "kind": "kind v0.30.0 go1.24.6 linux/amd64",
    "k3d": "k3d version v5.8.3",
    "docker": "28.2.2",
    "curl": "curl 7.88.1",
}
TOOL = f"""#!{sys.executable} -IS
import json, os, sys, time
name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
if "version" in words or words == ["--version"]:
    print(json.loads(os.environ["VERSIONS"])[name])
    sys.exit()
asked = " get " in " " + " ".join(words) + " "
given = sys.stdin.read() if words[-2:] == ["-f", "-"] else ""
deadline = time.monotonic() + 30 * words[-1].endswith("/readyz")  # asked again until the port is forwarded
while time.monotonic() < deadline and "port-forward" not in open(os.environ["RECORD"]).read():
    time.sleep(0.01)
with open(os.environ["RECORD"], "a") as record:
    record.write(json.dumps([asked, [name, *words], given]) + "\\n")
sys.exit(1 if (asked and os.environ["THERE"] == "no") or os.environ["FAILS"] in words else 0)
"""


class World:
    """Tools that do nothing but remember; `there` is what they answer to every question after something."""

    def __init__(self, folder: Path) -> None:
        self.record = folder / "record"
        self.record.touch()
        tools = folder / "tools"
        tools.mkdir()
        for name in VERSIONS:
            (tools / name).write_text(TOOL)
            (tools / name).chmod(0o755)
        self._path = f"{tools}:/usr/bin:/bin"

    def run(
        self, script: str, *arguments: str, there: bool = False, given: str = "", fails: str = "none", **versions: str
    ) -> subprocess.CompletedProcess[str]:
        self.record.write_text("")
        environment = {"PATH": self._path, "RECORD": str(self.record), "THERE": "yes" if there else "no"}
        environment |= {"VERSIONS": json.dumps(VERSIONS | versions), "FAILS": fails}
        command = ["bash", str(ROOT / "k8s" / script), *arguments]
        return subprocess.run(command, env=environment, input=given, capture_output=True, text=True, timeout=60)

    def calls(self) -> list[Any]:
        """Whether it was a question; the words; what came by standard input."""
        return [json.loads(line) for line in self.record.read_text().splitlines()]

    def steps(self) -> list[list[str]]:
        """What was done, questions left out."""
        return [words for asked, words, _ in self.calls() if not asked]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def shown(output: str) -> list[list[str]]:
    """The steps of a dry run, as a shell would read them."""
    lines = [line.removeprefix("  + ") for line in output.splitlines() if line.startswith("  + ")]
    return [shlex.split(line, comments=True) for line in lines]


def test_shellcheck_has_nothing_to_say() -> None:
    assert len(SCRIPTS) >= 4
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, "-x", *SCRIPTS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("setup.sh", []),
        ("setup.sh", ["--overlay", "dev", "--create", "kind", "--build"]),
        ("setup.sh", ["--overlay", "workers", "--create", "k3d", "--build"]),
        ("setup.sh", ["--context", "far away", "--port", "18001"]),
        ("teardown.sh", []),
        ("teardown.sh", ["--delete-data", "--yes", "--operator", "--delete", "kind"]),
    ],
)
def test_a_dry_run_shows_exactly_what_a_run_does_and_does_nothing(
    world: World, script: str, arguments: list[str]
) -> None:
    dry = world.run(script, *arguments, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert world.calls() == []
    real = world.run(script, *arguments)
    assert real.returncode == 0, real.stdout + real.stderr
    assert sorted(shown(dry.stdout)) == sorted(world.steps())  # sorted: the port is forwarded in the background
    assert len(world.steps()) >= 3


def test_the_order_is_cluster_image_operator_secrets_overlay_wait_smoke(world: World) -> None:
    world.run("setup.sh", "--overlay", "dev", "--create", "kind", "--build")
    lines = [" ".join(words) for words in world.steps()]
    marks = ["create cluster", "docker build", "kind load", "upgrade --install", "namespace.yaml", "create -f -"]
    marks += ["apply --server-side -k", "rollout status", "wait rayservice", "/readyz", "--request PUT", "/v1/status"]
    places = [next(at for at, line in enumerate(lines) if mark in line) for mark in marks]
    assert places == sorted(places)


def test_what_is_there_stays_and_passwords_are_never_made_twice(world: World) -> None:
    done = world.run("setup.sh", "--create", "kind", there=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("there already") == 4  # cluster, namespace, two Secrets
    assert not [words for words in world.steps() if "create" in words]


def test_passwords_are_random_and_travel_by_standard_input_only(world: World) -> None:
    secrets = []
    for _ in range(2):
        done = world.run("setup.sh")
        redis, mongodb = [given for _, _, given in world.calls() if given]
        passwords = [made.partition('password: "')[2].partition('"')[0] for made in (redis, mongodb)]
        for password in passwords:
            assert len(password) == 48
            assert password not in done.stdout + done.stderr
            assert not [words for _, words, _ in world.calls() if password in " ".join(words)]
        assert f"redis://:{passwords[0]}@spillway-redis:6379/0" in redis
        assert f"mongodb://spillway:{passwords[1]}@" in mongodb
        secrets += passwords
    assert len(set(secrets)) == 4


def test_the_secrets_are_those_of_the_example(world: World) -> None:
    world.run("setup.sh")
    made = [yaml.safe_load(given) for _, _, given in world.calls() if given]
    for ours, theirs in zip(made, yaml.safe_load_all((ROOT / "k8s/secrets.example.yaml").read_text()), strict=True):
        password = ours["stringData"]["password"]
        assert yaml.safe_load(yaml.dump(ours).replace(password, "CHANGE-ME")) == theirs


@pytest.mark.parametrize("overlay", ["dev", "one-node", "workers", "workers-large"])
def test_every_file_that_a_step_names_exists(world: World, overlay: str) -> None:
    steps = shown(world.run("setup.sh", "--dry-run", "--overlay", overlay).stdout)
    named = [Path(word) for words in steps for word in words if word.startswith(str(ROOT))]
    assert len(named) == 2  # the namespace, the overlay
    assert all(path.exists() for path in named)


def test_with_a_mongodb_of_ones_own_its_address_is_demanded_and_only_redis_is_brought(world: World) -> None:
    done = world.run("setup.sh", "--overlay", "external-mongodb")
    assert done.returncode == 1
    assert "create secret generic spillway-mongodb --from-file=uri=/dev/stdin" in done.stderr
    assert not [words for words in world.steps() if "-k" in words]
    done = world.run("setup.sh", "--overlay", "external-mongodb", there=True)
    assert done.returncode == 0, done.stderr
    assert [words[4] for words in world.steps() if "rollout" in words] == ["status"]
    assert not [words for words in world.steps() if "statefulset/spillway-mongodb" in words]
    assert (ROOT / "k8s/overlays/external-mongodb/kustomization.yaml").exists()


@pytest.mark.parametrize(
    ("tool", "version"), [("kubectl", "Client Version: v1.28.9"), ("helm", "v3.9.4"), ("kind", "kind v0.23.0")]
)
def test_a_tool_too_old_is_refused_by_name_before_anything_is_done(world: World, tool: str, version: str) -> None:
    done = world.run("setup.sh", "--create", "kind", **{tool: version})
    assert done.returncode == 1
    assert f"{tool} is {version.split('v')[-1]}" in done.stderr
    assert "is needed" in done.stderr
    assert world.calls() == []


def test_a_service_that_does_not_get_ready_ends_the_script_with_what_to_look_at(world: World) -> None:
    done = world.run("setup.sh", fails="rayservice/spillway")
    assert done.returncode == 1
    assert "describe rayservice spillway" in done.stderr
    assert not [words for words in world.steps() if words[0] == "curl"]


@pytest.mark.parametrize(
    "arguments", [["--overlay", "production"], ["--create", "minikube"], ["--port"], ["--frob"], ["--port", "x"]]
)
def test_a_wrong_option_is_refused_before_anything_is_done(world: World, arguments: list[str]) -> None:
    done = world.run("setup.sh", *arguments)
    assert done.returncode == 1
    assert "→" in done.stderr
    assert world.calls() == []


@pytest.mark.parametrize("answer", ["", "y\n", "no\n"])
def test_data_is_deleted_only_after_its_name_was_typed(world: World, answer: str) -> None:
    assert world.run("teardown.sh", "--delete-data", given=answer).returncode == 1
    assert world.calls() == []
    assert world.run("teardown.sh", "--delete-data", given="spillway\n").returncode == 0
    assert ["kubectl", "delete", "namespace", "spillway"] in [words[:4] for words in world.steps()]


def test_a_teardown_drains_before_it_takes_redis_away_and_leaves_data_alone(world: World) -> None:
    assert world.run("teardown.sh").returncode == 0
    first, waits, rest = world.steps()
    assert "rayservice" in first
    assert "--for=delete" in waits
    assert "statefulset" in rest[4]
    assert not [word for words in world.steps() for word in words if "namespace" in word or "persistent" in word]
    assert "secret" not in rest[4]
