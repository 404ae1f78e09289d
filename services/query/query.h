/* query — what the process holds, shared by its handlers. */
#ifndef CORDON_QUERY_QUERY_H
#define CORDON_QUERY_QUERY_H

#include "aws/credentials.h"
#include "aws/kms.h"
#include "aws/s3.h"
#include "aws/sts.h"
#include "crypto/keyring.h"
#include "db/pool.h"
#include "http/client.h"
#include "service/service.h"

extern const struct service QUERY;

/* One function per rpc of proto/query.proto, in files by subject. */
handler_fn on_list_documents, on_get_document, on_get_content, on_get_job;      /* documents.c */
handler_fn on_search, on_query;                                                 /* answers.c */
handler_fn on_list_audit_events;                                                /* audit_events.c */

#endif
