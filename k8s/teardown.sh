#!/usr/bin/env bash
# Takes Spillway out of a Kubernetes: drains it first, keeps the volumes and their passwords unless --delete-data.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=k8s/steps.sh
source "$here/steps.sh"

readonly NAMESPACE=spillway

usage() {
    cat <<'END'
k8s/teardown.sh [options]

  --delete-data       also the volumes, the Secrets and the namespace; asks first
  --operator          also the KubeRay operator
  --delete kind|k3d   the whole cluster that setup.sh made, with everything in it; needs --delete-data
  --context NAME      the kubectl context [default: the current one, or that of --delete]
  --timeout SECONDS   how long the drain may take [default: 180]
  --yes               do not ask
  --dry-run           show every step and run none
END
}

delete_data="" operator="" delete="" context="" timeout=180 yes=""

options() {
    while (($#)); do
        case $1 in
            --delete-data) delete_data=yes ;;
            --operator) operator=yes ;;
            --yes) yes=yes ;;
            --dry-run) dry_run=yes ;;
            -h | --help) usage; exit 0 ;;
            --delete | --context | --timeout)
                (($# > 1)) || fail "$1 needs a value." "k8s/teardown.sh --help"
                printf -v "${1#--}" '%s' "$2"
                shift
                ;;
            *) fail "There is no option $1." "k8s/teardown.sh --help" ;;
        esac
        shift
    done
    case $delete in
        "" | kind | k3d) ;;
        *) fail "A cluster of kind '$delete' is none of setup.sh's." "--delete kind, or --delete k3d" ;;
    esac
    [[ -z $delete || -n $delete_data ]] || fail "With the cluster all data goes." "say so: --delete-data --delete $delete"
    [[ $timeout =~ ^[0-9]+$ ]] || fail "--timeout is a whole number." "k8s/teardown.sh --help"
    [[ -n $context || -z $delete ]] || context=$delete-spillway
    use_context "$context"
}

ask() {
    [[ -n $delete_data && -z $yes && -z $dry_run ]] || return 0
    local answer=""
    read -rp "All stored documents and all accepted writes will be deleted. Type $NAMESPACE to go on: " answer || true
    [[ $answer == "$NAMESPACE" ]] || fail "Nothing was deleted."
}

# First the Ray pods alone: their drain needs Redis, MongoDB, and the policies that let them through.
remove_service() {
    say "Draining the service and removing it"
    local k=("${kubectl[@]}" -n "$NAMESPACE")
    step "${k[@]}" delete rayservice spillway --ignore-not-found "--timeout=${timeout}s"
    step "${k[@]}" wait --for=delete pod --selector=tier=ray "--timeout=${timeout}s"
    step "${k[@]}" delete statefulset,service,networkpolicy,poddisruptionbudget,configmap,serviceaccount \
        --selector=app.kubernetes.io/part-of=spillway --ignore-not-found "--timeout=${timeout}s"
}

remove_data() {
    if [[ -z $delete_data ]]; then
        say "The volumes and the Secrets stay: k8s/setup.sh goes on from them. To delete them: k8s/teardown.sh --delete-data"
        return
    fi
    say "Data"
    step "${kubectl[@]}" delete namespace "$NAMESPACE" --ignore-not-found "--timeout=${timeout}s"
}

remove_operator() {
    [[ -n $operator ]] || return 0
    say "KubeRay operator"
    step "${helm[@]}" uninstall kuberay-operator --namespace kuberay-system --ignore-not-found --wait
}

remove_cluster() {
    [[ -n $delete ]] || return 0
    say "Cluster"
    [[ $delete != kind ]] || step kind delete cluster --name spillway
    [[ $delete != k3d ]] || step k3d cluster delete spillway
}

options "$@"
ask
remove_service
remove_data
remove_operator
remove_cluster
