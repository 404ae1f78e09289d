#include "fake_cloud.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "core/arena.h"
#include "core/str.h"
#include "core/text_codec.h"
#include "crypto/digest.h"

static struct cloud_object *find(struct fake_cloud *c, const char *key) {
    for (unsigned i = 0; i < CLOUD_OBJECTS_MAX; i++)
        if (str_equal(c->objects[i].key, key))
            return &c->objects[i];
    return NULL;
}

static void put(struct fake_cloud *c, const char *key, const struct buffer *data) {
    struct cloud_object *o = find(c, key);
    o = o ? o : find(c, "");
    cr_assert_not_null(o, "no room for an object");
    snprintf(o->key, sizeof o->key, "%s", key);
    buffer_clear(&o->data);
    (void)buffer_add(&o->data, data->data, data->len);
}

static void drop(struct cloud_object *o) {
    buffer_end(&o->data);
    *o = (struct cloud_object){ 0 };
}

static bool answer_object(struct fake_cloud *c, const char *key, bool has_body, int fd) {
    struct cloud_object *o = find(c, key);
    if (!o)
        return loopback_answer(fd, 404, "", has_body ? "<Error><Code>NoSuchKey</Code></Error>" : "");
    char head[128];
    (void)snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nETag: \"e\"\r\n\r\n", o->data.len);
    loopback_write(fd, head, strlen(head));
    if (has_body)
        loopback_write(fd, o->data.data, o->data.len);
    return true;
}

#define BUCKET "/docs/"
#define SHARES "/shares/"

static bool begin_upload(struct fake_cloud *c, const char *key, const char *begun, char id[8]) {
    for (unsigned i = 0; i < CLOUD_UPLOADS_MAX; i++)
        if (!*c->uploads[i].key) {
            (void)snprintf(c->uploads[i].key, sizeof c->uploads[i].key, "%s", key);
            c->uploads[i].begun = begun;
            (void)snprintf(id, 8, "u%u", i);
            return true;
        }
    return false;
}

static void end_upload(struct fake_cloud *c, const char *query) {
    const char *id = strstr(query, "uploadId=u");
    unsigned i = 0;
    if (id && sscanf(id, "uploadId=u%u", &i) == 1 && i < CLOUD_UPLOADS_MAX)
        c->uploads[i].key[0] = '\0';
}

/* The beginning of objects' keys that a list is of, behind the bucket's name. */
static void read_prefix(const char *bucket, const char *query, char out[256]) {
    const char *p = strstr(query, "prefix=");
    out += snprintf(out, 64, "%s", bucket);
    for (p = p ? p + 7 : ""; *p && *p != '&'; p++) {
        bool is_slash = strncmp(p, "%2F", 3) == 0;
        *out++ = is_slash ? '/' : *p;
        p += is_slash ? 2 : 0;
    }
    *out = '\0';
}

static bool list_uploads(struct fake_cloud *c, const char *query, int fd) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    char prefix[256];
    read_prefix(BUCKET, query, prefix);
    const char *body = "<R><IsTruncated>false</IsTruncated>";
    for (unsigned i = 0; i < CLOUD_UPLOADS_MAX; i++)
        if (strncmp(c->uploads[i].key, prefix, strlen(prefix)) == 0)
            body = arena_printf(mem, "%s<Upload><Key>%s</Key><UploadId>u%u</UploadId><Initiated>%s</Initiated></Upload>", body,
                                c->uploads[i].key + strlen(BUCKET), i, c->uploads[i].begun);
    return loopback_answer(fd, 200, "", arena_printf(mem, "%s</R>", body));
}

/* A bucket, of whose objects each has one version, or, without versions, "null". */
static bool list_versions(struct fake_cloud *c, const char *bucket, const char *query, int fd) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    const char *body = "<R>", *id = str_equal(bucket, BUCKET) ? "v" : "null";
    char prefix[256];
    read_prefix(bucket, query, prefix);
    for (unsigned i = 0; i < CLOUD_OBJECTS_MAX; i++)
        if (str_starts_with(c->objects[i].key, prefix))
            body = arena_printf(mem, "%s<Version><Key>%s</Key><VersionId>%s</VersionId><IsLatest>true</IsLatest><Size>%zu</Size></Version>", body,
                                c->objects[i].key + strlen(bucket), id, c->objects[i].data.len);
    return loopback_answer(fd, 200, "", arena_printf(mem, "%s</R>", body));
}

static bool answer_s3(struct fake_cloud *c, const struct loopback_request *r, int fd) {
    char key[256];
    const char *query = strchr(r->target, '?') ? strchr(r->target, '?') + 1 : "";
    (void)snprintf(key, sizeof key, "%.*s", (int)strcspn(r->target, "?"), r->target);
    bool is_upload = strstr(query, "uploadId=") != NULL;
    if (str_equal(r->method, "PUT") || str_equal(r->method, "POST")) {
        if (c->put_status)
            return loopback_answer(fd, c->put_status, "", "");
        char id[8], body[64];
        if (strstr(query, "uploads")) {
            cr_assert(begin_upload(c, key, "2999-01-01T00:00:00.000Z", id));
            (void)snprintf(body, sizeof body, "<R><UploadId>%s</UploadId></R>", id);
            return loopback_answer(fd, 200, "", body);
        }
        if (is_upload && str_equal(r->method, "PUT")) {
            (void)buffer_add(&c->parts, r->body.data, r->body.len);
            return loopback_answer(fd, 200, "ETag: \"p\"\r\n", "");
        }
        put(c, key, is_upload ? &c->parts : &r->body);
        c->completed += is_upload;
        end_upload(c, query);
        return loopback_answer(fd, 200, "ETag: \"e\"\r\n", is_upload ? "<R><ETag>e</ETag></R>" : "");
    }
    if (str_equal(r->method, "DELETE")) {
        c->aborted += is_upload;
        end_upload(c, query);
        if (find(c, key) && !is_upload)
            drop(find(c, key));
        return loopback_answer(fd, 204, "", "");
    }
    if (c->get_status && (!c->get_refused || strstr(r->target, c->get_refused)))
        return loopback_answer(fd, c->get_status, "", "");
    if (strstr(query, "uploads"))
        return list_uploads(c, query, fd);
    if (strstr(query, "versions"))
        return list_versions(c, str_starts_with(r->target, "/shares") ? SHARES : BUCKET, query, fd);
    return answer_object(c, key, str_equal(r->method, "GET"), fd);
}

/* The key of a tenant and purpose: no two are the same, and each is always the same. */
static bool answer_kms(struct fake_cloud *c, const struct loopback_request *r, int fd) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    if (c->kms_status)
        return loopback_answer(fd, c->kms_status, "", arena_printf(mem, "{\"__type\":\"%s\"}", c->kms_error ? c->kms_error : ""));
    const char *context = strstr(r->body.data, "\"EncryptionContext\"");
    cr_assert_not_null(context);
    uint8_t key[SHA256_BYTES];
    sha256(context, strlen(context), key);
    c->decrypted++;
    return loopback_answer(fd, 200, "", arena_printf(mem, "{\"KeyId\":\"k\",\"Plaintext\":\"%s\"}", base64_encode(mem, key, sizeof key)));
}

static bool answer(void *ctx, const struct loopback_request *r, int fd) {
    struct fake_cloud *c = ctx;
    if (r->body.data && str_starts_with(r->body.data, "Action=GetCallerIdentity"))
        return loopback_answer(fd, 200, "Content-Type: text/xml\r\n", "<Arn>arn:aws:iam::1:user/ingest-worker</Arn>");
    pthread_mutex_lock(&c->lock);
    bool stays = str_equal(r->target, "/") ? answer_kms(c, r, fd) : answer_s3(c, r, fd);
    pthread_mutex_unlock(&c->lock);
    return stays;
}

void fake_cloud_start(struct fake_cloud *c) {
    *c = (struct fake_cloud){ 0 };
    pthread_mutex_init(&c->lock, NULL);
    c->server = loopback_start(answer, c);
}

void fake_cloud_stop(struct fake_cloud *c) {
    loopback_stop(&c->server);
    fake_cloud_lose(c, "");
    buffer_end(&c->parts);
    pthread_mutex_destroy(&c->lock);
}

static unsigned count(struct fake_cloud *c, const char *bucket) {
    unsigned n = 0;
    pthread_mutex_lock(&c->lock);
    for (unsigned i = 0; i < CLOUD_OBJECTS_MAX; i++)
        n += str_starts_with(c->objects[i].key, bucket);
    pthread_mutex_unlock(&c->lock);
    return n;
}

unsigned fake_cloud_count(struct fake_cloud *c) {
    return count(c, BUCKET);
}

unsigned fake_cloud_shares(struct fake_cloud *c) {
    return count(c, SHARES);
}

unsigned fake_cloud_uploads(struct fake_cloud *c) {
    unsigned n = 0;
    pthread_mutex_lock(&c->lock);
    for (unsigned i = 0; i < CLOUD_UPLOADS_MAX; i++)
        n += c->uploads[i].key[0] != '\0';
    pthread_mutex_unlock(&c->lock);
    return n;
}

void fake_cloud_leave(struct fake_cloud *c, const char *key, const char *begun) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    const char *path = *key == '/' ? key : arena_printf(mem, BUCKET "%s", key);
    struct buffer data = { .data = (char *)"left", .len = 4 };
    char id[8];
    pthread_mutex_lock(&c->lock);
    if (begun)
        cr_assert(begin_upload(c, path, begun, id));
    else
        put(c, path, &data);
    pthread_mutex_unlock(&c->lock);
}

bool fake_cloud_shows(struct fake_cloud *c, const char *text) {
    bool found = false;
    pthread_mutex_lock(&c->lock);
    for (unsigned i = 0; i < CLOUD_OBJECTS_MAX; i++)
        found = found || (c->objects[i].data.len && memmem(c->objects[i].data.data, c->objects[i].data.len, text, strlen(text)));
    pthread_mutex_unlock(&c->lock);
    return found;
}

void fake_cloud_lose(struct fake_cloud *c, const char *prefix) {
    pthread_mutex_lock(&c->lock);
    for (unsigned i = 0; i < CLOUD_OBJECTS_MAX; i++)
        if (str_starts_with(c->objects[i].key, prefix))
            drop(&c->objects[i]);
    pthread_mutex_unlock(&c->lock);
}
