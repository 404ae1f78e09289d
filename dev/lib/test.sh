# shellcheck shell=bash
# Every test, in lanes that can be run alone. Counts come from each runner's own report, and one line closes.

TEST_LANES=(unit lint cloud e2e faults)
DEEP_LANES=(clang valgrind tsan fuzz) # dev/lib/lanes.sh; run when they are asked for
# Lines go side by side, as much of each is waiting; lanes of a line one after the other.
LANE_LINES=("unit lint cloud" "e2e" "faults" "${DEEP_LANES[*]}")
# What no test and no runner outlives, on a machine much slower than a laptop.
TEST_SECONDS=600 LANE_SECONDS=2400

command_test() {
    local lanes=("${TEST_LANES[@]}") lane began=$EPOCHREALTIME passed failed skipped
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
    [[ -z ${CORDON_TEST_LONG:-} ]] || TEST_SECONDS=0 LANE_SECONDS=0 # the long forms know no end
    require_root_rights
    make_shared_folder
    SHARED=$(realpath "$ROOT/.cordon")
    mkdir -p "$SHARED/test-logs"
    STEP_LOG="$SHARED/test-logs/setup.log"
    : >"$STEP_LOG"
    say "${BOLD}Cordon's tests${RESET}: ${lanes[*]}"
    install_everything
    [[ " ${lanes[*]} " != *" lint "* && " ${lanes[*]} " != *" e2e "* ]] || step "promtool" install_promtool
    step "Unix users" make_users
    LANE_COUNTS="$SHARED/test-logs/counts"
    : >"$LANE_COUNTS"
    run_lines "${lanes[@]}"
    read -r passed failed skipped < <(awk '{ p += $1; f += $2; s += $3 } END { print p + 0, f + 0, s + 0 }' "$LANE_COUNTS")
    say "" "all lanes after $(seconds_since "$began") s; logs in ${SHARED#"$ROOT/"}/test-logs" ""
    printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    ((failed == 0 && passed > 0))
}

# run_lines LANE...: each line in a process group of its own, so that an interrupt reaches all that it runs; what they say
# is shown by whole lines.
run_lines() {
    local line lane wanted=() pids=() i
    for line in "${LANE_LINES[@]}"; do
        local chosen=()
        for lane in $line; do [[ " $* " != *" $lane "* ]] || chosen+=("$lane"); done
        ((${#chosen[@]} == 0)) || wanted+=("${chosen[*]}")
    done
    if ((${#wanted[@]} == 1)); then
        run_line "${wanted[0]}"
        return
    fi
    say "  side by side: $(printf '%s; ' "${wanted[@]}")" | sed 's/; $//'
    set -m
    for i in "${!wanted[@]}"; do
        run_line "${wanted[i]}" </dev/null > >(sed -u '') 2>&1 &
        pids[i]=$!
    done
    # shellcheck disable=SC2064 # these pids
    trap "kill -INT $(printf -- '-%s ' "${pids[@]}") 2>/dev/null; wait; stop_test_postgres; exit 130" INT TERM
    for i in "${!wanted[@]}"; do
        wait "${pids[i]}" || echo "0 1 0" >>"$LANE_COUNTS" # it ended before its report
    done
    trap - INT TERM
    set +m
}

run_line() {
    local lane
    STEP_LOG="$SHARED/test-logs/steps-${1%% *}.log"
    : >"$STEP_LOG"
    for lane in $1; do "lane_$lane"; done
}

# report LANE BEGAN PASSED FAILED SKIPPED
report() {
    printf '  %-32s%s%6s s%s  %d passed, %d failed, %d skipped\n' "$1" "$DIM" "$(seconds_since "$2")" "$RESET" "$3" "$4" "$5"
    echo "$3 $4 $5" >>"$LANE_COUNTS"
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
                if ($i == "Tested:" && $(i + 1) == 0) failed++ # a program whose tests got lost
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
    local data password port
    stop_test_postgres
    data=$(test_postgres_place)
    echo "$data" >"$SHARED/test-postgres.place"
    password=$(random_hex 16)
    port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    as_root rm -rf "$data" "$data.password" "$data.log"
    as_root install -d -m 0700 -o cordon-postgres -g cordon-postgres "$data"
    as_root install -m 0600 -o cordon-postgres /dev/null "$data.log"
    verifier_of "$password" | as_root install -m 0400 -o cordon-postgres /dev/stdin "$data.password"
    as_postgres "$(postgres_bin)/initdb" --pgdata="$data" --username=postgres --pwfile="$data.password" \
        --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --no-sync --no-instructions
    as_root rm -f "$data.password"
    # It is not to survive anything, and its databases live for a second.
    { BASE=$port postgres_settings && printf '%s\n' "fsync = off" "full_page_writes = off" "wal_level = minimal" "max_wal_senders = 0" \
        "max_wal_size = '256MB'" "shared_buffers = '64MB'" "autovacuum = off"; } | as_root tee "$data/postgresql.conf" >/dev/null
    hba_rules | as_root tee "$data/pg_hba.conf" >/dev/null
    as_postgres "$(postgres_bin)/pg_ctl" --pgdata="$data" --log="$data.log" --wait start
    (umask 077 && echo "postgresql://postgres:$password@127.0.0.1:$port/postgres?sslmode=disable" >"$SHARED/test-postgres.url")
    note "port $port, $data"
}

# What a server keeps of a password, with one round of SCRAM instead of 4096, which are 7 ms of each connection's maker.
verifier_of() {
    /usr/bin/python3 -c 'import base64, hashlib, hmac, sys
salt, text = b"of a test server", lambda data: base64.b64encode(data).decode()
salted = hashlib.pbkdf2_hmac("sha256", sys.stdin.readline().rstrip("\n").encode(), salt, 1)
client, server = (hmac.digest(salted, word, "sha256") for word in (b"Client Key", b"Server Key"))
print(f"SCRAM-SHA-256$1:{text(salt)}${text(hashlib.sha256(client).digest())}:{text(server)}")' <<<"$1"
}

# In memory where there is room: every test makes a database of its own, which is a thousand files.
test_postgres_place() {
    local free
    free=$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1)
    if ((${free:-0} > 2 << 20)); then
        echo "/dev/shm/cordon-test-postgres-$(cksum <<<"$SHARED" | cut -d' ' -f1)"
    else
        echo "$SHARED/test-postgres"
    fi
}

stop_test_postgres() {
    local data
    data=$(cat "$SHARED/test-postgres.place" 2>/dev/null) || return 0
    ! as_root test -f "$data/postmaster.pid" || as_postgres "$(postgres_bin)/pg_ctl" --pgdata="$data" --mode=immediate --wait stop >/dev/null 2>&1 || true
    as_root rm -rf "$data" # its memory, where it had any
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

build_tools() { build_release && run_ninja "$SHARED/build/release" tools; }
build_bench_programs() { run_ninja "$SHARED/build/release" bench_programs; }

# What no compiler refuses: tests/lint/*.sh, with the built binaries at hand. Exit status 77 is a skip.
lane_lint() {
    local began script passed=0 failed=0 skipped=0 status
    step "build (release)" build_release
    step "build (bench)" build_bench_programs       # nothing else would notice when they rot
    began=$EPOCHREALTIME
    : >"$SHARED/test-logs/lint.log"
    for script in "$ROOT"/tests/lint/*.sh; do
        [[ -e $script ]] || continue
        status=0
        (cd "$ROOT" && CORDON_BUILD_DIR="$SHARED/build/release" CORDON_PROMTOOL="$SHARED/promtool" within "$TEST_SECONDS" bash "$script") >"$SHARED/test-logs/lint.last" 2>&1 || status=$?
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
# A test that hangs is named, with what each thread waits for, and fails; the others go on.
run_pytest() {
    local lane=$1 folder=$2 began=$EPOCHREALTIME log="$SHARED/test-logs/$1.log" status=0 summary failed errors
    CORDON_MOTO_PATH=$(moto_path) PYTHONDONTWRITEBYTECODE=1 within "$LANE_SECONDS" /usr/bin/python3 -m pytest -q -p no:cacheprovider --color=no \
        -rfE --durations=5 --timeout="$TEST_SECONDS" "$folder" "${PYTEST_ARGS[@]}" >"$log" 2>&1 || status=$?
    summary=$(tail -n 3 "$log" | grep -E '[0-9]+ (passed|failed|error|skipped|deselected)|no tests ran' | tail -n 1)
    failed=$(counted failed "$summary") errors=$(counted 'error' "$summary")
    failed=$((failed + errors))
    if ((status != 0 && status != 5)); then
        ((failed > 0)) || failed=1
        tail -n 60 "$log"
    fi
    report "$lane" "$began" "$(counted passed "$summary")" "$failed" "$(counted skipped "$summary")"
}

# within SECONDS COMMAND...: by SIGABRT, at which Python tells what each thread does; 0 is for ever. Interrupts still reach the command.
within() {
    local seconds=$1
    shift
    timeout --foreground --signal=ABRT --kill-after=30 "$seconds" "$@"
}

counted() { grep -oE "[0-9]+ $1" <<<"$2" | cut -d' ' -f1 | grep . || echo 0; }

# The stand-ins: the gateway by Debian's SDK; the model server, the identity provider and the samples by Node's own test runner.
lane_cloud() {
    step "build (tools)" build_tools
    local began=$EPOCHREALTIME log="$SHARED/test-logs/node.log" status=0 failed
    run_pytest cloud "$ROOT/tests/cloud"
    began=$EPOCHREALTIME
    CORDON_SOURCE=$ROOT within "$LANE_SECONDS" "$SHARED/app/node" --test --test-reporter=tap \
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
    step "Chromium" need chromium chromium-driver python3-selenium # nobody but these tests wants a browser
    step "build (release)" build_release
    run_pytest e2e "$ROOT/tests/e2e"
}

# What must survive: kills, stops and failures at every fault point and at random, and dependencies that break.
lane_faults() {
    step "build (release)" build_release
    step "build (fault points)" build_faults
    run_pytest faults "$ROOT/tests/faults"
}
