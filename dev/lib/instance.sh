# shellcheck shell=bash
# One development instance: where its state is, its ports, its secrets and the environment of each of its processes.
#
# SHARED  .cordon in the checkout: build, npm packages, moto; one for all instances of this checkout
# STATE   $CORDON_HOME, or the same folder: database, cloud, secrets, logs, service directories, installed binaries
#
# Every process runs as a Unix user of its own, which must be able to reach STATE. A checkout under a home that
# others cannot enter (Debian 12 makes them so) therefore gets its .cordon under /var/lib/cordon, and a link to it.

PROCESSES=(auth audit-writer embedding-worker ingest-worker query edge) # in the order of their start
STANDINS=(cloud bedrock idp)
SERVICES=() # every supervised service; filled by read_replicas, as is
INSTANCES=() # auth ... query query.2 query.3 edge: a replica is a service of its own, named for its process
DB_LOGINS=(auth ingest jobs query audit_reader audit)
REGION=us-east-1
ACCOUNT=123456789012 # of the AWS stand-in

# PEERS[x]: whom x exchanges messages with, so whose public keys it gets (common/service/peers.def decides what they may).
declare -A PEERS=(
    [edge]="auth ingest-worker query" [auth]="edge audit-writer" [ingest-worker]="edge embedding-worker audit-writer"
    [embedding-worker]="ingest-worker query audit-writer" [query]="edge embedding-worker audit-writer" [audit-writer]="auth ingest-worker query embedding-worker")
declare -A CALLS=([edge]="auth ingest-worker query" [auth]="audit-writer" [ingest-worker]="embedding-worker audit-writer"
    [embedding-worker]="audit-writer" [query]="embedding-worker audit-writer" [audit-writer]="")
declare -A BUS_OFFSET=([auth]=10 [ingest-worker]=11 [embedding-worker]=12 [query]=13 [audit-writer]=14)
declare -A METRICS_OFFSET=([edge]=20 [auth]=21 [ingest-worker]=22 [embedding-worker]=23 [query]=24 [audit-writer]=25)

# Replicas: the first is named query and has the ports above, query.2 has them 20 further on.
REPLICAS_MAX=4
REPLICA_PORTS=20
EDGE_REPLICA_OFFSET=29

process_of() { printf '%s' "${1%%.*}"; }
number_of() { if [[ $1 == *.* ]]; then printf '%s' "${1##*.}"; else printf 1; fi; }
shift_of() { printf '%s' $((($(number_of "$1") - 1) * REPLICA_PORTS)); }
bus_port_of() { printf '%s' $((BASE + BUS_OFFSET[$(process_of "$1")] + $(shift_of "$1"))); }
metrics_port_of() { printf '%s' $((BASE + METRICS_OFFSET[$(process_of "$1")] + $(shift_of "$1"))); }
http_port_of() { if [[ $1 == edge ]]; then printf '%s' "$PORT"; else printf '%s' $((BASE + EDGE_REPLICA_OFFSET + $(shift_of "$1"))); fi; }

# replicas_of PROCESS: its instances, a line each.
replicas_of() {
    local instance
    for instance in "${INSTANCES[@]}"; do [[ $(process_of "$instance") != "$1" ]] || say "$instance"; done
}

# STATE/replicas: PROCESS=COUNT a line, for those with more than one.
read_replicas() {
    local process count number
    INSTANCES=()
    for process in "${PROCESSES[@]}"; do
        INSTANCES+=("$process")
        count=$(sed -n "s/^$process=//p" "$STATE/replicas" 2>/dev/null || true)
        for ((number = 2; number <= ${count:-1}; number++)); do INSTANCES+=("$process.$number"); done
    done
    SERVICES=(postgres "${STANDINS[@]}" "${INSTANCES[@]}")
}

# remember_replicas query=3,ingest-worker=2: those that are not named keep their count.
remember_replicas() {
    local row process count
    for row in ${1//,/ }; do
        process=${row%%=*} count=${row#*=}
        [[ " ${PROCESSES[*]} " == *" $process "* && $count =~ ^[1-9]$ ]] && ((count <= REPLICAS_MAX)) ||
            die "'$row' is not PROCESS=COUNT with a count from 1 to $REPLICAS_MAX" "processes: ${PROCESSES[*]}"
        { grep -v "^$process=" "$STATE/replicas" 2>/dev/null || true; say "$process=$count"; } >"$STATE/replicas.new"
        mv "$STATE/replicas.new" "$STATE/replicas"
    done
    read_replicas
}

# STATE/endpoints/PROCESS: where its replicas listen. Its callers read it again every few seconds (common/bus/resolver.h),
# as they would ask for a name's addresses in production: a laptop has no names with several addresses.
write_endpoints() {
    local process instance
    mkdir -p -m 0755 "$STATE/endpoints"
    for process in "${!BUS_OFFSET[@]}"; do
        for instance in $(replicas_of "$process"); do
            say "tcp://127.0.0.1:$(port_to "$instance" "$(bus_port_of "$instance")")"
        done >"$STATE/endpoints/$process.new"
        chmod 0644 "$STATE/endpoints/$process.new"
        mv "$STATE/endpoints/$process.new" "$STATE/endpoints/$process"
    done
}

# Can every user enter this folder and all above it?
reachable() {
    local dir
    dir=$(realpath -m "$1")
    while [[ $dir != / ]]; do
        if [[ -e $dir ]] && (((8#$(stat -c %a "$dir") & 1) == 0)); then
            BLOCKED_AT=$dir
            return 1
        fi
        dir=$(dirname "$dir")
    done
}

make_shared_folder() {
    local link="$ROOT/.cordon" target
    if [[ ! -e $link ]]; then
        if reachable "$ROOT"; then
            mkdir "$link"
        else
            target=/var/lib/cordon/$(basename "$ROOT")-$(cksum <<<"$ROOT" | cut -d' ' -f1)
            say "  other users cannot enter $BLOCKED_AT, and each process has a user of its own:"
            say "  .cordon is a link to $target"
            as_root install -d -m 0755 /var/lib/cordon
            as_root install -d -m 0755 -o "$(id -un)" "$target"
            ln -sfn "$target" "$link"
        fi
    fi
    [[ -O $link ]] || die "$link belongs to $(stat -c %U "$link")" "run as that user, or remove it"
}

locate_state() {
    SHARED=$(realpath -m "$ROOT/.cordon")
    STATE=$(realpath -m "${CORDON_HOME:-$SHARED}")
    local remembered="$STATE/instance"
    if [[ -r $remembered ]]; then # written by `up`; what is given now wins
        : "${CORDON_PORT_BASE:=$(sed -n 's/^CORDON_PORT_BASE=//p' "$remembered")}" "${PORT:=$(sed -n 's/^PORT=//p' "$remembered")}"
    fi
    BASE=${CORDON_PORT_BASE:-18100}
    PORT=${PORT:-8080}
    [[ $BASE =~ ^[0-9]{4,5}$ && $PORT =~ ^[0-9]{2,5}$ ]] || die "PORT and CORDON_PORT_BASE are port numbers"
    EDGE=http://127.0.0.1:$PORT
    ISSUER=http://127.0.0.1:$((BASE + 4))
    read_replicas
}

make_state() {
    make_shared_folder
    locate_state
    reachable "$STATE" || die "other users cannot enter $BLOCKED_AT, and each process has a user of its own" \
        "Choose another CORDON_HOME, for example /var/lib/cordon/second."
    mkdir -p "$STATE" "$STATE/logs" "$STATE/service" "$STATE/bin"
    [[ -O $STATE ]] || die "$STATE belongs to $(stat -c %U "$STATE")"
    chmod 0755 "$STATE" "$SHARED" "$STATE/service" "$STATE/bin"
    mkdir -p -m 0700 "$STATE/secrets" "$STATE/secrets/.made"
    printf 'PORT=%s\nCORDON_PORT_BASE=%s\n' "$PORT" "$BASE" >"$STATE/instance"
    STEP_LOG="$STATE/logs/setup.log"
    : >"$STEP_LOG"
}

need_state() { [[ -d $STATE/service ]] || die "nothing here yet: run ./cordon up"; }

# Unix users

user_of() { printf 'cordon-%s' "$(process_of "$1")"; }

make_users() {
    local name made=0
    for name in "${SERVICES[@]}"; do
        getent passwd "$(user_of "$name")" >/dev/null && continue
        as_root useradd --system --user-group --no-create-home --home-dir /nonexistent \
            --shell /usr/sbin/nologin "$(user_of "$name")"
        made=$((made + 1))
    done
    note "${#SERVICES[@]}, $made new"
}

# Secrets: each made once, kept in secrets/.made/<name>, and handed to those processes whose environment names it.

made() { cat "$STATE/secrets/.made/$1"; }

make_once() {
    local file="$STATE/secrets/.made/$1"
    [[ -s $file ]] || (umask 077 && printf '%s' "$2" >"$file.new" && mv "$file.new" "$file")
}

make_curve_keys() {
    local pairs name public secret
    [[ -s $STATE/secrets/.made/curve-audit-writer.secret ]] && return
    pairs=$("$SHARED/build/release/services/keygen/cordon-keygen" edge auth ingest-worker embedding-worker query audit-writer) ||
        refuse "cordon-keygen made no keys"
    while read -r name public secret; do
        make_once "curve-$name.public" "$public"
        make_once "curve-$name.secret" "$secret"
    done <<<"$pairs"
}

make_checkpoint_key() {
    local pair
    [[ -s $STATE/secrets/.made/checkpoint.verifier ]] && return
    pair=$("$SHARED/build/release/services/keygen/cordon-keygen" --checkpoint cordon.localhost/audit) ||
        refuse "cordon-keygen made no checkpoint key"
    make_once checkpoint.secret "$(sed -n 1p <<<"$pair")"
    make_once checkpoint.verifier "$(sed -n 2p <<<"$pair")"
}

make_secrets() {
    local name
    for name in admin "${DB_LOGINS[@]}"; do make_once "db-$name" "$(random_hex 24)"; done
    for name in auth ingest-worker embedding-worker query audit-writer operator tester; do
        make_once "aws-$name.id" "AKIA$(random_hex 8 | tr a-f A-F)"
        make_once "aws-$name.secret" "$(random_hex 20)"
    done
    make_once idp-cli "$(random_hex 24)"
    make_once idp-client "$(random_hex 24)"
    make_once directory "$(random_hex 32)"
    make_curve_keys
    make_checkpoint_key
    local service
    for service in "${SERVICES[@]}"; do write_environment "$service"; done
    note "one folder for each process"
}

# port_to NAME PORT: PORT, unless a test has put something before it: CORDON_TEST_DETOURS="postgres:21035 s3:21036 query:21037",
# a fault proxy for all that is named (postgres, services of AWS, callees on the bus).
port_to() {
    local detour
    for detour in ${CORDON_TEST_DETOURS:-}; do
        [[ ${detour%%:*} != "$1" ]] || { echo "${detour#*:}"; return; }
    done
    echo "$2"
}

# database_url USER SECRET [PORT]
database_url() { printf 'postgresql://%s:%s@127.0.0.1:%s/cordon?sslmode=disable' "$1" "$(made "$2")" "${3:-$BASE}"; }
process_database_url() { database_url "$1" "$2" "$(port_to postgres "$BASE")"; }

# The environment of one service, NAME=value a line.
environment_of() {
    local service=$1 process peer
    echo "ENVIRONMENT=development"
    case $service in
        postgres) ;;
        cloud)
            echo "CLOUD_PORT=$((BASE + 1))"
            echo "CLOUD_STATE=$STATE/cloud"
            echo "CLOUD_IDENTITIES=$STATE/cloud/identities.json"
            echo "CLOUD_POLICIES=$SHARED/app/iam:$SHARED/app/cloud/policies"
            echo "CLOUD_BEDROCK_PORT=$((BASE + 3))"
            echo "CLOUD_DOCUMENT_BUCKET=cordon-documents"
            echo "CLOUD_SHARE_BUCKET=cordon-shares"
            echo "CLOUD_ANCHOR_BUCKET=cordon-anchor"
            echo "AWS_REGION=$REGION"
            echo "PYTHONPATH=$(moto_path)"
            echo "PYTHONDONTWRITEBYTECODE=1"
            ;;
        bedrock) echo "BEDROCK_PORT=$((BASE + 3))" ;;
        idp)
            echo "IDP_PORT=$((BASE + 4))"
            echo "IDP_STATE=$STATE/idp"
            echo "IDP_EDGE_PORT=$PORT"
            [[ -z ${IDP_ACCESS_TOKEN_S:-} ]] || echo "IDP_ACCESS_TOKEN_S=$IDP_ACCESS_TOKEN_S"
            echo "IDP_CLI_SECRET=$(made idp-cli)"
            echo "IDP_CLIENT_SECRET=$(made idp-client)"
            ;;
        *)
            echo "LOG_LEVEL=${LOG_LEVEL:-info}"
            process=$(process_of "$service")
            echo "CORDON_METRICS_LISTEN=127.0.0.1:$(metrics_port_of "$service")"
            echo "CORDON_CURVE_SECRET_KEY=$(made "curve-$process.secret")"
            for peer in ${PEERS[$process]}; do echo "CORDON_$(variable "$peer")_PUBLIC_KEY=$(made "curve-$peer.public")"; done
            for peer in ${CALLS[$process]}; do
                echo "CORDON_$(variable "$peer")_ENDPOINTS=file://$STATE/endpoints/$peer"
            done
            env | grep -E '^OTEL_(EXPORTER_OTLP_(ENDPOINT|HEADERS)|TRACES_SAMPLER(_ARG)?)=.' || true
            [[ -z ${BUS_OFFSET[$process]:-} ]] || echo "CORDON_BUS_LISTEN=tcp://127.0.0.1:$(bus_port_of "$service")"
            own_environment_of "$service"
            ;;
    esac
}

variable() { tr a-z- A-Z_ <<<"$1"; }

# What one of the six processes has for itself: the columns of docs/map.md's privilege table.
own_environment_of() {
    case $(process_of "$1") in
        edge)
            echo "PORT=$(http_port_of "$1")"
            echo "CORDON_HTTP_HOST=${CORDON_HTTP_HOST:-127.0.0.1}"
            echo "CORDON_EDGE_REPLICAS=$(replicas_of edge | wc -l)"
            # A laptop, its tests and its storms are one address and a handful of users.
            echo "CORDON_RATE_ADDRESS=${CORDON_RATE_ADDRESS:-0}"
            echo "CORDON_RATE_USER=${CORDON_RATE_USER:-read=0}"
            echo "CORDON_RATE_TENANT=${CORDON_RATE_TENANT:-read=0}"
            echo "CORDON_LOGIN_FAILURES=${CORDON_LOGIN_FAILURES:-0}"
            [[ -z ${CORDON_TRUSTED_PROXIES:-} ]] || echo "CORDON_TRUSTED_PROXIES=$CORDON_TRUSTED_PROXIES"
            ;;
        auth)
            echo "DATABASE_URL=$(process_database_url cordon_auth db-auth)"
            echo "OIDC_ISSUER_URL=$ISSUER"
            echo "OIDC_CLIENT_ID=cordon"
            echo "CORDON_DIRECTORY_KEY=$(made directory)"
            echo "CORDON_PUBLIC_URL=$EDGE"
            echo "CORDON_LOGIN_CLIENT_ID=cordon-web"
            echo "OIDC_CLIENT_SECRET=$(made idp-client)"
            env | grep -E '^CORDON_SESSION_(IDLE|ABSOLUTE)_S=.' || true
            echo "CORDON_DENIALS_PER_MINUTE=${CORDON_DENIALS_PER_MINUTE:-0}"
            [[ -z ${CORDON_REQUIRE_MFA:-} ]] || echo "CORDON_REQUIRE_MFA=$CORDON_REQUIRE_MFA"
            [[ -z ${CORDON_ISSUERS:-} ]] || echo "CORDON_ISSUERS=$CORDON_ISSUERS"
            aws_environment auth KMS STS SECRETS_MANAGER
            ;;
        ingest-worker)
            echo "DATABASE_URL=$(process_database_url cordon_ingest db-ingest)"
            echo "CORDON_JOBS_DATABASE_URL=$(process_database_url cordon_jobs db-jobs)"
            echo "CORDON_DOCUMENT_BUCKET=cordon-documents"
            echo "CORDON_SHARE_BUCKET=cordon-shares"
            echo "CORDON_ANCHOR_BUCKET=cordon-anchor"
            echo "CORDON_SANDBOX_PATH=$STATE/bin/cordon-sandbox"
            has_landlock || echo "CORDON_SANDBOX_WITHOUT_LANDLOCK=true"
            aws_environment ingest-worker S3 KMS STS SECRETS_MANAGER
            echo "CORDON_AWS_TENANT_ROLE_ARN=arn:aws:iam::$ACCOUNT:role/ingest-worker-tenant"
            ;;
        embedding-worker)
            aws_environment embedding-worker BEDROCK BEDROCK_RUNTIME STS SECRETS_MANAGER
            echo "CORDON_EMBEDDING_REPLICAS=$(replicas_of embedding-worker | wc -l)"
            env | grep -E '^CORDON_(EMBED|CHAT|MODEL|GUARDRAIL|BEDROCK|PRICE)_[A-Z_]+=.' || true
            ;;
        query)
            echo "DATABASE_URL=$(process_database_url cordon_query db-query)"
            echo "CORDON_AUDIT_DATABASE_URL=$(process_database_url cordon_audit_reader db-audit_reader)"
            echo "CORDON_DOCUMENT_BUCKET=cordon-documents"
            echo "CORDON_SHARE_BUCKET=cordon-shares"
            echo "CORDON_ANCHOR_BUCKET=cordon-anchor"
            [[ -z ${CORDON_WITNESS_KEYS:-} ]] || echo "CORDON_WITNESS_KEYS=$CORDON_WITNESS_KEYS"
            aws_environment query S3 KMS STS SECRETS_MANAGER
            echo "CORDON_AWS_TENANT_ROLE_ARN=arn:aws:iam::$ACCOUNT:role/query-tenant"
            ;;
        audit-writer)
            echo "DATABASE_URL=$(process_database_url cordon_audit db-audit)"
            echo "CORDON_ANCHOR_BUCKET=cordon-anchor"
            echo "CORDON_ANCHOR_DAYS=1"
            echo "CORDON_CHECKPOINT_KEY=$(made checkpoint.secret)"
            echo "CORDON_CHECKPOINT_KMS_KEY=alias/cordon-audit-signing"
            echo "CORDON_CHECKPOINT_INTERVAL_S=${CORDON_CHECKPOINT_INTERVAL_S:-5}"
            aws_environment audit-writer S3 KMS STS SECRETS_MANAGER
            ;;
    esac
}

# Asks the kernel for its Landlock version (system call 444), as the sandbox itself will.
has_landlock() {
    /usr/bin/python3 -c 'import ctypes, sys
sys.exit(ctypes.CDLL(None, use_errno=True).syscall(444, None, 0, 1) < 1)'
}

aws_environment() {
    local name=$1 service
    shift
    echo "AWS_REGION=$REGION"
    echo "AWS_ACCESS_KEY_ID=$(made "aws-$name.id")"
    echo "AWS_SECRET_ACCESS_KEY=$(made "aws-$name.secret")"
    for service in "$@"; do echo "AWS_ENDPOINT_URL_$service=http://127.0.0.1:$(port_to "${service,,}" $((BASE + 1)))"; done
}

# secrets/<service>/: one file for each variable, as s6-envdir reads them.
write_environment() {
    local dir="$STATE/secrets/$1" line
    rm -rf "$dir.new"
    mkdir -m 0700 "$dir.new"
    while IFS= read -r line; do
        [[ -n ${line#*=} || $line == PYTHONPATH= ]] || refuse "$1 would start without ${line%=}"
        (umask 077 && printf '%s\n' "${line#*=}" >"$dir.new/${line%%=*}")
    done < <(environment_of "$1")
    rm -rf "$dir"
    mv "$dir.new" "$dir"
}

# What a program needs to reach and to look into this instance: tests/e2e reads it. It holds the admin's password.
stack_json() {
    local name bus
    for name in "${INSTANCES[@]}"; do
        bus=''
        [[ $name == edge* ]] || bus="tcp://127.0.0.1:$(bus_port_of "$name")"
        printf '%s\t' "$name" "$(user_of "$name")" "$STATE/secrets/$name" "$(service_dir "$name")" "$STATE/logs/$name/current" \
            "http://127.0.0.1:$(metrics_port_of "$name")" "$bus"
        echo
    done | jq -nR --arg edge "$EDGE" --arg issuer "$ISSUER" --arg state "$STATE" --argjson base "$BASE" \
        --arg cloud "http://127.0.0.1:$((BASE + 1))" --arg admin "$(database_url cordon_admin db-admin)" --arg data "$STATE/postgres" \
        --arg id "$(made aws-tester.id)" --arg secret "$(made aws-tester.secret)" --arg region "$REGION" \
        '{edge: $edge, issuer: $issuer, port_base: $base, state: $state,
          postgres: {port: $base, admin_url: $admin, data: $data},
          cloud: {url: $cloud, region: $region, state: "\($state)/cloud", access_key_id: $id, secret_access_key: $secret},
          processes: [inputs / "\t" | {(.[0]): {user: .[1], secrets: .[2], service_dir: .[3], log: .[4], metrics: .[5],
              bus: (if .[6] == "" then null else .[6] end)}}] | add}'
}

identities_json() {
    local name
    for name in auth ingest-worker embedding-worker query audit-writer operator tester; do
        printf '%s\t%s\t%s\n' "$name" "$(made "aws-$name.id")" "$(made "aws-$name.secret")"
    done | jq -nR '[inputs / "\t" | {name: .[0], access_key_id: .[1], secret_access_key: .[2]}]'
}
