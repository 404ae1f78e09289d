# shellcheck shell=bash
# Saying what happens, and doing it: steps with their seconds, refusals, root's rights when a step needs them.

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' GREEN=$'\e[32m' RESET=$'\e[0m'
else
    BOLD='' DIM='' RED='' GREEN='' RESET=''
fi

# say LINE...
say() { printf '%s\n' "$@"; }

die() {
    printf '%scordon: %s%s\n' "$RED" "$1" "$RESET" >&2
    shift
    (($# == 0)) || printf '        %s\n' "$@" >&2
    exit 1
}

# seconds_since MARK: with one decimal; MARK is an earlier $EPOCHREALTIME.
seconds_since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'; }

as_root() {
    if ((EUID == 0)); then "$@"; else sudo -- "$@"; fi
}

# Asked once, before the first step, so that a password prompt does not appear in the middle of one.
require_root_rights() {
    ((EUID == 0)) && return
    command -v sudo >/dev/null || die "this needs root's rights and there is no sudo" \
        "Cordon installs packages and runs each process as a Unix user of its own."
    sudo -n true 2>/dev/null || sudo -v || die "sudo refused"
}

# step LABEL FUNCTION ARGS...: runs it in a subshell under errexit, prints label, seconds and the note it left.
# Its output goes to $STEP_LOG, whose end is shown when it fails. Nothing it assigns is seen outside.
step() {
    local label=$1 began=$EPOCHREALTIME log=$STEP_LOG note
    shift
    note=$(mktemp)
    printf '  %-32s' "$label"
    printf '\n== %s\n' "$label" >>"$log"
    (STEP_NOTE=$note; set -euo pipefail; "$@") >>"$log" 2>&1 &
    if wait $!; then
        printf '%s%6s s%s  %s\n' "$DIM" "$(seconds_since "$began")" "$RESET" "$(<"$note")"
        rm -f "$note"
        return
    fi
    printf '%sfailed%s after %s s\n' "$RED" "$RESET" "$(seconds_since "$began")"
    rm -f "$note"
    printf '\n' >&2
    sed -n "$(grep -n '^== ' "$log" | tail -n 1 | cut -d: -f1),\$p" "$log" | tail -n 25 | sed 's/^/    /' >&2
    die "could not finish: $label" "the whole log: $log"
}

# note TEXT: said beside the running step's seconds.
note() { printf '%s' "$*" >"${STEP_NOTE:-/dev/stdout}"; }

# refuse TEXT: the running step cannot go on, and why.
refuse() {
    printf '%s\n' "$@" >&2
    exit 1
}

# wait_until SECONDS COMMAND...: polls ten times a second.
wait_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}

random_hex() { od -An -v -N "$1" -tx1 /dev/urandom | tr -d ' \n'; }
