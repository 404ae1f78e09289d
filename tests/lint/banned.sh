#!/bin/bash
# Calls and habits that the house style refuses (docs/style.md), found by looking at the text.
# Each rule: what it is called, a pattern, where to look, and files that may do it nevertheless.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

failed=0

# rule NAME PATTERN EXEMPT-REGEX PATHS...: no line of the C files under PATHS matches, comments aside.
rule() {
    local name=$1 pattern=$2 exempt=$3 hits
    shift 3
    hits=$(grep -rnP --include='*.c' --include='*.h' -- "$pattern" "$@" | grep -vP '^[^:]+:\d+:\s*(/?\*|//)' |
        grep -vP "^(?:$exempt):" || true)
    if [[ -n $hits ]]; then
        printf '%s:\n%s\n' "$name" "$hits" | sed '2,$s/^/    /'
        failed=1
    fi
}

none='$^'
ours=(common services)

rule 'unbounded or unchecked C library calls' '(?<![\w.>])(strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|atoll|atof|alloca|tmpnam|mktemp)\s*\(' "$none" "${ours[@]}"
rule 'a shell, or a fork of a process with threads' '(?<![\w.>])(system|popen|fork|vfork)\s*\(' 'services/ingest-worker/sandbox/.*' "${ours[@]}"
rule 'the environment is read in config.c only' '(?<![\w.>])(getenv|secure_getenv|setenv|putenv)\s*\(|\benviron\b' 'common/config/config\.c|services/ingest-worker/sandbox/.*|services/migrate/.*' "${ours[@]}"
rule 'guessable randomness' '(?<![\w.>])(rand|srand|random|srandom|drand48|lrand48)\s*\(' "$none" "${ours[@]}"
rule 'plain comparison where the name says secret' '(?<![\w.>])(memcmp|strcmp|str_equal)\s*\([^;]*(secret|password|_mac\b|\bmac\b|signature|ticket|token_hash)' "$none" "${ours[@]}"
# Draining waits for civetweb's threads, which tell nobody when they are done.
rule 'sleeping instead of waiting for an event' '(?<![\w.>])(sleep|usleep)\s*\(' 'services/edge/(serve|doors)\.c' "${ours[@]}"
rule 'exit from a library' '(?<![\w.>])(exit|_exit|quick_exit)\s*\(' 'services/ingest-worker/sandbox/.*|services/migrate/.*|common/service/.*' "${ours[@]}"
rule 'output from a library' '(?<![\w.>])(printf|puts|perror|syslog|zsys_\w+|log_event|log_line)\s*\(' 'common/obs/.*|common/service/.*|common/config/.*' common
rule 'a secret in a log line or a failure' '\b(fail|fail_as|log_event|LOG_TEXT)\s*\([^;]*(secret_text\(|->ticket\b|bearer_token|->password|authorization)' "$none" "${ours[@]}"
rule 'a log member named like a secret' 'LOG_(TEXT|NUMBER)\("(?:\w*(?:secret|password|bearer|authorization)\w*|ticket|token)"' "$none" "${ours[@]}"
rule 'civetweb parts that are known to break' '\bmg_handle_form_request\b|MG_FEATURES_TLS' "$none" services
rule 'czmq brings signal handlers and macros that clash' '#\s*include\s*<czmq\.h>' 'services/keygen/.*' "${ours[@]}"
rule 'TLS without verification' 'CURLOPT_SSL_VERIFY(PEER|HOST)\s*,\s*0|SSL_VERIFY_NONE' "$none" "${ours[@]}"
rule 'pragmas that silence the compiler' '#\s*pragma\s+(GCC|clang)\s+diagnostic' "$none" "${ours[@]}"
rule 'conditional compilation' '^\s*#\s*(if|ifdef|elif)\b' 'common/core/port\.h|common/core/fault\w*\.[ch]' "${ours[@]}"
rule 'goto' '\bgoto\s+\w+\s*;' "$none" "${ours[@]}"
rule 'typedef of a struct, an enum or a union' '\btypedef\s+(struct|enum|union)\s+\w*\s*(\{|\w+\s*;)' "$none" "${ours[@]}"
rule 'notes to do something later belong into an issue' '\b(TODO|FIXME|XXX)\b' "$none" "${ours[@]}"
rule 'a header without our guard' '^#pragma once' "$none" "${ours[@]}"

# Headers end in .h, one concept each: no drawers for everything.
drawers=$(git ls-files -- common services | grep -E '/(utils?|helpers?|misc|common|types)\.[ch]$' || true)
[[ -z $drawers ]] || { printf 'a file that is no concept:\n%s\n' "$drawers"; failed=1; }

# Tabs, trailing blanks, lines that no screen shows.
untidy=$(git ls-files -- common services proto migrations tests | grep -E '\.(c|h|def|proto|sql)$' |
    xargs grep -nP '\t|[ ]+$' -- | cut -c1-120 || true)
[[ -z $untidy ]] || { printf 'tabs or trailing blanks:\n%s\n' "$untidy"; failed=1; }
# Rows of tables and texts may be wider than a screen, code may not.
wide=$(git ls-files -- common services | grep -E '\.[ch]$' | xargs grep -nP '^(?! +(?:\{|/\*|\.help|")).{161,}$' -- | cut -c1-120 || true)
[[ -z $wide ]] || { printf 'lines above 160 columns that are neither rows nor texts:\n%s\n' "$wide"; failed=1; }

# Every process says whom it trusts, what it holds and how it fails, before anything else.
for main in services/*/main.c; do
    for word in Trusts Holds Fails; do
        head -n 25 "$main" | grep -qE "^ \* $word:" || { echo "$main: the stanza has no '$word:'"; failed=1; }
    done
done

exit "$failed"
