#include "core/secret.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t mapping_size(size_t len) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (sizeof(struct secret) + len + 1 + page - 1) / page * page;
}

struct secret *secret_new(const void *bytes, size_t len) {
    struct secret *s = mmap(NULL, mapping_size(len), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (s == MAP_FAILED)
        abort();
    /* Best effort: RLIMIT_MEMLOCK may be small, and a process without locked pages still works. */
    (void)mlock(s, mapping_size(len));
    (void)madvise(s, mapping_size(len), MADV_DONTDUMP);
    s->len = len;
    if (len)
        memcpy(s->bytes, bytes, len);
    return s;
}

void secret_destroy(struct secret **secret_p) {
    struct secret *s = *secret_p;
    if (!s)
        return;
    size_t size = mapping_size(s->len);
    OPENSSL_cleanse(s, size);
    (void)munmap(s, size);
    *secret_p = NULL;
}

const char *secret_text(const struct secret *s) {
    return s ? (const char *)s->bytes : "";
}

bool secret_equal(const struct secret *s, const void *bytes, size_t len) {
    return s && s->len == len && CRYPTO_memcmp(s->bytes, bytes, len) == 0;
}
