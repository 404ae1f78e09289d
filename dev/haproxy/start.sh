#!/bin/bash
# HAProxy before the edge. Without a certificate it makes one of its own for localhost, for development: clients will
# have to be told to trust it.
set -euo pipefail
: "${CORDON_TLS_BIND:=0.0.0.0:8443}" "${CORDON_TLS_PEM:=/var/lib/cordon/tls/both.pem}" "${CORDON_EDGE:=cordon:8080}"
: "${CORDON_TLS_DNS:=127.0.0.11:53}" "${CORDON_TLS_STATE:=127.0.0.1:8405}"
export CORDON_TLS_BIND CORDON_TLS_PEM CORDON_EDGE CORDON_TLS_DNS CORDON_TLS_STATE
if [[ ! -e $CORDON_TLS_PEM ]]; then
    umask 077
    made=$(mktemp -d)
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$made/key" -out "$made/certificate" -days 365 \
        -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1
    cat "$made/certificate" "$made/key" >"$CORDON_TLS_PEM"
    rm -r "$made"
fi
exec haproxy -W -db -f "$(dirname "$0")/haproxy.cfg"
