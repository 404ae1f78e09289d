// links: embedding-worker_lib
/* What embedding-worker reads: tickets, for whose they are; the setting of tenants' weights and budgets; and what a model
 * says, which comes out the same in whatever pieces it came. */
#include <stdlib.h>
#include <string.h>

#include "accounts.h"
#include "core/arena.h"
#include "core/buffer.h"
#include "prompt.h"

static enum status keep(void *ctx, const char *text, size_t len, struct why *why) {
    (void)why;
    (void)buffer_add(ctx, text, len);
    return ST_OK;
}

static int answer(const char *text, size_t len, size_t portion, struct buffer *out) {
    struct prompt_reader reader = { 0 };
    struct why why = { 0 };
    for (size_t at = 0; at < len; at += portion)
        if (prompt_feed(&reader, text + at, portion < len - at ? portion : len - at, keep, out, &why) != ST_OK)
            abort();
    if (prompt_end(&reader, keep, out, &why) != ST_OK || reader.state == PROMPT_UNSURE)
        abort();
    return (int)reader.state;
}

static void check_answer(const char *text, size_t len) {
    CLEANUP(buffer_end) struct buffer whole = { 0 };
    CLEANUP(buffer_end) struct buffer pieces = { 0 };
    if (answer(text, len, len ? len : 1, &whole) != answer(text, len, len % 5 + 1, &pieces) || whole.len != pieces.len ||
        (whole.len > 0 && memcmp(whole.data, pieces.data, whole.len) != 0))
        abort();
}

static void check_settings(const char *text) {
    CLEANUP(metrics_destroy) struct metrics *metrics = metrics_new();
    CLEANUP(accounts_destroy) struct accounts *accounts = NULL;
    struct accounts_options options = { .prices = { 20000, 3000000, 15000000 }, .exceptions = text, .series_count = 1, .metrics = metrics };
    struct uuid tenant = accounts_payer(text);
    struct why why = { 0 };
    if (accounts_new(&options, &accounts, &why) != ST_OK)
        return;
    if (!(accounts_weight(accounts, &tenant) >= 1))
        abort();
    accounts_charge(accounts, &tenant, (uint64_t[USE_COUNT]){ 1, 1, 1 }, 1);
    (void)!accounts_admit(accounts, &tenant, 1, &why);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    check_answer((const char *)data, size);
    check_settings(arena_strndup(mem, (const char *)data, size));
    return 0;
}
