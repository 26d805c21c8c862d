#!/usr/bin/env bash
# Kernel settings for ten thousand users on one machine: shows what is and what is wanted, sets it, puts it back.
set -euo pipefail

usage() {
    cat <<'END'
k8s/tune-host.sh             what is, what is wanted, and why; changes nothing
k8s/tune-host.sh --apply     set it, now and after a reboot; the former values are saved
k8s/tune-host.sh --revert    put the saved values back
END
}

# For tests: everything below another root.
readonly ROOT=${TUNE_ROOT:-}
readonly FORMER=$ROOT/var/lib/spillway-tune/former
readonly PERSISTENT=$ROOT/etc/sysctl.d/90-spillway.conf
readonly LIMITS=$ROOT/etc/security/limits.d/90-spillway.conf
readonly NOFILE=65536

# name | at least, range, exactly, or these ports beside those that are there | wanted | why
readonly SETTINGS=(
    "net.core.somaxconn|least|16384|connections that wait to be accepted; ten thousand users who come at once are refused at 4096"
    "net.ipv4.tcp_max_syn_backlog|least|16384|half-open connections; beyond it the kernel drops SYNs, and each costs its user a second"
    "net.ipv4.ip_local_port_range|range|10000 65535|ports for connections that begin here: HAProxy to the replicas, and a load generator beside it"
    "net.ipv4.ip_local_reserved_ports|ports|10002-21000,30000-32767|never given to such connections: Ray's workers, replicas in the overlay one-node, NodePorts"
    "net.ipv4.tcp_tw_reuse|exact|1|a port that is in TIME_WAIT may begin a new connection after a second; or 28,000 ports last a minute"
)

fail() {
    printf '%s\n  → %s\n' "$1" "$2" >&2
    exit 1
}

place() { printf '%s/proc/sys/%s' "$ROOT" "${1//.//}"; }

value() { tr -s '\t ' ' ' <"$(place "$1")"; }

# well KIND WANTED FOUND
well() {
    local wanted found
    read -ra wanted <<<"$2"
    read -ra found <<<"$3"
    case $1 in
        least) ((found[0] >= wanted[0])) ;;
        range) ((found[0] <= wanted[0] && found[1] >= wanted[1])) ;;
        exact) [[ $3 == "$2" ]] ;;
        ports) reserved "$2" "$3" ;;
    esac
}

# reserved WANTED FOUND: whether each wanted range lies in one that was found; the kernel joins those that touch.
reserved() {
    local wanted found range within
    IFS=, read -ra wanted <<<"$1"
    IFS=, read -ra found <<<"$2"
    for range in "${wanted[@]}"; do
        for within in "${found[@]}" ""; do
            [[ -n $within ]] || return 1
            ((${within%-*} > ${range%-*} || ${within#*-} < ${range#*-})) || break
        done
    done
}

# each FUNCTION: calls it with name, kind, wanted, why, found, for every setting this kernel has.
each() {
    local line name kind wanted why
    for line in "${SETTINGS[@]}"; do
        IFS='|' read -r name kind wanted why <<<"$line"
        [[ ! -e $(place "$name") ]] || "$1" "$name" "$kind" "$wanted" "$why" "$(value "$name")"
    done
}

show_one() {
    local mark=✗
    if well "$2" "$3" "$5"; then mark=✓; else lacking=yes; fi
    printf '%s %-35s %-14s wanted %-14s %s\n' "$mark" "$1" "${5:-none}" "$3" "$4"
}

# few_files LIMIT
few_files() { [[ $1 != unlimited ]] && (($1 < NOFILE)); }

show() {
    local lacking="" mark=✓
    each show_one
    if few_files "$(ulimit -Hn)"; then
        mark=✗
        [[ -e $LIMITS ]] || lacking=yes # else it is applied, and waits for the next login
    fi
    printf '%s %-35s %-14s wanted %-14s %s\n' "$mark" "nofile (hard, of this shell)" "$(ulimit -Hn)" "$NOFILE" \
        "HAProxy takes 2.5 descriptors a connection, and does not start with fewer; set, it holds from the next login on"
    [[ -z $lacking ]] || printf '→ sudo k8s/tune-host.sh --apply\n'
}

set_to() {
    printf '%s\n' "$2" >"$(place "$1")" || fail "$1 cannot be set here." "run it on the machine itself, not in a container"
}

apply_one() {
    well "$2" "$3" "$5" && return
    local wanted=$3
    [[ $2 != ports || -z $5 ]] || wanted=$5,$3
    grep -q "^$1=" "$FORMER" || printf '%s=%s\n' "$1" "$5" >>"$FORMER"
    set_to "$1" "$wanted"
    printf '%s=%s\n' "$1" "$wanted" >>"$PERSISTENT"
    printf '%s: %s → %s\n' "$1" "${5:-none}" "$wanted"
}

# The limit of whoever called sudo, at a login: this shell's is root's, which is often another. Nothing where unknown.
limit_of_caller() {
    [[ ${SUDO_USER:-root} != root ]] || return 0
    # A profile may greet first, and their own shell may have no ulimit.
    { su -s /bin/sh - "$SUDO_USER" -c 'ulimit -Hn' </dev/null 2>/dev/null || true; } |
        tail -n 1 | grep -xE '[0-9]+|unlimited' || true
}

# allow_files WHOM: lines that are there stay, as the limit may be high enough by them.
allow_files() {
    grep -qsF -- "$1 hard nofile" "$LIMITS" ||
        printf '%s hard nofile %s\n%s soft nofile %s\n' "$1" "$NOFILE" "$1" "$NOFILE" >>"$LIMITS"
}

# `*` is everybody but root. Neither gets lines that would lower a limit that is higher, as a million is common.
apply_files() {
    local own caller
    own=$(ulimit -Hn)
    caller=$(limit_of_caller)
    ! few_files "$own" || allow_files root
    ! few_files "${caller:-$own}" || allow_files '*'
    if few_files "$own" || few_files "${caller:-$own}"; then
        printf 'nofile: %s from the next login on. %s\n' "$NOFILE" \
            "Container engines have a limit of their own (LimitNOFILE= of their unit)."
    elif [[ -z $caller ]]; then
        printf "nofile: %s in this shell. Another user's may be lower: it is asked for where they use sudo.\n" "$own"
    else
        printf 'nofile: %s at a login of %s, which is enough.\n' "$caller" "$SUDO_USER"
    fi
}

apply() {
    mkdir -p "${FORMER%/*}" "${PERSISTENT%/*}" "${LIMITS%/*}"
    touch "$FORMER" "$PERSISTENT"
    each apply_one
    apply_files
    printf 'Former values: %s. Back to them: k8s/tune-host.sh --revert\n' "$FORMER"
}

revert() {
    [[ -e $FORMER ]] || fail "Nothing was applied here: there is no $FORMER." "k8s/tune-host.sh"
    local name former
    while IFS='=' read -r name former; do
        set_to "$name" "$former"
        printf '%s: %s\n' "$name" "${former:-none}"
    done <"$FORMER"
    rm -f "$FORMER" "$PERSISTENT" "$LIMITS"
}

need_root() {
    [[ -n $ROOT || $EUID == 0 ]] || fail "The kernel's settings are root's to change." "sudo k8s/tune-host.sh $1"
}

case ${1:-} in
    "") show ;;
    --apply) need_root --apply; apply ;;
    --revert) need_root --revert; revert ;;
    -h | --help) usage ;;
    *) usage >&2; exit 2 ;;
esac
