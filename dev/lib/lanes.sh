# shellcheck shell=bash
# The lanes beyond the everyday ones: another compiler, memory checked without sanitizers, threads, and fuzzing.

CLANG=(-DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=RelWithDebInfo)
# Where threads meet or memory is handed about. Left out: db and the services' tests, which wait for PostgreSQL on
# timeouts that valgrind outlasts; text and jwt, whose loops over megabytes and whose keys take minutes in it.
VALGRIND_TESTS='^test_(bus|service|crypto|core|json|obs|rest|audit|config|keystore|aws)$'
# Nothing with one thread; migrate's tests fork programs and look at their memory.
TSAN_TESTS='^test_(core|crypto|audit|keystore|obs|otlp|http|aws|bus|db|service|service_auth|service_audit-writer|service_edge|service_embedding-worker|service_ingest-worker|service_query)$'

# need PACKAGE...: Debian packages that only these lanes want.
need() {
    local missing
    missing=$(comm -23 <(printf '%s\n' "$@" | sort) <(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^ii *//p' | sort))
    # shellcheck disable=SC2086 # one word each
    [[ -z $missing ]] || { apt update && apt install --no-install-recommends $missing; }
}

# Everything with clang and its warnings as errors, and what gcc's build passes.
lane_clang() {
    step "clang" need clang
    step "build (clang)" build clang "${CLANG[@]}"
    run_ctest clang clang
}

lane_valgrind() {
    local memcheck="valgrind;--quiet;--leak-check=full;--errors-for-leak-kinds=definite;--show-leak-kinds=definite"
    memcheck+=";--error-exitcode=99"
    step "valgrind" need valgrind
    step "build (for valgrind)" build valgrind -DCORDON_PLAIN_TESTS=ON -DCORDON_TEST_TIMEOUT_S=1800 "-DCMAKE_CROSSCOMPILING_EMULATOR=$memcheck"
    CORDON_TEST_PATIENCE=20 run_ctest valgrind valgrind -R "$VALGRIND_TESTS"
}

# What libraries do among themselves is theirs: they are not built with the sanitizer, which would misread them.
lane_tsan() {
    step "clang" need clang libclang-rt-dev llvm
    step "build (tsan)" build tsan "${CLANG[@]}" -DCORDON_SANITIZE=thread -DCORDON_PLAIN_TESTS=ON -DCORDON_TEST_TIMEOUT_S=1200
    TSAN_OPTIONS=ignore_noninstrumented_modules=1 CORDON_TEST_PATIENCE=10 run_ctest tsan tsan -R "$TSAN_TESTS"
}

# Each target of tests/fuzz for FUZZ_SECONDS (20; 60 with --long). What they find interesting is kept in .cordon/fuzz,
# so that the next run begins where this one ended; what should always be tried is in tests/fuzz/corpus.
lane_fuzz() {
    local began name passed=0 failed=0 names=()
    export FUZZ_SECONDS=${FUZZ_SECONDS:-${CORDON_TEST_LONG:+60}}
    FUZZ_SECONDS=${FUZZ_SECONDS:-20}
    for name in "$ROOT"/tests/fuzz/fuzz_*.c; do names+=("$(basename "$name" .c)"); done
    step "clang" need clang libclang-rt-dev llvm
    step "build (fuzz)" build_fuzz "${names[@]}"
    began=$EPOCHREALTIME
    export SHARED ROOT
    export -f fuzz_one
    printf '%s\n' "${names[@]}" | xargs -P "${CORDON_BUILD_JOBS:-$(nproc)}" -I{} bash -c 'fuzz_one {}' || true
    for name in "${names[@]}"; do
        if [[ -e $SHARED/fuzz/$name.passed ]]; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
            say "  ${RED}$name${RESET}"
            grep -E '^SUMMARY|ERROR: |runtime error|Test unit written' "$SHARED/test-logs/$name.log" | head -n 8 | sed 's/^/    /'
        fi
    done
    report fuzz "$began" "$passed" "$failed" 0
}

build_fuzz() {
    local dir="$SHARED/build/fuzz"
    cmake -S "$ROOT" -B "$dir" -G Ninja "${CLANG[@]}" -DCORDON_FUZZ=ON -DCORDON_SANITIZE=address,undefined
    run_ninja "$dir" "$@"
    note "$# targets"
}

# fuzz_one NAME, in a shell of its own. A crash's input stays beside the corpus.
fuzz_one() {
    local name=$1 kept="$SHARED/fuzz/$1" seeds=()
    mkdir -p "$kept"
    rm -f "$kept.passed"
    [[ ! -d $ROOT/tests/fuzz/corpus/$name ]] || seeds=("$ROOT/tests/fuzz/corpus/$name")
    if ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 "$SHARED/build/fuzz/tests/$name" \
        -max_total_time="$FUZZ_SECONDS" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$kept-" \
        "$kept" "${seeds[@]}" >"$SHARED/test-logs/$name.log" 2>&1; then
        touch "$kept.passed"
    fi
}
