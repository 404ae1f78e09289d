#include "body.h"

#include "answer.h"
#include "core/clock.h"

/* A read of READ_BYTES may take as long as the slowest rate that is allowed. */
enum { READ_BYTES = 64 << 10, DISCARD_PATIENCE_MS = 300, DISCARD_MAX_BYTES = 8 << 20 };

enum status body_admit(struct exchange *x, int64_t max_bytes) {
    const struct framing *f = &x->framing;
    if (!f->is_chunked && f->length_bytes < 0)
        return fail_as(&x->call.why, ERR_REQ_LENGTH_REQUIRED, "no length and no chunks");
    if (f->length_bytes > max_bytes)
        return fail_as(&x->call.why, ERR_REQ_BODY_TOO_LARGE, "%lld bytes announced, %lld allowed", (long long)f->length_bytes,
                       (long long)max_bytes);
    return ST_OK;
}

/* One read of at most size bytes: > 0, 0 at the end of the body, -1 when it ends too early. */
static int read_some(struct exchange *x, void *data, size_t size, int64_t patience_ms) {
    int64_t left = x->framing.is_chunked ? (int64_t)size : x->framing.length_bytes - x->body_read_bytes;
    if (left <= 0)
        return 0;
    size_t want = (int64_t)size < left ? size : (size_t)left;
    x->vigil.is_writing = false;
    patience_begin(x->edge->patience, &x->vigil, clock_mono_ms() + patience_ms);
    int got = mg_read(x->conn, data, want);
    bool is_cut = patience_end(x->edge->patience, &x->vigil);
    if (got > 0)
        x->body_read_bytes += got;
    x->is_slow = x->is_slow || is_cut;
    if (is_cut || got < 0 || (!x->framing.is_chunked && (size_t)got < want))
        return -1;              /* with a length, mg_read gives all that was asked for, or the client is gone */
    return got;
}

static enum status cut_short(struct exchange *x) {
    if (x->is_slow || clock_mono_ms() > x->call.deadline_ms)
        return fail_as(&x->call.why, ERR_REQ_TOO_SLOW, "body: too slow after %lld bytes", (long long)x->body_read_bytes);
    return fail_as(&x->call.why, ERR_REQ_TRUNCATED, "body: cut short after %lld bytes", (long long)x->body_read_bytes);
}

enum status body_read(struct exchange *x, void *data, size_t size, int64_t max_bytes, size_t *ret_len) {
    size_t len = 0;
    int64_t patience_ms = READ_BYTES * 1000LL / x->edge->settings->body_min_rate;
    while (len < size) {
        size_t want = size - len < READ_BYTES ? size - len : READ_BYTES;
        int64_t left_ms = x->call.deadline_ms - clock_mono_ms();
        int got = left_ms <= 0 ? -1 : read_some(x, (char *)data + len, want, patience_ms < left_ms ? patience_ms : left_ms);
        if (got < 0)
            return cut_short(x);
        if (got == 0)
            break;
        len += (size_t)got;
        if (x->body_read_bytes > max_bytes)
            return fail_as(&x->call.why, ERR_REQ_BODY_TOO_LARGE, "body: more than %lld bytes", (long long)max_bytes);
    }
    *ret_len = len;
    return ST_OK;
}

enum status body_read_all(struct exchange *x, struct buffer *out) {
    int64_t max_bytes = (int64_t)x->route->body_max_bytes;
    enum status st = body_admit(x, max_bytes);
    if (st != ST_OK)
        return st;
    answer_continue(x);
    char *piece = arena_alloc(x->call.mem, READ_BYTES);
    for (size_t len = READ_BYTES; len == READ_BYTES;) {
        st = body_read(x, piece, READ_BYTES, max_bytes, &len);
        if (st != ST_OK)
            return st;
        (void)buffer_add(out, piece, len);
    }
    return ST_OK;
}

void body_discard(struct exchange *x) {
    char *piece = arena_alloc(x->call.mem, READ_BYTES);
    int64_t until_ms = clock_mono_ms() + DISCARD_PATIENCE_MS, total = 0;
    if (x->framing.wants_continue || x->is_slow || x->is_broken || !guard_has_body(&x->framing))
        return;                 /* a client that waits for our word has sent nothing */
    for (int64_t now_ms; total < DISCARD_MAX_BYTES && (now_ms = clock_mono_ms()) < until_ms;) {
        int got = read_some(x, piece, READ_BYTES, until_ms - now_ms);
        if (got <= 0)
            return;
        total += got;
    }
}
