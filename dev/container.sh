#!/bin/bash
# The dev image's first process: brings everything up, waits, and takes it down in order when the container is stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
trap './cordon down; exit 0' TERM INT
./cordon up
sleep infinity &
wait $!
