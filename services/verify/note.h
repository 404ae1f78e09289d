/* note — signed notes (c2sp.org/signed-note) with checkpoints in them (c2sp.org/tlog-checkpoint), and the cosignatures
 * of witnesses (c2sp.org/tlog-cosignature). Ed25519; ECDSA for a log's key that is in KMS. Values in place. */
#ifndef VERIFY_NOTE_H
#define VERIFY_NOTE_H

#include "json.h"

enum { NAME_MAX_BYTES = 256, NOTE_MAX_BYTES = 16384, PUBLIC_KEY_MAX_BYTES = 200 };

/* "<name>+<key id>+<base64>": a log's key (its first byte is 1: Ed25519, or 2: ECDSA, then a SubjectPublicKeyInfo), or a
 * witness's (4: Ed25519). */
struct verifier { char name[NAME_MAX_BYTES]; uint8_t type, public_key[PUBLIC_KEY_MAX_BYTES]; size_t key_len; };

/* False: not a verifier key, or its id is not its own. */
bool verifier_read(struct text t, struct verifier *out);

struct checkpoint {
    char origin[NAME_MAX_BYTES];
    uint64_t size;
    struct hash root;
    struct text body;           /* what is signed; inside the note's text */
    struct text signatures;     /* the lines behind it */
};

/* Take a note apart; checks no signature. The note's text must live on. */
bool checkpoint_read(struct text note, struct checkpoint *out);
/* Is it signed by the log's key? The key's name is the origin, or the family that the origin is a member of:
 * "example.com/audit" for "example.com/audit/<tenant>". */
bool checkpoint_is_signed(const struct checkpoint *c, const struct verifier *v);
/* Did the witness cosign it? *out_time: when, by its own word, in seconds since the epoch. */
bool checkpoint_is_witnessed(const struct checkpoint *c, const struct verifier *v, uint64_t *out_time);

#endif
