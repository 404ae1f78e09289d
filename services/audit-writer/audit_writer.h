/* audit_writer — what the process holds, shared by its handlers and its two threads: the committer,
 * which puts calls on the log, and the drain, which moves the outbox there. */
#ifndef CORDON_AUDIT_WRITER_H
#define CORDON_AUDIT_WRITER_H

#include "committer.h"
#include "db/pool.h"
#include "outbox.h"
#include "service/service.h"

extern const struct service AUDIT_WRITER;

struct audit_writer_settings {
    struct secret *database_url;
    int64_t connections;
};

struct audit_writer {
    struct db_pool *db;
    bool is_production;
    struct committer *committer;
    struct outbox *outbox;
    struct gauge *backlog_rows, *backlog_oldest_seconds;
};

#endif
