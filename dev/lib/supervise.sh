# shellcheck shell=bash
# s6 over one folder of service directories. Everything is started down and brought up in order, so that a failure
# is told by name; after that the supervisor keeps each process running until `down`.

scandir() { printf '%s/service' "$STATE"; }
service_dir() { printf '%s/service/%s' "$STATE" "$1"; }

# What runs, as whom: the last line of each run script.
command_of() {
    local app="$SHARED/app"
    case $1 in
        postgres) echo "$(postgres_bin)/postgres -D $STATE/postgres" ;;
        cloud) echo "/usr/bin/python3 $app/cloud/gateway.py" ;;
        bedrock) echo "$app/node $app/cloud/bedrock.mjs" ;;
        idp) echo "$app/node $app/idp/server.mjs" ;;
        *) echo "$STATE/bin/cordon-$(process_of "$1")" ;;
    esac
}

ports_of() {
    case $1 in
        postgres) echo "$BASE" ;;
        cloud) echo $((BASE + 1)) ;;
        bedrock) echo $((BASE + 3)) ;;
        idp) echo $((BASE + 4)) ;;
        *)
            if [[ $(process_of "$1") == edge ]]; then http_port_of "$1"; else bus_port_of "$1"; fi
            echo
            metrics_port_of "$1"
            echo
            ;;
    esac
}

# Root opens the environment, then the process loses root before its first instruction; nothing is inherited but, by the
# tests' binaries, the folder of their faults.
run_script() {
    cat <<EOT
#!/bin/sh
exec 2>&1
ulimit -c 0
exec env -i PATH=/usr/bin:/bin LANG=C.UTF-8 ${CORDON_FAULT_DIR:+CORDON_FAULT_DIR=$CORDON_FAULT_DIR} \\
    s6-envdir $STATE/secrets/$1 \\
    setpriv --reuid=$(user_of "$1") --regid=$(user_of "$1") --init-groups --inh-caps=-all --bounding-set=-all \\
    $(command_of "$1")
EOT
}

finish_script() {
    cat <<'EOT'
#!/bin/sh
# $1: exit code, or 256 when killed by signal $2
echo "$1 $2" >>deaths
EOT
}

log_script() {
    cat <<EOT
#!/bin/sh
exec s6-setuidgid $(id -un) s6-log -b n10 s2000000 $STATE/logs/$1
EOT
}

write_service() {
    local name=$1 dir
    dir=$(service_dir "$name")
    mkdir -p "$dir/log" "$STATE/logs/$name"
    run_script "$name" >"$dir/run.new"
    finish_script >"$dir/finish"
    log_script "$name" >"$dir/log/run"
    chmod 0755 "$dir/run.new" "$dir/finish" "$dir/log/run"
    mv "$dir/run.new" "$dir/run"
    touch "$dir/down"
    echo 30000 >"$dir/timeout-kill"
    [[ $name != postgres ]] || echo SIGINT >"$dir/down-signal" # fast shutdown
}

write_services() {
    local name
    for name in "${SERVICES[@]}"; do write_service "$name"; done
    note "${#SERVICES[@]} services"
}

is_supervised() { as_root s6-svok "$(service_dir "$1")" 2>/dev/null; }
supervisor_runs() { as_root s6-svscanctl -a "$(scandir)" 2>/dev/null; }
is_up() { [[ $(as_root s6-svstat -o up "$(service_dir "$1")" 2>/dev/null) == true ]]; }
service_pid() { as_root s6-svstat -o pid "$(service_dir "$1")" 2>/dev/null; }

# Processes of this instance, "pid parent name" a line: those that work in its folders or run its binaries, and are
# either one of its users' or a part of the supervisor. A shell that merely stands there is neither.
instance_processes() {
    local proc user name
    as_root find /proc -maxdepth 2 \( -name cwd \( -lname "$(scandir)*" -o -lname "$STATE/postgres*" \) \
        -o -name exe -lname "$STATE/bin/*" \) -printf '%h\n' 2>/dev/null | sort -u | while read -r proc; do
        user=$(stat -c %U "$proc" 2>/dev/null) || continue
        name=$(cat "$proc/comm" 2>/dev/null) || continue
        [[ $user == cordon-* || $name == s6-* ]] || continue
        printf '%s %s %s\n' "${proc#/proc/}" "$(sed -n 's/^PPid:\t//p' "$proc/status" 2>/dev/null)" "$name"
    done
}

# Those of them that hang from no supervisor: left behind when it, or one of its helpers, was killed.
orphans() {
    instance_processes | awk '
        { parent[$1] = $2; name[$1] = $3 }
        END {
            for (pid in parent) {
                for (p = pid; p in parent && name[p] != "s6-svscan"; p = parent[p]) {}
                if (name[p] != "s6-svscan") print pid
            }
        }'
}

end_processes() {
    local pids=("$@") turn
    ((${#pids[@]})) || return 0
    as_root kill -TERM "${pids[@]}" 2>/dev/null || true
    for turn in {1..50}; do
        as_root kill -0 "${pids[@]}" 2>/dev/null || return 0
        sleep 0.1
    done
    as_root kill -KILL "${pids[@]}" 2>/dev/null || true
}

# s6-supervise first, then a second look: it may have started again what had died under it since the first.
end_orphans() {
    local pids supervisors=() pid
    mapfile -t pids < <(orphans)
    ((${#pids[@]})) || return 0
    say "  ending ${#pids[@]} processes that an earlier supervisor left behind"
    for pid in "${pids[@]}"; do
        [[ $(cat "/proc/$pid/comm" 2>/dev/null) != s6-supervise ]] || supervisors+=("$pid")
    done
    ((${#supervisors[@]} == 0)) || as_root kill -KILL "${supervisors[@]}" 2>/dev/null || true
    mapfile -t pids < <(orphans)
    end_processes "${pids[@]}"
}

start_supervisor() {
    if supervisor_runs; then
        note "running"
    else
        # Its own session and no file of ours: closing this terminal or ending this script does not reach it.
        as_root setsid -f s6-svscan "$(scandir)" </dev/null >>"$STATE/logs/supervisor.log" 2>&1 9>&-
        wait_until 10 supervisor_runs || refuse "s6-svscan did not start; see $STATE/logs/supervisor.log"
        note "started"
    fi
    local name
    for name in "${SERVICES[@]}"; do
        wait_until 10 is_supervised "$name" || refuse "$name is not supervised; see $STATE/logs/supervisor.log"
    done
}

check_ports() {
    local name port holder taken=()
    for name in "${SERVICES[@]}"; do
        is_up "$name" && continue
        for port in $(ports_of "$name"); do
            holder=$(as_root ss -Hltnp "sport = :$port" | head -n 1)
            [[ -n $holder ]] || continue
            holder=$(sed -n 's/.*users:((\"\([^"]*\)\",pid=\([0-9]*\).*/\1 (pid \2)/p' <<<"$holder")
            taken+=("port $port, meant for $name, is taken by ${holder:-a process outside this container}")
        done
    done
    ((${#taken[@]})) || return 0
    die "${taken[0]}" "${taken[@]:1}" "Choose others: PORT=8081 CORDON_PORT_BASE=28100 ./cordon up"
}

# Everything that a running process was started from; when it changed, the process is started again.
fingerprint() {
    local code=()
    case $1 in
        postgres) code=("$STATE/postgres/postgresql.conf") ;;
        cloud) code=("$SHARED/app/iam" "$SHARED/app/cloud") ;;
        bedrock | idp) code=("$SHARED/app/cloud" "$SHARED/app/idp" "$SHARED/app/package-lock.json") ;;
        ingest-worker*) code=("$STATE/bin/cordon-ingest-worker" "$STATE/bin/cordon-sandbox") ;;
        *) code=("$STATE/bin/cordon-$(process_of "$1")") ;;
    esac
    as_root find "$(service_dir "$1")/run" "$STATE/secrets/$1" "${code[@]}" -type f -exec sha256sum {} + | sort | sha256sum
}

# start_service NAME: up, or restarted when what it runs from has changed. Does not wait.
start_service() {
    local dir now
    dir=$(service_dir "$1")
    now=$(fingerprint "$1")
    if is_up "$1"; then
        [[ $now == "$(cat "$dir/fingerprint" 2>/dev/null)" ]] && return
        echo "$now" >"$dir/fingerprint"
        restart_service "$1"
    else
        as_root rm -f "$dir/deaths"
        as_root s6-svc -u "$dir"
    fi
    echo "$now" >"$dir/fingerprint"
}

# restart_service NAME: it drains, starts again, and has its callers back, so that the next one may go.
restart_service() {
    as_root rm -f "$(service_dir "$1")/deaths"
    if is_up "$1"; then as_root s6-svc -wr -T 40000 -r "$(service_dir "$1")" || true; else as_root s6-svc -u "$(service_dir "$1")"; fi
    [[ " ${INSTANCES[*]} " == *" $1 "* ]] || return 0
    await_service "$1" 30 curl -fsS "http://127.0.0.1:$(metrics_port_of "$1")/health/ready"
    await_service "$1" 30 has_callers "$1"
}

# Every running instance of every process that calls it is connected.
has_callers() {
    local process instance wanted=0
    for process in "${PROCESSES[@]}"; do
        [[ " ${CALLS[$process]} " == *" $(process_of "$1") "* ]] || continue
        for instance in $(replicas_of "$process"); do ! is_up "$instance" || wanted=$((wanted + 1)); done
    done
    ((wanted == 0)) || curl -fsS "http://127.0.0.1:$(metrics_port_of "$1")/metrics" |
        awk -v wanted="$wanted" '$1 == "cordon_bus_callers" && $2 >= wanted { is = 1 } END { exit !is }'
}

# Replicas that `up` was told to take away: those that run and are no instance any more.
remove_surplus() {
    local dir name surplus=()
    for dir in "$(scandir)"/*.[2-9]; do
        name=$(basename "$dir")
        [[ ! -d $dir || " ${INSTANCES[*]} " == *" $name "* ]] || surplus+=("$name")
    done
    ((${#surplus[@]})) || return 0
    stop_services "${surplus[@]}"
    for name in "${surplus[@]}"; do as_root rm -rf "$(service_dir "$name")" "$STATE/secrets/$name"; done
    as_root s6-svscanctl -an "$(scandir)" # -n: their supervisors too
    say "drained: ${surplus[*]}"
}

# await_service NAME SECONDS COMMAND...: until the command succeeds; three deaths in a row end the waiting.
await_service() {
    local name=$1 end=$((SECONDS + $2)) deaths
    deaths="$(service_dir "$name")/deaths"
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [[ -f $deaths ]] && (($(wc -l <"$deaths") >= 3)); then
            refuse "$name ends as soon as it starts. Its last words:" "$(tail -n 12 "$STATE/logs/$name/current")"
        fi
        ((SECONDS < end)) || refuse "$name does not answer. Its last words:" "$(tail -n 12 "$STATE/logs/$name/current")"
        sleep 0.1
    done
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

stop_services() {
    local name dirs=()
    for name in "$@"; do is_supervised "$name" && dirs+=("$(service_dir "$name")"); done
    ((${#dirs[@]})) || return 0
    for name in "${dirs[@]}"; do as_root s6-svc -d "$name"; done
    as_root s6-svwait -D -t 45000 "${dirs[@]}" || true
}
