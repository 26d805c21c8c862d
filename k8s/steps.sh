# shellcheck shell=bash
# What setup.sh and teardown.sh share: a step is shown exactly as it is run, and with --dry-run it is only shown.

dry_run=""

say() { printf '%s\n' "$*"; }

fail() {
    printf '\n%s\n' "$1" >&2
    shift
    (($# == 0)) || printf '  → %s\n' "$@" >&2
    exit 1
}

# A command as a person would type it.
typed() {
    local word line=""
    for word in "$@"; do
        [[ $word =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]] || word=${word@Q}
        line+=" $word"
    done
    printf '%s' "${line:1}"
}

# [through=FUNCTION] [note=TEXT] step COMMAND...: the function, when there is one, is given the command to run.
step() {
    say "  + $(typed "$@")${note:+    # $note}"
    [[ -n $dry_run ]] || ${through:-} "$@"
}

# step_unless QUESTION COMMAND...: a step that is left out when the question (words without quotes) succeeds.
step_unless() {
    local question=$1 words
    shift
    read -ra words <<<"$question"
    if [[ -n $dry_run ]]; then
        note="${note:+$note; }unless: $question" step "$@"
    elif "${words[@]}" >/dev/null 2>&1; then
        say "  = there already: $question"
    else
        step "$@"
    fi
}

# need TOOL LEAST_VERSION COMMAND...: the command tells the tool's version.
need() {
    local tool=$1 least=$2
    shift 2
    if [[ -n $dry_run ]]; then
        say "  ? $tool $least or newer: $(typed "$@")"
        return
    fi
    command -v "$tool" >/dev/null || fail "$tool is not on PATH; $least or newer is needed." "install $tool"
    local said found
    said=$("$@" 2>&1) || fail "$tool does not tell its version: $said" "$(typed "$@")"
    [[ $said =~ ([0-9]+\.[0-9]+(\.[0-9]+)?) ]] || fail "$tool tells no version: $said" "$(typed "$@")"
    found=${BASH_REMATCH[1]}
    if [[ $(printf '%s\n%s\n' "$least" "$found" | sort -V | head -n 1) != "$least" ]]; then
        fail "$tool is $found; $least or newer is needed." "install a newer $tool"
    fi
    say "  ✓ $tool $found"
}

# The kubectl and helm of one context; without one, whatever is current.
use_context() {
    kubectl=(kubectl)
    helm=(helm)
    if [[ -n $1 ]]; then
        kubectl+=(--context "$1")
        helm+=(--kube-context "$1")
    fi
}
