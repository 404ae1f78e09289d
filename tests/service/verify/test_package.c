/* Packages of evidence that are whole are verified; whatever is done to one is found, and its member is named. */
#include <criterion/criterion.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "package.h"
#include "sample.h"

enum { EVENTS = 24, RECEIPT_SEQ = 20, SEAL_SEQ = 23, EVENTS_SIZE = 22, ENTRIES = 5, LARGE_BYTES = 3 << 20, LARGE_MUTATIONS = 300 };

static const char EVIDENCE[] = "01920000-0000-7000-8000-0000000000e1";
static const char RECEIPT[] = "{\"answer_id\":\"01920000-0000-7000-8000-0000000000a1\",\"v\":1}";

struct bytes { char *data; size_t len; };
struct entry { const char *name; struct bytes content; };
struct pack { struct sample_log *log; struct entry entries[ENTRIES]; size_t count; };

static struct verifier key;

static void add(struct bytes *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add_bytes(struct bytes *b, const void *data, size_t len) {
    b->data = realloc(b->data, b->len + len + 1);
    memcpy(b->data + b->len, data, len);
    b->data[b->len += len] = 0;
}

static void add(struct bytes *b, const char *fmt, ...) {
    static char text[65536];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    add_bytes(b, text, (size_t)len);
}

static const char *hex_of(const void *data, size_t len, bool is_hash) {
    static char out[65];
    uint8_t sum[32];
    if (is_hash)
        memcpy(sum, data, 32);
    else
        EVP_Digest(data, len, sum, NULL, EVP_sha256(), NULL);
    for (int i = 0; i < 32; i++)
        (void)snprintf(out + 2 * i, 3, "%02x", sum[i]);
    return out;
}

static void add_escaped(struct bytes *b, const char *text) {
    for (; *text; text++) {
        if (*text == '\n')
            add(b, "\\n");
        else if (*text == '"' || *text == '\\')
            add(b, "\\%c", *text);
        else
            add_bytes(b, text, 1);
    }
}

static void add_hashes(struct bytes *b, uint8_t hashes[][32], size_t count) {
    add(b, "\"hashes\":[");
    for (size_t i = 0; i < count; i++)
        add(b, "%s\"%s\"", i ? "," : "", hex_of(hashes[i], 32, true));
    add(b, "]");
}

/* As the interface of any tar says it, with nothing of the verifier's. */
static void add_member(struct bytes *b, const char *name, const void *data, size_t len) {
    char header[512] = { 0 };
    unsigned sum = 0;
    const struct { size_t at; const char *text; } FIELDS[] = { { 0, name }, { 100, "0000444" }, { 108, "0000000" }, { 116, "0000000" },
        { 136, "00000000000" }, { 257, "ustar" }, { 329, "0000000" }, { 337, "0000000" } };
    for (size_t i = 0; i < sizeof FIELDS / sizeof *FIELDS; i++)
        (void)snprintf(header + FIELDS[i].at, sizeof header - FIELDS[i].at, "%s", FIELDS[i].text);
    (void)snprintf(header + 124, 12, "%011zo", len);
    memset(header + 148, ' ', 8);
    header[156] = '0';
    memcpy(header + 263, "00", 2);
    for (int i = 0; i < 512; i++)
        sum += (unsigned char)header[i];
    (void)snprintf(header + 148, 8, "%06o", sum);
    static const char zeros[512];
    add_bytes(b, header, 512);
    add_bytes(b, data, len);
    add_bytes(b, zeros, (512 - len % 512) % 512);
}

static void make_events(struct pack *p, struct bytes *out) {
    static const unsigned CHOSEN[] = { 2, 3, 11, RECEIPT_SEQ };
    char note[SAMPLE_NOTE_MAX];
    uint8_t path[64][32];
    add(out, "{\"cordon\":\"checkpoint\",\"note\":\"");
    add_escaped(out, sample_note(p->log, EVENTS_SIZE, 0, note));
    add(out, "\"}\n");
    for (size_t i = 0; i < sizeof CHOSEN / sizeof *CHOSEN; i++) {
        add(out, "%s\n{\"cordon\":\"inclusion\",\"seq\":%u,", p->log->events[CHOSEN[i]], CHOSEN[i]);
        add_hashes(out, path, sample_path(p->log, CHOSEN[i], EVENTS_SIZE, path));
        add(out, "}\n");
    }
}

static void make_manifest(struct pack *p, struct bytes *manifest) {
    add(manifest, "{\"evidence_id\":\"%s\",\"members\":[", EVIDENCE);
    for (size_t i = 0; i < p->count; i++)
        add(manifest, "%s{\"name\":\"%s\",\"sha256\":\"%s\",\"size\":%zu}", i ? "," : "", p->entries[i].name,
            hex_of(p->entries[i].content.data, p->entries[i].content.len, false), p->entries[i].content.len);
    add(manifest, "],\"salt\":\"00\",\"tenant_id\":\"%s\",\"v\":1}", SAMPLE_TENANT);
}

/* The archive, with the manifest that its log seals. */
static struct bytes seal(struct pack *p) {
    struct bytes archive = { 0 }, manifest = { 0 }, record = { 0 };
    char note[SAMPLE_NOTE_MAX];
    uint8_t path[64][32];
    make_manifest(p, &manifest);
    snprintf(p->log->events[SEAL_SEQ], sizeof p->log->events[SEAL_SEQ],
             "{\"action\":\"evidence.seal\",\"detail\":{\"manifest\":\"%s\"},\"resource_id\":\"%s\",\"seq\":%u,\"tenant_id\":\"%s\",\"v\":1}",
             hex_of(manifest.data, manifest.len, false), EVIDENCE, SEAL_SEQ, SAMPLE_TENANT);
    sample_hash(p->log);
    add(&record, "{\"manifest\":\"");
    add_escaped(&record, manifest.data);
    add(&record, "\",\"event\":\"");
    add_escaped(&record, p->log->events[SEAL_SEQ]);
    add(&record, "\",\"seq\":%u,\"size\":%u,\"leaf_hash\":\"%s\",", SEAL_SEQ, EVENTS, hex_of(p->log->leaves[SEAL_SEQ], 32, true));
    add_hashes(&record, path, sample_path(p->log, SEAL_SEQ, EVENTS, path));
    add(&record, ",\"checkpoint\":\"");
    add_escaped(&record, sample_note(p->log, EVENTS, 0, note));
    add(&record, "\"}\n");
    for (size_t i = 0; i < p->count; i++)
        add_member(&archive, p->entries[i].name, p->entries[i].content.data, p->entries[i].content.len);
    add_member(&archive, "manifest.json", record.data, record.len);
    static const char end[1024];
    add_bytes(&archive, end, sizeof end);
    free(manifest.data);
    free(record.data);
    return archive;
}

static void pack_open(struct pack *p, size_t document_bytes) {
    static const char *const NAMES[ENTRIES] = { "documents/01920000-0000-7000-8000-0000000000d1", "documents/01920000-0000-7000-8000-0000000000d2",
                                                "documents.jsonl", "events/000001.jsonl", "receipts/000001.jsonl" };
    *p = (struct pack){ .log = calloc(1, sizeof *p->log), .count = ENTRIES };
    sample_fill(p->log, EVENTS);
    snprintf(p->log->events[RECEIPT_SEQ], sizeof p->log->events[RECEIPT_SEQ], "{\"action\":\"answer.receipt\",\"detail\":{\"receipt\":\"%s\"},\"seq\":%u,\"v\":1}",
             hex_of(RECEIPT, strlen(RECEIPT), false), RECEIPT_SEQ);
    sample_hash(p->log);
    for (size_t i = 0; i < ENTRIES; i++)
        p->entries[i].name = NAMES[i];
    char *text = malloc(document_bytes);
    memset(text, 'x', document_bytes);
    add_bytes(&p->entries[0].content, text, document_bytes);
    free(text);
    add(&p->entries[1].content, "a few words");
    add(&p->entries[2].content, "{\"id\":\"01920000-0000-7000-8000-0000000000d1\"}\n");
    make_events(p, &p->entries[3].content);
    add(&p->entries[4].content, "%s\n", RECEIPT);
}

static void pack_close(struct pack *p) {
    for (size_t i = 0; i < ENTRIES; i++)
        free(p->entries[i].content.data);
    free(p->log);
}

static struct package_report check(const char *data, size_t len) {
    struct package_report r;
    FILE *in = fmemopen((void *)data, len, "rb");
    cr_assert(package_check(in, &key, &r));
    fclose(in);
    return r;
}

static void set_up(void) {
    key = sample_verifier(0);
}

TestSuite(verify_package, .init = set_up, .timeout = 300);

Test(verify_package, a_whole_one_is_verified) {
    struct pack p;
    pack_open(&p, 700);
    struct bytes archive = seal(&p);
    struct package_report r = check(archive.data, archive.len);
    cr_expect(r.is_good, "%s: %s", r.member, r.text);
    cr_expect_eq(r.documents, 2);
    cr_expect_eq(r.events, 4);
    cr_expect_eq(r.receipts, 1);
    cr_expect_str_eq(r.evidence_id, EVIDENCE);
    key = sample_verifier(1);
    r = check(archive.data, archive.len);
    cr_expect(!r.is_good, "somebody else's signature vouches for nothing");
    free(archive.data);
    pack_close(&p);
}

/* The member that a byte is in, by its own header; *ret_is_name: the byte is one of its name. */
static const char *member_at(const struct bytes *archive, size_t at, bool *ret_is_name) {
    for (size_t from = 0;;) {
        const char *header = archive->data + from;
        size_t size = strtoul(header + 124, NULL, 8), next = from + 512 + (size + 511) / 512 * 512;
        *ret_is_name = at >= from && at < from + 100;
        if (at < next || !archive->data[next])
            return header;
        from = next;
    }
}

static void mutate(struct bytes *archive, size_t at, uint8_t by) {
    bool is_name;
    char name[101], was = archive->data[at];
    (void)snprintf(name, sizeof name, "%s", member_at(archive, at, &is_name));
    archive->data[at] = (char)(was ^ by);
    struct package_report r = check(archive->data, archive->len);
    archive->data[at] = was;
    cr_assert(!r.is_good, "byte %zu of %s, by %02x", at, name, by);
    cr_assert(is_name || strcmp(r.member, name) == 0, "byte %zu: %s named for %s (%s)", at, r.member, name, r.text);
}

Test(verify_package, every_byte_of_a_small_one_counts) {
    struct pack p;
    pack_open(&p, 700);
    struct bytes archive = seal(&p);
    for (size_t at = 0; at < archive.len; at++)
        mutate(&archive, at, (uint8_t)(1u << at % 8));
    free(archive.data);
    pack_close(&p);
}

Test(verify_package, bytes_of_a_large_one_count) {
    struct pack p;
    pack_open(&p, LARGE_BYTES);
    struct bytes archive = seal(&p);
    uint32_t seed = 12345;
    for (int i = 0; i < LARGE_MUTATIONS; i++) {
        seed = seed * 1664525 + 1013904223;
        mutate(&archive, seed % archive.len, (uint8_t)(1 + (seed >> 8) % 255));
    }
    free(archive.data);
    pack_close(&p);
}

Test(verify_package, every_cut_and_everything_added_is_found) {
    struct pack p;
    pack_open(&p, 700);
    struct bytes archive = seal(&p);
    for (size_t len = 1; len < archive.len; len += 37)
        cr_assert(!check(archive.data, len).is_good, "cut to %zu", len);
    add(&archive, "x");
    cr_expect(!check(archive.data, archive.len).is_good);
    free(archive.data);
    pack_close(&p);
}

/* What somebody does who makes a new archive of the old manifest's members. */
Test(verify_package, members_left_out_added_or_swapped_are_named) {
    struct pack p;
    pack_open(&p, 700);
    struct bytes whole = seal(&p);
    static const char *const NAMED[] = { "documents/01920000-0000-7000-8000-0000000000d2", "documents.jsonl", "documents/01920000-0000-7000-8000-0000000000d2" };
    size_t first = 512 + 1024, second = 512 + 512;
    for (int how = 0; how < 3; how++) {
        struct bytes archive = { 0 };
        if (how == 1)
            add_bytes(&archive, whole.data, first + second);
        if (how == 1)
            add_bytes(&archive, whole.data + first, second);            /* twice */
        if (how == 2) {
            add_bytes(&archive, whole.data + first, second);
            add_bytes(&archive, whole.data, first);
        }
        size_t from = how == 0 ? first : first + second;
        add_bytes(&archive, whole.data + from, whole.len - from);
        struct package_report r = check(archive.data, archive.len);
        cr_expect(!r.is_good);
        cr_expect(strcmp(r.member, NAMED[how]) == 0 || how == 1, "%d: %s %s", how, r.member, r.text);
        free(archive.data);
    }
    free(whole.data);
    pack_close(&p);
}

Test(verify_package, events_that_are_not_on_the_log_and_receipts_that_none_vouches_for_are_named) {
    for (int which = 0; which < 2; which++) {
        struct pack p;
        pack_open(&p, 700);
        if (which == 0)
            strstr(p.entries[3].content.data, "document.read")[0] = 'D';
        else
            p.entries[4].content.data[3] = 'X';
        struct bytes archive = seal(&p);        /* by one who can have a manifest sealed */
        struct package_report r = check(archive.data, archive.len);
        cr_expect(!r.is_good);
        cr_expect_str_eq(r.member, which ? "receipts/000001.jsonl" : "events/000001.jsonl", "%s", r.text);
        free(archive.data);
        pack_close(&p);
    }
}
