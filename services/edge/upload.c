#include <assert.h>
#include <openssl/evp.h>
#include <stddef.h>
#include <string.h>

#include "admit.h"
#include "answer.h"
#include "body.h"
#include "core/clock.h"
#include "core/fault.h"
#include "core/str.h"
#include "core/utf8.h"
#include "core/wire.h"
#include "edge.pb-c.h"
#include "ingest.pb-c.h"
#include "rest/header.h"
#include "rest/multipart.h"

enum { TICKET_MS = 30000, FORM_OVERHEAD_BYTES = 64 << 10, METADATA_MAX_BYTES = 8192, MRN_MAX_BYTES = 64, FEED_BYTES = 64 << 10,
       FORM_SPECS_MAX = 8 };

/* One upload on its way: the client's bytes are gathered into parts of BUS_PART_MAX_BYTES and go to one
 * ingest-worker as fast as it gives credit, so an upload of any size costs one part of memory here. */
struct upload {
    struct exchange *x;
    Ingest__UploadRequest req;
    struct bus_stream *stream;      /* NULL until open_stream */
    uint8_t *part;                  /* BUS_PART_MAX_BYTES, in the call's arena */
    size_t part_len;
    int64_t file_bytes, file_max_bytes, ticket_ms;
    /* The form, when it is one. */
    char field[HEADER_NAME_BYTES];  /* the part being read; "" between parts */
    struct buffer value;            /* of metadata or mrn */
    bool has_file, is_given[FORM_SPECS_MAX];
    /* What the client says that the whole body hashes to. A raw body's SHA-256 is the document's, and the worker
     * compares it; the others are computed here, NULL when there is nothing to compare with. */
    struct digests announced;
    EVP_MD_CTX *sha256, *sha512;
};

static void upload_end(struct upload *up) {
    bus_stream_destroy(&up->stream);
    buffer_end(&up->value);
    EVP_MD_CTX_free(up->sha256);
    EVP_MD_CTX_free(up->sha512);
    up->sha256 = up->sha512 = NULL;
}

static enum status refuse(struct upload *up, const char *detail) {
    (void)snprintf(up->x->detail, sizeof up->x->detail, "%s", detail);
    return fail_as(&up->x->call.why, ERR_REQ_FIELD, "upload: %s", detail);
}

/* ---- what the client says of the document ---- */

static enum status take_metadata(struct upload *up, const char *text, size_t len) {
    if (!fill_is_text_object(text, len, METADATA_MAX_BYTES))
        return refuse(up, "'metadata' must be a JSON object with string values of at most 8192 bytes");
    up->req.metadata_json = arena_strndup(up->x->call.mem, text, len);
    return ST_OK;
}

static enum status take_mrn(struct upload *up, const char *text, size_t len) {
    bool is_clean = len >= 1 && len <= MRN_MAX_BYTES && utf8_is_text(text, len, NULL);
    for (size_t i = 0; i < len && is_clean; i++)
        is_clean = (unsigned char)text[i] >= 0x20 && text[i] != 0x7f;
    if (!is_clean)
        return refuse(up, "'mrn' must be 1 to 64 bytes of text");
    up->req.mrn = arena_strndup(up->x->call.mem, text, len);
    return ST_OK;
}

static enum status take_document_id(struct upload *up, const char *text, size_t len) {
    struct uuid id;
    if (!uuid_parse(text, len, &id))
        return refuse(up, "'document_id' must be a UUIDv7");     /* the worker looks at its version */
    up->req.document_id = wire_id(up->x->call.mem, &id);
    return ST_OK;
}

static enum status take_priority(struct upload *up, const char *text, size_t len) {
    char *priority = arena_strndup(up->x->call.mem, text, len);
    if (!str_equal(priority, "interactive") && !str_equal(priority, "bulk"))
        return refuse(up, "'priority' must be interactive or bulk");
    up->req.priority = priority;
    return ST_OK;
}

/* What may be said of the document: as a field of the form before the file or, with a raw body, in a header. */
static const struct spec {
    const char *field;
    size_t header;                  /* in struct framing */
    enum status (*take)(struct upload *up, const char *text, size_t len);
} SPECS[] = {
    { "metadata", offsetof(struct framing, metadata), take_metadata },
    { "mrn", offsetof(struct framing, mrn), take_mrn },
    { "document_id", offsetof(struct framing, document_id), take_document_id },
    { "priority", offsetof(struct framing, priority), take_priority },
};
enum { SPEC_COUNT = sizeof SPECS / sizeof *SPECS };
static_assert((int)SPEC_COUNT <= (int)FORM_SPECS_MAX, "room for each");

static const struct spec *spec_find(const char *field) {
    for (size_t i = 0; i < SPEC_COUNT; i++)
        if (str_equal(SPECS[i].field, field))
            return &SPECS[i];
    return NULL;
}

/* ---- digests ---- */

static enum status begin_sum(struct upload *up, const EVP_MD *algorithm, EVP_MD_CTX **ret_sum) {
    EVP_MD_CTX *sum = EVP_MD_CTX_new();
    *ret_sum = sum;
    return sum && EVP_DigestInit_ex(sum, algorithm, NULL) == 1 ? ST_OK : fail(&up->x->call.why, ST_INTERNAL, "upload: digest");
}

static enum status take_digests(struct upload *up, bool is_raw) {
    const struct framing *f = &up->x->framing;
    struct digests *announced = &up->announced;
    if ((f->content_digest && !digests_parse(up->x->call.mem, f->content_digest, announced)) ||
        (f->repr_digest && !digests_parse(up->x->call.mem, f->repr_digest, announced)))
        return refuse(up, "Content-Digest or Repr-Digest is not as RFC 9530 says, or they say two things");
    enum status st = ST_OK;
    if (announced->has_sha256 && is_raw)
        up->req.sha256 = (ProtobufCBinaryData){ sizeof announced->sha256, announced->sha256 };
    else if (announced->has_sha256)
        st = begin_sum(up, EVP_sha256(), &up->sha256);
    return st == ST_OK && announced->has_sha512 ? begin_sum(up, EVP_sha512(), &up->sha512) : st;
}

static enum status add_to_sums(struct upload *up, const void *data, size_t len) {
    if ((up->sha256 && EVP_DigestUpdate(up->sha256, data, len) != 1) || (up->sha512 && EVP_DigestUpdate(up->sha512, data, len) != 1))
        return fail(&up->x->call.why, ST_INTERNAL, "upload: digest");
    return ST_OK;
}

static enum status check_sum(struct upload *up, EVP_MD_CTX *sum, const uint8_t *announced) {
    uint8_t found[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    if (!sum)
        return ST_OK;
    if (EVP_DigestFinal_ex(sum, found, &len) != 1)
        return fail(&up->x->call.why, ST_INTERNAL, "upload: digest");
    return memcmp(found, announced, len) == 0 ? ST_OK : fail_as(&up->x->call.why, ERR_DOC_CHECKSUM, "upload: the body does not match its digest");
}

static enum status check_sums(struct upload *up) {
    enum status st = check_sum(up, up->sha256, up->announced.sha256);
    return st == ST_OK ? check_sum(up, up->sha512, up->announced.sha512) : st;
}

static enum status take_headers(struct upload *up) {
    const struct framing *f = &up->x->framing;
    struct disposition d;
    enum status st = ST_OK;
    if (f->content_disposition) {
        if (!disposition_parse(f->content_disposition, &d))
            return refuse(up, "Content-Disposition holds no file name that can be read");
        up->req.file_name = arena_strdup(up->x->call.mem, d.file_name);
    }
    for (size_t i = 0; i < SPEC_COUNT && st == ST_OK; i++) {
        const char *text = *(const char *const *)((const char *)f + SPECS[i].header);
        if (text)
            st = SPECS[i].take(up, text, strlen(text));
    }
    return st;
}

/* ---- the stream to the worker ---- */

static enum status open_stream(struct upload *up) {
    up->part = arena_alloc(up->x->call.mem, BUS_PART_MAX_BYTES);
    return bus_stream_open(&up->x->call, up->x->route->method, &up->req.base, &up->stream);
}

/* The worker refused before the end: its reply is the answer, and the rest of the body need not be read. */
static enum status stop_early(struct upload *up) {
    ProtobufCMessage *reply = NULL;
    enum status st = bus_stream_finish(up->stream, up->x->route->reply, &reply);
    return st == ST_OK ? fail(&up->x->call.why, ST_INTERNAL, "upload: accepted before its end") : st;
}

/* Send what is gathered. The last part always carries a fresh ticket: the document is written with it. */
static enum status flush(struct upload *up, bool is_end) {
    const char *ticket = NULL;
    if (is_end || clock_mono_ms() - up->ticket_ms > TICKET_MS) {
        enum status st = admit_again(up->x, &ticket);
        if (st != ST_OK)
            return st;
        up->ticket_ms = clock_mono_ms();
    }
    enum status st = bus_stream_write(up->stream, up->part, up->part_len, is_end, ticket);
    if (is_end)
        fault_point(FAULT_EDGE_BODY_SENT);
    up->part_len = 0;
    return st == ST_OK && !is_end && bus_stream_is_answered(up->stream) ? stop_early(up) : st;
}

static enum status finish(struct upload *up) {
    ProtobufCMessage *reply = NULL;
    enum status st = bus_stream_finish(up->stream, up->x->route->reply, &reply);
    if (st == ST_OK)
        st = fault_status(FAULT_EDGE_UPLOAD_REPLIED, &up->x->call.why);
    if (st != ST_OK)
        return st;
    return answer_message(up->x, up->x->route->success, reply);
}

static enum status put_file(struct upload *up, const uint8_t *data, size_t len) {
    up->file_bytes += (int64_t)len;
    if (up->file_bytes > up->file_max_bytes)
        return fail_as(&up->x->call.why, ERR_REQ_BODY_TOO_LARGE, "upload: more than %lld bytes", (long long)up->file_max_bytes);
    while (len) {
        size_t room = BUS_PART_MAX_BYTES - up->part_len, n = len < room ? len : room;
        memcpy(up->part + up->part_len, data, n);
        up->part_len += n;
        data += n;
        len -= n;
        enum status st = up->part_len == BUS_PART_MAX_BYTES ? flush(up, false) : ST_OK;
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

/* ---- a raw body ---- */

static enum status upload_raw(struct upload *up) {
    struct exchange *x = up->x;
    enum status st = body_admit(x, up->file_max_bytes);
    if (st == ST_OK && x->framing.length_bytes == 0)
        st = fail_as(&x->call.why, ERR_DOC_EMPTY, "upload: an empty body");
    if (st == ST_OK)
        st = take_headers(up);
    if (st == ST_OK)
        st = take_digests(up, true);
    if (st != ST_OK)
        return st;
    up->req.announced_bytes = x->framing.length_bytes;
    st = open_stream(up);
    if (st != ST_OK)
        return st;
    answer_continue(x);
    for (bool is_end = false; !is_end;) {
        st = body_read(x, up->part, BUS_PART_MAX_BYTES, up->file_max_bytes, &up->part_len);
        is_end = up->part_len < BUS_PART_MAX_BYTES;
        if (st == ST_OK)
            st = add_to_sums(up, up->part, up->part_len);
        if (st == ST_OK && is_end)
            st = check_sums(up);
        if (st == ST_OK)
            st = flush(up, is_end);
        if (st != ST_OK)
            return st;
    }
    return finish(up);
}

/* ---- a form ---- */

static enum status on_part(void *ctx, const struct multipart_part *part, struct why *why) {
    (void)why;
    struct upload *up = ctx;
    const char *name = part->disposition.name;
    if (up->has_file)
        return refuse(up, "'file' must be the last part of the form");
    const struct spec *spec = spec_find(name);
    if (!spec && !str_equal(name, "file"))
        return refuse(up, "a part of the form is none of 'metadata', 'mrn', 'document_id', 'priority' and 'file'");
    if (spec && up->is_given[spec - SPECS])
        return refuse(up, "a part of the form is given twice");
    if (spec)
        up->is_given[spec - SPECS] = true;
    (void)snprintf(up->field, sizeof up->field, "%s", name);
    buffer_clear(&up->value);
    if (!str_equal(name, "file"))
        return ST_OK;
    up->has_file = true;
    up->req.file_name = arena_strdup(up->x->call.mem, part->disposition.file_name);
    up->req.content_type = arena_strdup(up->x->call.mem, *part->content_type ? part->content_type : "application/octet-stream");
    up->req.announced_bytes = -1;
    return open_stream(up);
}

static enum status on_part_data(void *ctx, const void *data, size_t len, struct why *why) {
    (void)why;
    struct upload *up = ctx;
    if (str_equal(up->field, "file"))
        return put_file(up, data, len);
    return buffer_add(&up->value, data, len) ? ST_OK : refuse(up, "a part of the form before the file is too long");
}

static enum status on_part_end(void *ctx, struct why *why) {
    (void)why;
    struct upload *up = ctx;
    const char *text = up->value.data ? up->value.data : "";
    const struct spec *spec = spec_find(up->field);
    return spec ? spec->take(up, text, up->value.len) : ST_OK;
}

static enum status feed_form(struct upload *up, struct multipart *form) {
    struct exchange *x = up->x;
    uint8_t *piece = arena_alloc(x->call.mem, FEED_BYTES);
    for (size_t len = FEED_BYTES; len == FEED_BYTES;) {
        enum status st = body_read(x, piece, FEED_BYTES, up->file_max_bytes + FORM_OVERHEAD_BYTES, &len);
        if (st == ST_OK)
            st = multipart_feed(form, piece, len, &x->call.why);
        if (st != ST_OK)
            return st;
        st = add_to_sums(up, piece, len);
        if (st != ST_OK)
            return st;
    }
    return multipart_finish(form, &x->call.why);
}

static enum status upload_form(struct upload *up, const char *boundary) {
    struct exchange *x = up->x;
    const struct multipart_sink sink = { up, on_part, on_part_data, on_part_end };
    enum status st = body_admit(x, up->file_max_bytes + FORM_OVERHEAD_BYTES);
    if (st == ST_OK)
        st = take_digests(up, false);
    if (st != ST_OK)
        return st;
    answer_continue(x);
    CLEANUP(multipart_destroy) struct multipart *form = multipart_new(boundary, &sink);
    st = feed_form(up, form);
    if (st == ST_OK && !up->has_file)
        st = refuse(up, "'file' is required");
    if (st == ST_OK)
        st = check_sums(up);
    if (st == ST_OK)
        st = flush(up, true);
    return st == ST_OK ? finish(up) : st;
}

enum status serve_upload(struct exchange *x) {
    CLEANUP(upload_end) struct upload up = {
        .x = x, .file_max_bytes = x->edge->settings->max_upload_bytes, .ticket_ms = clock_mono_ms(),
        .value = { .limit_bytes = METADATA_MAX_BYTES },
    };
    struct media_type type = { .text = "application/octet-stream" };
    ingest__upload_request__init(&up.req);
    if (x->in->query_string && *x->in->query_string)
        return refuse(&up, "an upload takes no query string: names and numbers of patients do not belong in it");
    if (x->framing.content_type && !media_type_parse(x->framing.content_type, &type))
        return fail_as(&x->call.why, ERR_REQ_MEDIA_TYPE, "upload: Content-Type");
    if (x->framing.idempotency_key) {
        const char *key = idempotency_key_parse(x->call.mem, x->framing.idempotency_key);
        if (!key)
            return refuse(&up, "Idempotency-Key must be 1 to 255 visible ASCII characters without quotes and backslashes in it");
        up.req.idempotency_key = (char *)key;
    }
    x->call.deadline_ms = clock_mono_ms() + x->edge->settings->upload_ms;
    up.req.content_type = arena_strdup(x->call.mem, type.text);
    if (!str_equal(type.text, "multipart/form-data"))
        return upload_raw(&up);
    if (!*type.boundary)
        return fail_as(&x->call.why, ERR_REQ_MEDIA_TYPE, "upload: no boundary");
    return upload_form(&up, type.boundary);
}
