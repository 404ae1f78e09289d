#include "package.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "export.h"
#include "record.h"

enum { BLOCK_BYTES = 512, READ_BYTES = 1 << 14, NAME_BYTES = 100, SIZE_AT = 124, SIZE_BYTES = 12, CHECKSUM_AT = 148, MANIFEST_MAX_BYTES = 4 << 20 };

static const char MANIFEST[] = "manifest.json", EVENTS[] = "events/", RECEIPTS[] = "receipts/", DOCUMENTS[] = "documents/";

struct member { char name[MEMBER_NAME_BYTES]; uint64_t size; struct hash sha256; };

struct package {
    FILE *in;
    const struct verifier *key;
    struct package_report *report;
    struct hasher *hasher;
    EVP_MD_CTX *digest;
    struct member *members;
    size_t members_size, count, wrong;  /* wrong: the first member inside which something is, and what */
    char wrong_text[160];
    char *line;                         /* of a member of lines, or the whole manifest */
    size_t line_size, line_len;
    uint64_t line_number;
    char *note;
    struct checkpoint checkpoint;       /* of the events */
    bool has_checkpoint, has_event;     /* has_event: its inclusion is to follow */
    struct hash leaf;
    uint64_t seq;
    struct hash *vouched;               /* digests of receipts that events hold */
    size_t vouched_count, vouched_size;
    bool cannot_read;
};

static bool wrong(struct package *p, const char *member, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static bool wrong(struct package *p, const char *member, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    (void)snprintf(p->report->member, sizeof p->report->member, "%s", member);
    (void)vsnprintf(p->report->text, sizeof p->report->text, fmt, args);
    va_end(args);
    return false;
}

/* What is wrong inside a member is kept: a member before it may turn out to be wrong as well, once the manifest is read. */
static void blame(struct package *p, const char *what, uint64_t line) {
    if (*p->wrong_text)
        return;
    p->wrong = p->count;
    (void)snprintf(p->wrong_text, sizeof p->wrong_text, "line %" PRIu64 ": %s", line, what);
}

/* ---- the archive ---- */

static bool take(struct package *p, void *out, size_t len) {
    size_t n = fread(out, 1, len, p->in);
    p->cannot_read |= ferror(p->in) != 0;
    return n == len;
}

static bool is_zero(const uint8_t *data, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (data[i])
            return false;
    return true;
}

/* The one header that a name and a size have: POSIX ustar, read-only, nobody's, of no time. */
static void make_header(const char *name, uint64_t size, uint8_t out[BLOCK_BYTES]) {
    unsigned sum = 0;
    char *text = (char *)out;
    memset(out, 0, BLOCK_BYTES);
    memcpy(out, name, strlen(name));
    memcpy(text + 100, "0000444\0" "0000000\0" "0000000", 24);
    if (size >> 33) {                   /* as GNU tar and others write what eleven octal digits cannot say */
        out[SIZE_AT] = 0x80;
        for (int i = 0; i < 8; i++)
            out[SIZE_AT + 4 + i] = (uint8_t)(size >> (56 - 8 * i));
    } else {
        (void)snprintf(text + SIZE_AT, SIZE_BYTES, "%011" PRIo64, size);
    }
    memcpy(text + 136, "00000000000", 12);
    memset(out + CHECKSUM_AT, ' ', 8);
    out[156] = '0';
    memcpy(text + 257, "ustar\0" "00", 8);
    memcpy(text + 329, "0000000\0" "0000000", 16);
    for (int i = 0; i < BLOCK_BYTES; i++)
        sum += out[i];
    (void)snprintf(text + CHECKSUM_AT, 8, "%06o", sum);
    out[CHECKSUM_AT + 7] = ' ';
}

static uint64_t read_size(const uint8_t header[BLOCK_BYTES]) {
    uint64_t size = 0;
    const uint8_t *p = header + SIZE_AT;
    if (*p & 0x80) {
        for (int i = 4; i < SIZE_BYTES; i++)
            size = size << 8 | p[i];
        return size;
    }
    for (int i = 0; i < SIZE_BYTES - 1 && p[i] >= '0' && p[i] <= '7'; i++)
        size = size << 3 | (uint64_t)(p[i] - '0');
    return size;
}

static bool is_name(const char *name) {
    for (const char *c = name; *c; c++)
        if (!((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '-' || *c == '.' || *c == '/'))
            return false;
    return *name && *name != '/' && !strstr(name, "..");
}

static bool read_header(struct package *p, const uint8_t header[BLOCK_BYTES], struct member *ret) {
    uint8_t own[BLOCK_BYTES];
    *ret = (struct member){ .size = read_size(header) };
    memcpy(ret->name, header, NAME_BYTES);
    const char *before = p->count ? p->members[p->count - 1].name : "the beginning";
    if (!is_name(ret->name) || strlen(ret->name) == NAME_BYTES)
        return wrong(p, "", "what follows %s is no member", before);
    make_header(ret->name, ret->size, own);
    return memcmp(own, header, BLOCK_BYTES) == 0 || wrong(p, ret->name, "its header was altered");
}

/* ---- lines ---- */

static bool read_checkpoint(struct package *p, const struct object *o, const char **ret_why) {
    size_t len;
    bool is_read = json_text(o, "note", p->note, NOTE_MAX_BYTES, &len) && checkpoint_read((struct text){ p->note, len }, &p->checkpoint);
    p->has_checkpoint = is_read && (!p->key || checkpoint_is_signed(&p->checkpoint, p->key));
    *ret_why = is_read ? "the checkpoint is not signed by the key" : "no checkpoint";
    return p->has_checkpoint;
}

static bool read_inclusion(struct package *p, const struct object *o, const char **ret_why) {
    struct hash proof[PROOF_MAX];
    size_t count;
    uint64_t seq;
    *ret_why = "the event is not at this place of the signed log";
    bool is_good = p->has_event && p->has_checkpoint && json_u64(o, "seq", &seq) && seq == p->seq && json_hashes(o, "hashes", proof, PROOF_MAX, &count) &&
                   tree_includes(p->hasher, seq, p->checkpoint.size, &p->leaf, proof, count, &p->checkpoint.root);
    p->has_event = false;
    return is_good;
}

/* An event that vouches for a receipt says its digest. */
static bool keep_digest(struct package *p, const struct object *event) {
    struct text action, detail;
    struct object d;
    struct hash digest;
    if (!json_plain_text(event, "action", &action) || !text_is(action, "answer.receipt") || !json_value(event, "detail", &detail) ||
        !json_object_read(detail.data, detail.len, true, &d) || !json_hash(&d, "receipt", &digest))
        return true;
    if (p->vouched_count == p->vouched_size) {
        size_t size = p->vouched_size ? p->vouched_size * 2 : 64;
        struct hash *more = realloc(p->vouched, size * sizeof *more);
        if (!more)
            return false;
        p->vouched = more;
        p->vouched_size = size;
    }
    p->vouched[p->vouched_count++] = digest;
    return true;
}

static bool read_event(struct package *p, struct text line, const struct object *event, const char **ret_why) {
    uint64_t before = p->seq;
    *ret_why = p->has_event ? "the event before has no proof" : "this is no event, or out of its place";
    if (p->has_event || !json_u64(event, "seq", &p->seq) || (p->report->events > 0 && p->seq <= before))
        return false;
    p->has_event = true;
    p->leaf = hash_leaf(p->hasher, line.data, line.len);
    p->report->events++;
    *ret_why = "out of memory";
    return keep_digest(p, event);
}

static bool event_line(struct package *p, struct text line, const char **ret_why) {
    struct object *o = calloc(1, sizeof *o);
    struct text word = { 0 };
    *ret_why = "not a line of events";
    bool is_object = o && json_object_read(line.data, line.len, false, o);
    bool is_ours = is_object && json_plain_text(o, "cordon", &word), is_good = is_object;
    if (is_ours)
        is_good = text_is(word, "checkpoint") && p->line_number == 1 ? read_checkpoint(p, o, ret_why)
                : text_is(word, "inclusion") && read_inclusion(p, o, ret_why);
    else if (is_object)
        is_good = read_event(p, line, o, ret_why);
    free(o);
    return is_good;
}

static struct hash sha256_of(struct text t) {
    struct hash out;
    if (EVP_Digest(t.data, t.len, out.bytes, NULL, EVP_sha256(), NULL) != 1)
        abort();
    return out;
}

static bool receipt_line(struct package *p, struct text line, const char **ret_why) {
    struct hash own = sha256_of(line);
    p->report->receipts++;
    *ret_why = "no event of the package vouches for this receipt";
    for (size_t i = 0; i < p->vouched_count; i++)
        if (hash_equal(&own, &p->vouched[i]))
            return true;
    return false;
}

static const struct { const char *prefix; bool (*take)(struct package *p, struct text line, const char **ret_why); } LINES[] = {
    { EVENTS, event_line }, { RECEIPTS, receipt_line },
};

typedef bool line_taker(struct package *p, struct text line, const char **ret_why);

static line_taker *taker_of(const char *name) {
    for (size_t i = 0; i < sizeof LINES / sizeof *LINES; i++)
        if (strncmp(LINES[i].prefix, name, strlen(LINES[i].prefix)) == 0)
            return LINES[i].take;
    return NULL;
}

static void make_room(struct package *p, size_t len) {
    while (p->line_size < p->line_len + len)
        if (!(p->line = realloc(p->line, p->line_size = p->line_size ? 2 * p->line_size : READ_BYTES)))
            abort();
}

static void take_lines(struct package *p, line_taker *line, const char *data, size_t len) {
    const char *why = "";
    make_room(p, len);
    for (size_t i = 0; i < len; i++) {
        if (data[i] != '\n') {
            if (p->line_len < LINE_MAX_BYTES)
                p->line[p->line_len++] = data[i];
            else
                blame(p, "too long", p->line_number + 1);
            continue;
        }
        p->line_number++;
        if (!line(p, (struct text){ p->line, p->line_len }, &why))
            blame(p, why, p->line_number);
        p->line_len = 0;
    }
}

/* ---- members ---- */

static bool take_content(struct package *p, struct member *m) {
    char data[READ_BYTES];
    uint8_t padding[BLOCK_BYTES];
    line_taker *line = taker_of(m->name);
    bool is_manifest = strcmp(m->name, MANIFEST) == 0;
    p->line_len = 0;
    p->line_number = 0;
    if (is_manifest && m->size > MANIFEST_MAX_BYTES)
        return wrong(p, m->name, "it is too long");
    if (EVP_DigestInit_ex(p->digest, EVP_sha256(), NULL) != 1)
        abort();
    for (uint64_t left = m->size; left > 0;) {
        size_t part = left < READ_BYTES ? (size_t)left : READ_BYTES;
        if (!take(p, data, part))
            return wrong(p, m->name, "the archive was cut");
        if (EVP_DigestUpdate(p->digest, data, part) != 1)
            abort();
        if (line)
            take_lines(p, line, data, part);
        if (is_manifest) {
            make_room(p, part);
            memcpy(p->line + p->line_len, data, part);
            p->line_len += part;
        }
        left -= part;
    }
    if (EVP_DigestFinal_ex(p->digest, m->sha256.bytes, NULL) != 1)
        abort();
    size_t rest = (BLOCK_BYTES - m->size % BLOCK_BYTES) % BLOCK_BYTES;
    if (!take(p, padding, rest))
        return wrong(p, m->name, "the archive was cut");
    if (!is_zero(padding, rest))
        return wrong(p, m->name, "there is something behind its end");
    if (line && (p->line_len > 0 || p->has_event))
        blame(p, "it ends in the middle", p->line_number + 1);
    p->report->documents += strncmp(m->name, DOCUMENTS, sizeof DOCUMENTS - 1) == 0;
    return true;
}

/* Members up to the manifest, which is the last. */
static bool take_members(struct package *p) {
    uint8_t block[BLOCK_BYTES];
    for (;;) {
        const char *before = p->count ? p->members[p->count - 1].name : "the beginning";
        if (!take(p, block, sizeof block))
            return wrong(p, "", "the archive was cut behind %s", before);
        if (is_zero(block, sizeof block))
            return wrong(p, MANIFEST, "it is missing");
        if (p->count == MEMBERS_MAX)
            return wrong(p, "", "there are too many members");
        if (p->count == p->members_size && !(p->members = realloc(p->members, (p->members_size = 2 * p->members_size + 8) * sizeof *p->members)))
            abort();
        struct member *m = &p->members[p->count];
        if (!read_header(p, block, m) || !take_content(p, m))
            return false;
        if (strcmp(m->name, MANIFEST) == 0)
            break;
        p->count++;
    }
    uint8_t end[2 * BLOCK_BYTES], more;
    if (!take(p, end, sizeof end) || !is_zero(end, sizeof end))
        return wrong(p, MANIFEST, "the archive was cut, or something stands behind it");
    return fread(&more, 1, 1, p->in) == 0 || wrong(p, MANIFEST, "something stands behind the end of the archive");
}

/* ---- the manifest ---- */

static bool is_listed(const struct member *m, struct text item) {
    struct object o;
    struct text name;
    struct hash sha256;
    uint64_t size;
    return json_object_read(item.data, item.len, true, &o) && o.count == 3 && json_plain_text(&o, "name", &name) && text_is(name, m->name) &&
           json_u64(&o, "size", &size) && size == m->size && json_hash(&o, "sha256", &sha256) && hash_equal(&sha256, &m->sha256);
}

static bool check_members(struct package *p, const struct object *manifest) {
    struct text members, item;
    if (!json_value(manifest, "members", &members))
        return wrong(p, MANIFEST, "it lists no members");
    for (size_t i = 0; i < p->count; i++) {
        const struct member *m = &p->members[i];
        if (!json_next_item(&members, &item))
            return wrong(p, m->name, "the manifest does not know it");
        if (!is_listed(m, item))
            return wrong(p, m->name, "it is not what the manifest lists at this place: it was altered, added or moved, or one before it is missing");
        if (*p->wrong_text && p->wrong == i)
            return wrong(p, m->name, "%s", p->wrong_text);
    }
    return !json_next_item(&members, &item) || wrong(p, MANIFEST, "a member that it lists is missing");
}

static bool check_manifest(struct package *p) {
    struct record r;
    struct object *manifest = calloc(1, sizeof *manifest);
    bool is_good = manifest && record_check((struct text){ p->line, p->line_len }, p->key, NULL, &r);
    if (!manifest)
        return false;
    if (!is_good)
        (void)wrong(p, MANIFEST, "%s", r.text);
    if (is_good && (strcmp(r.kind, "manifest") != 0 || !json_object_read(r.bytes, r.len, true, manifest)))
        is_good = wrong(p, MANIFEST, "it is no manifest");
    if (is_good && p->has_checkpoint && strcmp(r.origin, p->checkpoint.origin) != 0)
        is_good = wrong(p, EVENTS, "they are of another log than the manifest's event");
    is_good = is_good && check_members(p, manifest);
    memcpy(p->report->evidence_id, r.resource_id, sizeof p->report->evidence_id);
    p->report->seq = r.seq;
    p->report->size = r.size;
    free(r.bytes);
    free(manifest);
    return is_good;
}

bool package_check(FILE *in, const struct verifier *key, struct package_report *out) {
    struct package *p = calloc(1, sizeof *p);
    *out = (struct package_report){ 0 };
    if (!p)
        return false;
    p->in = in;
    p->key = key;
    p->report = out;
    p->hasher = hasher_new();
    p->digest = EVP_MD_CTX_new();
    make_room(p, READ_BYTES);
    p->note = malloc(NOTE_MAX_BYTES);
    bool is_ready = p->digest && p->note;
    out->is_good = is_ready && take_members(p) && check_manifest(p);
    bool was_read = is_ready && !p->cannot_read;
    EVP_MD_CTX_free(p->digest);
    hasher_free(p->hasher);
    free(p->vouched);
    free(p->note);
    free(p->line);
    free(p->members);
    free(p);
    return was_read;
}
