"""The Serve configuration inside a RayService: Serve's schema, keys that Serve would ignore, our own options.

Importing Serve takes some seconds; only this file does it.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from cluster.settings import SettingsError, load
from k8s.check.documents import Document, Fault, name_of, of_kind


def faults(documents: Sequence[Document]) -> list[Fault]:
    """What Serve or our builder would refuse, and what Serve would silently ignore."""
    return [
        Fault(f"{name_of(service)} serveConfigV2", what)
        for service in of_kind(documents, "RayService")
        for what in config_faults(service["spec"].get("serveConfigV2") or "")
    ]


def config_faults(text: str) -> list[str]:
    """The same for the text of one Serve configuration, such as cluster/serve.yaml."""
    from ray.serve.schema import ServeDeploySchema

    config = yaml.safe_load(text)
    if not isinstance(config, dict):
        return ["is no mapping"]
    found = [f"Serve ignores the key {key}" for key in unknown_keys(config, ServeDeploySchema)]
    try:
        schema = ServeDeploySchema.model_validate(config)
    except ValidationError as error:
        return [*found, *(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())]
    for application in schema.applications:
        found += [f"application {application.name}: {what}" for what in _ours(application)]
    return found


def unknown_keys(values: Any, model: Any, path: str = "") -> Iterator[str]:
    """Dotted paths of keys in `values` that `model`, or a model within it, does not have."""
    if isinstance(values, list):
        for index, value in enumerate(values):
            yield from unknown_keys(value, model, f"{path}[{index}]")
    elif isinstance(values, dict):
        for key, value in values.items():
            here = f"{path}.{key}" if path else str(key)
            if key not in model.model_fields:
                yield here
                continue
            inner = _model_in(model.model_fields[key].annotation)
            if inner is not None:
                yield from unknown_keys(value, inner, here)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model a field holds, also inside `Optional`, `Union` and `List`; None for free-form ones."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, list):
        return next(filter(None, map(_model_in, get_args(annotation))), None)
    return None


def _ours(application: Any) -> Iterator[str]:
    from serve_app import app

    if application.import_path != "serve_app.app:build":
        yield f"import_path is {application.import_path}, the builder is serve_app.app:build"
        return
    names = [deployment.name for deployment in application.deployments]
    wanted = [app.Edge.name]  # type: ignore[attr-defined]  # the decorator's
    if names != wanted:
        yield f"deployments are {names}, the application has {wanted}"
    try:
        arguments = app.Args.model_validate(application.args)
        load(**(arguments.model_extra or {}))
    except (ValidationError, SettingsError) as error:
        yield " ".join(str(error).split())
