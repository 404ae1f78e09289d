#include "countersign.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "crypto/cosignature.h"
#include "db/plain_tx.h"
#include "obs/log.h"

enum { STEP_MS = 10000, LINES_PER_TURN = 256 };

/* Says once what others verify the lines with. */
static enum status learn(struct countersigner *c, const char *origin, struct arena *mem, struct why *why) {
    struct blob spki;
    if (c->spki)
        return ST_OK;
    enum status st = kms_public_key(c->kms, c->key_id, clock_mono_ms() + STEP_MS, mem, &spki, why);
    if (st != ST_OK)
        return st;
    c->spki = xalloc(spki.len);
    c->spki_len = spki.len;
    memcpy(c->spki, spki.data, spki.len);
    log_event(LOG_INFO, "audit_countersigning", LOG_TEXT("verifier", ecdsa_verifier(origin, c->spki, c->spki_len, mem)));
    return ST_OK;
}

static enum status sign_one(struct countersigner *c, struct db_pool *pool, const PGresult *rows, int row, struct why *why) {
    static const struct sql PUT = { "put_line", "SELECT audit.put_line($1, $2, $3, $4)", 4 };
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct blob signature;
    struct uuid tenant_id = db_uuid(rows, row, 0);
    const char *origin = db_text(rows, row, 2), *note = db_text(rows, row, 3);
    enum status st = learn(c, origin, mem, why);
    if (st == ST_OK)
        st = kms_sign(c->kms, c->key_id, note, note_text_len(note), clock_mono_ms() + STEP_MS, mem, &signature, why);
    if (st != ST_OK)
        return st;
    const char *line = ecdsa_line(origin, c->spki, c->spki_len, signature.data, signature.len, mem);
    return db_run(pool, &PUT, (struct db_param[]){ DB_UUID(&tenant_id), DB_INT(db_i64(rows, row, 1)), DB_TEXT(origin), DB_TEXT(line) },
                  clock_mono_ms() + STEP_MS, NULL, why);
}

enum status countersign(struct countersigner *c, struct db_pool *pool, size_t *ret_count, struct why *why) {
    static const struct sql DUE = { "due_lines", "SELECT tenant_id, size, origin, note FROM audit.due_lines($1)", 1 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = db_run(pool, &DUE, (struct db_param[]){ DB_INT(LINES_PER_TURN) }, clock_mono_ms() + STEP_MS, &rows, why);
    for (int i = 0; st == ST_OK && i < db_count(rows); i++) {
        st = sign_one(c, pool, rows, i, why);
        *ret_count += st == ST_OK;
    }
    return st;
}

void countersigner_end(struct countersigner *c) {
    free(c->spki);
    c->spki = NULL;
}
