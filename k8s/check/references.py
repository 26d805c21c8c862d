"""Names that one document says and another must hold: ports, labels, Secrets, ConfigMaps, accounts, volumes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from k8s.check.documents import Document, Fault, Pod, name_of, names, of_kind, pods


def faults(documents: Sequence[Document], given: Sequence[Document] = ()) -> list[Fault]:
    """What is named and not there. `given`: documents that somebody else brings, such as the Secrets."""
    return [*_services(documents), *_policies(documents), *_budgets(documents), *_mounted(documents, given)]


def _services(documents: Sequence[Document]) -> Iterator[Fault]:
    every = pods(documents)
    for service in of_kind(documents, "Service"):
        where, spec = name_of(service), service["spec"]
        behind = [pod for pod in every if _selects(spec.get("selector"), pod.labels)]
        if not behind:
            yield Fault(where, f"its selector {spec.get('selector')} matches no pod")
        for port in spec.get("ports") or ():
            target = port.get("targetPort", port["port"])
            for pod in behind:
                if target not in (pod.ports if isinstance(target, str) else pod.ports.values()):
                    yield Fault(where, f"{pod.owner} has no port {target}, only {_list(pod.ports)}")
    for pod in every:
        if pod.spec.get("enableServiceLinks") is not False:
            # Service spillway-direct would become SPILLWAY_DIRECT_PORT=tcp://…, which is a setting of ours.
            yield Fault(pod.owner, "enableServiceLinks must be false, or Services become settings")


def _policies(documents: Sequence[Document]) -> Iterator[Fault]:
    every = pods(documents)
    for policy in of_kind(documents, "NetworkPolicy"):
        where, spec = name_of(policy), policy["spec"]
        covered = [pod for pod in every if _matches(spec["podSelector"], pod.labels)]
        if not covered:
            yield Fault(where, "its podSelector matches no pod")
        for rule in spec.get("ingress") or ():
            for port in rule.get("ports") or ():
                if isinstance(port["port"], str) and not any(port["port"] in pod.ports for pod in covered):
                    yield Fault(where, f"no pod it covers has a port {port['port']}")
        for peer in (peer for rule in _rules(spec) for peer in (rule.get("from") or rule.get("to") or ())):
            selector = peer.get("podSelector")
            inside = selector is not None and "namespaceSelector" not in peer
            if inside and not any(_matches(selector, pod.labels) for pod in every):
                yield Fault(where, f"its peer {selector} matches no pod")


def _budgets(documents: Sequence[Document]) -> Iterator[Fault]:
    every = pods(documents)
    for budget in of_kind(documents, "PodDisruptionBudget"):
        if not any(_matches(budget["spec"]["selector"], pod.labels) for pod in every):
            yield Fault(name_of(budget), "its selector matches no pod")


def _mounted(documents: Sequence[Document], given: Sequence[Document]) -> Iterator[Fault]:
    every = [*documents, *given]
    maps, accounts, keys = names(every, "ConfigMap"), names(every, "ServiceAccount"), _secret_keys(every)
    for pod in pods(documents):
        account = pod.spec.get("serviceAccountName")
        if account is None:
            yield Fault(pod.owner, "has no serviceAccountName, so it runs as the namespace's default")
        elif account not in accounts:
            yield Fault(pod.owner, f"ServiceAccount {account} does not exist")
        for kind, name, key in _wanted(pod):
            if kind == "Secret" and name not in keys:
                yield Fault(pod.owner, f"Secret {name} does not exist")
            elif kind == "Secret" and key and key not in keys[name]:
                yield Fault(pod.owner, f"Secret {name} has no key {key}, only {_list(keys[name])}")
            elif kind == "ConfigMap" and name not in maps:
                yield Fault(pod.owner, f"ConfigMap {name} does not exist, only {_list(maps)}")
        volumes = {volume["name"] for volume in pod.spec.get("volumes") or ()} | set(pod.claims)
        mounts = {mount["name"] for container in pod.every_container for mount in container.get("volumeMounts") or ()}
        for missing in sorted(mounts - volumes):
            yield Fault(pod.owner, f"mounts a volume {missing} that it does not have")
        for unused in sorted(volumes - mounts):
            yield Fault(pod.owner, f"nobody mounts its volume {unused}")


def _wanted(pod: Pod) -> Iterator[tuple[str, str, str]]:
    """Kind, name and key ("" for all) of each Secret and ConfigMap."""
    for container in pod.every_container:
        for variable in container.get("env") or ():
            source = variable.get("valueFrom") or {}
            for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
                if field in source:
                    yield kind, source[field]["name"], source[field]["key"]
        for source in container.get("envFrom") or ():
            for field, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
                if field in source:
                    yield kind, source[field]["name"], ""
    for volume in pod.spec.get("volumes") or ():
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"], ""
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"], ""


def _secret_keys(documents: Sequence[Document]) -> dict[str, set[str]]:
    return {
        secret["metadata"]["name"]: {*(secret.get("data") or ()), *(secret.get("stringData") or ())}
        for secret in of_kind(documents, "Secret")
    }


def _rules(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*(spec.get("ingress") or ()), *(spec.get("egress") or ())]


def _selects(selector: dict[str, str] | None, labels: dict[str, str]) -> bool:
    """As a Service selects: an empty selector selects nothing."""
    return bool(selector) and _matches({"matchLabels": selector}, labels)


def _matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """As everything else selects: an empty selector selects all. Expressions are not used here, and are refused."""
    if "matchExpressions" in selector:
        raise ValueError("the check reads matchLabels only; say it with those")
    return all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())


def _list(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"
