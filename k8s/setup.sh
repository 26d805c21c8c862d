#!/usr/bin/env bash
# Spillway on a Kubernetes: the KubeRay operator, Secrets, one overlay, and a write that goes all the way to MongoDB.
# Running it again changes only what is missing or different.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=k8s/steps.sh
source "$here/steps.sh"
root=${here%/*}

readonly OPERATOR_VERSION=1.7.0
readonly CHARTS=https://ray-project.github.io/kuberay-helm/
readonly IMAGE=spillway:0.1.0
readonly NAMESPACE=spillway

usage() {
    cat <<'END'
k8s/setup.sh [options]

  --overlay NAME      dev, one-node (default), workers, workers-large or external-mongodb
  --create kind|k3d   make a cluster of this kind first, called spillway, unless it is there
  --build             build the image; with --create also load it into the cluster
  --context NAME      the kubectl context [default: the current one, or that of --create]
  --port N            local port of the smoke test [default: 18000]
  --timeout SECONDS   how long to wait for each part [default: 600]
  --dry-run           show every step and run none
END
}

overlay=one-node create="" build="" context="" port=18000 timeout=600
parts=(redis mongodb) # what is brought beside the service

options() {
    while (($#)); do
        case $1 in
            --build) build=yes ;;
            --dry-run) dry_run=yes ;;
            -h | --help) usage; exit 0 ;;
            --overlay | --create | --context | --port | --timeout)
                (($# > 1)) || fail "$1 needs a value." "k8s/setup.sh --help"
                printf -v "${1#--}" '%s' "$2"
                shift
                ;;
            *) fail "There is no option $1." "k8s/setup.sh --help" ;;
        esac
        shift
    done
    case $overlay in
        dev | one-node | workers | workers-large) ;;
        external-mongodb) parts=(redis) ;;
        *) fail "There is no overlay $overlay." "dev, one-node, workers, workers-large or external-mongodb" ;;
    esac
    case $create in
        "" | kind | k3d) ;;
        *) fail "A cluster of kind '$create' cannot be made here." "--create kind, or --create k3d" ;;
    esac
    [[ $port =~ ^[0-9]+$ && $timeout =~ ^[0-9]+$ ]] || fail "--port and --timeout are whole numbers." "k8s/setup.sh --help"
    [[ -n $context || -z $create ]] || context=$create-spillway
    use_context "$context"
}

check_tools() {
    say "Tools"
    need kubectl 1.29 kubectl version --client
    need helm 3.14 helm version --short
    need curl 7.68 curl --version
    [[ $create != kind ]] || need kind 0.24 kind version
    [[ $create != k3d ]] || need k3d 5.6 k3d version
    [[ -z $build$create ]] || need docker 23.0 docker version --format '{{.Server.Version}}'
}

make_cluster() {
    [[ -n $create ]] || return 0
    say "Cluster"
    if [[ $create == kind ]]; then
        step_unless "kind get kubeconfig --name spillway" kind create cluster --name spillway --wait 180s
    else
        step_unless "k3d cluster get spillway" k3d cluster create spillway --wait --timeout 180s
    fi
}

make_image() {
    [[ -n $build ]] || return 0
    say "Image"
    step docker build --tag "$IMAGE" "$root"
    [[ $create != kind ]] || step kind load docker-image "$IMAGE" --name spillway
    [[ $create != k3d ]] || step k3d image import "$IMAGE" --cluster spillway
}

install_operator() {
    say "KubeRay operator $OPERATOR_VERSION"
    step "${helm[@]}" upgrade --install kuberay-operator kuberay-operator --repo "$CHARTS" --version "$OPERATOR_VERSION" \
        --namespace kuberay-system --create-namespace --wait --timeout "${timeout}s"
}

# Made once and never changed: the databases keep the first password they were started with.
make_secrets() {
    say "Namespace and Secrets"
    step_unless "$(typed "${kubectl[@]}") get namespace $NAMESPACE" \
        "${kubectl[@]}" apply --server-side -f "$here/base/namespace.yaml"
    local name
    for name in "${parts[@]}"; do
        through="with_secret $name" note="Secret spillway-$name with a random password, by standard input" \
            step_unless "$(typed "${kubectl[@]}") -n $NAMESPACE get secret spillway-$name" \
            "${kubectl[@]}" -n "$NAMESPACE" create -f -
    done
    [[ $overlay != external-mongodb ]] ||
        through=demanded step "${kubectl[@]}" -n "$NAMESPACE" get secret spillway-mongodb --output name
}

# demanded COMMAND...: of a MongoDB that is not ours only its owner knows the address.
demanded() {
    local make
    make="$(typed "${kubectl[@]}") -n $NAMESPACE create secret generic spillway-mongodb --from-file=uri=/dev/stdin"
    "$@" || fail "The overlay $overlay needs the address of your MongoDB." "printf %s 'mongodb://...' | $make"
}

# with_secret NAME COMMAND...: not an argument of the command, since everybody who lists processes sees those.
with_secret() {
    local name=$1 password
    shift
    password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    {
        printf 'apiVersion: v1\nkind: Secret\nmetadata: {name: spillway-%s}\nstringData:\n  password: "%s"\n' "$name" "$password"
        if [[ $name == redis ]]; then
            printf '  url: "redis://:%s@spillway-redis:6379/0"\n' "$password"
        else
            printf '  username: spillway\n  uri: "mongodb://spillway:%s@%s"\n' "$password" \
                "spillway-mongodb-0.spillway-mongodb:27017/?replicaSet=rs0&authSource=admin"
        fi
    } | "$@"
}

apply_overlay() {
    say "Overlay $overlay"
    step "${kubectl[@]}" apply --server-side -k "$here/overlays/$overlay"
}

wait_for_it() {
    say "Waiting, at most ${timeout} s for each"
    local part
    for part in "${parts[@]}"; do
        through=watched step "${kubectl[@]}" -n "$NAMESPACE" rollout status "statefulset/spillway-$part" "--timeout=${timeout}s"
    done
    through=watched step "${kubectl[@]}" -n "$NAMESPACE" wait rayservice/spillway --for=condition=Ready "--timeout=${timeout}s"
}

# watched COMMAND...: runs it, and tells every ten seconds how the pods are.
watched() {
    "$@" &
    local waiting=$! looks=0
    while kill -0 "$waiting" 2>/dev/null; do
        sleep 0.2
        ((++looks % 50)) || "${kubectl[@]}" -n "$NAMESPACE" get pods --no-headers 2>/dev/null | sed 's/^/    /' || true
    done
    wait "$waiting" || fail "It is not ready." \
        "$(typed "${kubectl[@]}" -n "$NAMESPACE") get events --sort-by=.lastTimestamp" \
        "$(typed "${kubectl[@]}" -n "$NAMESPACE") describe rayservice spillway"
}

forwarding=""
stop_forwarding() { [[ -z $forwarding ]] || kill "$forwarding" 2>/dev/null || true; }

forward() {
    "$@" >/dev/null &
    forwarding=$!
    trap stop_forwarding EXIT
}

smoke_test() {
    local type="Content-Type: application/json" url=http://127.0.0.1:$port ask=(curl --fail --silent --show-error --max-time 40 --noproxy '*')
    say "Smoke test: a write that is answered when MongoDB has it, then the same document read, then deleted"
    through=forward note="meanwhile" step "${kubectl[@]}" -n "$NAMESPACE" port-forward service/spillway "$port:8000"
    step "${ask[@]}" --retry 30 --retry-delay 1 --retry-connrefused --output /dev/null "$url/readyz"
    step "${ask[@]}" --output /dev/null --request PUT "$url/v1/smoke/notes/setup?ack=db" \
        --header "$type" --data '{"text": "setup"}'
    step "${ask[@]}" "$url/v1/smoke/notes/setup"
    say
    step "${ask[@]}" --output /dev/null --request DELETE "$url/v1/smoke/notes/setup"
    step "${ask[@]}" "$url/v1/status"
    say
    [[ -n $dry_run ]] || stop_forwarding
}

addresses() {
    local open
    open="$(typed "${kubectl[@]}") -n $NAMESPACE port-forward service"
    cat <<END
Inside the cluster
  service        http://spillway.$NAMESPACE:8000        direct port  http://spillway-direct.$NAMESPACE:8080
From here
  service        $open/spillway 8000            then http://localhost:8000/docs
  direct port    $open/spillway-direct 8080
  dashboard      $open/spillway-dashboard 8265  then http://localhost:8265
END
    [[ $overlay == dev || $overlay == workers* ]] || say "On the node itself, as the pod is on its network: ports 8000 and 8080.
  Network policies do not hold there with most plugins, and the service asks nobody who they are: let a firewall
  stand before the node"
    say "A changed image, Secret or environment runs only in a new Ray cluster; the old one drains before it goes:
  then        $(typed "${kubectl[@]}") -n $NAMESPACE delete raycluster --all --cascade=foreground --wait"
    say "Remove it all: k8s/teardown.sh (the data stays)"
}

options "$@"
check_tools
make_cluster
make_image
install_operator
make_secrets
apply_overlay
wait_for_it
smoke_test
addresses
