/* cordon-keygen — makes the keys that Cordon's processes are started with, and keeps none.
 *
 *   cordon-keygen NAME...             CURVE key pairs, the identities that processes have on the bus: a line for each
 *                                     name, NAME PUBLIC-KEY SECRET-KEY (Z85, 40 characters each)
 *   cordon-keygen --checkpoint NAME   the key that heads of the audit log are signed with; NAME is the log's for
 *                                     ever, "audit.your-company.example". Two lines: the secret CORDON_CHECKPOINT_KEY,
 *                                     and the verifier key that whoever checks the log is given beforehand
 *
 * A process gets its own secret key as CORDON_CURVE_SECRET_KEY; those that talk with it get the public one as
 * CORDON_<NAME>_PUBLIC_KEY (docs/settings.md). Pipe the output into a secret store, not into a file that stays.
 *
 * Trusts:  its arguments.
 * Holds:   nothing.
 * Fails:   exits 1 when the library cannot make keys or the output cannot be written. */
#include <czmq.h>

#include "core/str.h"
#include "crypto/note.h"

static int usage(FILE *out) {
    fputs("usage: cordon-keygen NAME...\n"
          "Makes a CURVE key pair for each name and prints: NAME PUBLIC-KEY SECRET-KEY\n"
          "       cordon-keygen --checkpoint NAME\n"
          "Makes the key that heads of the audit log called NAME are signed with; prints the secret key, then the verifier key\n", out);
    return out == stdout ? EXIT_SUCCESS : 2;
}

static int make_checkpoint_key(const char *name) {
    struct why why = { 0 };
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(secret_destroy) struct secret *text = NULL;
    CLEANUP(note_key_destroy) struct note_key *key = NULL;
    if (note_key_make(name, &text, &why) != ST_OK || note_key_new(text, &key, &why) != ST_OK) {
        (void)fprintf(stderr, "cordon-keygen: %s\n", why.text);
        return EXIT_FAILURE;
    }
    printf("%s\n%s\n", secret_text(text), note_verifier(key, note_origin(key, "", mem), mem));
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv) {
    if (argc == 2 && (str_equal(argv[1], "--help") || str_equal(argv[1], "-h")))
        return usage(stdout);
    if (argc == 3 && str_equal(argv[1], "--checkpoint"))
        return make_checkpoint_key(argv[2]);
    if (argc < 2 || argv[1][0] == '-')
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
