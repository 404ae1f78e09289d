#include "provider.h"

#include <string.h>
#include <strings.h>

#include "core/clock.h"
#include "core/str.h"
#include "core/text_codec.h"
#include "json/reader.h"
#include "login.h"

enum { ANSWER_MAX_BYTES = 96 << 10, TOKEN_MAX_BYTES = 16 << 10, ASK_MS = 4000, FORM_MAX_BYTES = 32 << 10 };

void provider_add_param(struct buffer *url, const char *name, const char *value) {
    if (url->len)
        (void)buffer_add_str(url, memchr(url->data, '?', url->len) ? "&" : "?");
    (void)http_encode(name, strlen(name), false, url);
    (void)buffer_add_str(url, "=");
    (void)http_encode(value, strlen(value), false, url);
}

static void add_field(struct buffer *form, const char *name, const char *value) {
    if (form->len)
        (void)buffer_add_str(form, "&");
    (void)buffer_printf(form, "%s=", name);
    (void)http_encode(value, strlen(value), false, form);
}

/* RFC 6749, 2.3.1: id and secret are form-encoded before they are joined. */
static const char *basic_header(struct arena *mem, const struct login_client *client) {
    CLEANUP(buffer_end) struct buffer pair = { .limit_bytes = FORM_MAX_BYTES };
    (void)http_encode(client->id, strlen(client->id), false, &pair);
    (void)buffer_add_str(&pair, ":");
    (void)http_encode(secret_text(client->secret), client->secret->len, false, &pair);
    return arena_printf(mem, "Authorization: Basic %s", base64_encode(mem, pair.data, pair.len));
}

static enum status post(struct auth *a, const struct believed *issuer, struct call *call, const char *url, bool has_secret_in_body,
                        struct buffer *form, struct http_response *response) {
    const char *headers[] = { "Content-Type: application/x-www-form-urlencoded", "Accept: application/json", NULL, NULL };
    int64_t until_ms = clock_mono_ms() + ASK_MS;
    if (has_secret_in_body) {
        add_field(form, "client_id", issuer->login.id);
        add_field(form, "client_secret", secret_text(issuer->login.secret));
    } else {
        headers[2] = basic_header(call->mem, &issuer->login);
    }
    if (form->is_overfull)
        return fail(&call->why, ST_INTERNAL, "provider: the form is too long");
    struct http_request request = { .method = "POST", .url = url, .headers = headers, .body = form->data, .body_len = form->len,
                                    .max_bytes = ANSWER_MAX_BYTES, .operation = "idp.Token", .is_once = true,
                                    .deadline_ms = until_ms < call->deadline_ms ? until_ms : call->deadline_ms };
    enum status st = http_send(a->http, &request, response, &call->why);
    return st == ST_OK ? ST_OK : fail_as(&call->why, ERR_AUTH_PROVIDER, "the token endpoint does not answer");
}

static const char *read_token(struct arena *mem, const json_t *answer, const char *name) {
    const char *text = json_string_value(json_object_get(answer, name));
    return text && *text && strlen(text) <= TOKEN_MAX_BYTES ? arena_strdup(mem, text) : NULL;
}

static enum status read_answer(struct call *call, const struct http_response *response, struct provider_tokens *ret_tokens) {
    CLEANUP(json_destroy) json_t *answer = NULL;
    struct why detail = { 0 };
    if (json_parse(response->body.data, response->body.len, ANSWER_MAX_BYTES, &answer, &detail) != ST_OK)
        return fail_as(&call->why, ERR_AUTH_PROVIDER, "the token endpoint answers %d and no JSON", response->status);
    if (response->status != 200)
        return fail_as(&call->why, str_equal(json_string_value(json_object_get(answer, "error")), "invalid_grant") ? ERR_AUTH_LOGIN : ERR_AUTH_PROVIDER,
                       "the token endpoint refuses with %d", response->status);
    const char *type = json_string_value(json_object_get(answer, "token_type"));
    struct provider_tokens made = { .access = read_token(call->mem, answer, "access_token"), .id = read_token(call->mem, answer, "id_token"),
                                    .refresh = read_token(call->mem, answer, "refresh_token") };
    if (!made.access || !type || strcasecmp(type, "Bearer") != 0)
        return fail_as(&call->why, ERR_AUTH_PROVIDER, "the token endpoint gives no bearer token");
    *ret_tokens = made;
    return ST_OK;
}

static enum status ask_for_tokens(struct auth *a, const struct believed *issuer, struct call *call, struct buffer *form,
                                  struct provider_tokens *ret_tokens) {
    struct issuer_endpoints at;
    CLEANUP(http_response_end) struct http_response response = { 0 };
    enum status st = issuer_endpoints(issuer->keys, call->deadline_ms, call->mem, &at, &call->why);
    if (st == ST_OK && !at.token)
        st = fail_as(&call->why, ERR_AUTH_PROVIDER, "the issuer has no token endpoint");
    if (st == ST_OK)
        st = post(a, issuer, call, at.token, at.wants_secret_in_body, form, &response);
    return st == ST_OK ? read_answer(call, &response, ret_tokens) : st;
}

enum status provider_exchange(struct auth *a, const struct believed *issuer, struct call *call, const char *code, const char *verifier,
                              struct provider_tokens *ret_tokens) {
    CLEANUP(buffer_end) struct buffer form = { .limit_bytes = FORM_MAX_BYTES };
    add_field(&form, "grant_type", "authorization_code");
    add_field(&form, "code", code);
    add_field(&form, "redirect_uri", login_redirect_uri(a, call->mem));
    add_field(&form, "code_verifier", verifier);
    return ask_for_tokens(a, issuer, call, &form, ret_tokens);
}

enum status provider_refresh(struct auth *a, const struct believed *issuer, struct call *call, const char *refresh,
                             struct provider_tokens *ret_tokens) {
    CLEANUP(buffer_end) struct buffer form = { .limit_bytes = FORM_MAX_BYTES };
    add_field(&form, "grant_type", "refresh_token");
    add_field(&form, "refresh_token", refresh);
    return ask_for_tokens(a, issuer, call, &form, ret_tokens);
}

enum status provider_revoke(struct auth *a, const struct believed *issuer, struct call *call, const char *refresh) {
    CLEANUP(buffer_end) struct buffer form = { .limit_bytes = FORM_MAX_BYTES };
    CLEANUP(http_response_end) struct http_response response = { 0 };
    struct issuer_endpoints at;
    enum status st = issuer_endpoints(issuer->keys, call->deadline_ms, call->mem, &at, &call->why);
    if (st != ST_OK || !at.revocation)
        return st;
    add_field(&form, "token", refresh);
    add_field(&form, "token_type_hint", "refresh_token");
    st = post(a, issuer, call, at.revocation, at.wants_secret_in_body, &form, &response);
    return st == ST_OK && response.status != 200 ? fail_as(&call->why, ERR_AUTH_PROVIDER, "revocation: status %d", response.status) : st;
}
