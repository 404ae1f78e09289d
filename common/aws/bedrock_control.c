#include "aws/bedrock_control.h"

#include <string.h>

#include "json/reader.h"

enum { ATTEMPTS = 4, ATTEMPT_MS = 3000, ANSWER_MAX_BYTES = 256 << 10, NAME_MAX_BYTES = 512, ARN_MAX_BYTES = 2048 };

static enum status get(struct aws *aws, const char *endpoint, const char *operation, const char *path, int64_t deadline_ms, json_t **ret_answer,
                       struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(aws_reply_end) struct aws_reply reply = { 0 };
    struct aws_request request = {
        .service = "bedrock", .operation = operation, .method = "GET", .endpoint = aws_endpoint(aws, mem, endpoint, "bedrock"), .path = path,
        .headers = { { "accept", "application/json" } }, .max_bytes = ANSWER_MAX_BYTES, .deadline_ms = deadline_ms,
        .attempt_ms = ATTEMPT_MS, .attempts = ATTEMPTS };
    enum status st = aws_send(aws, &request, &reply, why);
    struct why reason = { 0 };
    if (st == ST_NOT_FOUND || st == ST_INTERNAL)
        return fail_as(why, ERR_MODEL_UNAVAILABLE, "bedrock %s: %d %s", operation, reply.http.status, reply.error);
    if (st == ST_OK && json_parse(reply.http.body.data, reply.http.body.len, ANSWER_MAX_BYTES, ret_answer, &reason) != ST_OK)
        return fail_as(why, ERR_MODEL_UNAVAILABLE, "bedrock %s: the answer is no JSON", operation);
    return st;
}

/* A bucket or log group at object.member, when there is one. False: it is there and not understood. */
static bool add_place(const json_t *object, const char *member, const char *kind, struct arena *mem, const char **places, size_t *n) {
    const char *name = "";
    struct why unused = { 0 };
    if (!object)
        return true;
    if (json_get_text(object, member, JSON_OPTIONAL, NAME_MAX_BYTES, &name, &unused) != ST_OK)
        return false;
    if (*name)
        places[(*n)++] = arena_printf(mem, "%s:%s", kind, name);
    return true;
}

enum status bedrock_log_places(struct aws *aws, const char *endpoint, int64_t deadline_ms, struct arena *mem, const char ***ret_places,
                               struct why *why) {
    CLEANUP(json_destroy) json_t *answer = NULL;
    enum status st = get(aws, endpoint, "GetModelInvocationLoggingConfiguration", "/logging/modelinvocations", deadline_ms, &answer, why);
    if (st != ST_OK)
        return st;
    const json_t *config = NULL, *logs = NULL, *large = NULL, *bucket = NULL;
    const char **places = arena_alloc(mem, 4 * sizeof *places);
    struct why reason = { 0 };
    size_t n = 0;
    bool is_good = json_get_object(answer, "loggingConfig", JSON_OPTIONAL, &config, &reason) == ST_OK &&
                   (!config || (json_get_object(config, "cloudWatchConfig", JSON_OPTIONAL, &logs, &reason) == ST_OK &&
                                json_get_object(config, "s3Config", JSON_OPTIONAL, &bucket, &reason) == ST_OK)) &&
                   (!logs || json_get_object(logs, "largeDataDeliveryS3Config", JSON_OPTIONAL, &large, &reason) == ST_OK) &&
                   add_place(logs, "logGroupName", "logs", mem, places, &n) && add_place(large, "bucketName", "s3", mem, places, &n) &&
                   add_place(bucket, "bucketName", "s3", mem, places, &n);
    if (!is_good)
        return fail_as(why, ERR_MODEL_UNAVAILABLE, "bedrock GetModelInvocationLoggingConfiguration: the answer is not understood");
    places[n] = NULL;
    *ret_places = places;
    return ST_OK;
}

bool bedrock_is_profile(const char *model) {
    if (strncmp(model, "arn:", 4) == 0)
        return strstr(model, ":inference-profile/") || strstr(model, ":application-inference-profile/");
    const char *first = strchr(model, '.'), *colon = strchr(model, ':');      /* <geography>.<provider>.<model>:<version> */
    const char *second = first ? strchr(first + 1, '.') : NULL;
    return second && (!colon || second < colon);
}

/* arn:aws:bedrock:<region>::foundation-model/... */
static const char *region_of(struct arena *mem, const char *arn) {
    const char *at = arn;
    for (int i = 0; i < 3 && at; i++)
        at = strchr(at + (i > 0), ':');
    const char *end = at ? strchr(at + 1, ':') : NULL;
    if (!end)
        return NULL;
    return end == at + 1 ? "global" : arena_strndup(mem, at + 1, (size_t)(end - at - 1));
}

enum status bedrock_profile_regions(struct aws *aws, const char *endpoint, const char *profile, int64_t deadline_ms, struct arena *mem,
                                    const char ***ret_regions, struct why *why) {
    CLEANUP(json_destroy) json_t *answer = NULL;
    const char *path = arena_printf(mem, "/inference-profiles/%s", sigv4_encode(mem, profile, false));
    enum status st = get(aws, endpoint, "GetInferenceProfile", path, deadline_ms, &answer, why);
    if (st != ST_OK)
        return st;
    const json_t *models = NULL;
    struct why reason = { 0 };
    if (json_get_array(answer, "models", JSON_REQUIRED, BEDROCK_LIST_MAX, &models, &reason) != ST_OK || json_array_size(models) == 0)
        return fail_as(why, ERR_MODEL_UNAVAILABLE, "bedrock GetInferenceProfile: the answer names no models");
    const char **regions = arena_alloc(mem, (json_array_size(models) + 1) * sizeof *regions);
    for (size_t i = 0; i < json_array_size(models); i++) {
        const char *arn = "";
        if (json_get_text(json_array_get(models, i), "modelArn", JSON_REQUIRED, ARN_MAX_BYTES, &arn, &reason) != ST_OK ||
            !(regions[i] = region_of(mem, arn)))
            return fail_as(why, ERR_MODEL_UNAVAILABLE, "bedrock GetInferenceProfile: a model without an ARN");
    }
    regions[json_array_size(models)] = NULL;
    *ret_regions = regions;
    return ST_OK;
}
