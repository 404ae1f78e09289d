/* edge_fixture — a whole edge on loopback in the test's process, with auth, ingest-worker and query played
 * by handlers of a few lines behind real buses, and a client that sends bytes as they are written. */
#ifndef CORDON_TESTS_EDGE_FIXTURE_H
#define CORDON_TESTS_EDGE_FIXTURE_H

#include "core/wire.h"
#include "unit/bus_fixture.h"

#include <openssl/evp.h>

#include "auth.pb-c.h"
#include "edge.h"

/* What the players saw; one edge per test process. */
static struct {
    atomic_uint authenticated, denied, uploads, checked, left;
    atomic_bool is_over;
    char denied_code[16], denied_path[64], file_name[256], content_type[128], metadata[256], mrn[128], last_ticket[256], key[256], priority[16], traceparent[64];
    uint8_t chosen_id[16];
    size_t chosen_id_len;
    int64_t announced_bytes, uploaded_bytes;
    uint8_t uploaded_sha256[32], digest[32];
    size_t digest_len;
    bool is_upload_whole;
} seen;

static inline struct uuid uuid_of(uint8_t last) {
    struct uuid id = { { 1, 0x90, 0xb6, 0xce, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, last } };
    return id;
}

#define ID_TEXT "0190b6ce-0000-7000-8000-0000000000"    /* two more digits */

static inline ProtobufCBinaryData id_bytes(struct call *call, uint8_t last) {
    struct uuid id = uuid_of(last);
    return wire_id(call->mem, &id);
}

/* ---- auth: the token says what it may ---- */

static enum status on_authenticate(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    (void)self;
    const Auth__AuthenticateRequest *req = (const void *)in;
    Auth__AuthenticateReply *reply = (void *)out;
    unsigned n = atomic_fetch_add(&seen.authenticated, 1);
    static char *const CLINICIAN[] = { "documents:read", "documents:write", "query" }, *const AUDITOR[] = { "audit:read" },
                *const PLATFORM[] = { "tenants:manage" };
    bool is_auditor = str_equal(req->bearer_token, "auditor"), is_platform = str_equal(req->bearer_token, "platform");
    if (str_equal(req->bearer_token, "bad"))
        return fail_as(&call->why, ERR_AUTH_TOKEN, "bad");
    reply->ticket = arena_printf(call->mem, "ticket-%u", n + 1);
    reply->expires_at_us = clock_unix_us() + 60000000;
    reply->tenant_id = id_bytes(call, 0xaa);
    reply->session_id = id_bytes(call, 0xcc);
    reply->scopes = (char **)(is_auditor ? AUDITOR : is_platform ? PLATFORM : CLINICIAN);
    reply->n_scopes = is_auditor || is_platform ? 1 : 3;
    if (str_equal(req->bearer_token, "one-factor")) {
        reply->withheld_scopes = reply->scopes;
        reply->n_withheld_scopes = reply->n_scopes;
        reply->n_scopes = 0;
    }
    return ST_OK;
}

static enum status on_denied(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    (void)self;
    (void)call;
    (void)out;
    const Auth__DeniedRequest *req = (const void *)in;
    snprintf(seen.denied_code, sizeof seen.denied_code, "%s", req->code);
    snprintf(seen.denied_path, sizeof seen.denied_path, "%s", req->path);
    atomic_fetch_add(&seen.denied, 1);
    return ST_OK;
}

static enum status on_create_tenant(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    (void)self;
    const Auth__CreateTenantRequest *req = (const void *)in;
    Auth__Tenant *tenant = arena_alloc(call->mem, sizeof *tenant);
    auth__tenant__init(tenant);
    tenant->id = id_bytes(call, 0xbb);
    tenant->slug = req->slug;
    tenant->name = req->name;
    ((Auth__CreateTenantReply *)out)->tenant = tenant;
    return ST_OK;
}

/* ---- ingest-worker ---- */

/* One that was cancelled may end while the next begins. */
static pthread_mutex_t seen_lock = PTHREAD_MUTEX_INITIALIZER;

static enum status on_upload(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    (void)self;
    const Ingest__UploadRequest *req = (const void *)in;
    Ingest__UploadReply *reply = (void *)out;
    pthread_mutex_lock(&seen_lock);
    snprintf(seen.file_name, sizeof seen.file_name, "%s", req->file_name);
    snprintf(seen.content_type, sizeof seen.content_type, "%s", req->content_type);
    snprintf(seen.metadata, sizeof seen.metadata, "%s", req->metadata_json);
    snprintf(seen.mrn, sizeof seen.mrn, "%s", req->mrn);
    snprintf(seen.key, sizeof seen.key, "%s", req->idempotency_key);
    snprintf(seen.priority, sizeof seen.priority, "%s", req->priority);
    seen.chosen_id_len = req->document_id.len;
    if (req->document_id.len == 16)
        memcpy(seen.chosen_id, req->document_id.data, 16);
    seen.announced_bytes = req->announced_bytes;
    seen.digest_len = req->sha256.len;
    if (req->sha256.len == 32)
        memcpy(seen.digest, req->sha256.data, 32);
    pthread_mutex_unlock(&seen_lock);
    if (str_equal(req->content_type, "application/x-msdownload"))
        return fail_as(&call->why, ERR_DOC_TYPE, "type");
    if (str_equal(req->idempotency_key, "busy")) {
        enum status busy = fail_as(&call->why, ERR_IDEM_BUSY, "busy");
        call->why.retry_after_ms = 2000;
        return busy;
    }
    EVP_MD_CTX *sum = EVP_MD_CTX_new();
    EVP_DigestInit_ex(sum, EVP_sha256(), NULL);
    int64_t bytes = 0;
    bool is_whole = false;
    enum status st = ST_OK;
    for (bool is_end = false; st == ST_OK && !is_end;) {
        const void *data;
        size_t len;
        st = call_read(call, &data, &len, &is_end);
        if (st != ST_OK)
            break;
        EVP_DigestUpdate(sum, data, len);
        bytes += (int64_t)len;
        is_whole = is_end;
    }
    pthread_mutex_lock(&seen_lock);
    seen.uploaded_bytes = bytes;
    seen.is_upload_whole = is_whole;
    EVP_DigestFinal_ex(sum, seen.uploaded_sha256, NULL);
    EVP_MD_CTX_free(sum);
    snprintf(seen.last_ticket, sizeof seen.last_ticket, "%s", call->ticket);
    pthread_mutex_unlock(&seen_lock);
    if (st != ST_OK)
        return st;
    reply->document_id = id_bytes(call, 1);
    reply->job_id = id_bytes(call, 2);
    reply->status = "processing";
    atomic_fetch_add(&seen.uploads, 1);
    return ST_OK;
}

static enum status on_delete(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    (void)self;
    (void)call;
    (void)in;
    (void)out;
    return ST_OK;
}

/* ---- query ---- */

static enum status on_list(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    (void)self;
    (void)in;
    Query__ListDocumentsReply *reply = (void *)out;
    reply->n_documents = 1;
    reply->documents = arena_alloc(call->mem, sizeof *reply->documents);
    reply->documents[0] = arena_alloc(call->mem, sizeof **reply->documents);
    query__document__init(reply->documents[0]);
    reply->documents[0]->id = id_bytes(call, 1);
    reply->documents[0]->created_at_us = 1;
    return ST_OK;
}

/* Document ..01 is there, ..02 is another tenant's, others are absent; at ..0f the database says no after all. */
static enum status on_get(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    (void)self;
    const Query__GetDocumentRequest *req = (const void *)in;
    Query__GetDocumentReply *reply = (void *)out;
    if (req->document_id.data[15] == 15)
        return fail(&call->why, ST_FORBIDDEN, "scope");
    if (req->document_id.data[15] != 1)
        return fail(&call->why, ST_NOT_FOUND, "absent");
    reply->document = arena_alloc(call->mem, sizeof *reply->document);
    query__document__init(reply->document);
    reply->document->id = req->document_id;
    reply->document->file_name = "a\"b\n.txt";
    return ST_OK;
}

enum { CONTENT_BYTES = 700000 };

static enum status on_content(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    (void)self;
    const Query__GetContentRequest *req = (const void *)in;
    uint8_t which = req->document_id.data[15], packed[256];
    static uint8_t bytes[100000];
    if (which > 3)
        return fail(&call->why, ST_NOT_FOUND, "absent");
    Query__ContentHead head = QUERY__CONTENT_HEAD__INIT;
    head.content_type = which == 2 ? "text/html" : "text/plain";
    head.file_name = "r\xc3\xa9sum\xc3\xa9 \"x\"\r\nEvil: 1.txt";
    head.bytes = head.length = CONTENT_BYTES;
    Query__ContentPart part = req->wanted ? req->wanted->part : QUERY__CONTENT_PART__CONTENT_WHOLE;
    bool is_range = part == QUERY__CONTENT_PART__CONTENT_RANGE;
    if (is_range) {
        head.from = req->wanted->from >= 0 ? req->wanted->from : CONTENT_BYTES - req->wanted->length;
        head.length = head.from >= CONTENT_BYTES ? 0 : req->wanted->length > 0 ? req->wanted->length : CONTENT_BYTES - head.from;
    }
    enum status st = call_write(call, packed, query__content_head__pack(&head, packed));
    if (is_range && st == ST_OK && head.length)
        return call_write(call, memset(bytes, 'r', sizeof bytes), (size_t)head.length);
    for (int i = 0; i < 7 && st == ST_OK && part == QUERY__CONTENT_PART__CONTENT_WHOLE; i++) {
        if (which == 3 && i == 3)
            return fail(&call->why, ST_UNAVAILABLE, "half way");
        memset(bytes, 'a' + i, sizeof bytes);
        st = call_write(call, bytes, sizeof bytes);
    }
    ((Query__GetContentReply *)out)->sent_bytes = CONTENT_BYTES;
    return st;
}

static enum status write_event(struct call *call, uint32_t number, const char *text) {
    Query__AnswerEvent event = QUERY__ANSWER_EVENT__INIT;
    Query__AnswerToken token = QUERY__ANSWER_TOKEN__INIT;
    uint8_t packed[512];
    event.number = number;
    token.text = (char *)text;
    event.token = text ? &token : NULL;
    return call_write(call, packed, query__answer_event__pack(&event, packed));
}

/* "refused": at once; "broken": behind a token; "silent": nothing behind it, until the client goes. */
static enum status on_query(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    (void)self;
    const Query__QueryRequest *req = (const void *)in;
    ((Query__QueryReply *)out)->answer = (char *)"whole";
    if (str_equal(req->question, "refused"))
        return fail_as(&call->why, ERR_AUDIT_UNAVAILABLE, "no record");
    if (!call_is_stream(call))
        return ST_OK;
    enum status st = write_event(call, 1, "two\n\nlines, data: \"x\" [1]");
    if (st == ST_OK && str_equal(req->question, "broken"))
        return fail_as(&call->why, ERR_MODEL_BROKE_OFF, "half way");
    if (st == ST_OK && str_equal(req->question, "silent")) {
        while (call_wait(call, clock_mono_ms() + 1000))
            continue;
        atomic_fetch_add(&seen.left, 1);
        return fail(&call->why, ST_UNAVAILABLE, "left");
    }
    st = st == ST_OK ? write_event(call, 0, NULL) : st;
    return st == ST_OK ? write_event(call, 2, "end") : st;
}

static enum status on_get_answer(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    (void)self, (void)out;
    return write_event(call, ((const Query__GetAnswerRequest *)in)->after + 1, "again");
}

static enum status on_search(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    (void)self;
    const Query__SearchRequest *req = (const void *)in;
    Query__SearchReply *reply = (void *)out;
    (void)snprintf(seen.traceparent, sizeof seen.traceparent, "%s", call->traceparent);
    if (str_equal(req->question, "busy")) {
        enum status st = fail_as(&call->why, ERR_BUSY, "busy");
        call->why.retry_after_ms = 2500;
        return st;
    }
    Query__Hit *hit = arena_alloc(call->mem, sizeof *hit);
    query__hit__init(hit);
    hit->text = arena_printf(call->mem, "%s/%u", req->question, req->top_k);
    reply->hits = arena_alloc(call->mem, sizeof *reply->hits);
    reply->hits[0] = hit;
    reply->n_hits = 1;
    reply->event_id = id_bytes(call, 5);
    return ST_OK;
}

#define ROW(method, req, reply, handler) { method, PEER_EDGE, SCOPE_NONE, &req##__descriptor, &reply##__descriptor, handler }

/* Every session is over once the test says so. */
static enum status on_check_sessions(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    (void)self;
    const Auth__CheckSessionsRequest *req = (const void *)in;
    Auth__CheckSessionsReply *reply = (void *)out;
    atomic_fetch_add(&seen.checked, 1);
    if (!atomic_load(&seen.is_over))
        return ST_OK;
    reply->ended_ids = arena_alloc(call->mem, (req->n_session_ids + 1) * sizeof *reply->ended_ids);
    for (size_t i = 0; i < req->n_session_ids; i++)
        reply->ended_ids[reply->n_ended_ids++] = req->session_ids[i];
    return ST_OK;
}

static const struct route AUTH_ROUTES[] = {
    ROW("auth.CheckSessions", auth__check_sessions_request, auth__check_sessions_reply, on_check_sessions),
    ROW("auth.Authenticate", auth__authenticate_request, auth__authenticate_reply, on_authenticate),
    ROW("auth.Denied", auth__denied_request, auth__denied_reply, on_denied),
    ROW("auth.CreateTenant", auth__create_tenant_request, auth__create_tenant_reply, on_create_tenant), { 0 } };
static const struct route INGEST_ROUTES[] = {
    ROW("ingest.Upload", ingest__upload_request, ingest__upload_reply, on_upload),
    ROW("ingest.DeleteDocument", ingest__delete_document_request, ingest__delete_document_reply, on_delete), { 0 } };
static const struct route QUERY_ROUTES[] = {
    ROW("query.ListDocuments", query__list_documents_request, query__list_documents_reply, on_list),
    ROW("query.GetDocument", query__get_document_request, query__get_document_reply, on_get),
    ROW("query.GetContent", query__get_content_request, query__get_content_reply, on_content),
    ROW("query.Query", query__query_request, query__query_reply, on_query),
    ROW("query.GetAnswer", query__get_answer_request, query__get_answer_reply, on_get_answer),
    ROW("query.Search", query__search_request, query__search_reply, on_search), { 0 } };

static const struct service AUTH_PLAYER = { .name = "auth", .peer = PEER_AUTH, .routes = AUTH_ROUTES };
static const struct service INGEST_PLAYER = { .name = "ingest-worker", .peer = PEER_INGEST_WORKER, .routes = INGEST_ROUTES };
static const struct service QUERY_PLAYER = { .name = "query", .peer = PEER_QUERY, .routes = QUERY_ROUTES };

static inline enum status play(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    return service_dispatch(ctx, NULL, call, call->method, body, ret_reply);
}

/* ---- the edge ---- */

struct edge_node {
    struct node auth, ingest, query, bus;
    struct edge_settings settings;
    struct runtime rt;
    void *self;
};

static inline void edge_start_node(struct edge_node *n) {
    struct why why = { 0 };
    make_keys();
    callee_start(&n->auth, PEER_AUTH, 0, 2, play, (void *)&AUTH_PLAYER);
    callee_start(&n->ingest, PEER_INGEST_WORKER, 0, 2, play, (void *)&INGEST_PLAYER);
    callee_start(&n->query, PEER_QUERY, 0, 2, play, (void *)&QUERY_PLAYER);
    node_init(&n->bus, PEER_EDGE);
    n->bus.opt.endpoints[peer_index(PEER_AUTH)] = n->auth.listen;
    n->bus.opt.endpoints[peer_index(PEER_INGEST_WORKER)] = n->ingest.listen;
    n->bus.opt.endpoints[peer_index(PEER_QUERY)] = n->query.listen;
    node_start(&n->bus);
    n->settings = (struct edge_settings){ .http_host = "127.0.0.1", .allowed_origins = "https://app.example", .allowed_hosts = "", .trusted_proxies = "",
        .address_header = "x-forwarded-for", .rate_user = "", .rate_tenant = "", .replicas = 1, .lockout_max_s = 300, .port = free_port(),
                                          .threads = 8, .max_upload_bytes = 3000000, .upload_ms = 900000, .body_min_rate = 8192,
                                          .slow_ms = 60000 };
    n->rt = (struct runtime){ .process = "edge", .bus = n->bus.bus, .metrics = n->bus.opt.metrics };
    cr_assert_eq(EDGE.open(&n->self, &n->settings, &n->rt, &why), ST_OK, "%s", why.text);
    cr_assert_eq(EDGE.start(n->self, &n->rt, &why), ST_OK, "%s", why.text);
    WAIT_FOR(bus_peer_is_up(n->bus.bus, PEER_AUTH) && bus_peer_is_up(n->bus.bus, PEER_INGEST_WORKER) && bus_peer_is_up(n->bus.bus, PEER_QUERY));
}

static inline void edge_stop_node(struct edge_node *n) {
    EDGE.drain(n->self, clock_mono_ms() + 2000);
    EDGE.close(&n->self);
    node_stop(&n->bus);
    node_stop(&n->query);
    node_stop(&n->ingest);
    node_stop(&n->auth);
}

/* ---- a client ---- */

static inline int http_connect(const struct edge_node *n) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)n->settings.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct timeval patience = { .tv_sec = 30 };
    cr_assert_eq(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

static inline void http_send(int fd, const void *data, size_t len) {
    for (const char *p = data; len;) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n <= 0)
            return;             /* refused half way: the answer says so */
        p += n;
        len -= (size_t)n;
    }
}

/* The whole answer until the connection ends, in a buffer of the test's; its status, 0 for none. */
static inline int http_receive(int fd, struct buffer *answer) {
    char piece[65536];
    buffer_clear(answer);
    for (ssize_t n; (n = recv(fd, piece, sizeof piece, 0)) > 0;)
        (void)buffer_add(answer, piece, (size_t)n);
    close(fd);
    int status = 0;
    return answer->len && sscanf(answer->data, "HTTP/1.1 %d", &status) == 1 ? status : 0;
}

static inline int http_raw(const struct edge_node *n, const void *request, size_t len, struct buffer *answer) {
    int fd = http_connect(n);
    http_send(fd, request, len);
    return http_receive(fd, answer);
}

/* head: request line and headers without the empty line; body may be "". */
static inline int http_ask(const struct edge_node *n, struct buffer *answer, const char *token, const char *line, const char *headers,
                           const char *body) {
    struct buffer request = { 0 };
    (void)buffer_printf(&request, "%s HTTP/1.1\r\nHost: a\r\n", line);
    if (token)
        (void)buffer_printf(&request, "Authorization: Bearer %s\r\n", token);
    if (*body)
        (void)buffer_printf(&request, "Content-Length: %zu\r\n", strlen(body));
    (void)buffer_printf(&request, "%s\r\n%s", headers, body);
    int status = http_raw(n, request.data, request.len, answer);
    buffer_end(&request);
    return status;
}

static inline const char *http_body(const struct buffer *answer) {
    const char *end = answer->data ? strstr(answer->data, "\r\n\r\n") : NULL;
    return end ? end + 4 : "";
}

#endif
