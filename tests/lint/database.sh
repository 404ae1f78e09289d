#!/usr/bin/env bash
# SQL leaves a process by common/db only, in the extended protocol, under no name; definer functions are locked.
set -euo pipefail
shopt -s lastpipe          # refuse() sets bad in this shell
bad=0
refuse() { # refuse WHAT, with the offending lines on standard input
    local lines
    lines=$(cat)
    [[ -z $lines ]] || { printf '%s:\n%s\n' "$1" "$lines"; bad=1; }
}

# cordon-migrate runs whole files, which only the simple protocol can do.
{ grep -rnE --include='*.[ch]' '\bPQ(exec|sendQuery) *\(' common services || true; } | { grep -v '^services/migrate/apply\.c:' || true; } |
    refuse "the simple protocol"
{ grep -rnE --include='*.[ch]' '\bPQ(exec[A-Z]|send|connect|prepare|setnonblocking|get)[A-Za-z]* *\(' common services || true; } |
    { grep -vE '^(common/db|services/migrate)/|PQget(value|isnull|length)' || true; } | refuse "libpq outside common/db"
{ grep -nE 'PQ(sendPrepare|prepare|sendQueryPrepared|execPrepared)\([^,]*, *"[^"]' common/db/*.c || true; } | refuse "a named statement"
{ grep -nE 'SECURITY DEFINER' migrations/*.up.sql || true; } | { grep -v 'SET search_path = pg_catalog, pg_temp' || true; } |
    { grep -vE ':[0-9]+: *--' || true; } | refuse "a definer function without its search_path"
{ grep -niE '\b(BYPASSRLS|NO FORCE ROW LEVEL|DISABLE ROW LEVEL|TO PUBLIC)\b' migrations/*.up.sql || true; } | { grep -v 'rolbypassrls' || true; } | refuse "a right that nobody may have"
exit "$bad"
