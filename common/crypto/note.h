/* note — signed notes (c2sp.org/signed-note) whose text is a checkpoint (c2sp.org/tlog-checkpoint): the size and
 * root of a log's tree, signed with Ed25519. One key signs for a whole family of logs, "cordon.example/audit" for
 * "cordon.example/audit/<tenant>": each log is a name of its own to whoever verifies, so its key id is too. A key
 * is read once and only read afterwards; any thread. */
#ifndef CORDON_CRYPTO_NOTE_H
#define CORDON_CRYPTO_NOTE_H

#include <stdbool.h>

#include "core/arena.h"
#include "core/secret.h"
#include "core/status.h"

enum { NOTE_ROOT_BYTES = 32, NOTE_NAME_MAX_BYTES = 128 };

struct note_key;

/* text: "PRIVATE+KEY+<name>+<key id>+<base64 of 0x01 and the seed>", as Go's note package writes it. ST_INVALID. */
enum status note_key_new(const struct secret *text, struct note_key **ret_key, struct why *why) MUST_USE;
void note_key_destroy(struct note_key **key_p);
/* A fresh key in that form. ST_INVALID: name is empty, too long, or has a space or '+'. */
enum status note_key_make(const char *name, struct secret **ret_text, struct why *why) MUST_USE;

/* The log called member of the key's family; member "" is the family's own name. In mem. */
char *note_origin(const struct note_key *key, const char *member, struct arena *mem);
/* What others verify that log's notes with: "<origin>+<key id>+<base64 of 0x01 and the public key>". In mem. */
char *note_verifier(const struct note_key *key, const char *origin, struct arena *mem);

/* The whole signed note, in mem. */
char *note_sign(const struct note_key *key, const char *origin, uint64_t size, const uint8_t root[NOTE_ROOT_BYTES],
                struct arena *mem);

/* Is this a checkpoint that the key signed? (Ed25519 signs one text one way.) Cosignatures may follow. */
bool note_is_signed(const struct note_key *key, const char *note, struct arena *mem);

#endif
