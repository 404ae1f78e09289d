// links: secrets
/* What AWS might answer: the clients ask a server on loopback that says what the fuzzer wants. The first byte says what is
 * asked for, the second with which status it is answered, the rest is the body. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "aws/bedrock.h"
#include "aws/bedrock_control.h"
#include "aws/kms.h"
#include "aws/s3.h"
#include "aws/secretsmanager.h"
#include "aws/sources.h"
#include "core/clock.h"

enum { ASK_MS = 200, HEAD_BYTES = 16384, BODY_BYTES = 1 << 20 };

static const int STATUSES[] = { 200, 200, 200, 200, 400, 403, 404, 412, 500, 304 };

/* Under the lock: whoever was given up may still be read from. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { int status; uint8_t body[BODY_BYTES]; size_t len; } answer;

static void set_answer(int status, const uint8_t *body, size_t len) {
    pthread_mutex_lock(&lock);
    answer.status = status;
    answer.len = len < BODY_BYTES ? len : BODY_BYTES;
    memcpy(answer.body, body, answer.len);
    pthread_mutex_unlock(&lock);
}

/* ---- the server ---- */

static bool write_all(int fd, const void *data, size_t len) {
    ssize_t n = 0;
    for (const char *p = data; len > 0 && (n = send(fd, p, len, MSG_NOSIGNAL)) > 0; p += n)
        len -= (size_t)n;
    return len == 0;
}

/* One request, head and body. False: the connection is over. */
static bool read_request(int fd, bool *ret_is_head) {
    char head[HEAD_BYTES] = "", *end = NULL;
    size_t len = 0;
    while (!end) {
        ssize_t n = recv(fd, head + len, sizeof head - 1 - len, 0);
        if (n <= 0)
            return false;
        len += (size_t)n;
        end = strstr(head, "\r\n\r\n");
    }
    const char *said = strcasestr(head, "\r\ncontent-length:");
    size_t body = said && said < end ? strtoul(said + sizeof "\r\ncontent-length:" - 1, NULL, 10) : 0;
    for (size_t got = len - (size_t)(end + 4 - head); got < body;) {
        ssize_t n = recv(fd, head, sizeof head < body - got ? sizeof head : body - got, 0);
        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    *ret_is_head = strncmp(head, "HEAD", 4) == 0;
    return true;
}

static void *serve(void *arg) {
    int fd = (int)(intptr_t)arg, one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    for (bool is_head = false, goes_on = true; goes_on && read_request(fd, &is_head);) {
        CLEANUP(buffer_end) struct buffer out = { 0 };
        pthread_mutex_lock(&lock);
        (void)buffer_printf(&out, "HTTP/1.1 %d Said\r\nContent-Length: %zu\r\nETag: \"1\"\r\nx-amzn-requestid: 1\r\n\r\n", answer.status, answer.len);
        if (!is_head && answer.status != 304)
            (void)buffer_add(&out, answer.body, answer.len);
        pthread_mutex_unlock(&lock);
        goes_on = write_all(fd, out.data, out.len);
    }
    close(fd);
    return NULL;
}

static void *accept_all(void *arg) {
    int listener = (int)(intptr_t)arg;
    for (int fd; (fd = accept(listener, NULL, NULL)) >= 0;) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) != 0)
            abort();
        (void)pthread_detach(thread);
    }
    return NULL;
}

static char url[64];

static void start_server(void) {
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof at;
    pthread_t thread;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (void *)&at, sizeof at) != 0 || listen(listener, 16) != 0 || getsockname(listener, (void *)&at, &len) != 0 ||
        pthread_create(&thread, NULL, accept_all, (void *)(intptr_t)listener) != 0)
        abort();
    (void)pthread_detach(thread);
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d", ntohs(at.sin_port));
}

/* ---- the questions ---- */

struct clients { struct aws *aws; struct s3 *s3; struct kms *kms; struct bedrock *bedrock; struct http_client *http; };

static const struct uuid TENANT = { { 1, 2, 3, 4, 5, 6, 0x77, 8, 0x89, 10, 11, 12, 13, 14, 15, 16 } };
#define KEY "tenants/01020304-0506-7708-890a-0b0c0d0e0f10/x"

static enum status take_bytes(void *ctx, const void *data, size_t len, struct why *why) {
    (void)why;
    for (size_t i = 0; i < len; i++)
        *(size_t *)ctx += ((const uint8_t *)data)[i];
    return ST_OK;
}

static enum status take_text(void *ctx, const char *text, size_t len, struct why *why) {
    return take_bytes(ctx, text, len, why);
}

static enum status take_version(void *ctx, const struct s3_version *version, struct why *why) {
    if (!*version->key || !*version->id || version->bytes < 0)
        abort();
    return take_bytes(ctx, version->key, strlen(version->key), why);
}

static void ask_s3(struct clients *c, struct arena *mem, int64_t until, struct why *why) {
    size_t seen = 0;
    bool has_more = false;
    struct s3_head head;
    (void)mem;
    (void)!s3_list_versions(c->s3, KEY, "", take_version, &seen, until, &has_more, why);
    (void)!s3_get(c->s3, KEY, 0, 0, take_bytes, &seen, until, why);
    (void)!s3_head(c->s3, KEY, until, &head, why);
}

static void ask_uploads(struct clients *c, struct arena *mem, int64_t until, struct why *why) {
    unsigned count = 0;
    (void)mem;
    (void)!s3_abort_uploads(c->s3, "tenants/", clock_unix_us(), until, &count, why);
}

static void ask_deletion(struct clients *c, struct arena *mem, int64_t until, struct why *why) {
    unsigned count = 0;
    (void)mem;
    (void)!s3_delete_versions(c->s3, KEY, until, &count, why);
}

static void ask_sts(struct clients *c, struct arena *mem, int64_t until, struct why *why) {
    CLEANUP(credentials_release) struct credentials *session = NULL;
    CLEANUP(credentials_release) struct credentials *web = NULL;
    struct sts_role role = { .arn = "arn:aws:iam::1:role/r", .session_name = "" };
    char *arn = NULL, name[64];
    if (sts_identity(c->aws, url, until, mem, &arn, why) == ST_OK && sts_arn_name(arn, name, sizeof name) && !*name)
        abort();
    (void)!sts_assume_role(c->aws, url, &role, until, &session, why);
    (void)!sts_assume_with_web_identity(c->http, "us-east-1", url, &role, "token", until, &web, why);
}

static void ask_metadata(struct clients *c, struct arena *mem, int64_t until, struct why *why) {
    struct aws_settings settings = { .region = "us-east-1", .container_relative_uri = "", .container_token_file = "", .container_token = secret_new("", 0),
                                     .container_full_uri = url, .metadata_endpoint = url };
    struct source_context context = { .settings = &settings, .http = c->http, .metadata = c->http, .allow_plain = true };
    CLEANUP(credentials_release) struct credentials *container = NULL;
    CLEANUP(credentials_release) struct credentials *instance = NULL;
    (void)mem;
    (void)!fetch_from_container(&context, until, &container, why);
    (void)!fetch_from_instance(&context, until, &instance, why);
    secret_destroy(&settings.container_token);
}

static void ask_kms(struct clients *c, struct arena *mem, int64_t until, struct why *why) {
    struct tenant_key_blob wrapped = { .version = 1, .kms_key_id = "k", .wrapped = { (uint8_t *)"x", 1 } };
    CLEANUP(secret_destroy) struct secret *key = NULL;
    struct kms_key found;
    struct blob spki;
    (void)!kms_decrypt_tenant_key(c->kms, &wrapped, &TENANT, until, &key, why);
    (void)!kms_find_key(c->kms, "k", until, mem, &found, why);
    (void)!kms_public_key(c->kms, "k", until, mem, &spki, why);
}

static void ask_secret(struct clients *c, struct arena *mem, int64_t until, struct why *why) {
    CLEANUP(secret_destroy) struct secret *text = NULL;
    (void)mem;
    if (secretsmanager_get(c->aws, url, "arn", "AWSCURRENT", "", until, &text, why) == ST_OK && text->len > SECRETSMANAGER_TEXT_MAX_BYTES)
        abort();
}

static void ask_model(struct clients *c, struct arena *mem, int64_t until, struct why *why) {
    struct embed_request embed = { "m", "text", false };
    struct converse_request converse = { "m", "system", "user", 8, "", "" };
    struct converse_reply reply;
    float vector[BEDROCK_DIMENSIONS];
    uint32_t tokens = 0;
    (void)!bedrock_embed(c->bedrock, &embed, until, vector, &tokens, why);
    (void)!bedrock_converse(c->bedrock, &converse, until, mem, &reply, why);
}

static void ask_stream(struct clients *c, struct arena *mem, int64_t until, struct why *why) {
    size_t seen = 0;
    struct converse_request converse = { "m", "system", "user", 8, "", "" };
    struct converse_sink sink = { .on_text = take_text, .ctx = &seen };
    struct converse_reply reply;
    (void)!bedrock_converse_stream(c->bedrock, &converse, &sink, until, mem, &reply, why);
}

static void ask_account(struct clients *c, struct arena *mem, int64_t until, struct why *why) {
    const char **list = NULL;
    if (bedrock_log_places(c->aws, url, until, mem, &list, why) == ST_OK)
        while (*list && **list)
            list++;
    if (bedrock_profile_regions(c->aws, url, "p", until, mem, &list, why) == ST_OK)
        while (*list && **list)
            list++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static void (*const QUESTIONS[])(struct clients *c, struct arena *mem, int64_t until, struct why *why) = {
        ask_s3, ask_uploads, ask_deletion, ask_sts, ask_metadata, ask_kms, ask_secret, ask_model, ask_stream, ask_account,
    };
    static struct clients clients;
    if (!clients.aws) {
        start_server();
        clients.aws = aws_new(&(struct aws_options){ .region = "us-east-1", .allow_plain = true,
            .credentials = credentials_static(credentials_from_texts("AKID", "secret", NULL, 0)) });
        clients.s3 = s3_new(clients.aws, url, "bucket");
        clients.kms = kms_new(clients.aws, url);
        clients.bedrock = bedrock_new(clients.aws, url);
        clients.http = http_client_new(&(struct http_options){ .allow_plain = true });
    }
    if (size < 2)
        return 0;
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct why why = { 0 };
    set_answer(STATUSES[data[1] % (sizeof STATUSES / sizeof *STATUSES)], data + 2, size - 2);
    QUESTIONS[data[0] % (sizeof QUESTIONS / sizeof *QUESTIONS)](&clients, mem, clock_mono_ms() + ASK_MS, &why);
    return 0;
}
