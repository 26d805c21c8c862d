"""A Kubernetes that knows everything and runs nothing: etcd and the API server on loopback, gone afterwards."""

from __future__ import annotations

import json
import secrets
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from cluster.embedded import ports
from cluster.embedded.child import Child, Recipe
from cluster.embedded.steps import Steps
from k8s.check.documents import Document
from k8s.check.programs import environment

READY_S = 180.0
COMMAND_S = 120.0


class Refused(RuntimeError):
    """The API server did not take it; the message is its own."""


@dataclass(frozen=True)
class Api:
    """A running API server, asked through kubectl as its administrator."""

    kubectl: Path
    config: Path

    def apply(self, documents: Sequence[Document], *, dry_run: bool = False) -> str:
        """Applies on the server, where a field that is not declared, or given twice, is an error. Raises `Refused`."""
        options = ["--server-side", "--validate=strict", "--force-conflicts", "--field-manager=k8s-check"]
        if dry_run:
            options.append("--dry-run=server")
        stream = "\n---\n".join(json.dumps(document) for document in documents)
        return self.run("apply", *options, "--filename", "-", text=stream)

    def apply_file(self, path: Path) -> str:
        """The same for a file as it is. Raises `Refused`."""
        return self.run("apply", "--server-side", "--validate=strict", "--force-conflicts", "--filename", str(path))

    def run(self, *arguments: str, text: str = "") -> str:
        """Any kubectl command; returns its output, warnings first. Raises `Refused`."""
        command = [str(self.kubectl), "--kubeconfig", str(self.config), *arguments]
        answer = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=COMMAND_S, check=False, env=environment()
        )
        if answer.returncode != 0:
            raise Refused(answer.stderr.strip())
        return answer.stderr + answer.stdout


@contextmanager
def control_plane(programs: Path, steps: Steps) -> Iterator[Api]:
    """Starts both servers, and ends and removes them however the block ends. Raises `ChildFailed`."""
    with tempfile.TemporaryDirectory(prefix="spillway-k8s-") as name:
        folder = Path(name)
        token = secrets.token_hex(16)
        etcd_port = ports.free_port(0)
        peer_port = ports.free_port(0, taken=[etcd_port])
        api_port = ports.free_port(0, taken=[etcd_port, peer_port])
        children = [
            Child(_etcd(programs, folder, etcd_port, peer_port)),
            Child(_api_server(programs, folder, etcd_port, api_port, token)),
        ]
        try:
            for child in children:
                with steps.step(f"Starting {child.name}") as tick:
                    child.start()
                    child.await_ready(tick)
            yield Api(programs / "kubectl", _kubeconfig(folder, api_port, token))
        finally:
            for child in reversed(children):
                child.stop()


def _etcd(programs: Path, folder: Path, port: int, peer_port: int) -> Recipe:
    client, peer = (f"http://{ports.LOOPBACK}:{number}" for number in (port, peer_port))
    options = {
        "data-dir": str(folder / "etcd"),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
        "unsafe-no-fsync": "true",  # it does not outlive this check
    }
    return Recipe(
        name="etcd",
        command=[str(programs / "etcd"), *_flags(options)],
        log=folder / "etcd.log",
        ready=_answers(f"{client}/health"),
        port=port,
        ready_timeout_s=READY_S,
    )


def _api_server(programs: Path, folder: Path, etcd_port: int, port: int, token: str) -> Recipe:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "accounts.pem").write_bytes(private)
    (folder / "tokens.csv").write_text(f"{token},check,check,system:masters\n")
    options = {
        "etcd-servers": f"http://{ports.LOOPBACK}:{etcd_port}",
        "bind-address": ports.LOOPBACK,
        "secure-port": str(port),
        "cert-dir": str(folder),  # it makes its certificate there by itself
        "token-auth-file": str(folder / "tokens.csv"),
        "authorization-mode": "AlwaysAllow",
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-key-file": str(folder / "accounts.pem"),
        "service-account-signing-key-file": str(folder / "accounts.pem"),
        "service-cluster-ip-range": "10.0.0.0/16",
        "endpoint-reconciler-type": "none",
        # It would refuse every pod until a controller has made the accounts' tokens, and there is no controller.
        "disable-admission-plugins": "ServiceAccount",
    }
    return Recipe(
        name="kube-apiserver",
        command=[str(programs / "kube-apiserver"), *_flags(options)],
        log=folder / "kube-apiserver.log",
        ready=_answers(f"https://{ports.LOOPBACK}:{port}/readyz", token, folder / "apiserver.crt"),
        port=port,
        ready_timeout_s=READY_S,
        stop_timeout_s=20.0,
    )


def _flags(options: dict[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


def _answers(url: str, token: str = "", certificate: Path | None = None) -> Callable[[], bool]:
    def ready() -> bool:
        try:
            verify = ssl.create_default_context(cafile=str(certificate)) if certificate else True
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            answer = httpx.get(url, headers=headers, verify=verify, timeout=1.0, trust_env=False)
        except (httpx.HTTPError, OSError):  # OSError: the certificate is not there yet
            return False
        return answer.status_code == 200

    return ready


def _kubeconfig(folder: Path, port: int, token: str) -> Path:
    path = folder / "kubeconfig"
    server = {"server": f"https://{ports.LOOPBACK}:{port}", "certificate-authority": str(folder / "apiserver.crt")}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "check", "cluster": server}],
        "users": [{"name": "check", "user": {"token": token}}],
        "contexts": [{"name": "check", "context": {"cluster": "check", "user": "check"}}],
        "current-context": "check",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))
    return path
