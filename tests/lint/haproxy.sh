#!/bin/bash
# The TLS proxy's configuration is one that HAProxy takes, without a warning.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
command -v haproxy >/dev/null || { echo 'no haproxy'; exit 77; }
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$made/key" -out "$made/certificate" -days 1 -subj /CN=localhost 2>/dev/null
cat "$made/certificate" "$made/key" >"$made/both"
CORDON_TLS_BIND=127.0.0.1:8443 CORDON_TLS_PEM=$made/both CORDON_EDGE=127.0.0.1:8080 CORDON_TLS_DNS=127.0.0.11:53 \
    CORDON_TLS_STATE=127.0.0.1:8405 haproxy -dW -c -f dev/haproxy/haproxy.cfg
