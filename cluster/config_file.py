"""The YAML file with settings that `SPILLWAY_CONFIG` names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def read(path: str) -> dict[str, Any]:
    """What it says. Raises `ValueError`: why it cannot be used, without a word of it, which may be a password's."""
    try:
        values = yaml.safe_load(Path(path).read_text("utf-8")) or {}
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from None
    except (ValueError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        raise ValueError(f"it is no YAML{f', see line {mark.line + 1}' if mark else ''}") from None
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):  # YAML's `on` is no name
        raise ValueError("it must hold lines of the form `name: value`")
    return values
