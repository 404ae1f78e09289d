# shellcheck shell=bash
# A PostgreSQL cluster of our own under $STATE/postgres: loopback only, no Unix socket, passwords only, checksums on.

make_cluster() {
    local data="$STATE/postgres" password
    if as_root test -s "$data/PG_VERSION"; then
        [[ $(as_root cat "$data/PG_VERSION") == "$(postgres_major)" ]] ||
            refuse "$data was made by PostgreSQL $(as_root cat "$data/PG_VERSION"), this machine has $(postgres_major)"
        note "there"
    else
        as_root rm -rf "$data"
        as_root install -d -m 0700 -o cordon-postgres -g cordon-postgres "$data"
        password="$STATE/admin-password"
        made db-admin | as_root install -m 0400 -o cordon-postgres /dev/stdin "$password"
        as_root env -i PATH=/usr/bin:/bin LC_ALL=C.UTF-8 sh -c "cd / && exec s6-setuidgid cordon-postgres $(postgres_bin)/initdb \
            --pgdata=$data --username=cordon_admin --pwfile=$password --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 \
            --data-checksums --no-instructions" || { as_root rm -rf "$password" "$data"; exit 1; }
        as_root rm -f "$password"
        note "made"
    fi
    postgres_settings | as_root tee "$data/postgresql.conf" >/dev/null
    hba_rules | as_root tee "$data/pg_hba.conf" >/dev/null
}

# No statement text and no values in the log: they would be PHI.
postgres_settings() {
    cat <<EOT
listen_addresses = '127.0.0.1'
port = $BASE
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
max_connections = 120
shared_buffers = '${POSTGRES_BUFFERS:-256MB}'
jit = off
max_parallel_maintenance_workers = 0
wal_level = replica
min_wal_size = '${POSTGRES_MIN_WAL:-80MB}'
max_wal_size = '2GB'
log_destination = 'stderr'
logging_collector = off
log_statement = 'none'
log_min_error_statement = 'panic'
log_error_verbosity = 'terse'
log_min_duration_statement = -1
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
log_line_prefix = '%m [%p] %q%u@%d '
EOT
}

hba_rules() {
    echo "host all all 127.0.0.1/32 scram-sha-256"
    echo "host replication cordon_admin 127.0.0.1/32 scram-sha-256"     # base backups, as an operator takes them
}

admin_sql() {
    PGPASSWORD=$(made db-admin) "$(postgres_bin)/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$BASE" -U cordon_admin "$@"
}

start_postgres() {
    start_service postgres
    await_service postgres 60 "$(postgres_bin)/pg_isready" -q -h 127.0.0.1 -p "$BASE"
    [[ $(admin_sql -d postgres -c "SELECT 1 FROM pg_database WHERE datname = 'cordon'") == 1 ]] ||
        admin_sql -d postgres -c 'CREATE DATABASE cordon'
    note "port $BASE"
}

migrate() {
    local login
    export DATABASE_URL
    DATABASE_URL=$(database_url cordon_admin db-admin)
    for login in "${DB_LOGINS[@]}"; do
        export "CORDON_DB_PASSWORD_${login^^}=$(made "db-$login")"
    done
    ENVIRONMENT=development CORDON_MIGRATIONS="$ROOT/migrations" \
        "$SHARED/build/release/services/migrate/cordon-migrate" up | tail -n 200
    note "$(ls "$ROOT"/migrations/*.up.sql 2>/dev/null | wc -l) migrations"
}
