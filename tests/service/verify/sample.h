/* sample — exports for the verifier's tests, made from the words of the RFCs with nothing of the verifier's: trees by
 * RFC 6962's recursion, notes by OpenSSL. */
#ifndef CORDON_TESTS_VERIFY_SAMPLE_H
#define CORDON_TESTS_VERIFY_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "export.h"

enum { SAMPLE_EVENTS_MAX = 2048, SAMPLE_NOTE_MAX = 1024 };

struct sample_log { unsigned count; char events[SAMPLE_EVENTS_MAX][256]; uint8_t leaves[SAMPLE_EVENTS_MAX][32]; };

void sample_fill(struct sample_log *log, unsigned count);       /* events 0 to count - 1 */
void sample_hash(struct sample_log *log);                       /* leaves follow the events */
void sample_root(const struct sample_log *log, unsigned size, uint8_t out[32]);
/* RFC 6962's PATH and PROOF; returns how many hashes. */
size_t sample_path(const struct sample_log *log, unsigned m, unsigned size, uint8_t out[][32]);
size_t sample_proof(const struct sample_log *log, unsigned m, unsigned size, uint8_t out[][32]);

/* A checkpoint of the first `size` events, signed with key 0 (the log's) or another. */
const char *sample_note(const struct sample_log *log, unsigned size, unsigned key, char out[SAMPLE_NOTE_MAX]);
/* The same with a witness's cosignature behind it. */
const char *sample_cosigned(const struct sample_log *log, unsigned size, char out[SAMPLE_NOTE_MAX]);
extern const char SAMPLE_ORIGIN[], SAMPLE_TENANT[];
struct verifier sample_verifier(unsigned key);
struct verifier sample_witness(void);

/* Events first to last - 1, of the tree of `size`, whose note is given; since: 0, or with the proof from there.
 * Returns the length; *out is malloc'ed. */
size_t sample_export(const struct sample_log *log, unsigned first, unsigned last, unsigned size, const char *note, unsigned since, char **out);

#endif
