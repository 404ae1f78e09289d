/* original — where a document's sealed original lies. ingest-worker writes it, query reads it. */
#ifndef CORDON_KEYSTORE_ORIGINAL_H
#define CORDON_KEYSTORE_ORIGINAL_H

#include "core/arena.h"
#include "core/uuid.h"

/* Where all of a tenant's objects are in their buckets, "tenants/<tenant>/"; in mem. */
const char *tenant_folder(struct arena *mem, const struct uuid *tenant);
/* Key in the document bucket, "tenants/<tenant>/<document>"; in mem. IAM policies rely on the first folder. */
const char *original_object_key(struct arena *mem, const struct uuid *tenant, const struct uuid *document);

#endif
