#include "directory.h"

#include <stdlib.h>
#include <string.h>

#include "core/buffer.h"
#include "core/text_codec.h"

static const char *const PURPOSES[] = { "cordon user name v1", "cordon user email v1", "cordon break-glass reason v1",
                                        "cordon refresh token v1", "cordon id token v1" };

struct directory { struct secret *sealing, *blinding; };

/* A key of its own for each purpose. */
static struct secret *derive(const uint8_t master[AEAD_KEY_BYTES], const char *purpose) {
    uint8_t key[SHA256_BYTES];
    hmac_sha256(master, AEAD_KEY_BYTES, purpose, strlen(purpose), key);
    struct secret *made = secret_new(key, sizeof key);
    explicit_bzero(key, sizeof key);
    return made;
}

enum status directory_new(const struct secret *hex, struct directory **ret_directory, struct why *why) {
    uint8_t master[AEAD_KEY_BYTES];
    if (!hex || hex->len != DIRECTORY_KEY_HEX_BYTES || !hex_decode(secret_text(hex), hex->len, master))
        return fail(why, ST_INVALID, "CORDON_DIRECTORY_KEY: not %d hexadecimal digits", DIRECTORY_KEY_HEX_BYTES);
    struct directory *made = xalloc(sizeof *made);
    made->sealing = derive(master, "cordon directory sealing v1");
    made->blinding = derive(master, "cordon directory blinding v1");
    explicit_bzero(master, sizeof master);
    *ret_directory = made;
    return ST_OK;
}

void directory_destroy(struct directory **directory_p) {
    struct directory *d = *directory_p;
    *directory_p = NULL;
    if (!d)
        return;
    secret_destroy(&d->sealing);
    secret_destroy(&d->blinding);
    free(d);
}

enum status directory_seal_for(const struct directory *directory, enum directory_field field, const uint8_t row[SHA256_BYTES], const char *text,
                               struct arena *mem, struct blob *ret_sealed, struct why *why) {
    struct aad aad;
    if (!text) {
        *ret_sealed = (struct blob){ NULL, 0 };
        return ST_OK;
    }
    aad_begin(&aad, PURPOSES[field]);
    if (row)
        aad_add_bytes(&aad, row, SHA256_BYTES);
    return aead_seal(directory->sealing, &aad, text, strlen(text), mem, ret_sealed, why);
}

enum status directory_open_for(const struct directory *directory, enum directory_field field, const uint8_t row[SHA256_BYTES], const void *sealed,
                               size_t len, struct arena *mem, const char **ret_text, struct why *why) {
    struct aad aad;
    struct blob plain = { 0 };
    if (!len) {
        *ret_text = "";
        return ST_OK;
    }
    aad_begin(&aad, PURPOSES[field]);
    if (row)
        aad_add_bytes(&aad, row, SHA256_BYTES);
    enum status st = aead_open(directory->sealing, &aad, sealed, len, mem, &plain, why);
    if (st == ST_OK)
        *ret_text = (const char *)plain.data;
    return st;
}

enum status directory_seal(const struct directory *directory, enum directory_field field, const char *text, struct arena *mem,
                           struct blob *ret_sealed, struct why *why) {
    return directory_seal_for(directory, field, NULL, text, mem, ret_sealed, why);
}

enum status directory_open(const struct directory *directory, enum directory_field field, const void *sealed, size_t len, struct arena *mem,
                           const char **ret_text, struct why *why) {
    return directory_open_for(directory, field, NULL, sealed, len, mem, ret_text, why);
}

void directory_blind(const struct directory *directory, const char *kind, const char *first, const char *second, uint8_t out[SHA256_BYTES]) {
    CLEANUP(buffer_end) struct buffer text = { 0 };
    if (!buffer_printf(&text, "%s:%zu:%s%s", kind, strlen(first), first, second))
        abort();        /* without a limit this only fails when memory is out */
    hmac_sha256(directory->blinding->bytes, directory->blinding->len, text.data, text.len, out);
}

void directory_email_blind(const struct directory *directory, const char *email, uint8_t out[SHA256_BYTES]) {
    char lower[DIRECTORY_TEXT_MAX_BYTES];
    size_t len = 0;
    for (; email && email[len] && len < sizeof lower - 1; len++)
        lower[len] = (char)(email[len] >= 'A' && email[len] <= 'Z' ? email[len] + 'a' - 'A' : email[len]);
    lower[len] = '\0';
    directory_blind(directory, "email", lower, "", out);
}

void directory_profile_blind(const struct directory *directory, const char *name, const char *email, uint8_t out[SHA256_BYTES]) {
    directory_blind(directory, "profile", name ? name : "", email ? email : "", out);
}
