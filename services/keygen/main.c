/* cordon-keygen — makes CURVE key pairs, the identities that processes have on the bus.
 *
 *   cordon-keygen NAME...      prints a line for each name: NAME PUBLIC-KEY SECRET-KEY (Z85, 40 characters each)
 *
 * A process gets its own secret key as CORDON_CURVE_SECRET_KEY; those that talk with it get the public one as
 * CORDON_<NAME>_PUBLIC_KEY (docs/settings.md). Pipe the output into a secret store, not into a file that stays.
 *
 * Trusts:  its arguments.
 * Holds:   nothing.
 * Fails:   exits 1 when the library cannot make keys or the output cannot be written. */
#include <czmq.h>

#include "core/str.h"

static int usage(FILE *out) {
    fputs("usage: cordon-keygen NAME...\n"
          "Makes a CURVE key pair for each name and prints: NAME PUBLIC-KEY SECRET-KEY\n", out);
    return out == stdout ? EXIT_SUCCESS : 2;
}

int main(int argc, char **argv) {
    if (argc == 2 && (str_equal(argv[1], "--help") || str_equal(argv[1], "-h")))
        return usage(stdout);
    if (argc < 2)
        return usage(stderr);
    for (int i = 1; i < argc; i++) {
        zcert_t *pair = zcert_new();            /* its own destructor wipes the key */
        if (!pair) {
            fputs("cordon-keygen: libzmq was built without CURVE\n", stderr);
            return EXIT_FAILURE;
        }
        printf("%s %s %s\n", argv[i], zcert_public_txt(pair), zcert_secret_txt(pair));
        zcert_destroy(&pair);
    }
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
