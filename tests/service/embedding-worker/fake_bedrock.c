#include "fake_bedrock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/str.h"
#include "json/writer.h"
#include "support/event_frames.h"

static bool refuse(int fd, int status, const char *code) {
    char header[128];
    (void)snprintf(header, sizeof header, "x-amzn-errortype: %s\r\n", code);
    return loopback_answer(fd, status, header, "{}");
}

static bool invoke(struct fake_bedrock *fake, const char *body, int fd) {
    int now = atomic_fetch_add(&fake->at_once, 1) + 1, most = atomic_load(&fake->most_at_once);
    while (now > most && !atomic_compare_exchange_weak(&fake->most_at_once, &most, now))
        continue;
    usleep((useconds_t)fake->delay_ms * 1000);
    if (strstr(body, "\"held ")) {
        (void)sem_wait(&fake->may_answer);
        (void)sem_post(&fake->may_answer);      /* one post is for all */
    }
    atomic_fetch_sub(&fake->at_once, 1);
    const char *number = strstr(body, "\"text ");
    unsigned long axis = number ? strtoul(number + 6, NULL, 10) : 0;
    struct buffer out = { 0 };
    (void)buffer_add_str(&out, "{\"embedding\":[");
    for (unsigned long i = 0; i < 1024; i++)
        (void)buffer_printf(&out, "%s%d", i ? "," : "", i == axis);
    (void)buffer_add_str(&out, "],\"inputTextTokenCount\":2}");
    (void)loopback_answer(fd, 200, "", out.data);
    buffer_end(&out);
    return true;
}

static bool converse(struct fake_bedrock *fake, const char *body, int fd) {
    (void)snprintf(fake->last_body, sizeof fake->last_body, "%s", body);
    struct buffer out = { 0 };
    struct json_writer w;
    (void)buffer_add_str(&out, "{\"output\":{\"message\":{\"content\":[{\"text\":");
    json_begin(&w, &out);
    json_put_text(&w, fake->answer);
    (void)buffer_add_str(&out, "}]}},\"stopReason\":\"end_turn\",\"usage\":{\"inputTokens\":21,\"outputTokens\":7}}");
    (void)loopback_answer(fd, 200, "", out.data);
    buffer_end(&out);
    return true;
}

static bool converse_stream(struct fake_bedrock *fake, const char *body, int fd) {
    static const char HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\nConnection: close\r\n\r\n";
    CLEANUP(buffer_end) struct buffer out = { 0 };
    const int ends = fake->ends;        /* once something is sent, the test may want another */
    (void)snprintf(fake->last_body, sizeof fake->last_body, "%s", body);
    (void)buffer_add(&out, HEAD, sizeof HEAD - 1);
    add_event(&out, "event", ":event-type", "messageStart", "{\"role\":\"assistant\"}");
    for (size_t at = 0, len = strlen(fake->answer); at < len && ends != STREAM_SILENT; at += fake->piece_bytes) {
        CLEANUP(buffer_end) struct buffer piece = { 0 };
        struct json_writer w;
        (void)buffer_add_str(&piece, "{\"contentBlockIndex\":0,\"delta\":{\"text\":");
        json_begin(&w, &piece);
        json_put_text(&w, strndupa(fake->answer + at, fake->piece_bytes));
        (void)buffer_add_str(&piece, "}}");
        add_event(&out, "event", ":event-type", "contentBlockDelta", piece.data);
    }
    if (ends == STREAM_EXCEPTION)
        add_event(&out, "exception", ":exception-type", fake->exception, "{\"message\":\"no\"}");
    if (ends == STREAM_WHOLE || ends == STREAM_GUARDED) {
        add_event(&out, "event", ":event-type", "messageStop",
                  ends == STREAM_GUARDED ? "{\"stopReason\":\"guardrail_intervened\"}" : "{\"stopReason\":\"end_turn\"}");
        add_event(&out, "event", ":event-type", "metadata", "{\"usage\":{\"inputTokens\":21,\"outputTokens\":7}}");
    }
    loopback_write(fd, out.data, out.len);
    if (ends == STREAM_HANG || ends == STREAM_SILENT) {
        char byte;
        fake->was_left = read(fd, &byte, 1) <= 0;
    }
    return false;
}

static bool answer(void *ctx, const struct loopback_request *request, int fd) {
    struct fake_bedrock *fake = ctx;
    const char *body = request->body.data ? request->body.data : "";
    if (str_equal(request->target, "/"))
        return loopback_answer(fd, 200, "", "<R><Arn>arn:aws:iam::123456789012:user/embedding-worker</Arn></R>");
    if (str_equal(request->target, "/logging/modelinvocations"))
        return loopback_answer(fd, 200, "", fake->logging ? fake->logging : "{}");
    (void)snprintf(fake->last_target, sizeof fake->last_target, "%s", request->target);
    if (str_starts_with(request->target, "/inference-profiles/"))
        return fake->profile ? loopback_answer(fd, 200, "", fake->profile) : refuse(fd, 404, "ResourceNotFoundException");
    bool is_invoke = str_ends_with(request->target, "/invoke");
    atomic_fetch_add(is_invoke ? &fake->invokes : &fake->converses, 1);
    if (fake->refuses)
        return refuse(fd, 403, "AccessDeniedException");
    if (fake->fails)
        return refuse(fd, 500, "InternalServerException");
    if (atomic_load(&fake->throttles) > 0 && atomic_fetch_sub(&fake->throttles, 1) > 0)
        return refuse(fd, 429, "ThrottlingException");
    if (str_ends_with(request->target, "/converse-stream"))
        return converse_stream(fake, body, fd);
    return is_invoke ? invoke(fake, body, fd) : converse(fake, body, fd);
}

void fake_bedrock_start(struct fake_bedrock *fake) {
    memset(fake, 0, sizeof *fake);
    fake->answer = "Yes [1].";
    fake->piece_bytes = 3;
    fake->exception = "modelStreamErrorException";
    (void)sem_init(&fake->may_answer, 0, 0);
    fake->server = loopback_start(answer, fake);
}

void fake_bedrock_stop(struct fake_bedrock *fake) {
    loopback_stop(&fake->server);
}

struct embedding_settings fake_bedrock_settings(const struct fake_bedrock *fake) {
    const char *url = loopback_url(fake->server);
    return (struct embedding_settings){
        .aws = { .region = "us-east-1", .identity = "embedding-worker", .access_key_id = "AKIDTEST", .secret_access_key = secret_new("s", 1), .proxy = "",
                 .sts_endpoint = url },
        .bedrock_endpoint = url, .bedrock_control_endpoint = "", .embed_model = "amazon.titan-embed-text-v2:0", .embed_name = "", .old_embed_model = "",
        .old_embed_name = "", .chat_model = "claude", .guardrail_id = "", .guardrail_version = "DRAFT", .log_places = "", .regions = "",
        .tenants = "", .embed_connections_count = 16, .chat_connections_count = 16, .first_text_ms = 20000, .idle_ms = 10000,
        .replicas = 1, .breaker_failures = 5, .tenant_series = 2, .prices = { 20000, 3000000, 15000000 } };
}
