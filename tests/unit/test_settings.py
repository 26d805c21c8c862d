"""Every option: where its value comes from, and what a wrong one is answered with."""

from __future__ import annotations

from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from actors.core.batching import BatchPolicy
from cluster import launch, topology
from cluster.settings import MIB, Settings, SettingsError, load
from serve_app.errors import Problem
from serve_app.limits import EdgeLimits
from serve_app.parameters import namespace_of


def test_without_any_setting_the_defaults_hold() -> None:
    settings = load()
    assert (settings.rate_limit_per_s, settings.batch_timeout_ms, settings.cache_ttl_s) == (100, 150, 300)
    assert (settings.max_queue_size, settings.max_queue_bytes) == (200_000, 256 * 1024 * 1024)


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("BATCH_SIZE", "200", "batch_size", 200),
        ("BATCH_TIMEOUT_MS", "20", "batch_timeout_ms", 20),
        ("CACHE_TTL", "60", "cache_ttl_s", 60),
        ("MAX_QUEUE_SIZE", "5000", "max_queue_size", 5_000),
        ("REDIS_URL", "redis://r:1/2", "redis_url", "redis://r:1/2"),
        ("MONGO_URI", "mongodb://m:1", "mongodb_uri", "mongodb://m:1"),
        ("MONGODB_URI", "mongodb://m:2", "mongodb_uri", "mongodb://m:2"),
        ("SPILLWAY_MONGODB_URI", "mongodb://m:3", "mongodb_uri", "mongodb://m:3"),
        ("SPILLWAY_BUFFERS", "4", "buffers", 4),
        ("SPILLWAY_CACHE_TTL_S", "7", "cache_ttl_s", 7),
        ("SPILLWAY_WRITE_CONCERN", "1", "write_concern", "1"),
    ],
)
def test_a_variable_sets_its_option(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, name: str, value: object
) -> None:
    monkeypatch.setenv(variable, text)
    assert getattr(load(), name) == value


def test_our_own_name_wins_over_a_customary_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_SIZE", "200")
    monkeypatch.setenv("SPILLWAY_BATCH_SIZE", "300")
    assert load().batch_size == 300


@pytest.mark.parametrize("variable", ["HTTP_PORT", "BUFFERS", "WRITE_CONCERN", "STATE_DIR"])
def test_variables_of_other_programs_are_not_ours(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    untouched = load()
    monkeypatch.setenv(variable, "7")
    assert load() == untouched


def config(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    (folder / "spillway.yaml").write_text(text)
    monkeypatch.setenv("SPILLWAY_CONFIG", str(folder / "spillway.yaml"))


def test_arguments_win_over_the_environment_and_that_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config(monkeypatch, tmp_path, "batch_size: 1\nbuffers: 2\ncache_ttl_s: 3\n")
    monkeypatch.setenv("SPILLWAY_BUFFERS", "20")
    monkeypatch.setenv("SPILLWAY_CACHE_TTL_S", "30")
    settings = load(cache_ttl_s=300)
    assert (settings.batch_size, settings.buffers, settings.cache_ttl_s) == (1, 20, 300)


def test_a_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPILLWAY_CONFIG", "/nowhere/spillway.yaml")
    with pytest.raises(SettingsError, match=r"SPILLWAY_CONFIG names '/nowhere/spillway\.yaml'"):
        load()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("buffers: 2\nmongodb_uri: 's3cret\n", "it is no YAML, see line 3"),
        ("mongodb_uri: *s3cret\n", "it is no YAML, see line 1"),
        ("- buffers: 2\n", "it must hold lines of the form `name: value`"),
        ("s3cret\n", "it must hold lines of the form `name: value`"),
        ("on: s3cret\n", "it must hold lines of the form `name: value`"),
    ],
)
def test_a_file_that_holds_no_settings_is_named_and_never_repeated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, why: str
) -> None:
    config(monkeypatch, tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        load()
    assert str(caught.value).endswith(f"spillway.yaml': {why}")
    assert "s3cret" not in str(caught.value)


def test_a_file_that_may_not_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPILLWAY_CONFIG", str(tmp_path))
    with pytest.raises(SettingsError, match="it cannot be read: Is a directory"):
        load()


def test_an_empty_file_sets_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    untouched = load()
    config(monkeypatch, tmp_path, "# nothing yet\n")
    assert load() == untouched


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"rate_limit_per_s": "fast-s3cret"}, "rate_limit_per_s"),
        ({"writer_lanes": 10, "rate_limit_per_s": 10}, "writer_lanes"),
        ({"operation_bytes": 262_144}, "batch_max_bytes"),
        (
            {"operation_bytes": 262_144, "batch_max_bytes": 1 << 20, "max_document_bytes": (1 << 20) + 1},
            "max_document_bytes",
        ),
        ({"redis_url": "http://:s3cret@r/"}, "redis_url"),
        ({"mongodb_uri": "postgres://u:s3cret@m/"}, "mongodb_uri"),
        ({"mongodb_uri": "postgres://u:s3[cret@m/"}, "mongodb_uri"),
        ({"data_namespace": "s3cret"}, "data_namespace"),
        ({"data_namespace": "s3cret.records", "databases": "shop, Test-*"}, "data_namespace"),
        ({"key_prefix": "S3CRET s3cret"}, "key_prefix"),
        ({"batchsize": "s3cret"}, "batchsize"),
        ({"write_concern": "0"}, "write_concern"),
        ({"quota_caller_header": "X-Forwarded-For"}, "quota_caller_header"),
        ({"trusted_proxies": "10.0.0.0/8, s3cret"}, "trusted_proxies"),
    ],
)
def test_a_bad_value_is_answered_with_its_setting_and_never_repeated(overrides: dict[str, Any], name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(**overrides)
    assert f"  {name}: " in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_what_only_looks_like_a_number_is_the_name_of_a_write_concern() -> None:
    assert load(write_concern="²").write_concern == "²"


NUMBERS = [name for name, field in Settings.model_fields.items() if field.annotation in (int, float)]


@pytest.mark.parametrize("name", NUMBERS)
def test_no_number_is_without_an_upper_bound(name: str) -> None:
    """What Redis or the kernel refuses is refused there in the middle of something."""
    with pytest.raises(SettingsError, match=f"  {name}: "):
        load(**{name: 10**16})


@pytest.mark.parametrize("name", ["idempotency_ttl_s", "cache_ttl_s"])
def test_what_redis_forgets_by_itself_it_forgets_within_ten_years(name: str) -> None:
    ten_years_s = 3650 * 24 * 3600
    assert getattr(load(**{name: ten_years_s}), name) == ten_years_s
    with pytest.raises(SettingsError, match=f"  {name}: .* less than or equal to {ten_years_s}"):
        load(**{name: ten_years_s + 1})


def test_a_batch_counts_at_most_as_its_lane_may_spend() -> None:
    """Four lanes' commands are kept back for a crash, and one more fits beside them: a fifth of 100 commands."""
    most = 20 * 262_144
    settings = {"operation_bytes": 262_144, "rate_limit_per_s": 100, "writer_lanes": 4}
    assert load(batch_max_bytes=most, **settings).batch_max_bytes == most
    with pytest.raises(SettingsError, match=f"batch_max_bytes: with operation_bytes at most {most}"):
        load(batch_max_bytes=most + 1, **settings)


@pytest.mark.parametrize("databases", ["*", "shop, test-*", "test-?"])
def test_the_collection_behind_api_data_may_be_in_any_of_the_databases(databases: str) -> None:
    assert load(databases=databases, data_namespace="test-1.records").databases == databases


@pytest.mark.parametrize(
    "namespace",
    ["shop.records", "Shop-1.a.b_c", "systems.system", "Status.x", "admin.x", "Local.x", "config.x", "status.x",
     "receipts.x", "dead-letters.x", "shop.system.x", "shop.a..b", "shop.a."],
)  # fmt: skip
def test_the_collection_behind_api_data_is_one_that_callers_could_name(namespace: str) -> None:
    try:
        named = namespace_of(*namespace.split(".", 1))
    except Problem:
        with pytest.raises(SettingsError, match="  data_namespace: "):
            load(data_namespace=namespace)
    else:
        assert load(data_namespace=namespace).data_namespace == named


def test_a_bad_variable_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_TTL", "soon")
    with pytest.raises(SettingsError, match=r"cache_ttl_s|CACHE_TTL"):
        load()


def test_an_unknown_name_in_the_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config(monkeypatch, tmp_path, "batch_sise: 1\n")
    with pytest.raises(SettingsError, match="batch_sise"):
        load()


def test_addresses_are_not_printed() -> None:
    settings = load(redis_url="redis://:s3cret@r:1", mongodb_uri="mongodb://u:s3cret@m")
    assert "s3cret" not in repr(settings)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        load().batch_size = 1  # type: ignore[misc]


def test_the_edge_is_tested_with_the_defaults_that_it_is_run_with() -> None:
    assert asdict(EdgeLimits()) == {name: getattr(load(), name) for name in EdgeLimits.__dataclass_fields__}


def test_every_option_says_what_it_is() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_streams_and_actors_carry_the_size_of_their_pool_and_actors_their_generation_and_settings() -> None:
    assert topology.stream_names(3) == ["0of3", "1of3", "2of3"]
    end = f"-g{topology.GENERATION}-0a1b2c3d"
    assert topology.buffer_names(2, "0a1b2c3d") == [f"buffer-0of2{end}", f"buffer-1of2{end}"]
    assert topology.writer_name("0a1b2c3d") == f"mongo-writer{end}"


def test_the_bounds_are_for_all_buffers_together_and_another_setting_is_another_set_of_actors() -> None:
    settings = load(buffers=4, max_queue_size=1_000, max_queue_bytes=64 * MIB)
    configs = launch.buffer_configs(settings, "writer")
    assert [(config.bounds.max_writes, config.bounds.max_bytes) for config in configs] == [(250, 16 * MIB)] * 4
    assert {config.policy for config in configs} == {BatchPolicy(1_000, 8 * MIB, 0.15)}
    fewest = launch.buffer_configs(load(buffers=4, max_queue_size=3), "writer")
    assert [config.bounds.max_writes for config in fewest] == [1] * 4
    for other in ({"rate_limit_per_s": 50}, {"max_queue_size": 999}):
        changed = load(**other)
        assert launch.writer_name(changed) != launch.writer_name(load()), "the old ones keep to what they were told"
        assert not {*launch.buffer_names(changed)} & {*launch.buffer_names(load())}


def test_no_setting_reaches_an_actor_without_being_in_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment in place would find the actors as they were, and a changed value would be applied by nobody."""
    read: set[str] = set()

    class Watched:
        def __getattr__(self, name: str) -> Any:
            read.add(name)
            return getattr(load(), name)

    settings: Any = Watched()
    launch.writer_name(settings)
    launch.buffer_names(settings)
    named = set(read)
    monkeypatch.setattr(launch, "end_strangers", lambda *_: None)
    monkeypatch.setattr(launch, "_homes", lambda: count())
    monkeypatch.setattr(launch, "_create", lambda *_: None)
    launch.ensure_actors(settings)
    assert read - named == set()


def test_the_example_file_lists_every_option_with_its_default_and_its_comment() -> None:
    text = (Path(__file__).resolve().parents[2] / "cluster" / "settings.example.yaml").read_text()
    assert yaml.safe_load(text) == {name: field.default for name, field in Settings.model_fields.items()}
    for name, field in Settings.model_fields.items():
        assert f"# {field.description}" in text, name
