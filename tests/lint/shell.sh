#!/bin/bash
# Shell scripts pass shellcheck.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
command -v shellcheck >/dev/null || { echo 'no shellcheck'; exit 77; }
mapfile -t scripts < <(git ls-files -- cordon dev tests .ci | xargs grep -lE '^#!.*\b(ba)?sh\b|^# shellcheck shell=' --)
# Sourced parts set what others use (SC2034); set -e ends a failed cd (SC2164); -m is meant for the last folder (SC2174).
shellcheck --severity=warning --exclude=SC2034,SC2164,SC2174 "${scripts[@]}"
