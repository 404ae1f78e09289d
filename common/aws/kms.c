#include "aws/kms.h"

#include <stdlib.h>
#include <string.h>

#include "core/str.h"
#include "core/text_codec.h"
#include "json/reader.h"
#include "json/writer.h"

enum { ATTEMPTS = 4, ATTEMPT_MS = 3000, ANSWER_MAX_BYTES = 64 << 10 };

struct kms {
    struct aws *aws;
    char *endpoint;
};

struct kms *kms_new(struct aws *aws, const char *endpoint) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct kms *kms = xalloc(sizeof *kms);
    kms->aws = aws;
    kms->endpoint = xstrdup(aws_endpoint(aws, mem, endpoint, "kms"));
    return kms;
}

void kms_destroy(struct kms **kms_p) {
    if (!*kms_p)
        return;
    free((*kms_p)->endpoint);
    free(*kms_p);
    *kms_p = NULL;
}

/* One call in flight: the request being written and the answer. */
struct kms_call {
    struct buffer body;
    struct json_writer json;
    struct aws_reply reply;
    json_t *answer;
};

static void call_begin(struct kms_call *call) {
    json_begin(&call->json, &call->body);
    json_open_object(&call->json);
}

static void call_end(struct kms_call *call) {
    buffer_end(&call->body);
    aws_reply_end(&call->reply);
    json_destroy(&call->answer);
}

static void put(struct kms_call *call, const char *name, const char *text) {
    json_put_name(&call->json, name);
    json_put_text(&call->json, text);
}

static void put_context(struct kms_call *call, const struct uuid *tenant, enum tenant_key_kind kind) {
    char text[UUID_TEXT_BYTES];
    json_put_name(&call->json, "EncryptionContext");
    json_open_object(&call->json);
    put(call, "tenant_id", uuid_format(tenant, text));
    put(call, "purpose", tenant_key_kind_text(kind));
    json_close_object(&call->json);
}

/* Send operation with what was written, as the tenant's session where there are such. On ST_OK call->answer is an object, NULL for an empty answer. */
static enum status send_as(struct kms *kms, struct kms_call *call, const char *operation, const struct uuid *tenant, unsigned attempts,
                           int64_t deadline_ms, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    json_close_object(&call->json);
    if (!json_finish(&call->json))
        return fail(why, ST_INTERNAL, "kms %s: the request cannot be written", operation);
    struct aws_request request = {
        .service = "kms", .operation = operation, .method = "POST", .endpoint = kms->endpoint, .path = "/",
        .headers = { { "content-type", "application/x-amz-json-1.1" },
                     { "x-amz-target", arena_printf(mem, "TrentService.%s", operation) } },
        .body = call->body.data, .body_len = call->body.len, .max_bytes = ANSWER_MAX_BYTES, .tenant = *tenant,
        .deadline_ms = deadline_ms, .attempt_ms = attempts > 1 ? ATTEMPT_MS : 0, .attempts = attempts };
    enum status st = aws_send(kms->aws, &request, &call->reply, why);
    const struct buffer *body = &call->reply.http.body;
    if (st != ST_OK || body->len == 0)
        return st;
    struct why reason = { 0 };
    if (json_parse(body->data, body->len, ANSWER_MAX_BYTES, &call->answer, &reason) != ST_OK)
        return fail_as(why, ERR_KMS_UNAVAILABLE, "kms %s: the answer is no JSON", operation);
    return ST_OK;
}

static enum status send_call(struct kms *kms, struct kms_call *call, const char *operation, unsigned attempts, int64_t deadline_ms,
                             struct why *why) {
    return send_as(kms, call, operation, &(struct uuid){ 0 }, attempts, deadline_ms, why);
}

/* A base64 member of the answer, decoded into mem. */
static enum status get_bytes(const struct kms_call *call, const char *name, struct arena *mem, struct blob *ret_bytes,
                             struct why *why) {
    const char *text = NULL;
    struct why reason = { 0 };
    if (json_get_text(call->answer, name, JSON_REQUIRED, 16 << 10, &text, &reason) != ST_OK ||
        !base64_decode(mem, text, strlen(text), &ret_bytes->data, &ret_bytes->len))
        return fail_as(why, ERR_KMS_UNAVAILABLE, "kms: the answer has no %s", name);
    return ST_OK;
}

enum status kms_create_key(struct kms *kms, const char *description, const struct sigv4_pair tags[], int64_t deadline_ms,
                           struct arena *mem, char **ret_key_id, struct why *why) {
    CLEANUP(call_end) struct kms_call call = { 0 };
    call_begin(&call);
    put(&call, "Description", description);
    put(&call, "KeyUsage", "ENCRYPT_DECRYPT");
    json_put_name(&call.json, "Tags");
    json_open_array(&call.json);
    for (size_t i = 0; tags[i].name; i++) {
        json_open_object(&call.json);
        put(&call, "TagKey", tags[i].name);
        put(&call, "TagValue", tags[i].value);
        json_close_object(&call.json);
    }
    json_close_array(&call.json);
    enum status st = send_call(kms, &call, "CreateKey", 1, deadline_ms, why);
    if (st != ST_OK)
        return st;
    const json_t *metadata = NULL;
    const char *arn = NULL;
    struct why reason = { 0 };
    if (json_get_object(call.answer, "KeyMetadata", JSON_REQUIRED, &metadata, &reason) != ST_OK ||
        json_get_text(metadata, "Arn", JSON_REQUIRED, 256, &arn, &reason) != ST_OK)
        return fail_as(why, ERR_KMS_UNAVAILABLE, "kms CreateKey: the answer has no ARN");
    *ret_key_id = arena_strdup(mem, arn);
    return ST_OK;
}

enum status kms_create_alias(struct kms *kms, const char *alias, const char *key_id, int64_t deadline_ms, struct why *why) {
    CLEANUP(call_end) struct kms_call call = { 0 };
    call_begin(&call);
    put(&call, "AliasName", alias);
    put(&call, "TargetKeyId", key_id);
    return send_call(kms, &call, "CreateAlias", ATTEMPTS, deadline_ms, why);
}

static enum kms_key_state key_state(const char *text) {
    return str_equal(text, "Enabled")           ? KMS_KEY_ENABLED
           : str_equal(text, "Disabled")        ? KMS_KEY_DISABLED
           : str_equal(text, "PendingDeletion") ? KMS_KEY_PENDING_DELETION
                                                : KMS_KEY_OTHER;
}

enum status kms_find_key(struct kms *kms, const char *key_id, int64_t deadline_ms, struct arena *mem, struct kms_key *ret_key,
                         struct why *why) {
    CLEANUP(call_end) struct kms_call call = { 0 };
    call_begin(&call);
    put(&call, "KeyId", key_id);
    enum status st = send_call(kms, &call, "DescribeKey", ATTEMPTS, deadline_ms, why);
    if (st != ST_OK)
        return st;
    const json_t *metadata = NULL;
    const char *state = NULL, *arn = NULL, *description = "";
    struct why reason = { 0 };
    if (json_get_object(call.answer, "KeyMetadata", JSON_REQUIRED, &metadata, &reason) != ST_OK ||
        json_get_text(metadata, "KeyState", JSON_REQUIRED, 64, &state, &reason) != ST_OK ||
        json_get_text(metadata, "Arn", JSON_REQUIRED, 256, &arn, &reason) != ST_OK ||
        json_get_text(metadata, "Description", JSON_OPTIONAL, 8192, &description, &reason) != ST_OK)
        return fail_as(why, ERR_KMS_UNAVAILABLE, "kms DescribeKey: the answer does not describe a key");
    *ret_key = (struct kms_key){ arena_strdup(mem, arn), arena_strdup(mem, description), key_state(state) };
    return ST_OK;
}

enum status kms_describe_key(struct kms *kms, const char *key_id, int64_t deadline_ms, enum kms_key_state *ret_state,
                             struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct kms_key key = { 0 };
    enum status st = kms_find_key(kms, key_id, deadline_ms, mem, &key, why);
    if (st == ST_OK)
        *ret_state = key.state;
    return st;
}

/* The call is good also where what it asks for is so already. */
static enum status change_key(struct kms *kms, const char *key_id, const char *operation, unsigned days, enum kms_key_state wanted,
                              int64_t deadline_ms, struct why *why) {
    CLEANUP(call_end) struct kms_call call = { 0 };
    const char *id = strrchr(key_id, '/');      /* of an ARN */
    call_begin(&call);
    put(&call, "KeyId", id ? id + 1 : key_id);
    if (days > 0) {
        json_put_name(&call.json, "PendingWindowInDays");
        json_put_u64(&call.json, days);
    }
    enum status st = send_call(kms, &call, operation, ATTEMPTS, deadline_ms, why);
    enum kms_key_state state = KMS_KEY_OTHER;
    struct why unused = { 0 };
    if (st != ST_OK && kms_describe_key(kms, key_id, deadline_ms, &state, &unused) == ST_OK && state == wanted)
        return ST_OK;
    return st;
}

enum status kms_schedule_deletion(struct kms *kms, const char *key_id, unsigned days, int64_t deadline_ms, struct why *why) {
    return change_key(kms, key_id, "ScheduleKeyDeletion", days, KMS_KEY_PENDING_DELETION, deadline_ms, why);
}

enum status kms_cancel_deletion(struct kms *kms, const char *key_id, int64_t deadline_ms, struct why *why) {
    enum kms_key_state state;
    enum status st = kms_describe_key(kms, key_id, deadline_ms, &state, why);
    if (st == ST_OK && state == KMS_KEY_PENDING_DELETION)
        st = change_key(kms, key_id, "CancelKeyDeletion", 0, KMS_KEY_DISABLED, deadline_ms, why);
    return st == ST_OK ? change_key(kms, key_id, "EnableKey", 0, KMS_KEY_ENABLED, deadline_ms, why) : st;
}

enum status kms_generate_tenant_key(struct kms *kms, const char *key_id, const struct uuid *tenant, enum tenant_key_kind kind,
                                    int64_t deadline_ms, struct arena *mem, struct blob *ret_wrapped, struct why *why) {
    CLEANUP(call_end) struct kms_call call = { 0 };
    call_begin(&call);
    put(&call, "KeyId", key_id);
    put(&call, "KeySpec", "AES_256");
    put_context(&call, tenant, kind);
    enum status st = send_call(kms, &call, "GenerateDataKeyWithoutPlaintext", ATTEMPTS, deadline_ms, why);
    return st != ST_OK ? st : get_bytes(&call, "CiphertextBlob", mem, ret_wrapped, why);
}

enum status kms_decrypt_tenant_key(struct kms *kms, const struct tenant_key_blob *blob, const struct uuid *tenant,
                                   int64_t deadline_ms, struct secret **ret_key, struct why *why) {
    CLEANUP(call_end) struct kms_call call = { 0 };
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);        /* wipes the plaintext when it goes */
    call_begin(&call);
    put(&call, "CiphertextBlob", base64_encode(mem, blob->wrapped.data, blob->wrapped.len));
    put(&call, "KeyId", blob->kms_key_id);      /* or a blob under another key would open too */
    put_context(&call, tenant, blob->kind);
    enum status st = send_as(kms, &call, "Decrypt", tenant, ATTEMPTS, deadline_ms, why);
    if (st == ST_NOT_FOUND)
        st = fail_as(why, ERR_KMS_DISABLED, "kms Decrypt: the tenant's key is gone");
    struct blob plain;
    if (st != ST_OK || (st = get_bytes(&call, "Plaintext", mem, &plain, why)) != ST_OK)
        return st;
    *ret_key = secret_new(plain.data, plain.len);
    return ST_OK;
}

static enum status decrypt_for_keyring(void *ctx, const struct tenant_key_blob *blob, const struct uuid *tenant,
                                       int64_t deadline_ms, struct secret **ret_key, struct why *why) {
    return kms_decrypt_tenant_key(ctx, blob, tenant, deadline_ms, ret_key, why);
}

struct key_unwrapper kms_unwrapper(struct kms *kms) {
    return (struct key_unwrapper){ decrypt_for_keyring, kms };
}

enum status kms_public_key(struct kms *kms, const char *key_id, int64_t deadline_ms, struct arena *mem, struct blob *ret_spki,
                           struct why *why) {
    CLEANUP(call_end) struct kms_call call = { 0 };
    call_begin(&call);
    put(&call, "KeyId", key_id);
    enum status st = send_call(kms, &call, "GetPublicKey", ATTEMPTS, deadline_ms, why);
    return st != ST_OK ? st : get_bytes(&call, "PublicKey", mem, ret_spki, why);
}

enum status kms_sign(struct kms *kms, const char *key_id, const void *text, size_t len, int64_t deadline_ms, struct arena *mem,
                     struct blob *ret_signature, struct why *why) {
    CLEANUP(call_end) struct kms_call call = { 0 };
    call_begin(&call);
    put(&call, "KeyId", key_id);
    put(&call, "Message", base64_encode(mem, text, len));
    put(&call, "MessageType", "RAW");
    put(&call, "SigningAlgorithm", "ECDSA_SHA_256");
    enum status st = send_call(kms, &call, "Sign", ATTEMPTS, deadline_ms, why);
    return st != ST_OK ? st : get_bytes(&call, "Signature", mem, ret_signature, why);
}
