/* reconcile — compares what the document store, or the bucket of key shares, and the database have, both ways: both are read in
 * the order of the objects' keys, a page at a time, so a pass needs little memory however much there is, and a run that ends takes up where
 * the last one stood. What differs is looked at once more by itself, between two looks at its row, so that nothing that comes
 * or goes just now is reported; then it is a row of jobs.store_differences. Nothing is deleted or mended here. */
#include <string.h>

#include "core/clock.h"
#include "core/str.h"
#include "db/plain_tx.h"
#include "ingest.h"
#include "keystore/original.h"
#include "obs/log.h"

enum { PAGE_COUNT = 1000 };
static const int64_t YOUNG_US = 3600 * 1000000LL;       /* a conversation's share waits no longer for its row */

/* Names an original, or a share: its object's key is made of the two. */
struct place { struct uuid tenant, document; };

/* What the store has under one key. */
struct object {
    struct place place;
    int64_t bytes;              /* of its newest version */
    int versions;               /* and markers; 0: nothing is there */
    bool is_hidden;             /* behind a delete marker */
};

/* A bucket, and the rows that it is compared with. */
struct store {
    const char *name;           /* in jobs.store_pass */
    struct s3 *s3;
    int64_t share_bytes;        /* how long each object is; 0: that of its row, sealed */
    int64_t young_us;           /* an object without a row counts only when its UUIDv7 is older: it is put before the row is */
};

/* What the database says of one document. */
struct row {
    struct place place;
    int64_t bytes;              /* plain */
    bool is_there, must_be;     /* false, true only with is_there: its original is in the store, whole */
};

/* One page of each, cut to where both are known. */
struct page {
    struct object objects[PAGE_COUNT + 1];
    struct row rows[PAGE_COUNT];
    int n_objects, n_rows, foreign_count;
    bool has_more_objects, has_more_rows;
};

static int compare(const struct place *a, const struct place *b) {
    int order = memcmp(a->tenant.bytes, b->tenant.bytes, UUID_BYTES);
    return order ? order : memcmp(a->document.bytes, b->document.bytes, UUID_BYTES);
}

/* "tenants/<tenant>/<document>", and in no other way of writing it. */
static bool read_key(struct arena *mem, const char *key, struct place *ret_place) {
    static const char FOLDER[] = "tenants/";
    const char *tenant = str_starts_with(key, FOLDER) ? key + sizeof FOLDER - 1 : "", *slash = strchr(tenant, '/');
    return slash && uuid_parse(tenant, (size_t)(slash - tenant), &ret_place->tenant) &&
           uuid_parse(slash + 1, strlen(slash + 1), &ret_place->document) &&
           str_equal(original_object_key(mem, &ret_place->tenant, &ret_place->document), key);
}

static void add_version(struct object *object, const struct s3_version *version) {
    object->versions++;
    if (version->is_latest) {
        object->bytes = version->bytes;
        object->is_hidden = version->is_marker;
    }
}

static enum status take_version(void *ctx, const struct s3_version *version, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct page *page = ctx;
    struct place place;
    if (!read_key(mem, version->key, &place)) {
        page->foreign_count++;
        return ST_OK;
    }
    struct object *last = page->n_objects ? &page->objects[page->n_objects - 1] : NULL;
    if (!last || compare(&last->place, &place) != 0) {
        if (page->n_objects == PAGE_COUNT + 1 || (last && compare(&last->place, &place) > 0))
            return fail_as(why, ERR_STORE_UNAVAILABLE, "s3 ListObjectVersions: a page too long, or not in order");
        last = &page->objects[page->n_objects++];
        *last = (struct object){ .place = place };
    }
    add_version(last, version);
    return ST_OK;
}

static enum status read_objects(const struct store *store, struct page *page, const struct place *after, int64_t deadline_ms, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    const char *after_key = uuid_is_nil(&after->tenant) ? "" : original_object_key(mem, &after->tenant, &after->document);
    enum status st = s3_list_versions(store->s3, "tenants/", after_key, take_version, page, deadline_ms, &page->has_more_objects, why);
    if (st == ST_OK && page->has_more_objects && page->n_objects > 1)
        page->n_objects--;          /* the last key may go on behind the page */
    if (st == ST_OK && page->has_more_objects && page->n_objects == 0)
        return fail_as(why, ERR_STORE_UNAVAILABLE, "s3 ListObjectVersions: a page without an original");
    return st;
}

static enum status read_rows(struct ingest *g, const struct store *store, struct page *page, const struct place *after, int64_t deadline_ms, struct why *why) {
    static const struct sql ROWS = { "store_rows", "SELECT tenant_id, document_id, bytes, must_be FROM jobs.store_rows($1, $2, $3, $4)", 4 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = db_run(g->jobs_db, &ROWS, (struct db_param[]){ DB_TEXT(store->name), DB_UUID(&after->tenant), DB_UUID(&after->document),
                            DB_INT(PAGE_COUNT) }, deadline_ms, &rows, why);
    if (st != ST_OK)
        return st;
    page->n_rows = db_count(rows);
    page->has_more_rows = page->n_rows == PAGE_COUNT;
    for (int i = 0; i < page->n_rows; i++)
        page->rows[i] = (struct row){ { db_uuid(rows, i, 0), db_uuid(rows, i, 1) }, db_i64(rows, i, 2), true, db_bool(rows, i, 3) };
    return ST_OK;
}

/* ---- what differs ---- */

static bool is_young(const struct store *store, const struct uuid *id) {
    int64_t age_us = clock_unix_us() - uuid_v7_us(id);
    return store->young_us > 0 && age_us > -store->young_us && age_us < store->young_us;
}

/* NULL: nothing does. */
static const char *difference_of(const struct store *store, const struct row *row, const struct object *object, int64_t *ret_expected_bytes) {
    *ret_expected_bytes = store->share_bytes ? store->share_bytes : (int64_t)frames_sealed_bytes((uint64_t)row->bytes, FRAME_LOG2);
    if (!row->is_there)
        return object->versions && !is_young(store, &object->place.document) ? "orphan" : NULL;
    if (!row->must_be)
        return NULL;
    if (object->versions == 0 || object->is_hidden)
        return "missing";
    if (object->bytes != *ret_expected_bytes)
        return "size";
    return object->versions > 1 ? "versions" : NULL;
}

static enum status read_row(struct ingest *g, const struct store *store, const struct place *place, struct row *ret_row, int64_t deadline_ms, struct why *why) {
    static const struct sql ROW = { "store_row", "SELECT bytes, must_be FROM jobs.store_row($1, $2, $3)", 3 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = db_run(g->jobs_db, &ROW, (struct db_param[]){ DB_TEXT(store->name), DB_UUID(&place->tenant), DB_UUID(&place->document) },
                            deadline_ms, &rows, why);
    *ret_row = (struct row){ .place = *place };
    if (st == ST_OK && db_count(rows) > 0)
        *ret_row = (struct row){ *place, db_i64(rows, 0, 0), true, db_bool(rows, 0, 1) };
    return st;
}

/* The versions of one key, whatever else begins like it. */
static enum status take_own(void *ctx, const struct s3_version *version, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct object *object = ctx;
    struct place place;
    (void)why;
    if (read_key(mem, version->key, &place) && compare(&place, &object->place) == 0)
        add_version(object, version);
    return ST_OK;
}

/* A second look, at this one alone. Its row is the same before and behind it, or it is being changed and not reported. */
static enum status look_again(struct ingest *g, const struct store *store, const struct place *place, int64_t deadline_ms, struct why *why) {
    static const struct sql DIFFERS = { "store_differs", "SELECT jobs.store_differs($1, $2, $3, $4, $5, $6, $7)", 7 };
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct row before, after;
    struct object object = { .place = *place };
    bool has_more = false;
    int64_t expected_bytes = 0;
    enum status st = read_row(g, store, place, &before, deadline_ms, why);
    if (st == ST_OK)
        st = s3_list_versions(store->s3, original_object_key(mem, &place->tenant, &place->document), "", take_own, &object, deadline_ms, &has_more, why);
    if (st == ST_OK)
        st = read_row(g, store, place, &after, deadline_ms, why);
    bool is_settled = st == ST_OK && before.is_there == after.is_there && before.must_be == after.must_be && before.bytes == after.bytes;
    const char *kind = is_settled ? difference_of(store, &after, &object, &expected_bytes) : NULL;
    if (!kind)
        return st;
    log_event(LOG_WARN, "store_differs", LOG_TEXT("store", store->name), LOG_TEXT("kind", kind),
              LOG_TEXT("object", original_object_key(mem, &place->tenant, &place->document)),
              LOG_NUMBER("expected_bytes", after.is_there ? expected_bytes : 0), LOG_NUMBER("found_bytes", object.bytes),
              LOG_NUMBER("versions", object.versions));
    return db_run(g->jobs_db, &DIFFERS, (struct db_param[]){ DB_TEXT(store->name), DB_UUID(&place->tenant), DB_UUID(&place->document), DB_TEXT(kind),
                  after.is_there ? DB_INT(expected_bytes) : DB_NULL, object.versions ? DB_INT(object.bytes) : DB_NULL, DB_INT(object.versions) },
                  deadline_ms, NULL, why);
}

/* ---- a page ---- */

/* How far both are known; NULL: to the end. */
static const struct place *page_end(const struct page *page) {
    const struct place *objects = page->has_more_objects ? &page->objects[page->n_objects - 1].place : NULL;
    const struct place *rows = page->has_more_rows ? &page->rows[page->n_rows - 1].place : NULL;
    return !objects ? rows : !rows ? objects : compare(objects, rows) < 0 ? objects : rows;
}

static enum status compare_page(struct ingest *g, const struct store *store, const struct page *page, const struct place *end,
                                int64_t deadline_ms, struct why *why,
                                int *ret_objects, int *ret_rows) {
    enum status st = ST_OK;
    int o = 0, r = 0;
    while (st == ST_OK) {
        const struct object *object = o < page->n_objects && (!end || compare(&page->objects[o].place, end) <= 0) ? &page->objects[o] : NULL;
        const struct row *row = r < page->n_rows && (!end || compare(&page->rows[r].place, end) <= 0) ? &page->rows[r] : NULL;
        if (!object && !row)
            break;
        int order = !row ? -1 : !object ? 1 : compare(&object->place, &row->place);
        struct place place = order <= 0 ? object->place : row->place;
        int64_t expected_bytes;
        if (difference_of(store, order >= 0 ? row : &(struct row){ .place = place }, order <= 0 ? object : &(struct object){ .place = place }, &expected_bytes))
            st = look_again(g, store, &place, deadline_ms, why);
        o += order <= 0;
        r += order >= 0;
    }
    *ret_objects = o;
    *ret_rows = r;
    return st;
}

static enum status report(struct ingest *g, const struct store *store, const struct place *end, int objects, int rows, int foreign_count,
                          int64_t deadline_ms, struct why *why) {
    static const struct sql COMPARED = { "store_compared", "SELECT jobs.store_compared($1, $2, $3, $4, $5, $6)", 6 };
    return db_run(g->jobs_db, &COMPARED, (struct db_param[]){ DB_TEXT(store->name), DB_UUID(end ? &end->tenant : NULL), DB_UUID(end ? &end->document : NULL),
                  DB_INT(objects), DB_INT(rows), DB_INT(foreign_count) }, deadline_ms, NULL, why);
}

static enum status compare_store(struct ingest *g, const struct store *store, int64_t deadline_ms, struct why *why) {
    static const struct sql BEGIN = { "store_begin", "SELECT tenant_id, document_id FROM jobs.store_begin($1)", 1 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct page *page = arena_alloc(mem, sizeof *page);
    enum status st = db_run(g->jobs_db, &BEGIN, (struct db_param[]){ DB_TEXT(store->name) }, deadline_ms, &rows, why);
    if (st != ST_OK)
        return st;
    struct place at = { db_uuid(rows, 0, 0), db_uuid(rows, 0, 1) };
    while (clock_mono_ms() < deadline_ms && !schedule_should_stop(g->schedule)) {
        int n_objects = 0, n_rows = 0;
        memset(page, 0, sizeof *page);
        st = read_objects(store, page, &at, deadline_ms, why);
        if (st == ST_OK)
            st = read_rows(g, store, page, &at, deadline_ms, why);
        const struct place *end = st == ST_OK ? page_end(page) : NULL;
        if (st == ST_OK)
            st = compare_page(g, store, page, end, deadline_ms, why, &n_objects, &n_rows);
        if (st == ST_OK)
            st = report(g, store, end, n_objects, n_rows, page->foreign_count, deadline_ms, why);
        if (st != ST_OK || !end)
            return st;
        at = *end;
    }
    return ST_OK;
}

enum status reconcile_originals(struct ingest *g, int64_t deadline_ms, struct why *why) {
    return compare_store(g, &(struct store){ .name = "originals", .s3 = g->s3 }, deadline_ms, why);
}

enum status reconcile_shares(struct ingest *g, int64_t deadline_ms, struct why *why) {
    return compare_store(g, &(struct store){ .name = "shares", .s3 = shares_bucket(g->shares), .share_bytes = SHARE_OBJECT_BYTES, .young_us = YOUNG_US },
                         deadline_ms, why);
}
