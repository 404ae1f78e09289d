/* log — a tenant's audit log with a signed head, as audit-writer leaves it. Made by the superuser from the rows. */
#ifndef CORDON_TESTS_QUERY_LOG_H
#define CORDON_TESTS_QUERY_LOG_H

#include "audit/merkle.h"
#include "core/arena.h"
#include "core/buffer.h"

/* Of the key that the tests sign with. */
#define LOG_VERIFIER "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"

/* Put n events on the log. They are canonical. */
void log_fill(const char *tenant, unsigned n);
/* Store nodes and a signed head for what is there; returns its note, which lives for the test. */
const char *log_sign(const char *tenant);

/* Have events from to to - 1 of PG_TENANT_A archived, as audit-writer does it: they become rig.archived. */
void log_archive(int64_t from, int64_t to);

/* The signed head of a tree; in mem. */
struct log_note { struct merkle_hash root; const char *note, *verifier; };
struct log_note log_note(const char *tenant, const struct merkle_range *range, struct arena *mem);

/* A witness, and its cosignature of a note; in rig.mem. */
#define LOG_WITNESS "witness.example/w1+aa4a09d1+BOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs"
const char *log_cosign(const char *note);

/* Run cordon-verify with arguments (NULL-terminated), on a file that holds the text; its output is in *out. Its exit status. */
int log_run_verify(const char *const args[], struct buffer *out);
int log_verify(const char *const args[], const void *text, size_t len, struct buffer *out);

#endif
