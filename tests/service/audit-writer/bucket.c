#include "bucket.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/arena.h"

const char SKEY[] = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
struct bucket bucket;

static bool put(const struct loopback_request *request, const char *key, size_t at, int fd) {
    struct bucket *b = &bucket;
    char value[64];
    if (b->puts_left == 0)
        b->is_away = true;
    b->puts_left -= b->puts_left > 0;
    if (at < b->count)
        return loopback_answer(fd, 412, "", "<Error><Code>PreconditionFailed</Code></Error>");
    b->unlocked += strcmp(loopback_header(request, "x-amz-object-lock-mode", value, sizeof value), "COMPLIANCE") != 0 ||
                   !*loopback_header(request, "x-amz-object-lock-retain-until-date", value, sizeof value) ||
                   strcmp(loopback_header(request, "if-none-match", value, sizeof value), "*") != 0;
    cr_assert_lt(b->count, BUCKET_OBJECTS_MAX);
    memcpy(b->objects[at].key, key, sizeof b->objects[at].key);
    b->objects[at].len = request->body.len;
    b->objects[at].data = memcpy(xalloc(request->body.len + 1), request->body.data, request->body.len);
    b->count++;
    return loopback_answer(fd, 200, "ETag: \"stored\"\r\n", "");
}

static bool answer(void *ctx, const struct loopback_request *request, int fd) {
    struct bucket *b = ctx;
    char key[sizeof b->objects[0].key];
    size_t at = 0;
    if (b->is_away)
        return loopback_answer(fd, 503, "", "");
    if (b->before_head && strcmp(request->method, "HEAD") == 0) {
        void (*hook)(void *) = b->before_head;
        b->before_head = NULL;
        hook(b->before_head_ctx);
    }
    (void)snprintf(key, sizeof key, "%.*s", (int)strcspn(request->target + strlen("/anchors/"), "?"), request->target + strlen("/anchors/"));
    while (at < b->count && strcmp(b->objects[at].key, key) != 0)
        at++;
    if (strstr(request->target, "?legal-hold") && at < b->count) {
        b->objects[at].is_held = strstr(request->body.data, "<Status>ON</Status>") != NULL;
        return loopback_answer(fd, 200, "", "");
    }
    if (strcmp(request->method, "PUT") == 0)
        return put(request, key, at, fd);
    if (at == b->count)
        return loopback_answer(fd, 404, "", strcmp(request->method, "HEAD") == 0 ? "" : "<Error><Code>NoSuchKey</Code></Error>");
    return loopback_answer(fd, 200, "ETag: \"stored\"\r\n", b->objects[at].data);
}

void bucket_open(void) {
    bucket = (struct bucket){ .puts_left = -1 };
    bucket.server = loopback_start(answer, &bucket);
}

void bucket_close(void) {
    loopback_stop(&bucket.server);
    for (size_t i = 0; i < bucket.count; i++)
        free(bucket.objects[i].data);
}

int bucket_find(const char *part, int n) {
    for (size_t i = 0; i < bucket.count; i++)
        if (strstr(bucket.objects[i].key, part) && n-- == 0)
            return (int)i;
    return -1;
}
