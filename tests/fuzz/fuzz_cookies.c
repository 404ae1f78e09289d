// links: edge_lib
/* Any Cookie header: what is found is one secret of ours, and it stands in the header just once under that name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cookies.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    char *header = malloc(size + 1), secret[COOKIE_SECRET_BYTES + 1];
    memcpy(header, data, size);
    header[size] = '\0';
    if (cookies_find(header, COOKIE_SESSION, secret)) {
        char pair[sizeof COOKIE_SESSION + COOKIE_SECRET_BYTES + 1];
        (void)snprintf(pair, sizeof pair, COOKIE_SESSION "=%s", secret);
        if (strlen(secret) != COOKIE_SECRET_BYTES || strspn(secret, "0123456789abcdef") != COOKIE_SECRET_BYTES || !strstr(header, pair))
            abort();
    }
    (void)cookies_csrf_fits("secret", header);
    free(header);
    return 0;
}
