# shellcheck shell=bash
# What Cordon costs, beside the limit and the usual way of doing it: in an instance of its own that ends with the measurement.

BENCHES=(bus crypto tenant vectors audit system ingest objects first-token)

command_bench() {
    local markdown=no names=() name
    while (($#)); do
        case $1 in
            --markdown) markdown=yes ;;
            --quick) export BENCH_RUNS=1 BENCH_RUN_MS=150 BENCH_DOCUMENTS=3 BENCH_QUESTIONS=3 BENCH_OBJECT_BYTES=67108864 BENCH_CHUNKS=3000 ;;
            *)
                [[ " ${BENCHES[*]} " == *" $1 "* ]] || die "bench does not know '$1'" "./cordon bench [--quick] [--markdown] [NAME...]: ${BENCHES[*]}"
                names+=("$1")
                ;;
        esac
        shift
    done
    ((${#names[@]})) || names=("${BENCHES[@]}")
    [[ $markdown == no || ${#names[@]} == "${#BENCHES[@]}" ]] || die "--markdown writes the whole of docs/BENCHMARKS.md: name no bench"
    read -r BENCH_LOAD_BEFORE _ </proc/loadavg
    export BENCH_LOAD_BEFORE
    awk -v load="$BENCH_LOAD_BEFORE" -v cores="$(nproc)" 'BEGIN { exit load <= cores }' &&
        say "${RED}The machine is busy (load $BENCH_LOAD_BEFORE on $(nproc) cores): what follows is low, read the ratios.${RESET}"
    require_root_rights
    make_shared_folder
    locate_state
    local home="$SHARED/bench" results
    export CORDON_HOME=$home
    bench_end
    trap bench_end EXIT
    CORDON_PORT_BASE=$(free_ports) PORT=$((CORDON_PORT_BASE - 1))
    make_state
    results="$SHARED/bench-results"
    mkdir -p "$results"
    bench_start
    for name in "${names[@]}"; do
        case $name in system | ingest | objects | first-token) bench_start_system ;; esac
        say ""
        case $name in
            system) bench_system ;;
            ingest) bench_ingest ;;
            objects) bench_objects ;;
            first-token) bench_first_token ;;
            *) bench_program "$name" ;;
        esac | tee "$results/$name.md"
    done
    [[ $markdown == no ]] || bench_write "$results"
}

# A block of ports in which nobody listens, and the one before it.
free_ports() {
    local base
    for base in $(shuf -i 210-289); do
        base=$((base * 100))
        ss -Hltn | awk -v low="$((base - 1))" -v high="$((base + 40))" '{ sub(/.*:/, "", $4); if ($4 + 0 >= low && $4 + 0 <= high) found = 1 } END { exit found }' &&
            echo "$base" && return
    done
    die "no free block of ports"
}

# PostgreSQL as `up` runs it, with a second database for what the programs lay out.
bench_start() {
    export POSTGRES_MIN_WAL=2GB
    install_everything
    step "build" build_benches
    step "Unix users" make_users
    step "secrets and settings" make_secrets
    step "supervisor" prepare_services
    BENCH_HUGE_BEFORE=$(</proc/sys/vm/nr_hugepages)
    step "pages of 2 MB" bench_huge_pages
    step "PostgreSQL" start_database
    step "migrations" migrate
    step "measured database" bench_database
    step "files for the database's log" bench_wal
}

build_benches() {
    build_release
    build_bench_programs
}

bench_url() { database_url "$@" | sed 's|/cordon?|/bench?|'; }

bench_database() {
    admin_sql -d postgres -c 'CREATE DATABASE bench'
    DATABASE_URL=$(bench_url cordon_admin db-admin) ENVIRONMENT=development CORDON_MIGRATIONS="$ROOT/migrations" "$SHARED/build/release/services/migrate/cordon-migrate" up
}

# A server that has run for a while writes its log into files that are there; a new one makes each, 16 MB of zeros, while everybody waits.
bench_wal() {
    admin_sql -d bench -c "SELECT count(pg_logical_emit_message(false, 'bench', repeat(' ', 1 << 20))) FROM generate_series(1, 2048)" -c CHECKPOINT -c CHECKPOINT
    note "$(admin_sql -d bench -c "SELECT count(*) FROM pg_ls_waldir()") of 16 MB"
}

# Buffers of a database in earnest lie in pages of 2 MB (https://www.postgresql.org/docs/15/kernel-resources.html#LINUX-HUGE-PAGES), which
# PostgreSQL takes by itself where there are enough.
BENCH_HUGE_BEFORE=
bench_huge_pages() {
    local buffers
    buffers=$(numfmt --from=iec "$(sed 's/B$//' <<<"${POSTGRES_BUFFERS:-256MB}")")
    as_root sysctl -q "vm.nr_hugepages=$((BENCH_HUGE_BEFORE + buffers / 2097152 * 11 / 10 + 60))" || true       # a container may not
    note "$(awk '/^HugePages_Free/ { print $2 }' /proc/meminfo)"
}

bench_program() {
    BENCH_ADMIN_URL=$(bench_url cordon_admin db-admin) BENCH_QUERY_URL=$(bench_url cordon_query db-query) \
        BENCH_AUDIT_URL=$(bench_url cordon_audit db-audit) BENCH_FOLDER=$STATE "$SHARED/build/release/tests/bench/bench_$1"
}

BENCH_SYSTEM=down
TRACES_OFFSET=39

bench_start_system() {
    local operator
    [[ $BENCH_SYSTEM == down ]] || return 0
    step "AWS, Bedrock, OpenID stand-ins" start_standins
    bench_allow_long
    bench_allow_traces
    step "six processes" start_processes
    operator=$(get_token user=operator roles=platform_admin)
    create_tenant "$operator" demo "Riverside Clinic" >/dev/null
    BENCH_SYSTEM=up
}

bench_system() {
    BENCH_EDGE=$EDGE BENCH_TOKEN=$(get_token tenant=demo roles=clinician ttl=3600) BENCH_PROGRAM="$SHARED/build/release/tests/bench/bench_http" \
        BENCH_ISSUER=$ISSUER BENCH_CLI_SECRET=$(made idp-cli) \
        BENCH_SAMPLES="$ROOT/dev/samples/demo" as_bench_root /usr/bin/python3 "$ROOT/tests/bench/system.py" "$STATE/cloud/calls.jsonl" "$(bench_pids)"
}

bench_ingest() {
    BENCH_EDGE=$EDGE BENCH_TOKEN=$(get_token tenant=demo roles=clinician ttl=3600) BENCH_PROGRAM="$SHARED/build/release/tests/bench/bench_rows" \
        BENCH_ADMIN_URL=$(bench_url cordon_admin db-admin) BENCH_INGEST_URL=$(bench_url cordon_ingest db-ingest) \
        BENCH_STACK_URL=$(database_url cordon_admin db-admin) BENCH_METRICS="http://127.0.0.1:$(metrics_port_of ingest-worker)" \
        BENCH_MODEL="http://127.0.0.1:$((BASE + 3))" as_bench_root /usr/bin/python3 "$ROOT/tests/bench/ingest.py" "$STATE/cloud/calls.jsonl"
}

# Documents of the size that bench_objects sends.
bench_allow_long() {
    local name
    for name in edge ingest-worker; do echo 2147483648 | as_root tee "$STATE/secrets/$name/CORDON_MAX_UPLOAD_BYTES" >/dev/null; done
}

# Spans of requests that ask for it, and of no others.
bench_allow_traces() {
    local name
    for name in "${PROCESSES[@]}"; do
        echo "http://127.0.0.1:$((BASE + TRACES_OFFSET))" | as_root tee "$STATE/secrets/$name/OTEL_EXPORTER_OTLP_ENDPOINT" >/dev/null
        echo parentbased_always_off | as_root tee "$STATE/secrets/$name/OTEL_TRACES_SAMPLER" >/dev/null
    done
}

bench_first_token() {
    stack_json >"$STATE/bench-stack.json"
    BENCH_EDGE=$EDGE BENCH_TOKEN=$(get_token tenant=demo roles=clinician ttl=3600) BENCH_STACK="$STATE/bench-stack.json" \
        BENCH_ISSUER=$ISSUER BENCH_CLI_SECRET=$(made idp-cli) BENCH_MODEL="http://127.0.0.1:$((BASE + 3))" BENCH_TRACES_PORT=$((BASE + TRACES_OFFSET)) \
        as_bench_root /usr/bin/python3 "$ROOT/tests/bench/first_token.py" "$STATE/cloud/calls.jsonl"
    rm -f "$STATE/bench-stack.json"
}

bench_objects() {
    stack_json >"$STATE/bench-stack.json"
    BENCH_EDGE=$EDGE BENCH_TOKEN=$(get_token tenant=demo roles=clinician ttl=3600) BENCH_STACK="$STATE/bench-stack.json" \
        BENCH_PROGRAM="$SHARED/build/release/tests/bench/bench_crypto" as_bench_root /usr/bin/python3 "$ROOT/tests/bench/objects.py" "$(bench_pids)"
    rm -f "$STATE/bench-stack.json"
}

# The call log belongs to the stand-in's user.
as_bench_root() { if ((EUID == 0)); then "$@"; else sudo --preserve-env -- "$@"; fi; }

bench_pids() {
    local name
    for name in "${PROCESSES[@]}"; do printf '%s=%s ' "$name" "$(service_pid "$name")"; done
}

bench_end() {
    [[ -z $BENCH_HUGE_BEFORE ]] || as_root sysctl -q "vm.nr_hugepages=$BENCH_HUGE_BEFORE" || true
    [[ -d $SHARED/bench/service ]] || return 0
    locate_state
    command_down >/dev/null || true
    as_root rm -rf "$SHARED/bench"
}

# The tables between the two marks of docs/BENCHMARKS.md; the text around them is written by people.
bench_write() {
    local page="$ROOT/docs/BENCHMARKS.md" name
    {
        sed '/^<!-- measured/q' "$page"
        printf '\nMeasured by "./cordon bench --markdown" on %s, %s, Linux %s, PostgreSQL %s; load %s before, %s after, its own included.\n' \
            "$(date -u +%F)" "$(. /etc/os-release && echo "$PRETTY_NAME")" "$(uname -r | cut -d. -f1-2)" "$(postgres_major)" \
            "$BENCH_LOAD_BEFORE" "$(cut -d' ' -f1 /proc/loadavg)"
        for name in "${BENCHES[@]}"; do printf '\n' && grep -v '^{' "$1/$name.md" | cat -s | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}'; done
        printf '\n'
        sed -n '/^<!-- end/,$p' "$page"
    } >"$page.new"
    mv "$page.new" "$page"
    say "written: docs/BENCHMARKS.md"
}
