/* cosignature — signature lines that others than the log's own key add to a checkpoint: a witness's
 * (c2sp.org/tlog-cosignature, cosignature/v1: Ed25519 over the time and the note's text), and that of a key in KMS (type 0x02 of
 * c2sp.org/signed-note: ECDSA P-256 with SHA-256 over the note's text; its key id is SHA-256 of the public key's SPKI). Pure;
 * a witness is read once and only read afterwards. */
#ifndef CORDON_CRYPTO_COSIGNATURE_H
#define CORDON_CRYPTO_COSIGNATURE_H

#include "crypto/note.h"

struct witness { char name[NOTE_NAME_MAX_BYTES + 1]; uint8_t id[4], public_key[32]; };

/* "<name>+<key id>+<base64 of 0x04 and the Ed25519 public key>", len bytes. ST_INVALID: not that. */
enum status witness_read(const char *text, size_t len, struct witness *ret_witness, struct why *why) MUST_USE;

/* The note's text, up to and with its last newline before the empty line; its length, 0 when there is no empty line. */
size_t note_text_len(const char *note);

/* Is line ("— <name> <base64>\n") a cosignature of note by this witness? *ret_time_s: when, by its own word. */
bool witness_has_signed(const struct witness *w, const char *note, const char *line, uint64_t *ret_time_s);

/* For a key in KMS whose public key is spki (DER). The verifier "<name>+<key id>+<base64 of 0x02 and spki>", and the line with a
 * DER signature; in mem. */
char *ecdsa_verifier(const char *name, const uint8_t *spki, size_t spki_len, struct arena *mem);
char *ecdsa_line(const char *name, const uint8_t *spki, size_t spki_len, const uint8_t *signature, size_t len, struct arena *mem);

#endif
