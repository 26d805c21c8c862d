"""The `args` of the Serve config: settings for the application, and so for whatever stands around it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from cluster import reaper, serve_config, state
from cluster.__main__ import app as commands
from cluster.embedded import ports, redis_server
from cluster.embedded.redis_server import RedisServer
from cluster.embedded.steps import Steps
from cluster.parts import Parts
from cluster.settings import MIB, SettingsError
from cluster.state import Process, Record, StateFolder
from cluster.terminal import settings_and_folder
from serve_app import app

DEAD = Process(1, 1, "boot")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the place of cluster/serve.yaml."""
    file = tmp_path / "serve.yaml"
    monkeypatch.setattr(serve_config, "SERVE_CONFIG", file)
    return file


def text(**args: Any) -> str:
    """The file as it is, with these args."""
    config = yaml.safe_load((Path(serve_config.__file__).with_name("serve.yaml")).read_text())
    config["applications"][0]["args"] = args
    return yaml.safe_dump(config)


def test_the_commands_read_the_settings_that_the_application_reads(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else `make up` looks after another Redis, database and port than the service uses."""
    file.write_text(text(redis_url="redis://far:1/", key_prefix="other", state_dir=str(tmp_path)))
    monkeypatch.setenv("SPILLWAY_KEY_PREFIX", "mine")
    monkeypatch.setenv("SPILLWAY_BUFFERS", "4")
    settings, folder = settings_and_folder()
    assert (settings.redis_url, settings.key_prefix, settings.buffers) == ("redis://far:1/", "other", 4)
    assert "redis_url" in settings.model_fields_set, "or a Redis of our own is started"
    assert folder.path == tmp_path


def test_a_redis_of_ours_has_room_for_what_the_args_ask(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file.write_text(text(max_queue_bytes=4096 * MIB))
    monkeypatch.setattr(redis_server, "find", lambda _: RedisServer(Path("/redis"), "on PATH", "Redis", (7, 0)))
    settings, _ = settings_and_folder()
    parts = Parts(settings, StateFolder(tmp_path), Record("run", Process(1, 1, "boot")), Steps(Console()))
    monkeypatch.setattr(parts, "_port", lambda *_: 6390)
    recipe = parts.redis()
    assert recipe is not None
    command = list(recipe.command)
    assert int(command[command.index("--maxmemory") + 1]) >= 4 * 4096 * MIB


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "it cannot be read: No such file"),
        ("applications: [\ns3cret\n", "it is no YAML"),
        (text() + "? s3cret: [\n", "it is no YAML"),
        ("applications: [{import_path: 'serve_app.app:build', args: [s3cret]}]\n", "its args must be of the form"),
        ("applications: [{import_path: 'serve_app.app:build', args: {1: s3cret}}]\n", "its args must be of the form"),
        (text(batchsize="s3cret"), "batchsize: "),
        (text(buffers="s3cret"), "buffers: "),
        (text(REDIS_URL="redis://s3cret/"), "REDIS_URL: "),
        (text(SPILLWAY_MONGODB_URI="mongodb://s3cret/"), "SPILLWAY_MONGODB_URI: "),
    ],
)
def test_a_file_that_cannot_be_used_ends_each_command_and_no_value_is_repeated(
    file: Path, capsys: pytest.CaptureFixture[str], content: str | None, why: str
) -> None:
    if content is not None:
        file.write_text(content)
    with pytest.raises(SystemExit) as ended:
        settings_and_folder()
    said = capsys.readouterr().err
    assert (ended.value.code, why in said, "s3cret" in said) == (2, True, False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StateFolder]:
    """Where a run is looked for that no setting names another place for."""
    monkeypatch.setattr(state, "PROJECT_ROOT", tmp_path)
    monkeypatch.setattr(reaper, "find", lambda _: [])
    folder = StateFolder(".spillway")
    folder.create()
    yield folder
    shutil.rmtree(folder.sockets, ignore_errors=True)


SLIPS = [None, "applications: [\n", text(buffers="four"), text(BUFFERS=4), text(state_dir=".spillway", batchsize=1)]


@pytest.mark.parametrize("content", SLIPS)
def test_a_slip_in_the_file_keeps_nobody_from_asking_about_a_run_or_from_stopping_it(
    file: Path, folder: StateFolder, content: str | None
) -> None:
    if content is not None:
        file.write_text(content)
    assert CliRunner().invoke(commands, ["down"]).exit_code == 2, "nothing is found, and may be where the file says"
    folder.save(Record("run", Process.of(os.getpid()) or DEAD, "running"))
    asked = CliRunner().invoke(commands, ["status"])
    assert (asked.exit_code, "running" in asked.stdout) == (0, True)
    assert f"This is about the run in {folder.path}." in asked.stderr
    folder.save(Record("run", DEAD, "running"))
    stopped = CliRunner().invoke(commands, ["down"])
    assert (stopped.exit_code, stopped.stdout) == (0, "Clean now.\n")
    assert CliRunner().invoke(commands, ["clean"]).exit_code == 2, "what deletes must know where"


def test_a_run_that_the_args_put_elsewhere_is_found_there(file: Path, folder: StateFolder, tmp_path: Path) -> None:
    elsewhere = StateFolder(tmp_path / "elsewhere")
    elsewhere.create()
    file.write_text(text(state_dir=str(elsewhere.path), buffers="four"))
    elsewhere.save(Record("run", DEAD, "running"))
    folder.save(Record("run", DEAD, "running"))
    try:
        assert CliRunner().invoke(commands, ["down"]).exit_code == 0
    finally:
        elsewhere.sockets.rmdir()
    assert (elsewhere.load() is None, folder.load() is None) == (True, False)


def test_where_the_run_is_is_never_guessed(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that cannot be read may name another folder, and another service would be stopped."""
    monkeypatch.setenv("SPILLWAY_CONFIG", "/nowhere")
    folder.save(Record("run", DEAD, "running"))
    assert CliRunner().invoke(commands, ["down"]).exit_code == 2
    assert folder.load() is not None


@pytest.mark.parametrize("args", [{"MONGO_URI": "mongodb://s3cret/"}, {"batchsize": "s3cret"}, {"buffers": "s3cret"}])
def test_the_application_refuses_an_arg_in_the_words_of_the_commands(
    file: Path, capsys: pytest.CaptureFixture[str], args: dict[str, str]
) -> None:
    """What only the application refuses ends `make up` half a minute later, with Ray's stack before the reason."""
    with pytest.raises(SettingsError) as refusal:
        app.build(app.Args(**args))
    file.write_text(text(**args))
    with pytest.raises(SystemExit):
        settings_and_folder()
    assert capsys.readouterr().err == f"{refusal.value}\n"


@pytest.mark.parametrize("content", ["", "applications: []\n", "applications: [{import_path: 'other:app', args: 1}]\n"])
def test_a_file_without_args_of_ours_sets_nothing(file: Path, content: str) -> None:
    file.write_text(content)
    assert serve_config.args() == {}


def test_what_a_run_decides_is_not_overruled_by_the_args_that_it_has_read() -> None:
    """The witness stands before MongoDB, and the direct port may be another, as it was taken."""
    given = text(redis_url="redis://far:1/", mongodb_uri="mongodb://far", direct_port=8080, buffers=2)
    assert for_this_run(given) == {"buffers": 2}


@pytest.mark.parametrize("direct_port", [8080, 0])
def test_the_head_is_told_what_the_run_has_decided(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path, direct_port: int
) -> None:
    file.write_text(text(direct_port=direct_port))
    monkeypatch.setenv("SPILLWAY_DIRECT_PORT", "9999")
    settings, _ = settings_and_folder()
    folder = StateFolder(tmp_path / "state")
    folder.create()
    record = Record("run", Process(1, 1, "boot"), redis_url="redis://r/", service_mongodb_uri="mongodb://witness/")
    parts = Parts(settings, folder, record, Steps(Console(quiet=True)))
    monkeypatch.setattr(parts, "_port", lambda preferred, *_, **__: preferred + 1)
    monkeypatch.setattr(parts, "_any_port", lambda: 1)
    try:
        environment = parts.head().environment
    finally:
        folder.sockets.rmdir()
    assert environment["SPILLWAY_DIRECT_PORT"] == str(direct_port and direct_port + 1)
    assert environment["SPILLWAY_REDIS_URL"] == "redis://r/"
    assert environment["SPILLWAY_MONGODB_URI"] == "mongodb://witness/"
    assert record.direct_url == (f"http://{ports.LOOPBACK}:{direct_port + 1}" if direct_port else None)


def for_this_run(content: str) -> Any:
    return serve_config.for_a_run(content, ports.LOOPBACK, 8000)["applications"][0]["args"]
