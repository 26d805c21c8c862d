"""What the check runs: programs built from pinned Go modules and kept in the user's cache, and RayService's schema."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from cluster.embedded.steps import Steps
from cluster.embedded.toolchain import BuildFailed, cache_folder, cached, digest, go, run, run_go
from cluster.state import PROJECT_ROOT

SOURCE = Path(__file__).with_name("kubernetes")
VERSION = "v1.34.2"
PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kustomize": "sigs.k8s.io/kustomize/kustomize/v5",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
}
CRD_VARIABLE = "SPILLWAY_CRD"
CRD_NAME = "rayservices.ray.io"
OPERATOR = "1.7.0"
"""The KubeRay operator these manifests are for."""
CRD_BESIDE = PROJECT_ROOT.parent / "shared" / "crd" / f"ray.io_rayservices.v{OPERATOR}.yaml"
CRD_MODULE, CRD_MODULE_VERSION = "github.com/ray-project/kuberay/ray-operator", "v1.6.1"
CRD_MODULE_SUM = "h1:IMtV0QW8AxGp4/CbPLd/olXBBxpUNQQr1n4Mu59khl4="
"""The newest operator whose module is to be had; the module of 1.7.0 is not."""


@dataclass(frozen=True)
class Crd:
    """The definition of RayService, and in words where it came from."""

    path: Path
    origin: str


def built(steps: Steps) -> Path:
    """The folder with etcd, kustomize, kubectl and kube-apiserver. Raises `BuildFailed`."""

    def build(folder: Path, log: Path) -> None:
        release = "k8s.io/component-base/version"
        major, minor, _ = VERSION.removeprefix("v").split(".")
        named = f"-X {release}.gitVersion={VERSION} -X {release}.gitMajor={major} -X {release}.gitMinor={minor}"
        flags = ["-mod=readonly", "-trimpath", "-buildvcs=false", f"-ldflags=-s -w {named}"]
        for program, package in PACKAGES.items():
            long = " (three to eight minutes, once)" if program == "kube-apiserver" else ""
            arguments = ["build", *flags, "-o", str(folder / "bin" / program), package]
            run_go(steps, f"Building {program}{long}", arguments, log, cwd=SOURCE, environment={"GOFLAGS": ""})

    key = digest([(SOURCE / name).read_bytes() for name in ("go.mod", "go.sum")])
    return cached(steps, f"kubernetes-{key}", "bin", build)


def crd(steps: Steps, chosen: str | None, from_cluster: bool, programs: Path) -> Crd:
    """RayService's definition: the chosen file, the cluster's, the one beside the project, the Go module's.

    Raises `BuildFailed` when what was asked for is not there, or none can be had.
    """
    if from_cluster:
        return Crd(_of_cluster(programs), "the cluster that kubectl talks to")
    path = Path(chosen) if chosen else CRD_BESIDE
    if path.is_file():
        return Crd(path, f"{path.name}, operator {OPERATOR}" if path == CRD_BESIDE else str(path))
    if chosen:
        raise BuildFailed(f"There is no file {chosen} (--crd or {CRD_VARIABLE})")
    return Crd(_of_module(steps), f"the Go module of operator {CRD_MODULE_VERSION}, not of {OPERATOR}")


def environment(**more: str) -> Mapping[str, str]:
    """Ours without what would lead kubectl to somebody's cluster."""
    return {name: value for name, value in os.environ.items() if name != "KUBECONFIG"} | more


def _of_cluster(programs: Path) -> Path:
    command = [str(programs / "kubectl"), "get", "crd", CRD_NAME, "--output", "json"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if answer.returncode != 0:
        raise BuildFailed(f"The cluster does not tell {CRD_NAME}: {answer.stderr.strip()}\nIs the operator installed?")
    definition = json.loads(answer.stdout)
    definition.pop("status", None)
    definition["metadata"] = {"name": CRD_NAME, "annotations": definition["metadata"].get("annotations") or {}}
    path = cache_folder() / "crd-from-cluster.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(definition))
    return path


def _of_module(steps: Steps) -> Path:
    program = go(steps)
    log = cache_folder() / "logs" / "ray-operator.log"
    arguments = [str(program), "mod", "download", "-json", f"{CRD_MODULE}@{CRD_MODULE_VERSION}"]
    with steps.step(f"Fetching the RayService schema of operator {CRD_MODULE_VERSION}") as tick:
        hint = f"Or name a file: {CRD_VARIABLE}=path, or make k8s-check ARGS='--crd path' or ARGS=--crd-from-cluster"
        run(arguments, log, tick, hint=hint, cwd=cache_folder(), environment={"GOFLAGS": ""})
    text = log.read_text()
    module = json.loads(text[text.index("{") :])
    if module["Sum"] != CRD_MODULE_SUM:
        raise BuildFailed(f"{CRD_MODULE}@{CRD_MODULE_VERSION} is {module['Sum']}, must be {CRD_MODULE_SUM}")
    return Path(module["Dir"]) / "config" / "crd" / "bases" / "ray.io_rayservices.yaml"
