// links: aws
/* sigv4_print CONTEXT REQUEST header|query canonical-request|string-to-sign|signature|authorization|chunks|all
 * Runs a request through the signer that every AWS client of ours uses and prints one of its steps, so that any
 * suite of examples can be compared. CONTEXT is a JSON object:
 *   credentials {access_key_id, secret_access_key, token}, region, service, timestamp "2015-08-30T12:36:00Z",
 *   normalize (true), sign_body (false: no x-amz-content-sha256 header), expiration_in_seconds (3600),
 *   omit_session_token (false), path_as_sent (false; true is S3's rule),
 *   payload "sha256" (of the body), "unsigned" or "streaming"; the body then goes in chunks of chunk_bytes (65536), and
 *   `chunks` prints the signature of each
 * REQUEST is an HTTP request as text: request line, headers, an empty line, the body. A line that begins with a
 * space goes on with the value before it, as one more value. Exit status 2: a file cannot be used. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aws/sigv4.h"
#include "core/buffer.h"
#include "core/str.h"
#include "json/reader.h"

enum { PAIRS_MAX = 64, FILE_MAX_BYTES = 1 << 20 };

struct context {
    struct credentials *credentials;
    const char *timestamp, *region, *service;
    bool normalize, sign_body, omit_session_token, path_as_sent;
    const char *payload;
    int64_t expires_s, chunk_bytes;
};

struct input {
    struct sigv4_request request;
    struct sigv4_pair query[PAIRS_MAX], headers[PAIRS_MAX];
    const char *body;
    size_t body_len;
};

static void give_up(const char *text) {
    (void)fprintf(stderr, "sigv4_print: %s\n", text);
    exit(2);
}

static char *read_file(struct arena *mem, const char *path, size_t *ret_len) {
    char *text = arena_alloc(mem, FILE_MAX_BYTES + 1);
    FILE *file = fopen(path, "rb");
    if (!file)
        give_up("cannot open a file");
    *ret_len = fread(text, 1, FILE_MAX_BYTES, file);
    (void)fclose(file);
    return text;
}

/* Takes over what it needs from the tree, which must outlive it. */
static void read_context(const json_t *json, struct context *c) {
    struct why why = { 0 };
    const json_t *credentials = NULL;
    const char *id = "", *key = "", *token = "";
    c->normalize = true;
    c->expires_s = 3600;
    c->chunk_bytes = 65536;
    c->payload = "sha256";
    if (json_get_object(json, "credentials", JSON_REQUIRED, &credentials, &why) != ST_OK ||
        json_get_text(credentials, "access_key_id", JSON_REQUIRED, 128, &id, &why) != ST_OK ||
        json_get_text(credentials, "secret_access_key", JSON_REQUIRED, 256, &key, &why) != ST_OK ||
        json_get_text(credentials, "token", JSON_OPTIONAL, 4096, &token, &why) != ST_OK ||
        json_get_text(json, "timestamp", JSON_REQUIRED, 20, &c->timestamp, &why) != ST_OK ||
        json_get_text(json, "region", JSON_REQUIRED, 64, &c->region, &why) != ST_OK ||
        json_get_text(json, "service", JSON_REQUIRED, 64, &c->service, &why) != ST_OK ||
        json_get_bool(json, "normalize", JSON_OPTIONAL, &c->normalize, &why) != ST_OK ||
        json_get_bool(json, "sign_body", JSON_OPTIONAL, &c->sign_body, &why) != ST_OK ||
        json_get_bool(json, "omit_session_token", JSON_OPTIONAL, &c->omit_session_token, &why) != ST_OK ||
        json_get_bool(json, "path_as_sent", JSON_OPTIONAL, &c->path_as_sent, &why) != ST_OK ||
        json_get_text(json, "payload", JSON_OPTIONAL, 16, &c->payload, &why) != ST_OK ||
        json_get_i64(json, "chunk_bytes", JSON_OPTIONAL, 1, FILE_MAX_BYTES, &c->chunk_bytes, &why) != ST_OK ||
        json_get_i64(json, "expiration_in_seconds", JSON_OPTIONAL, 1, 604800, &c->expires_s, &why) != ST_OK)
        give_up(why.text);
    CLEANUP(secret_destroy) struct secret *secret = secret_new(key, strlen(key));
    struct secret *session = *token ? secret_new(token, strlen(token)) : NULL;
    c->credentials = credentials_new(id, secret, c->omit_session_token ? NULL : session, 0);
    secret_destroy(&session);
}

static void decode(char *text) {
    char *out = text;
    for (; *text; text++) {
        unsigned byte;
        if (*text == '%' && sscanf(text + 1, "%2x", &byte) == 1) {
            *out++ = (char)byte;
            text += 2;
        } else {
            *out++ = *text;
        }
    }
    *out = '\0';
}

static void read_query(char *text, struct input *in) {
    char *rest = NULL;
    for (char *pair = strtok_r(text, "&", &rest); pair; pair = strtok_r(NULL, "&", &rest)) {
        char *value = strchr(pair, '=');
        if (in->request.n_query == PAIRS_MAX)
            give_up("too many query parameters");
        if (value)
            *value++ = '\0';
        else
            value = pair + strlen(pair);
        decode(pair);
        decode(value);
        in->query[in->request.n_query++] = (struct sigv4_pair){ pair, value };
    }
}

static void add_header(struct input *in, const char *name, const char *value) {
    if (in->request.n_headers == PAIRS_MAX)
        give_up("too many headers");
    in->headers[in->request.n_headers++] = (struct sigv4_pair){ name, value };
}

/* Cut the next line off; NULL at the end. */
static char *next_line(char **rest, const char *end) {
    char *line = *rest;
    if (line >= end)
        return NULL;
    char *newline = memchr(line, '\n', (size_t)(end - line));
    *rest = newline ? newline + 1 : (char *)end;
    if (newline)
        *newline = '\0';
    size_t len = strlen(line);
    if (len > 0 && line[len - 1] == '\r')
        line[len - 1] = '\0';
    return line;
}

static void read_request(char *text, size_t len, struct input *in) {
    char *rest = text, *end = text + len;
    char *line = next_line(&rest, end), *path = line ? strchr(line, ' ') : NULL, *version = path ? strrchr(path + 1, ' ') : NULL;
    if (!path || !version)
        give_up("no request line");
    *path++ = '\0';
    *version = '\0';
    in->request.method = line;
    in->request.path = path;
    char *query = strchr(path, '?');
    if (query) {
        *query++ = '\0';
        read_query(query, in);
    }
    while ((line = next_line(&rest, end)) && *line) {
        char *value = strchr(line, ':');
        if (line[0] == ' ' && in->request.n_headers > 0) {
            add_header(in, in->headers[in->request.n_headers - 1].name, line);
        } else if (value) {
            *value++ = '\0';
            add_header(in, line, value);
        } else {
            give_up("a header without a colon");
        }
    }
    in->body = rest;
    in->body_len = (size_t)(end - rest);
    in->request.query = in->query;
    in->request.headers = in->headers;
}

/* What stands in the canonical request for the body. */
static const char *payload_of(const struct context *c, const struct input *in, char digest[SHA256_HEX_BYTES]) {
    if (str_equal(c->payload, "unsigned"))
        return SIGV4_UNSIGNED;
    if (str_equal(c->payload, "streaming"))
        return SIGV4_STREAMING;
    if (!str_equal(c->payload, "sha256"))
        give_up("payload is none of sha256, unsigned and streaming");
    return sha256_hex(in->body, in->body_len, digest);
}

/* Signatures of the body's chunks and of the empty one behind them, a line each. */
static char *chunks_of(struct arena *mem, const struct context *c, const struct sigv4_scope *scope, const struct input *in, const char *signature) {
    CLEANUP(buffer_end) struct buffer out = { 0 };
    char previous[SHA256_HEX_BYTES], next[SHA256_HEX_BYTES];
    memcpy(previous, signature, sizeof previous);
    for (size_t at = 0, len = 1; len > 0; at += len) {
        len = in->body_len - at < (size_t)c->chunk_bytes ? in->body_len - at : (size_t)c->chunk_bytes;
        sigv4_chunk_signature(c->credentials->secret_access_key, scope, previous, in->body + at, len, next);
        (void)buffer_printf(&out, "%s\n", next);
        memcpy(previous, next, sizeof next);
    }
    return arena_strdup(mem, out.data);
}

int main(int argc, char **argv) {
    if (argc != 5 || (!str_equal(argv[3], "header") && !str_equal(argv[3], "query")))
        give_up("usage: sigv4_print CONTEXT REQUEST header|query canonical-request|string-to-sign|signature|authorization|chunks|all");
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(json_destroy) json_t *json = NULL;
    struct why why = { 0 };
    struct context c = { 0 };
    struct input in = { 0 };
    size_t len;
    char *text = read_file(mem, argv[1], &len);
    if (json_parse(text, len, FILE_MAX_BYTES, &json, &why) != ST_OK)
        give_up(why.text);
    read_context(json, &c);
    text = read_file(mem, argv[2], &len);
    read_request(text, len, &in);
    struct sigv4_scope scope = { .region = c.region, .service = c.service };
    for (size_t i = 0, n = 0; c.timestamp[i] && n + 1 < sizeof scope.time; i++)
        if (c.timestamp[i] != '-' && c.timestamp[i] != ':')
            scope.time[n++] = c.timestamp[i];
    char digest[SHA256_HEX_BYTES], signature[SHA256_HEX_BYTES];
    in.request.payload = payload_of(&c, &in, digest);
    in.request.path_rule = c.path_as_sent ? SIGV4_PATH_AS_SENT : c.normalize ? SIGV4_PATH_NORMALIZED : SIGV4_PATH_ENCODED;
    bool is_query = str_equal(argv[3], "query");
    if (!is_query)
        add_header(&in, "X-Amz-Date", scope.time);
    if (!is_query && c.credentials->session_token)
        add_header(&in, "X-Amz-Security-Token", secret_text(c.credentials->session_token));
    if (c.sign_body)
        add_header(&in, "x-amz-content-sha256", in.request.payload);
    char *canonical = NULL;
    const char *authorization;
    if (is_query) {
        authorization = sigv4_presign(mem, c.credentials, &scope, &in.request, (unsigned)c.expires_s, &canonical);
    } else {
        authorization = sigv4_authorization(mem, c.credentials, &scope, &in.request);
        canonical = sigv4_canonical_request(mem, &in.request);
    }
    const char *to_sign = sigv4_string_to_sign(mem, &scope, canonical);
    sigv4_signature(c.credentials->secret_access_key, &scope, to_sign, signature);
    const struct { const char *name, *value; } steps[] = {
        { "canonical-request", canonical }, { "string-to-sign", to_sign }, { "signature", signature }, { "authorization", authorization },
        { "chunks", str_equal(c.payload, "streaming") ? chunks_of(mem, &c, &scope, &in, signature) : "" } };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (str_equal(argv[4], "all") && *steps[i].value)
            (void)printf("%s%s:\n%s\n", i ? "\n" : "", steps[i].name, steps[i].value);
        else if (str_equal(argv[4], steps[i].name))
            (void)printf("%s", steps[i].value);
    credentials_release(&c.credentials);
    return 0;
}
