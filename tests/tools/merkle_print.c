// links: audit
/* merkle_print root|inclusion|consistency LEAVES [INDEX | FROM]
 * Makes what audit-writer and query make of a tree: its root, or a proof, as cordon-verify reads it. LEAVES holds a leaf hash on
 * each line, 64 hexadecimal digits (with "data:" before it, the leaf's own bytes in hexadecimal). Exit status 2: bad input. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit/proof.h"
#include "core/str.h"
#include "core/text_codec.h"

enum { LINE_MAX_BYTES = 1 << 17 };

struct tree { struct merkle_hash *levels[MERKLE_LEVELS_MAX]; size_t counts[MERKLE_LEVELS_MAX], room[MERKLE_LEVELS_MAX]; };

static void give_up(const char *text) {
    (void)fprintf(stderr, "merkle_print: %s\n", text);
    exit(2);
}

static void add(struct tree *t, unsigned level, const struct merkle_hash *hash) {
    if (t->counts[level] == t->room[level])
        t->levels[level] = realloc(t->levels[level], (t->room[level] = t->room[level] ? t->room[level] * 2 : 4096) * sizeof *hash);
    t->levels[level][t->counts[level]++] = *hash;
}

static void read_leaves(const char *path, struct tree *t, struct merkle_range *range) {
    char *line = malloc(LINE_MAX_BYTES);
    uint8_t *data = malloc(LINE_MAX_BYTES);
    FILE *file = fopen(path, "re");
    if (!file || !line || !data)
        give_up("cannot open the leaves");
    while (fgets(line, LINE_MAX_BYTES, file)) {
        struct merkle_filled filled[MERKLE_LEVELS_MAX];
        struct merkle_hash leaf;
        line[strcspn(line, "\r\n")] = '\0';
        bool is_data = str_starts_with(line, "data:");
        const char *hex = is_data ? line + strlen("data:") : line;
        size_t len = strlen(hex);
        if (len % 2 || (!is_data && len != 2 * sizeof leaf.bytes) || !hex_decode(hex, len, data))
            give_up("a line is neither a hash nor data");
        if (is_data)
            leaf = merkle_leaf(data, len / 2);
        else
            memcpy(leaf.bytes, data, sizeof leaf.bytes);
        add(t, 0, &leaf);
        size_t count = merkle_append_filling(range, &leaf, filled);
        for (size_t i = 0; i < count; i++)
            add(t, filled[i].level, &filled[i].hash);
    }
    (void)fclose(file);
    free(line);
    free(data);
}

static enum status read_tree(void *ctx, unsigned level, uint64_t first, size_t count, struct merkle_hash ret_hashes[], struct why *why) {
    const struct tree *t = ctx;
    if (first + count > t->counts[level])
        return fail(why, ST_INTERNAL, "a hash that the tree has not");
    memcpy(ret_hashes, t->levels[level] + first, count * sizeof *ret_hashes);
    return ST_OK;
}

static void print_hash(const char *before, const struct merkle_hash *hash, const char *after) {
    char hex[2 * MERKLE_HASH_BYTES + 1];
    (void)printf("%s%s%s", before, hex_encode(hash->bytes, sizeof hash->bytes, hex), after);
}

static void print_proof(const struct proof *p) {
    (void)printf("\"hashes\":[");
    for (size_t i = 0; i < p->count; i++)
        print_hash(i ? ",\"" : "\"", &p->hashes[i], "\"");
    (void)printf("]}\n");
}

int main(int argc, char **argv) {
    struct tree t = { 0 };
    struct merkle_range range = { 0 };
    struct proof proof;
    struct merkle_hash old;
    struct why why = { 0 };
    int64_t at = 0;
    bool is_root = argc == 3 && str_equal(argv[1], "root");
    if (!is_root && (argc != 4 || !str_to_i64(argv[3], 0, INT64_MAX, &at)))
        give_up("usage: merkle_print root|inclusion|consistency LEAVES [INDEX | FROM]");
    read_leaves(argv[2], &t, &range);
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct merkle_hash root = merkle_root(&range);
    struct proof_reader reader = proof_reader_init(mem, range.size, read_tree, &t);
    if (is_root) {
        print_hash("", &root, "\n");
    } else if (str_equal(argv[1], "inclusion")) {
        if (proof_inclusion(&reader, (uint64_t)at, &proof, &why) != ST_OK)
            give_up(why.text);
        (void)printf("{\"seq\":%" PRId64 ",\"size\":%" PRIu64 ",", at, range.size);
        print_hash("\"leaf_hash\":\"", &t.levels[0][at], "\",");
        print_hash("\"root\":\"", &root, "\",");
        print_proof(&proof);
    } else {
        if (proof_consistency(&reader, (uint64_t)at, &proof, &why) != ST_OK || proof_root(&reader, (uint64_t)at, &old, &why) != ST_OK)
            give_up(why.text);
        (void)printf("{\"from\":%" PRId64 ",\"to\":%" PRIu64 ",", at, range.size);
        print_hash("\"from_root\":\"", &old, "\",");
        print_hash("\"to_root\":\"", &root, "\",");
        print_proof(&proof);
    }
    for (unsigned i = 0; i < MERKLE_LEVELS_MAX; i++)
        free(t.levels[i]);
    return 0;
}
