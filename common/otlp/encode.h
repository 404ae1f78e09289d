/* encode — spans as one ExportTraceServiceRequest. Pure. Private to common/otlp. */
#ifndef CORDON_OTLP_ENCODE_H
#define CORDON_OTLP_ENCODE_H

#include "core/arena.h"
#include "obs/trace.h"

/* Of this process: the resource of every span. */
struct otlp_resource { const char *service_name, *version, *instance_id; };

/* In mem; returns the bytes. */
const void *otlp_encode(struct arena *mem, const struct otlp_resource *resource, const struct span spans[], size_t count,
                        size_t *ret_len);
/* How many spans the collector's ExportTraceServiceResponse refuses; 0 when it says nothing of the kind. */
int64_t otlp_rejected(struct arena *mem, const void *data, size_t len);

#endif
