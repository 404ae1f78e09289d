#include "record.h"

#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EVENT_MAX_BYTES = 1 << 18, CHUNKS_MAX = 256, SALT_BYTES = 32 };

/* id: the member that says whose it is, which the event says too. NULL: of such a paper nothing is looked at but its bytes. */
static const struct record_kind { const char *kind, *action, *other_action, *id; } KINDS[] = {
    { "receipt", "answer.receipt", NULL, "answer_id" }, { "manifest", "evidence.seal", NULL, "evidence_id" },
    { "certificate", "erasure.complete", "tenant.destroy", NULL },      /* of an erasure, or of a tenant's end */
};

static bool wrong(struct record *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static bool wrong(struct record *r, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(r->text, sizeof r->text, fmt, args);
    va_end(args);
    return false;
}

static struct hash digest(const char *prefix, const uint8_t *salt, struct text t) {
    struct hash out;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1 || EVP_DigestUpdate(ctx, prefix, strlen(prefix)) != 1 ||
        (salt && EVP_DigestUpdate(ctx, salt, SALT_BYTES) != 1) || EVP_DigestUpdate(ctx, t.data, t.len) != 1 ||
        EVP_DigestFinal_ex(ctx, out.bytes, NULL) != 1)
        abort();
    EVP_MD_CTX_free(ctx);
    return out;
}

/* ---- the event ---- */

static bool same_member(const struct object *a, const char *a_name, const struct object *b, const char *b_name) {
    struct text one, other;
    return json_plain_text(a, a_name, &one) && json_plain_text(b, b_name, &other) && one.len == other.len && memcmp(one.data, other.data, one.len) == 0;
}

/* Is this event the one that vouches for the bytes? */
static bool check_event(struct record *r, const struct object *event, const struct object *body, const struct record_kind *kind) {
    struct text detail, said, resource;
    struct object d;
    struct hash own = digest("", NULL, (struct text){ r->bytes, r->len }), listed;
    uint64_t seq;
    if (!json_plain_text(event, "action", &said) || !(text_is(said, kind->action) || (kind->other_action && text_is(said, kind->other_action))))
        return wrong(r, "the event is not one of a %s", r->kind);
    if (!json_u64(event, "seq", &seq) || seq != r->seq)
        return wrong(r, "the event is another one than the proof is of");
    if (!json_value(event, "detail", &detail) || !json_object_read(detail.data, detail.len, true, &d) || !json_hash(&d, r->kind, &listed) ||
        !hash_equal(&own, &listed))
        return wrong(r, "the %s was altered: the event vouches for another one", r->kind);
    if (json_plain_text(event, "resource_id", &resource) && resource.len < sizeof r->resource_id)
        memcpy(r->resource_id, resource.data, resource.len);
    if (kind->id && (!same_member(event, "resource_id", body, kind->id) || !same_member(event, "tenant_id", body, "tenant_id")))
        return wrong(r, "the %s is of something else than its event", r->kind);
    return true;
}

static bool check_place(struct record *r, const struct object *file, const struct verifier *key, struct text event_bytes) {
    struct hash proof[PROOF_MAX], leaf, listed, root;
    char *note = malloc(NOTE_MAX_BYTES);
    struct checkpoint c;
    size_t count, len;
    bool is_read = note && json_u64(file, "size", &r->size) && json_hashes(file, "hashes", proof, PROOF_MAX, &count) &&
                   json_hash(file, "leaf_hash", &listed) && json_text(file, "checkpoint", note, NOTE_MAX_BYTES, &len) &&
                   checkpoint_read((struct text){ note, len }, &c);
    bool is_signed = is_read && (!key || checkpoint_is_signed(&c, key)), is_same = is_signed && c.size == r->size, is_there = false;
    if (is_same) {
        struct hasher *h = hasher_new();
        leaf = hash_leaf(h, event_bytes.data, event_bytes.len);
        root = c.root;
        memcpy(r->origin, c.origin, sizeof r->origin);
        is_there = hash_equal(&leaf, &listed) && tree_includes(h, r->seq, r->size, &leaf, proof, count, &root);
        hasher_free(h);
    }
    free(note);
    return !is_read ? wrong(r, "there is no proof of the event: no checkpoint covered it yet when this was fetched")
         : !is_signed ? wrong(r, "the checkpoint is not signed by the key")
         : !is_same ? wrong(r, "the checkpoint is of a tree of another size")
         : !is_there ? wrong(r, "the event is not at this place of the signed log") : true;
}

/* ---- commitments ---- */

static bool check_opening(struct record *r, const char *kind, struct text text, const uint8_t salt[SALT_BYTES], const struct hash *listed) {
    char prefix[64];
    (void)snprintf(prefix, sizeof prefix, "cordon receipt v1 %s\n", kind);
    struct hash own = digest(prefix, salt, text);
    r->opened_count++;
    return hash_equal(&own, listed) || wrong(r, "the %s is not what the receipt commits to", kind);
}

/* A text beside its salt in the file; without a salt it stays closed. */
static bool check_member(struct record *r, const struct object *file, const struct object *body, const char *kind, const char *salt_name,
                         const struct text *given) {
    struct hash salt, listed;
    struct text quoted;
    if (!json_has(body, kind))
        return true;
    if (!json_hash(body, kind, &listed))
        return wrong(r, "the receipt's commitment to the %s is damaged", kind);
    if (!json_hash(file, salt_name, &salt) || (!given && !json_value(file, kind, &quoted))) {
        r->closed_count++;
        return true;
    }
    if (given)
        return check_opening(r, kind, *given, salt.bytes, &listed);
    char *text = malloc(quoted.len);
    size_t len;
    bool is_good = text && text_unescape(quoted, text, quoted.len, &len) ? check_opening(r, kind, (struct text){ text, len }, salt.bytes, &listed)
                                                                        : wrong(r, "the %s is no text", kind);
    free(text);
    return is_good;
}

static bool check_chunk(struct record *r, struct text text, struct text salt, const struct hash *listed) {
    uint8_t bytes[SALT_BYTES];
    if (text_is(salt, "\"\"") || salt.len < 2) {
        r->closed_count++;
        return true;
    }
    size_t len;
    char *plain = malloc(text.len);
    bool is_good = plain && text_unescape(text, plain, text.len, &len) && hex_read((struct text){ salt.data + 1, salt.len - 2 }, bytes, SALT_BYTES)
                   ? check_opening(r, "chunk", (struct text){ plain, len }, bytes, listed) : wrong(r, "a chunk's text or salt is damaged");
    free(plain);
    return is_good;
}

static bool check_chunks(struct record *r, const struct object *file, const struct object *body) {
    struct hash *listed = calloc(CHUNKS_MAX, sizeof *listed);
    struct text texts, salts, text, salt;
    size_t count;
    if (!listed || !json_hashes(body, "chunks", listed, CHUNKS_MAX, &count)) {
        free(listed);
        return wrong(r, "the receipt's commitments to chunks are damaged");
    }
    bool is_good = true, is_open = json_value(file, "chunk_texts", &texts) && json_value(file, "chunk_salts", &salts) && !text_is(texts, "[]");
    for (size_t i = 0; is_good && is_open && i < count; i++)
        is_good = json_next_item(&texts, &text) && json_next_item(&salts, &salt) ? check_chunk(r, text, salt, &listed[i])
                                                                                  : wrong(r, "there are fewer texts than chunks");
    if (is_good && is_open && (json_next_item(&texts, &text) || json_next_item(&salts, &salt)))
        is_good = wrong(r, "there are more texts than chunks");
    if (!is_open)
        r->closed_count += (unsigned)count;
    free(listed);
    return is_good;
}

static bool check_commitments(struct record *r, const struct object *file, const struct object *body, const struct text *prompt) {
    return check_member(r, file, body, "question", "question_salt", NULL) && check_member(r, file, body, "output", "output_salt", NULL) &&
           check_member(r, file, body, "prompt", "prompt_salt", prompt) && check_chunks(r, file, body);
}

/* ---- the whole ---- */

static bool check(struct record *r, const struct object *file, const struct verifier *key, const struct text *prompt, char *event_bytes, size_t which) {
    struct object *event = calloc(2, sizeof *event), *body = event ? event + 1 : NULL;
    size_t len;
    bool is_good = event && json_u64(file, "seq", &r->seq) && json_text(file, "event", event_bytes, EVENT_MAX_BYTES, &len) &&
                   json_object_read(event_bytes, len, true, event) ? true : wrong(r, "there is no event: this was not on the log yet when it was fetched");
    if (is_good && KINDS[which].id && !json_object_read(r->bytes, r->len, true, body))
        is_good = wrong(r, "the %s is damaged", r->kind);
    is_good = is_good && check_place(r, file, key, (struct text){ event_bytes, len }) && check_event(r, event, body, &KINDS[which]);
    if (is_good && which == 0)
        is_good = check_commitments(r, file, body, prompt);
    free(event);
    return is_good;
}

bool record_check(struct text file, const struct verifier *key, const struct text *prompt, struct record *out) {
    struct object *o = calloc(1, sizeof *o);
    struct text quoted = { 0 };
    size_t which = 0;
    *out = (struct record){ .kind = "record" };
    while (file.len > 0 && (file.data[file.len - 1] == '\n' || file.data[file.len - 1] == '\r'))
        file.len--;
    bool is_read = o && json_object_read(file.data, file.len, false, o);
    while (is_read && which < sizeof KINDS / sizeof *KINDS && !json_value(o, KINDS[which].kind, &quoted))
        which++;
    is_read = is_read && which < sizeof KINDS / sizeof *KINDS;
    out->bytes = is_read ? malloc(quoted.len) : NULL;
    is_read = out->bytes && text_unescape(quoted, out->bytes, quoted.len, &out->len);
    char *event_bytes = is_read ? malloc(EVENT_MAX_BYTES) : NULL;
    if (event_bytes)
        out->kind = KINDS[which].kind;
    bool is_good = event_bytes ? check(out, o, key, prompt, event_bytes, which) : wrong(out, "this is no receipt, manifest or certificate");
    free(event_bytes);
    free(o);
    return is_good;
}
