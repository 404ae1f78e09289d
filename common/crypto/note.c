#include "crypto/note.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/str.h"
#include "core/text_codec.h"
#include "crypto/digest.h"

/* Of a key id, and before a key: Ed25519 (c2sp.org/signed-note). */
enum { TYPE_ED25519 = 1, KEY_BYTES = 32, ID_BYTES = 4, SIGNATURE_BYTES = 64, TYPED_KEY_BYTES = 1 + KEY_BYTES };

static const char PRIVATE[] = "PRIVATE+KEY+";

struct note_key {
    char *name;
    EVP_PKEY *pair;
    uint8_t typed_public[TYPED_KEY_BYTES];
};

static bool is_name(const char *name, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (name[i] <= ' ' || name[i] > '~' || name[i] == '+')
            return false;
    return len > 0 && len <= NOTE_NAME_MAX_BYTES;
}

static void key_id(const char *name, const uint8_t typed_public[TYPED_KEY_BYTES], uint8_t out[ID_BYTES]) {
    CLEANUP(sha256_destroy) struct sha256 *digest = sha256_new();
    uint8_t whole[SHA256_BYTES];
    sha256_update(digest, name, strlen(name));
    sha256_update(digest, "\n", 1);
    sha256_update(digest, typed_public, TYPED_KEY_BYTES);
    sha256_peek(digest, whole);
    memcpy(out, whole, ID_BYTES);
}

static EVP_PKEY *pair_from_seed(const uint8_t seed[KEY_BYTES], uint8_t typed_public[TYPED_KEY_BYTES]) {
    size_t len = KEY_BYTES;
    EVP_PKEY *pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, KEY_BYTES);
    typed_public[0] = TYPE_ED25519;
    if (!pair || EVP_PKEY_get_raw_public_key(pair, typed_public + 1, &len) != 1 || len != KEY_BYTES)
        abort();
    return pair;
}

/* Where the parts of "PRIVATE+KEY+name+id+key" are; base64 may hold a '+' too, so only the first two count. */
static bool take_apart(const char *text, const char **ret_name, size_t *ret_name_len, const char **ret_id, const char **ret_key) {
    if (!str_starts_with(text, PRIVATE))
        return false;
    const char *name = text + strlen(PRIVATE), *plus = strchr(name, '+'), *next = plus ? strchr(plus + 1, '+') : NULL;
    if (!next || next - plus - 1 != 2 * ID_BYTES || !is_name(name, (size_t)(plus - name)))
        return false;
    *ret_name = name;
    *ret_name_len = (size_t)(plus - name);
    *ret_id = plus + 1;
    *ret_key = next + 1;
    return true;
}

enum status note_key_new(const struct secret *text, struct note_key **ret_key, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    const char *name, *id_text, *key_text;
    size_t name_len, key_len;
    uint8_t *typed, id[ID_BYTES], computed[ID_BYTES];
    if (!take_apart(secret_text(text), &name, &name_len, &id_text, &key_text) || !hex_decode(id_text, 2 * ID_BYTES, id) ||
        !base64_decode(mem, key_text, strlen(key_text), &typed, &key_len))
        return fail(why, ST_INVALID, "note key: not of the form PRIVATE+KEY+name+id+key");
    CLEANUP(note_key_destroy) struct note_key *key = xalloc(sizeof *key);
    bool is_ours = key_len == TYPED_KEY_BYTES && typed[0] == TYPE_ED25519;
    if (is_ours)
        key->pair = pair_from_seed(typed + 1, key->typed_public);
    OPENSSL_cleanse(typed, key_len);
    if (!is_ours)
        return fail(why, ST_INVALID, "note key: not an Ed25519 key");
    key->name = xstrdup(arena_strndup(mem, name, name_len));
    key_id(key->name, key->typed_public, computed);
    if (memcmp(id, computed, ID_BYTES) != 0)
        return fail(why, ST_INVALID, "note key: its id is another's");
    *ret_key = key;
    key = NULL;
    return ST_OK;
}

void note_key_destroy(struct note_key **key_p) {
    struct note_key *key = *key_p;
    if (!key)
        return;
    EVP_PKEY_free(key->pair);
    free(key->name);
    free(key);
    *key_p = NULL;
}

enum status note_key_make(const char *name, struct secret **ret_text, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    uint8_t typed[TYPED_KEY_BYTES] = { TYPE_ED25519 }, typed_public[TYPED_KEY_BYTES], id[ID_BYTES];
    char id_text[2 * ID_BYTES + 1];
    if (!is_name(name, strlen(name)))
        return fail(why, ST_INVALID, "note key: its name is empty, too long, or has a space or '+'");
    if (RAND_priv_bytes(typed + 1, KEY_BYTES) != 1)
        abort();
    EVP_PKEY_free(pair_from_seed(typed + 1, typed_public));
    key_id(name, typed_public, id);
    char *key = base64_encode(mem, typed, sizeof typed);
    char *text = arena_printf(mem, "%s%s+%s+%s", PRIVATE, name, hex_encode(id, sizeof id, id_text), key);
    *ret_text = secret_new(text, strlen(text));
    OPENSSL_cleanse(typed, sizeof typed);
    OPENSSL_cleanse(key, strlen(key));
    OPENSSL_cleanse(text, strlen(text));
    return ST_OK;
}

char *note_origin(const struct note_key *key, const char *member, struct arena *mem) {
    return *member ? arena_printf(mem, "%s/%s", key->name, member) : arena_strdup(mem, key->name);
}

char *note_verifier(const struct note_key *key, const char *origin, struct arena *mem) {
    uint8_t id[ID_BYTES];
    char id_text[2 * ID_BYTES + 1];
    key_id(origin, key->typed_public, id);
    return arena_printf(mem, "%s+%s+%s", origin, hex_encode(id, sizeof id, id_text), base64_encode(mem, key->typed_public, TYPED_KEY_BYTES));
}

char *note_sign(const struct note_key *key, const char *origin, uint64_t size, const uint8_t root[NOTE_ROOT_BYTES],
                struct arena *mem) {
    uint8_t signature[ID_BYTES + SIGNATURE_BYTES];
    size_t len = SIGNATURE_BYTES;
    char *text = arena_printf(mem, "%s\n%" PRIu64 "\n%s\n", origin, size, base64_encode(mem, root, NOTE_ROOT_BYTES));
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    key_id(origin, key->typed_public, signature);
    if (!ctx || EVP_DigestSignInit(ctx, NULL, NULL, NULL, key->pair) != 1 ||
        EVP_DigestSign(ctx, signature + ID_BYTES, &len, (const uint8_t *)text, strlen(text)) != 1 || len != SIGNATURE_BYTES)
        abort();
    EVP_MD_CTX_free(ctx);
    return arena_printf(mem, "%s\n\xe2\x80\x94 %s %s\n", text, origin, base64_encode(mem, signature, sizeof signature));
}

bool note_is_signed(const struct note_key *key, const char *note, struct arena *mem) {
    const char *size_text = strchr(note, '\n'), *root_text = size_text ? strchr(size_text + 1, '\n') : NULL;
    const char *end = root_text ? strchr(root_text + 1, '\n') : NULL;
    uint8_t *root;
    size_t root_len;
    int64_t size;
    if (!end || !str_to_i64(arena_strndup(mem, size_text + 1, (size_t)(root_text - size_text) - 1), 0, INT64_MAX, &size) ||
        !base64_decode(mem, root_text + 1, (size_t)(end - root_text) - 1, &root, &root_len) || root_len != NOTE_ROOT_BYTES)
        return false;
    return str_starts_with(note, note_sign(key, arena_strndup(mem, note, (size_t)(size_text - note)), (uint64_t)size, root, mem));
}
