/* otlp — sends the spans of a process to an OpenTelemetry collector: OTLP 1 over HTTP, protobuf, under the
 * standard settings. Threads that end spans copy them into a bounded queue and go on; one background thread
 * batches and sends. A full queue or a collector that does not answer costs spans, which are counted, and
 * nothing else. Headers and endpoint are known to this thread only. */
#ifndef CORDON_OTLP_OTLP_H
#define CORDON_OTLP_OTLP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "core/secret.h"
#include "core/status.h"
#include "obs/metrics.h"
#include "obs/trace.h"

struct otlp_settings {
    const char *endpoint, *service_name, *sampler, *sampler_argument;
    struct secret *headers;
};
#define OTLP_SETTINGS(type, member) \
    { "OTEL_EXPORTER_OTLP_ENDPOINT", SET_TEXT, "", 0, 512, "", offsetof(type, member.endpoint), "Collector that gets the spans, over HTTP: https://host:4318. No spans when empty. Outside development plain http only to this machine." }, \
    { "OTEL_EXPORTER_OTLP_HEADERS", SET_SECRET, "", 0, 4096, "", offsetof(type, member.headers), "Headers for it, name=value,name=value; values percent-encoded." }, \
    { "OTEL_SERVICE_NAME", SET_TEXT, "", 0, 64, "", offsetof(type, member.service_name), "Name of this process in traces; cordon- and its own when empty." }, \
    { "OTEL_TRACES_SAMPLER", SET_TEXT, "parentbased_always_on", 0, 64, "", offsetof(type, member.sampler), "always_on, always_off, traceidratio, or one of these behind parentbased_." }, \
    { "OTEL_TRACES_SAMPLER_ARG", SET_TEXT, "", 0, 32, "", offsetof(type, member.sampler_argument), "Ratio of traceidratio, 0 to 1." }

enum { OTLP_QUEUE_SPANS = 2048, OTLP_BATCH_SPANS = 256, OTLP_BATCH_MS = 1000, OTLP_SEND_MS = 1500 };

struct otlp;

/* Begin to take spans (trace_open); before other threads start. *ret_otlp NULL: no endpoint is set.
 * ST_INVALID: a setting is malformed; *why names it, never its value. ST_UNAVAILABLE: no thread. */
enum status otlp_start(const struct otlp_settings *settings, const char *process, bool is_production, struct metrics *metrics,
                       struct otlp **ret_otlp, struct why *why) MUST_USE;
/* After the threads that make spans: send what is left until deadline_ms (clock_mono_ms), drop the rest, end. It may take
 * OTLP_SEND_MS longer when a batch is under way. NULL is fine. */
void otlp_stop(struct otlp **otlp_p, int64_t deadline_ms);

#endif
