# shellcheck shell=bash
# Two tenants, the sample documents, one question: what the README promises, done through the public API only.

demo_tenant_name() {
    case $1 in
        demo) echo "Riverside Clinic" ;;
        lakeside) echo "Lakeside Family Services" ;;
    esac
}

command_demo() {
    need_state
    mkdir -p "$STATE/logs"
    demo
    what_next
}

demo() {
    local manifest="$ROOT/dev/samples/manifest.json"
    [[ -r $manifest ]] || die "there are no sample documents at dev/samples/manifest.json"
    step "demo tenants" demo_tenants
    step "sample documents" demo_upload
    step "their ingestion" demo_await
    demo_question
}

demo_tenants() {
    local token have slug
    token=$(get_token user=operator roles=platform_admin)
    have=$(list_tenants "$token" | jq -r '.[].slug')
    for slug in demo lakeside; do
        grep -qx "$slug" <<<"$have" || create_tenant "$token" "$slug" "$(demo_tenant_name "$slug")"
    done
    note "demo, lakeside"
}

# documents_of TOKEN: all of a tenant's documents, one JSON object a line.
documents_of() {
    local cursor='' page
    while :; do
        page=$(api_ok 200 GET "/api/v1/documents?limit=100${cursor:+&cursor=$cursor}" "$1")
        jq -c '(.documents // .items)[]' <<<"$page"
        cursor=$(jq -r '.next_cursor // ""' <<<"$page")
        [[ -n $cursor ]] || return 0
    done
}

# samples TENANT: path, content type and title from the manifest, tab-separated.
samples() {
    jq -r --arg tenant "$1" '(.documents // .)[] | select(.tenant == $tenant) | [(.file // .path), .content_type, .title // ""] | @tsv' \
        "$ROOT/dev/samples/manifest.json"
}

demo_upload() {
    local tenant token have file type title name sent=0 there=0
    for tenant in demo lakeside; do
        token=$(get_token "tenant=$tenant" roles=admin)
        have=$(documents_of "$token" | jq -r 'select(.status != "failed") | .name // .document_name // .filename')
        while IFS=$'\t' read -r file type title; do
            name=${file##*/}
            [[ $file == */* ]] || file=$tenant/$file
            if grep -qxF "$name" <<<"$have"; then
                there=$((there + 1))
                continue
            fi
            [[ -r $ROOT/dev/samples/$file ]] || refuse "the manifest names $file, which is not in dev/samples"
            api_ok 202 POST /api/v1/documents "$token" -H "Content-Type: $type" \
                -H "Content-Disposition: attachment; filename=\"$name\"" --data-binary "@$ROOT/dev/samples/$file" >/dev/null
            sent=$((sent + 1))
        done < <(samples "$tenant")
    done
    note "$sent uploaded, $there there already"
}

demo_await() {
    local tenant token end=$((SECONDS + 300)) waiting failed ready=0
    for tenant in demo lakeside; do
        token=$(get_token "tenant=$tenant" roles=admin)
        while :; do
            failed=$(documents_of "$token" | jq -r 'select(.status == "failed") | "\(.name // .document_id): \(.reason_code)"')
            [[ -z $failed ]] || refuse "could not be ingested:" "$failed"
            waiting=$(documents_of "$token" | jq -r 'select(.status == "processing") | .status' | wc -l)
            ((waiting > 0)) || break
            ((SECONDS < end)) || refuse "$waiting documents of $tenant are still processing after five minutes"
            sleep 0.3
        done
        ready=$((ready + $(documents_of "$token" | jq -r 'select(.status == "ready") | .status' | wc -l)))
    done
    note "$ready ready"
}

demo_question() {
    local question token reply
    question=$(jq -r '(.demo_question // empty)' "$ROOT/dev/samples/manifest.json" 2>/dev/null)
    question=${question:-What medicines was the patient discharged with?}
    token=$(get_token tenant=demo user=maya)
    reply=$(api_ok 200 POST /api/v1/query "$token" -H 'Content-Type: application/json' \
        --data-binary "$(jq -n --arg question "$question" '{question: $question, top_k: 8}')")
    say "" "  ${BOLD}Maya Okafor, clinician at Riverside Clinic, asks:${RESET} $question" ""
    jq -r .answer <<<"$reply" | fold -s -w 92 | sed 's/^/    /'
    say ""
    jq -r '.citations[] | "    \(.document_name), page \(.page_from), characters \(.start_offset)-\(.end_offset)  [\(.chunk_id)]"' <<<"$reply"
}
