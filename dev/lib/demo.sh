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
    have=$(all_of /api/v1/tenants tenants "$token" | jq -r .slug)
    for slug in demo lakeside; do
        grep -qx "$slug" <<<"$have" || create_tenant "$token" "$slug" "$(demo_tenant_name "$slug")"
    done
    note "demo, lakeside"
}

documents_of() { all_of /api/v1/documents documents "$1"; }

# samples TENANT: file name and content type from the manifest, tab-separated.
samples() {
    jq -r --arg tenant "$1" '.[] | select(.tenant == $tenant) | [.file, .content_type] | @tsv' \
        "$ROOT/dev/samples/manifest.json"
}

demo_upload() {
    local tenant token have name type file sent=0 there=0
    for tenant in demo lakeside; do
        token=$(get_token "tenant=$tenant" roles=admin)
        have=$(documents_of "$token" | jq -r 'select(.status != "failed") | .file_name')
        while IFS=$'\t' read -r name type; do
            file="$ROOT/dev/samples/$tenant/$name"
            if grep -qxF "$name" <<<"$have"; then
                there=$((there + 1))
                continue
            fi
            [[ -r $file ]] || refuse "the manifest names $file, which is not there"
            api_ok 202 POST /api/v1/documents "$token" -H "Content-Type: $type" \
                -H "Content-Disposition: attachment; filename=\"$name\"" --data-binary "@$file" >/dev/null
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
            failed=$(documents_of "$token" | jq -r 'select(.status == "failed") | "\(.file_name): \(.reason_code)"')
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
    question="Why did Marguerite Hollis's heart failure get worse before she was admitted?"
    token=$(get_token tenant=demo user=maya)
    reply=$(api_ok 200 POST /api/v1/query "$token" -H 'Content-Type: application/json' \
        --data-binary "$(jq -n --arg question "$question" '{question: $question, top_k: 8}')")
    say "" "  ${BOLD}Maya Okafor, clinician at Riverside Clinic, asks:${RESET} $question" ""
    jq -r .answer <<<"$reply" | fold -s -w 92 | sed 's/^/    /'
    say ""
    jq -r '.citations[] | "    \(.document_name), page \(.page_from), characters \(.start_offset)-\(.end_offset)  [\(.chunk_id)]"' <<<"$reply"
}
