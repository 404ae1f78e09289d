# shellcheck shell=bash
# Every test, in lanes that can be run alone. Counts come from each runner's own report, and one line closes.

TEST_LANES=(unit lint cloud e2e faults)
DEEP_LANES=(clang valgrind tsan fuzz) # dev/lib/lanes.sh; run when they are asked for
PASSED=0 FAILED=0 SKIPPED=0

command_test() {
    local lanes=("${TEST_LANES[@]}") lane began=$EPOCHREALTIME
    PYTEST_ARGS=()
    while (($#)); do
        case $1 in
            --lanes)
                (($# > 1)) || die "--lanes wants a list: all, or some of ${TEST_LANES[*]} ${DEEP_LANES[*]}"
                IFS=', ' read -ra lanes <<<"$2"
                [[ $2 != all ]] || lanes=("${TEST_LANES[@]}" "${DEEP_LANES[@]}")
                shift
                ;;
            --long) export CORDON_TEST_LONG=1 ;;
            --)
                shift
                PYTEST_ARGS=("$@")
                break
                ;;
            *) die "test does not know '$1'" "./cordon test [--lanes LIST] [--long] [-- PYTEST-ARGS]" ;;
        esac
        shift
    done
    for lane in "${lanes[@]}"; do
        [[ " ${TEST_LANES[*]} ${DEEP_LANES[*]} " == *" $lane "* ]] || die "there is no lane '$lane'" "lanes: ${TEST_LANES[*]} ${DEEP_LANES[*]}"
    done
    require_root_rights
    make_shared_folder
    SHARED=$(realpath "$ROOT/.cordon")
    mkdir -p "$SHARED/test-logs"
    STEP_LOG="$SHARED/test-logs/setup.log"
    : >"$STEP_LOG"
    say "${BOLD}Cordon's tests${RESET}: ${lanes[*]}"
    install_everything
    step "Unix users" make_users
    for lane in "${lanes[@]}"; do "lane_$lane"; done
    say "" "all lanes after $(seconds_since "$began") s; logs in ${SHARED#"$ROOT/"}/test-logs" ""
    printf '%d passed, %d failed, %d skipped\n' "$PASSED" "$FAILED" "$SKIPPED"
    ((FAILED == 0 && PASSED > 0))
}

# report LANE BEGAN PASSED FAILED SKIPPED
report() {
    printf '  %-32s%s%6s s%s  %d passed, %d failed, %d skipped\n' "$1" "$DIM" "$(seconds_since "$2")" "$RESET" "$3" "$4" "$5"
    PASSED=$((PASSED + $3)) FAILED=$((FAILED + $4)) SKIPPED=$((SKIPPED + $5))
}

# C: libraries and service handlers under the address and undefined-behaviour sanitizers, against a real PostgreSQL.
lane_unit() {
    step "build (asan, ubsan)" build asan -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCORDON_SANITIZE=address,undefined
    run_ctest unit asan
}

# run_ctest LANE BUILD CTEST-ARGS...
run_ctest() {
    local lane=$1 dir="$SHARED/build/$2" began log="$SHARED/test-logs/$1.log" status=0 passed failed
    shift 2
    step "throw-away PostgreSQL" start_test_postgres
    began=$EPOCHREALTIME
    CORDON_TEST_DATABASE_URL=$(<"$SHARED/test-postgres.url") \
        ASAN_OPTIONS=detect_leaks=1 LSAN_OPTIONS=suppressions=$ROOT/dev/lib/lsan.supp:print_suppressions=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
        ctest --test-dir "$dir" -V --no-tests=error "$@" >"$log" 2>&1 || status=$?
    stop_test_postgres
    read -r passed failed < <(awk '
        /Synthesis: Tested:/ {
            for (i = 1; i < NF; i++) {
                if ($i == "Passing:") passed += $(i + 1)
                if ($i == "Failing:" || $i == "Crashing:") failed += $(i + 1)
            }
        }
        END { print passed + 0, failed + 0 }' "$log")
    if ((status != 0)); then
        ((failed > 0)) || failed=1 # a program that ended badly after its last test, or never ran one
        grep -E '\[(FAIL|----|ERR)\]|CRASH|ERROR: |WARNING: Thread|==[0-9]+==|runtime error|\*\*\*|tests failed|The following tests FAILED|^\s+[0-9]+ - ' "$log" | tail -n 60 || true
    fi
    report "$lane" "$began" "$passed" "$failed" 0
}

start_test_postgres() {
    local data="$SHARED/test-postgres" password port
    stop_test_postgres
    password=$(random_hex 16)
    port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    as_root rm -rf "$data" "$data.password" "$data.log"
    as_root install -d -m 0700 -o cordon-postgres -g cordon-postgres "$data"
    as_root install -m 0600 -o cordon-postgres /dev/null "$data.log"
    as_root install -m 0400 -o cordon-postgres /dev/stdin "$data.password" <<<"$password"
    as_postgres "$(postgres_bin)/initdb" --pgdata="$data" --username=postgres --pwfile="$data.password" \
        --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --no-sync --no-instructions
    as_root rm -f "$data.password"
    { BASE=$port postgres_settings && echo "fsync = off"; } | as_root tee "$data/postgresql.conf" >/dev/null
    hba_rules | as_root tee "$data/pg_hba.conf" >/dev/null
    as_postgres "$(postgres_bin)/pg_ctl" --pgdata="$data" --log="$data.log" --wait start
    (umask 077 && echo "postgresql://postgres:$password@127.0.0.1:$port/postgres?sslmode=disable" >"$data.url")
    note "port $port"
}

stop_test_postgres() {
    as_root test -f "$SHARED/test-postgres/postmaster.pid" || return 0
    as_postgres "$(postgres_bin)/pg_ctl" --pgdata="$SHARED/test-postgres" --mode=immediate --wait stop >/dev/null 2>&1 || true
}

as_postgres() { (cd / && as_root env -i PATH=/usr/bin:/bin LC_ALL=C.UTF-8 s6-setuidgid cordon-postgres "$@"); }

# The checker of metrics and rules alone: Debian's package would start a Prometheus.
install_promtool() {
    local dir
    if [[ -x $SHARED/promtool ]]; then
        note "there"
        return
    fi
    dir=$(mktemp -d)
    trap 'rm -rf '"$dir" EXIT
    cd "$dir"
    download_prometheus || { apt update && download_prometheus; }
    dpkg-deb -x prometheus_*.deb unpacked
    install -m 0755 unpacked/usr/bin/promtool "$SHARED/promtool"
    note "unpacked"
}

download_prometheus() { apt-get -q -o APT::Sandbox::User="$(id -un)" download prometheus; }

build_bench_programs() { ninja -C "$SHARED/build/release" -j"${CORDON_BUILD_JOBS:-$(nproc)}" bench_programs; }

# What no compiler refuses: tests/lint/*.sh, with the built binaries at hand. Exit status 77 is a skip.
lane_lint() {
    local began script passed=0 failed=0 skipped=0 status
    step "build (release)" build_release
    step "promtool" install_promtool
    step "build (bench)" build_bench_programs       # nothing else would notice when they rot
    began=$EPOCHREALTIME
    : >"$SHARED/test-logs/lint.log"
    for script in "$ROOT"/tests/lint/*.sh; do
        [[ -e $script ]] || continue
        status=0
        (cd "$ROOT" && CORDON_BUILD_DIR="$SHARED/build/release" CORDON_PROMTOOL="$SHARED/promtool" bash "$script") >"$SHARED/test-logs/lint.last" 2>&1 || status=$?
        { echo "== $script: $status" && cat "$SHARED/test-logs/lint.last"; } >>"$SHARED/test-logs/lint.log"
        case $status in
            0) passed=$((passed + 1)) ;;
            77) skipped=$((skipped + 1)) ;;
            *)
                failed=$((failed + 1))
                say "  ${RED}${script#"$ROOT/"}${RESET}"
                tail -n 15 "$SHARED/test-logs/lint.last" | sed 's/^/    /'
                ;;
        esac
    done
    report lint "$began" "$passed" "$failed" "$skipped"
}

# run_pytest LANE FOLDER
run_pytest() {
    local lane=$1 folder=$2 began=$EPOCHREALTIME log="$SHARED/test-logs/$1.log" status=0 summary failed errors
    CORDON_MOTO_PATH=$(moto_path) PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -m pytest -q -p no:cacheprovider --color=no \
        -rfE --durations=5 "$folder" "${PYTEST_ARGS[@]}" >"$log" 2>&1 || status=$?
    summary=$(tail -n 3 "$log" | grep -E '[0-9]+ (passed|failed|error|skipped|deselected)|no tests ran' | tail -n 1)
    failed=$(counted failed "$summary") errors=$(counted 'error' "$summary")
    failed=$((failed + errors))
    if ((status != 0 && status != 5)); then
        ((failed > 0)) || failed=1
        tail -n 60 "$log"
    fi
    report "$lane" "$began" "$(counted passed "$summary")" "$failed" "$(counted skipped "$summary")"
}

counted() { grep -oE "[0-9]+ $1" <<<"$2" | cut -d' ' -f1 | grep . || echo 0; }

# The stand-ins: the gateway by Debian's SDK; the model server, the identity provider and the samples by Node's own test runner.
lane_cloud() {
    local began=$EPOCHREALTIME log="$SHARED/test-logs/node.log" status=0 failed
    run_pytest cloud "$ROOT/tests/cloud"
    began=$EPOCHREALTIME
    CORDON_SOURCE=$ROOT "$SHARED/app/node" --test --test-reporter=tap \
        "$SHARED"/app/{cloud,idp}/*.test.mjs "$ROOT/dev/samples/samples.test.mjs" >"$log" 2>&1 || status=$?
    failed=$(sed -n 's/^# fail //p' "$log")
    if ((status != 0)); then
        grep -A 25 '^not ok' "$log" | head -n 60 || tail -n 40 "$log"
        ((${failed:-0} > 0)) || failed=1
    fi
    report "cloud (node)" "$began" "$(sed -n 's/^# pass //p' "$log" | grep . || echo 0)" "${failed:-0}" 0
}

# The built binaries over HTTP: the tests start and end an instance of their own.
lane_e2e() {
    step "build (release)" build_release
    step "promtool" install_promtool
    run_pytest e2e "$ROOT/tests/e2e"
}

# What must survive: kills, stops and failures at every fault point and at random, and dependencies that break.
lane_faults() {
    step "build (release)" build_release
    step "build (fault points)" build_faults
    run_pytest faults "$ROOT/tests/faults"
}
