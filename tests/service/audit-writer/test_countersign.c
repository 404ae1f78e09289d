/* The second signature of heads, by a key in KMS: a server on loopback with a P-256 key, which is away when a test wants it. */
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdatomic.h>

#include "core/text_codec.h"
#include "countersign.h"
#include "checkpoint.h"
#include "crypto/cosignature.h"
#include "crypto/note.h"
#include "json/reader.h"
#include "rig.h"
#include "support/loopback.h"

static const char SKEY[] = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";

static struct { struct loopback *server; EVP_PKEY *pair; atomic_bool is_away; atomic_int signed_count; } kms_server;
static struct credentials *credentials;
static struct aws *aws;
static struct note_key *key;
static struct countersigner signer;

static bool give(int fd, const char *name, const uint8_t *data, size_t len) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    return loopback_answer(fd, 200, "", arena_printf(mem, "{\"%s\":\"%s\"}", name, base64_encode(mem, data, len)));
}

static bool answer(void *ctx, const struct loopback_request *request, int fd) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(json_destroy) json_t *asked = NULL;
    struct why why = { 0 };
    char target[64];
    uint8_t *data = NULL, signature[160];
    size_t len = 0, signature_len = sizeof signature;
    (void)ctx;
    if (kms_server.is_away)
        return loopback_answer(fd, 400, "", "{\"__type\":\"AccessDeniedException\"}");
    loopback_header(request, "x-amz-target", target, sizeof target);
    if (json_parse(request->body.data, request->body.len, 8192, &asked, &why) != ST_OK)
        return loopback_answer(fd, 400, "", "{\"__type\":\"ValidationException\"}");
    if (strstr(target, "GetPublicKey")) {
        int spki_len = i2d_PUBKEY(kms_server.pair, &data);
        bool is_given = give(fd, "PublicKey", data, (size_t)spki_len);
        OPENSSL_free(data);
        return is_given;
    }
    const char *text = json_string_value(json_object_get(asked, "Message"));
    EVP_MD_CTX *sign = EVP_MD_CTX_new();
    bool is_signed = strcmp(json_string_value(json_object_get(asked, "SigningAlgorithm")), "ECDSA_SHA_256") == 0 &&
                     strcmp(json_string_value(json_object_get(asked, "MessageType")), "RAW") == 0 &&
                     base64_decode(mem, text, strlen(text), &data, &len) && EVP_DigestSignInit(sign, NULL, EVP_sha256(), NULL, kms_server.pair) == 1 &&
                     EVP_DigestSign(sign, signature, &signature_len, data, len) == 1;
    EVP_MD_CTX_free(sign);
    kms_server.signed_count++;
    return is_signed ? give(fd, "Signature", signature, signature_len) : loopback_answer(fd, 400, "", "{\"__type\":\"ValidationException\"}");
}

static void set_up(void) {
    struct why why = { 0 };
    rig_open();
    kms_server.pair = EVP_EC_gen("P-256");
    kms_server.is_away = false;
    kms_server.server = loopback_start(answer, NULL);
    CLEANUP(secret_destroy) struct secret *text = secret_new(SKEY, strlen(SKEY)), *aws_key = secret_new("s", 1);
    cr_assert_eq(note_key_new(text, &key, &why), ST_OK);
    credentials = credentials_new("AKIDTEST", aws_key, NULL, 0);
    aws = aws_new(&(struct aws_options){ .region = "us-east-1", .credentials = credentials_static(credentials), .allow_plain = true });
    signer = (struct countersigner){ .kms = kms_new(aws, loopback_url(kms_server.server)), .key_id = "alias/heads" };
}

static void tear_down(void) {
    countersigner_end(&signer);
    kms_destroy(&signer.kms);
    aws_destroy(&aws);
    credentials_release(&credentials);
    note_key_destroy(&key);
    loopback_stop(&kms_server.server);
    EVP_PKEY_free(kms_server.pair);
    rig_close();
}

TestSuite(audit_countersign, .init = set_up, .fini = tear_down, .timeout = 120);

static void sign_heads(void) {
    static const struct checkpoint_pace AT_ONCE = { .events = 1, .wait_ms = 0 };
    struct why why = { 0 };
    size_t count = 0;
    rig_append(AUDIT_DOCUMENT_READ, pg_ticket(PG_SLUG_A, "clinician", "alice"), DOCUMENT_A1);
    cr_assert_eq(checkpoint_sign(rig_pool(), key, &AT_ONCE, &count, &why), ST_OK, "%s", why.text);
}

static enum status turn(size_t *ret_count) {
    struct why why = { 0 };
    *ret_count = 0;
    return countersign(&signer, rig_pool(), ret_count, &why);
}

/* Does the stored line verify over the stored note? */
static bool is_good(const char *tenant) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    const char *note = pg_ask(pg_admin(), "SELECT note FROM audit.checkpoints WHERE tenant_id = '%s' ORDER BY size DESC LIMIT 1", tenant);
    const char *line = pg_ask(pg_admin(), "SELECT line FROM audit.cosignatures WHERE tenant_id = '%s' ORDER BY size DESC LIMIT 1", tenant);
    const char *text = strrchr(line, ' ');
    uint8_t *bytes = NULL;
    size_t len = 0;
    if (!text || !base64_decode(mem, text + 1, strlen(text) - 2, &bytes, &len) || len < 5)
        return false;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, kms_server.pair) == 1 &&
                EVP_DigestVerify(ctx, bytes + 4, len - 4, (const uint8_t *)note, note_text_len(note)) == 1;
    EVP_MD_CTX_free(ctx);
    return good;
}

Test(audit_countersign, the_newest_heads_are_signed_once_each) {
    size_t count;
    sign_heads();
    sign_heads();
    cr_assert_eq(turn(&count), ST_OK);
    cr_expect_eq(count, 2, "the tenant's and the platform's newest");
    cr_expect(is_good(PG_TENANT_A));
    cr_expect(is_good(NIL_TENANT));
    cr_assert_eq(turn(&count), ST_OK);
    cr_expect_eq(count, 0);
    sign_heads();
    cr_assert_eq(turn(&count), ST_OK);
    cr_expect_eq(count, 2);
    cr_expect_eq(kms_server.signed_count, 4);
    PGconn *writer = pg_connect("cordon_audit");
    cr_expect_str_eq(pg_try(writer, "INSERT INTO audit.cosignatures VALUES ('" PG_TENANT_A "', 1, 'x', 'y')"), "42501");
    PQfinish(writer);
}

Test(audit_countersign, kms_that_is_away_holds_up_nothing_and_is_asked_again) {
    size_t count;
    kms_server.is_away = true;
    sign_heads();
    cr_expect_neq(turn(&count), ST_OK);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM audit.cosignatures"), "0");
    kms_server.is_away = false;
    cr_assert_eq(turn(&count), ST_OK);
    cr_expect_eq(count, 2);
}
