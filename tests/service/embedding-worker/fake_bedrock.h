/* fake_bedrock — Bedrock and STS on loopback. The vector of "text 7" is 1 along axis 7. */
#ifndef CORDON_TESTS_FAKE_BEDROCK_H
#define CORDON_TESTS_FAKE_BEDROCK_H

#include <semaphore.h>

#include "embedding_worker.h"
#include "support/loopback.h"

struct fake_bedrock {
    struct loopback *server;
    atomic_int delay_ms, throttles;         /* of each invoke; how many more are refused with 429 */
    sem_t may_answer;                       /* an invoke of "held 7" waits until this was posted once */
    atomic_bool refuses;                    /* AccessDeniedException for every model */
    atomic_bool fails;                      /* InternalServerException, likewise */
    const char *logging, *profile;          /* what the control plane answers; NULL: nothing is logged, there is no such profile */
    char last_target[2048];
    atomic_int invokes, converses, at_once, most_at_once;
    const char *answer;                     /* of converse, and of converse-stream in pieces of piece_bytes */
    size_t piece_bytes;
    enum { STREAM_WHOLE, STREAM_EXCEPTION, STREAM_CUT, STREAM_HANG, STREAM_SILENT, STREAM_GUARDED } ends;   /* after the last piece; SILENT: before the first */
    const char *exception;                  /* of STREAM_EXCEPTION */
    atomic_bool was_left;                   /* a stream that hung was closed by the client */
    char last_body[65536];                  /* of both */
};

void fake_bedrock_start(struct fake_bedrock *fake);
void fake_bedrock_stop(struct fake_bedrock *fake);
/* Settings of a worker that asks it: the table's defaults, and few connections. The caller destroys the secret key. */
struct embedding_settings fake_bedrock_settings(const struct fake_bedrock *fake);

#endif
