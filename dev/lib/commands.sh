# shellcheck shell=bash
# What the front door does for each of its words.

command_up() {
    local demo=yes replicas='' began=$EPOCHREALTIME
    while (($#)); do
        case $1 in
            --bare) demo=no ;;
            --replicas)
                (($# > 1)) || die "--replicas wants PROCESS=COUNT,..."
                replicas=$2
                shift
                ;;
            *) die "up does not know '$1'" "./cordon up [--bare] [--replicas PROCESS=COUNT,...]" ;;
        esac
        shift
    done
    require_root_rights
    make_state
    exec 9>"$STATE/up.lock"
    flock -n 9 || { say "  another ./cordon up is at work; waiting for it"; flock 9; }
    remember_replicas "$replicas"
    say "${BOLD}Cordon${RESET} in $STATE"
    install_everything
    step "build" build_release
    [[ -z ${CORDON_FAULT_DIR:-} ]] || step "build (fault points)" build_faults
    step "Unix users" make_users
    step "secrets and settings" make_secrets
    end_orphans
    step "supervisor" prepare_services
    check_ports
    step "PostgreSQL" start_database
    step "migrations" migrate
    step "AWS, Bedrock, OpenID stand-ins" start_standins
    step "six processes" start_processes
    (umask 077 && stack_json >"$STATE/stack.json.new" && mv "$STATE/stack.json.new" "$STATE/stack.json")
    if [[ $demo == yes ]]; then demo; fi
    say ""
    say "${GREEN}Up${RESET} after $(seconds_since "$began") s: $EDGE"
    exec 9>&-
    what_next
}

# What `up` does before it starts anything: for images, and to build alone.
command_setup() {
    require_root_rights
    make_state
    install_everything
    step "build" build_release
    step "Unix users" make_users
}

prepare_services() {
    write_services
    start_supervisor
}

start_database() {
    make_cluster
    start_postgres
}

start_standins() {
    as_root install -d -m 0700 -o cordon-cloud -g cordon-cloud "$STATE/cloud"
    identities_json | as_root install -m 0400 -o cordon-cloud -g cordon-cloud /dev/stdin "$STATE/cloud/identities.json"
    as_root install -d -m 0700 -o cordon-idp -g cordon-idp "$STATE/idp"
    local name
    for name in "${STANDINS[@]}"; do start_service "$name"; done
    await_service bedrock 90 listens $((BASE + 3))
    await_service cloud 60 curl -fsS "http://127.0.0.1:$((BASE + 1))/health"
    await_service idp 60 curl -fsS "$ISSUER/.well-known/openid-configuration"
    note "ports $((BASE + 1)), $((BASE + 3)), $((BASE + 4))"
}

# With CORDON_FAULT_DIR, which tests set, the binaries whose fault points obey the files in that folder (common/core/fault.h).
build_faults() {
    run_ninja "$SHARED/build/release" faults
    [[ -z ${CORDON_FAULT_DIR:-} ]] || install -d -m 0777 "$CORDON_FAULT_DIR"
}

# Copies, so that a build in progress never changes what runs, and the processes' users need no way into the checkout.
install_binaries() {
    local name folder built target
    for name in "${PROCESSES[@]}" sandbox; do
        folder=$name
        [[ $name != sandbox ]] || folder=ingest-worker
        built="$SHARED/build/release/services/$folder/cordon-$name" target="$STATE/bin/cordon-$name"
        [[ -z ${CORDON_FAULT_DIR:-} || $name == sandbox ]] || built="$SHARED/build/release/faults/cordon-$name"
        [[ -x $built ]] || refuse "the build made no $built"
        cmp -s "$built" "$target" && continue
        install -m 0755 "$built" "$target.new"
        mv "$target.new" "$target"
    done
}

start_processes() {
    install_binaries
    local name
    write_endpoints
    remove_surplus
    for name in "${INSTANCES[@]}"; do start_service "$name"; done
    for name in "${INSTANCES[@]}"; do
        await_service "$name" 30 curl -fsS "http://127.0.0.1:$(metrics_port_of "$name")/metrics"
    done
    await_service edge 30 curl -fsS "$EDGE/api/v1/health/ready"
    note "$EDGE"
}

what_next() {
    cat <<EOT

  ./cordon token --tenant demo --role clinician       a bearer token for the API
  curl -s $EDGE/api/v1/query -H "Authorization: Bearer \$(./cordon token --tenant demo --role clinician)" \\
       -H 'Content-Type: application/json' -d '{"question":"Which medicines was the patient sent home with?"}'
  ./cordon status      what runs, as whom        ./cordon logs query     what a process says
  ./cordon test        every test                ./cordon down           stop everything
EOT
}

command_down() {
    need_state
    require_root_rights
    local pids
    if supervisor_runs; then
        stop_services "${INSTANCES[@]}"
        stop_services "${STANDINS[@]}"
        stop_services postgres
        as_root s6-svscanctl -t "$(scandir)" || true
        wait_until 10 no_processes || true
    fi
    mapfile -t pids < <(instance_processes | cut -d' ' -f1)
    if ((${#pids[@]})); then
        mapfile -t -O "${#pids[@]}" pids < <(orphans)
        end_processes "${pids[@]}"
        wait_until 10 no_processes || die "these did not end:" "$(instance_processes)"
    fi
    say "Cordon is down; nothing of it runs. Its data stays in $STATE."
}

# One process, or one of its replicas (query.2): for operators, and for tests that take one away.

checked_process() {
    need_state
    [[ " ${SERVICES[*]} " == *" ${1:-} "* ]] || die "which process?" "one of: ${SERVICES[*]}"
    require_root_rights
    is_supervised "$1" || die "no supervisor runs" "./cordon up"
}

command_stop() {
    checked_process "${1:-}"
    stop_services "$1"
}

command_start() {
    checked_process "${1:-}"
    as_root s6-svc -u "$(service_dir "$1")"
}

# One after the other, each once the one before it serves again: all replicas of a process, one of them, or everything.
command_restart() {
    local names=("${INSTANCES[@]}") name
    if (($#)); then
        checked_process "$1"
        names=("$1")
        [[ " ${PROCESSES[*]} " != *" $1 "* ]] || mapfile -t names < <(replicas_of "$1")
    fi
    checked_process "${names[0]}"
    for name in "${names[@]}"; do restart_service "$name"; done
}

command_pid() {
    checked_process "${1:-}"
    is_up "$1" || die "$1 is down"
    service_pid "$1"
}

no_processes() { [[ -z $(instance_processes) ]]; }

command_status() {
    need_state
    local name state pid user since failed=0
    printf "${BOLD}%-18s %-9s %-8s %-24s %s${RESET}\n" process state pid user ports
    for name in "${SERVICES[@]}"; do
        if is_supervised "$name" && is_up "$name"; then
            state=up pid=$(service_pid "$name")
            user=$(ps -o user:32= -p "$pid" 2>/dev/null | tr -d ' ')
            since=" since $(ps -o etime= -p "$pid" 2>/dev/null | tr -d ' ')"
        else
            state=down pid=- user=- since=''
            failed=1
        fi
        printf '%-18s %-9s %-8s %-24s %s%s\n' "$name" "$state" "$pid" "$user" "$(ports_of "$name" | paste -sd' ')" "$since"
    done
    local ready
    ready=$(curl -sS -m 5 "$EDGE/api/v1/health/ready" 2>&1) || failed=1
    printf '\n%s/api/v1/health/ready: %s\n' "$EDGE" "$ready"
    printf '\n'
    as_table "$QUEUES_SQL" 2>/dev/null || failed=1
    return "$failed"
}

command_logs() {
    need_state
    local name=${1:-} follow=${2:-}
    if [[ -z $name ]]; then
        for name in "${SERVICES[@]}"; do
            printf '%s== %s%s\n' "$BOLD" "$name" "$RESET"
            tail -n 5 "$STATE/logs/$name/current" 2>/dev/null || true
        done
        say "" "./cordon logs PROCESS [-f]: one of ${SERVICES[*]}, setup"
        return
    fi
    local file="$STATE/logs/$name/current"
    [[ $name != setup ]] || file="$STATE/logs/setup.log"
    [[ -f $file ]] || die "there is no log of '$name'" "one of: ${SERVICES[*]} setup"
    if [[ $follow == -f ]]; then exec tail -n 100 -F "$file"; else tail -n 100 "$file"; fi
}

# get_token FIELD=VALUE...: a token from the development identity provider.
get_token() {
    local args=() field reply
    for field in "$@"; do args+=(--data-urlencode "$field"); done
    reply=$(curl -sS -m 10 "$ISSUER/token" -K <(printf 'user = "cordon-cli:%s"\n' "$(made idp-cli)") \
        -d grant_type=urn:cordon:dev:token "${args[@]}") || die "the identity provider at $ISSUER does not answer" "Is Cordon up?"
    jq -er .access_token <<<"$reply" || die "no token: $(jq -r '.error_description // .error // .' <<<"$reply" 2>/dev/null)"
}

command_token() {
    need_state
    local fields=() roles=() name
    while (($#)); do
        case $1 in
            --tenant | --user | --email | --ttl | --alg | --amr | --acr | --role)
                name=${1#--}
                (($# > 1)) || die "$1 wants a value"
                if [[ $name == role ]]; then roles+=("$2"); else fields+=("$name=$2"); fi
                shift
                ;;
            *) die "token does not know '$1'" "./cordon token [--tenant SLUG] [--role ROLE]... [--user NAME] [--email E] [--ttl SECONDS] [--alg RS256|ES256] [--amr WORDS] [--acr URI]" ;;
        esac
        shift
    done
    ((${#roles[@]} == 0)) || fields+=("roles=${roles[*]}")
    ((${#fields[@]})) || die "which tenant, which role?" "./cordon token --tenant demo --role clinician"
    get_token "${fields[@]}"
}

# api METHOD PATH TOKEN [CURL-ARGS...]: prints the body, then the status on a line of its own.
api() {
    local method=$1 path=$2 token=$3
    shift 3
    curl -sS -m 60 -X "$method" "$EDGE$path" -K <(printf 'header = "Authorization: Bearer %s"\n' "$token") \
        -w '\n%{http_code}' "$@"
}

# api_ok STATUSES ...: as api, prints the body only, and fails unless the status is one of the first argument's words.
api_ok() {
    local wanted=$1 reply status
    shift
    reply=$(api "$@") || die "$EDGE does not answer" "Is Cordon up? ./cordon status"
    status=${reply##*$'\n'}
    [[ " $wanted " == *" $status "* ]] || die "$1 $2 answered $status" "${reply%$'\n'*}"
    printf '%s' "${reply%$'\n'*}"
}

command_tenants() {
    need_state
    local token
    token=$(get_token user=operator roles=platform_admin)
    case ${1:-list} in
        list) all_of /api/v1/tenants tenants "$token" | jq -r '[.slug, .status, .id, .name] | join("  ")' ;;
        create)
            (($# == 3)) || die "./cordon tenants create SLUG NAME"
            create_tenant "$token" "$2" "$3" | jq .
            ;;
        *) die "./cordon tenants [list | create SLUG NAME]" ;;
    esac
}

# all_of PATH MEMBER TOKEN: every page of a list, one JSON object a line.
all_of() {
    local cursor='' page
    while :; do
        page=$(api_ok 200 GET "$1?limit=100${cursor:+&cursor=$cursor}" "$3")
        jq -c --arg member "$2" '.[$member][]?' <<<"$page"
        cursor=$(jq -r '.next_cursor // ""' <<<"$page")
        [[ -n $cursor ]] || return 0
    done
}

create_tenant() {
    api_ok "200 201" POST /api/v1/tenants "$1" -H 'Content-Type: application/json' \
        --data-binary "$(jq -n --arg slug "$2" --arg name "$3" '{slug: $slug, name: $name}')"
}
