#include "export.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { TILE = 256, BUFFER_BYTES = 1 << 16, NOTES_MAX = 8, CONSISTENCIES_MAX = 64 };

/* ---- lines ---- */

struct lines { FILE *in; char *buffer; size_t size, begin, end; bool is_over, has_failed; };      /* as large as its longest line wants */

/* The next line without its end. False: no more (which may be for has_failed, or for a line that is too long). */
static bool next_line(struct lines *l, struct text *out, bool *ret_is_whole) {
    size_t searched = 0;
    for (;;) {
        char *from = l->buffer + l->begin, *newline = memchr(from + searched, '\n', l->end - l->begin - searched);
        if (newline) {
            *out = (struct text){ from, (size_t)(newline - from) };
            *ret_is_whole = true;
            l->begin += out->len + 1;
            return true;
        }
        searched = l->end - l->begin;
        if (l->is_over || searched > LINE_MAX_BYTES) {
            *out = (struct text){ from, searched };
            *ret_is_whole = false;
            l->begin = l->end;
            return searched > 0;
        }
        if (l->begin > 0) {
            memmove(l->buffer, from, searched);
            l->begin = 0;
            l->end = searched;
        }
        if (l->end == l->size && !(l->buffer = realloc(l->buffer, l->size *= 2)))
            abort();
        size_t got = fread(l->buffer + l->end, 1, l->size - l->end, l->in);
        l->end += got;
        if (got == 0) {
            l->is_over = true;
            l->has_failed = ferror(l->in) != 0;
        }
    }
}

/* ---- what is known while reading ---- */

struct consistency { uint64_t from, to; struct hash proof[PROOF_MAX]; size_t count; };

struct reading {
    const struct expected *e;
    struct report *report;
    struct hasher *hasher;
    struct lines lines;
    bool has_header, has_end, has_rest, is_wrong;
    uint64_t first, announced, size, next;              /* next: the seq that must come */
    char tenant[64];
    struct range events;                                /* by the events themselves */
    struct range checked, listed;                       /* up to the last list of hashes; by these, once one differs */
    struct hash leaves[TILE];                           /* of events whose hashes were not listed yet */
    size_t leaf_count;
    int64_t differs;                                    /* the first event that is not what its listed hash says; -1 */
    struct hash rest[PROOF_MAX];
    size_t rest_count;
    char notes[NOTES_MAX][NOTE_MAX_BYTES];
    struct checkpoint checkpoints[NOTES_MAX];
    size_t note_count;
    struct consistency *consistencies;
    size_t consistency_count;
    bool outside_is_good[OUTSIDE_MAX];
    uint64_t agreed;                                    /* the largest beginning that an outside checkpoint confirmed */
};

static bool wrong(struct reading *r, int64_t index, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Remember the first thing that is wrong. Returns false, for `return wrong(…)`. */
static bool wrong(struct reading *r, int64_t index, const char *fmt, ...) {
    if (!r->is_wrong) {
        va_list args;
        va_start(args, fmt);
        (void)vsnprintf(r->report->text, sizeof r->report->text, fmt, args);
        va_end(args);
        r->report->index = index;
    }
    r->is_wrong = true;
    return false;
}

/* ---- lines about the export ---- */

static bool take_header(struct reading *r, const struct object *o) {
    struct text origin, tenant;
    uint64_t version;
    if (r->has_header || !json_u64(o, "version", &version) || version != 1 || !json_plain_text(o, "origin", &origin) ||
        !json_plain_text(o, "tenant_id", &tenant) || !json_u64(o, "first", &r->first) || !json_u64(o, "events", &r->announced) ||
        !json_u64(o, "size", &r->size) || origin.len >= NAME_MAX_BYTES || tenant.len >= sizeof r->tenant ||
        r->announced > r->size || r->first > r->size - r->announced)
        return wrong(r, -1, "the first line is not that of an export, version 1");
    memcpy(r->report->origin, origin.data, origin.len);
    memcpy(r->tenant, tenant.data, tenant.len);
    r->next = r->first;
    r->has_header = true;
    return true;
}

static bool take_note(struct reading *r, const struct object *o) {
    size_t len;
    char *note = r->notes[r->note_count];
    if (r->note_count == NOTES_MAX || !json_text(o, "note", note, NOTE_MAX_BYTES, &len) ||
        !checkpoint_read((struct text){ note, len }, &r->checkpoints[r->note_count]))
        return wrong(r, -1, "line %" PRIu64 ": not a checkpoint, or too many", r->report->lines);
    r->note_count++;
    return true;
}

static bool take_range(struct reading *r, const struct object *o) {
    struct hash nodes[PROOF_MAX];
    size_t count;
    uint64_t size;
    if (!r->has_header || r->next != r->first || !json_u64(o, "size", &size) || size != r->first ||
        !json_hashes(o, "hashes", nodes, PROOF_MAX, &count) || !range_begin(&r->events, size, nodes, count))
        return wrong(r, -1, "line %" PRIu64 ": not the hashes of what comes before the first event", r->report->lines);
    r->checked = r->events;
    return true;
}

static bool take_rest(struct reading *r, const struct object *o) {
    uint64_t from;
    if (r->has_rest || !json_u64(o, "from", &from) || from != r->first + r->announced ||
        !json_hashes(o, "hashes", r->rest, PROOF_MAX, &r->rest_count))
        return wrong(r, -1, "line %" PRIu64 ": not the hashes of what comes behind the last event", r->report->lines);
    r->has_rest = true;
    return true;
}

static bool take_consistency(struct reading *r, const struct object *o) {
    if (!r->consistencies && !(r->consistencies = calloc(CONSISTENCIES_MAX + 1, sizeof *r->consistencies)))
        abort();
    struct consistency *c = &r->consistencies[r->consistency_count];
    if (r->consistency_count == CONSISTENCIES_MAX || !json_u64(o, "from", &c->from) || !json_u64(o, "to", &c->to) ||
        !json_hashes(o, "hashes", c->proof, PROOF_MAX, &c->count))
        return wrong(r, -1, "line %" PRIu64 ": not a consistency proof", r->report->lines);
    r->consistency_count++;
    return true;
}

/* The hashes of the events since the last such line. */
static bool take_hashes(struct reading *r, const struct object *o) {
    struct hash listed[TILE];
    size_t count;
    uint64_t first;
    if (!json_u64(o, "first", &first) || !json_hashes(o, "hashes", listed, TILE, &count))
        return wrong(r, -1, "line %" PRIu64 ": not a list of hashes", r->report->lines);
    if (first != r->next - r->leaf_count || count != r->leaf_count)
        return wrong(r, (int64_t)r->next, "line %" PRIu64 ": hashes of other events than those before it", r->report->lines);
    for (size_t i = 0; r->differs < 0 && i < count; i++)
        if (!hash_equal(&listed[i], &r->leaves[i])) {
            r->differs = (int64_t)(first + i);
            r->listed = r->checked;
        }
    for (size_t i = 0; r->differs >= 0 && i < count; i++)
        range_push(r->hasher, &r->listed, &listed[i]);
    r->checked = r->events;
    r->leaf_count = 0;
    return true;
}

static bool take_end(struct reading *r, const struct object *o) {
    uint64_t events;
    if (!json_u64(o, "events", &events) || events != r->announced)
        return wrong(r, -1, "line %" PRIu64 ": the last line says another number of events than the first", r->report->lines);
    r->has_end = true;
    return true;
}

static bool take_word(struct reading *r, struct text line) {
    static const struct { const char *word; bool (*take)(struct reading *r, const struct object *o); } WORDS[] = {
        { "export", take_header }, { "checkpoint", take_note }, { "range", take_range }, { "rest", take_rest },
        { "consistency", take_consistency }, { "hashes", take_hashes }, { "end", take_end },
    };
    struct object o;
    struct text word;
    if (!json_object_read(line.data, line.len, false, &o) || !json_plain_text(&o, "cordon", &word))
        return wrong(r, (int64_t)r->next, "line %" PRIu64 " is damaged", r->report->lines);
    if (!r->has_header && !text_is(word, "export"))
        return wrong(r, -1, "the first line is not that of an export, version 1");
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++)
        if (text_is(word, WORDS[i].word))
            return WORDS[i].take(r, &o);
    return true;        /* lines of other words are for other readers */
}

/* ---- events ---- */

static void look_at_outside(struct reading *r) {
    for (size_t i = 0; i < r->e->outside_count; i++) {
        const struct checkpoint *c = &r->e->outside[i];
        if (c->size != r->events.size || c->size == 0)
            continue;
        struct hash root = range_root(r->hasher, &r->events);
        r->outside_is_good[i] = hash_equal(&root, &c->root);
        if (r->outside_is_good[i] && c->size > r->agreed)
            r->agreed = c->size;
    }
}

static bool is_outside_size(const struct reading *r, uint64_t size) {
    for (size_t i = 0; i < r->e->outside_count; i++)
        if (r->e->outside[i].size == size)
            return true;
    return false;
}

static bool take_event(struct reading *r, struct text line) {
    struct object o;
    struct text tenant;
    uint64_t seq;
    if (!r->has_header)
        return wrong(r, -1, "the first line is not that of an export, version 1");
    if (!json_object_read(line.data, line.len, true, &o) || !json_u64(&o, "seq", &seq) || !json_plain_text(&o, "tenant_id", &tenant))
        return wrong(r, (int64_t)r->next, "event %" PRIu64 " is damaged: line %" PRIu64 " is no canonical event", r->next, r->report->lines);
    if (r->next == r->first + r->announced)
        return wrong(r, (int64_t)r->next, "line %" PRIu64 ": an event %" PRIu64 " behind the last one", r->report->lines, seq);
    if (seq != r->next)
        return wrong(r, (int64_t)r->next, seq > r->next ? "event %" PRIu64 " is missing: line %" PRIu64 " is event %" PRIu64
                     : "event %" PRIu64 " is out of its place: line %" PRIu64 " is event %" PRIu64, r->next, r->report->lines, seq);
    if (!text_is(tenant, r->tenant))
        return wrong(r, (int64_t)r->next, "event %" PRIu64 " is of another log", r->next);
    if (r->events.size != r->next)
        return wrong(r, -1, "the hashes of what comes before event %" PRIu64 " are missing", r->next);
    if (r->leaf_count == TILE)
        return wrong(r, (int64_t)r->next, "line %" PRIu64 ": the hashes of the events before it are missing", r->report->lines);
    struct hash leaf = hash_leaf(r->hasher, line.data, line.len);
    r->leaves[r->leaf_count++] = leaf;
    range_push(r->hasher, &r->events, &leaf);
    r->next++;
    r->report->events++;
    if (is_outside_size(r, r->next))
        look_at_outside(r);
    return true;
}

/* ---- the judgement ---- */

/* A checkpoint of the export's own size whose root is the one given. */
static const struct checkpoint *find_checkpoint(const struct reading *r) {
    for (size_t i = 0; i < r->note_count; i++)
        if (r->checkpoints[i].size == r->size && strcmp(r->checkpoints[i].origin, r->report->origin) == 0)
            return &r->checkpoints[i];
    return NULL;
}

static bool check_signatures(struct reading *r, const struct checkpoint *c) {
    uint64_t when;
    if (r->e->key && !checkpoint_is_signed(c, r->e->key))
        return wrong(r, -1, "the checkpoint is not signed by the key %s", r->e->key->name);
    for (size_t i = 0; i < r->e->witness_count; i++)
        if (!checkpoint_is_witnessed(c, &r->e->witnesses[i], &when))
            return wrong(r, -1, "the witness %s has not cosigned the checkpoint", r->e->witnesses[i].name);
    return true;
}

/* Those that lie before or behind the events: by a proof in the export, or by being the same tree. */
static bool check_outside(struct reading *r, const struct checkpoint *c) {
    for (size_t i = 0; i < r->e->outside_count; i++) {
        const struct checkpoint *o = &r->e->outside[i];
        bool is_good = r->outside_is_good[i] || o->size == 0;
        if (strcmp(o->origin, r->report->origin) != 0)
            return wrong(r, -1, "the checkpoint given is of another log: %s", o->origin);
        if (o->size > r->size)
            return wrong(r, (int64_t)r->size, "the log was cut: the checkpoint given is of %" PRIu64 " events, the export's of %" PRIu64, o->size, r->size);
        if (!is_good && o->size == r->size)
            is_good = hash_equal(&o->root, &c->root);
        for (size_t k = 0; !is_good && k < r->consistency_count; k++) {
            const struct consistency *p = &r->consistencies[k];
            is_good = p->from == o->size && p->to == r->size &&
                      tree_is_prefix(r->hasher, p->from, p->to, &o->root, &c->root, p->proof, p->count);
        }
        if (is_good)
            continue;
        bool was_read = o->size > r->first && o->size <= r->first + r->announced;
        return wrong(r, was_read ? (int64_t)r->agreed : -1, was_read
                     ? "the log was rewritten: its first %" PRIu64 " events are not those of the checkpoint given; they differ from event %" PRIu64 " on"
                     : "that the checkpoint of %" PRIu64 " events is a beginning of this log is not shown: ask for the export with since=%" PRIu64,
                     o->size, was_read ? r->agreed : o->size);
    }
    return true;
}

static bool judge(struct reading *r) {
    if (!r->has_header)
        return wrong(r, -1, "there is nothing to check");
    if (r->next != r->first + r->announced)
        return wrong(r, (int64_t)r->next, "the export was cut: event %" PRIu64 " and those behind it are missing", r->next);
    if (!r->has_end)
        return wrong(r, (int64_t)r->next, "the export was cut behind its last event");
    if (r->leaf_count > 0)
        return wrong(r, (int64_t)(r->next - r->leaf_count), "the hashes of the last events are missing");
    const struct checkpoint *c = find_checkpoint(r);
    if (!c)
        return wrong(r, -1, "no checkpoint of %s for %" PRIu64 " events is in the export", r->report->origin, r->size);
    if (!check_signatures(r, c))
        return false;
    bool is_complete = range_push_rest(r->hasher, &r->events, r->size, r->rest, r->rest_count);
    if (r->differs < 0)
        r->listed = r->checked;
    is_complete = range_push_rest(r->hasher, &r->listed, r->size, r->rest, r->rest_count) && is_complete;
    struct hash root = range_root(r->hasher, &r->events), listed = range_root(r->hasher, &r->listed);
    bool is_same = is_complete && hash_equal(&root, &c->root);
    if (!is_same && r->differs >= 0)
        return wrong(r, r->differs, is_complete && hash_equal(&listed, &c->root) ? "event %" PRId64 " was altered: it is not what was signed"
                     : "event %" PRId64 " does not match its listed hash, and the list is not what was signed either", r->differs);
    if (!is_same && r->e->outside_count > 0 && !check_outside(r, c))
        return false;
    if (!is_same)
        return wrong(r, (int64_t)(r->agreed > r->first ? r->agreed : r->first),
                     "the log was rewritten together with its hashes: the events are not what the checkpoint says, from event %" PRIu64 " on",
                     r->agreed > r->first ? r->agreed : r->first);
    if (r->differs >= 0)
        return wrong(r, r->differs, "the events are what was signed, but the hash listed for event %" PRId64 " is not", r->differs);
    return check_outside(r, c);
}

static void read_all(struct reading *r) {
    static const char WORD[] = "{\"cordon\":";
    struct text line;
    bool is_whole;
    while (next_line(&r->lines, &line, &is_whole)) {
        r->report->lines++;
        if (r->has_end && line.len > 0) {
            (void)wrong(r, (int64_t)r->next, "line %" PRIu64 ": something stands behind the end", r->report->lines);
            return;
        }
        bool is_word = line.len >= strlen(WORD) && memcmp(line.data, WORD, strlen(WORD)) == 0;
        if (!is_whole)
            (void)wrong(r, (int64_t)r->next, "the export was cut in line %" PRIu64 ", or the line is too long", r->report->lines);
        else if (is_word)
            (void)take_word(r, line);
        else
            (void)take_event(r, line);
        if (r->is_wrong)
            return;
    }
}

bool export_check(FILE *in, const struct expected *e, struct report *out) {
    struct reading *r = calloc(1, sizeof *r);
    if (!r || !(r->lines.buffer = malloc(BUFFER_BYTES)))
        abort();
    r->lines.size = BUFFER_BYTES;
    *out = (struct report){ .index = -1 };
    r->e = e;
    r->report = out;
    r->lines.in = in;
    r->hasher = hasher_new();
    r->differs = -1;
    read_all(r);
    out->is_good = !r->is_wrong && judge(r);
    out->first = r->first;
    out->size = r->size;
    bool has_failed = r->lines.has_failed;
    hasher_free(r->hasher);
    free(r->consistencies);
    free(r->lines.buffer);
    free(r);
    return !has_failed;
}
