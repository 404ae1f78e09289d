/* credentials: every source against a server on loopback that plays it, renewal ahead of the end, sessions of tenants. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "aws/refresher.h"
#include "aws/s3_client.h"
#include "aws/sources.h"
#include "aws/sts.h"
#include "aws/tenants.h"
#include "aws/time.h"
#include "core/clock.h"
#include "core/str.h"
#include "support/loopback.h"

/* What the endpoint says by target, and what it was asked. */
static struct fake {
    struct { const char *method, *target; int status; char body[1024]; } answers[6];
    atomic_uint asked;
    atomic_int lifetime_s;          /* of what STS and the container give */
    atomic_bool is_away;
    pthread_mutex_t lock;
    char log[8192];                 /* "METHOD target\n", and bodies */
    char header[512];               /* the last request's, of the name wanted */
    const char *wanted;
} fake;
static struct loopback *server;
static struct aws_settings settings;
static struct http_client *http;
static struct why why;
static char folder[] = "/tmp/cordon-credentials-XXXXXX";

static const char *until(int seconds, char out[32]) {
    time_t at = time(NULL) + seconds;
    struct tm tm;
    (void)strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&at, &tm));
    return out;
}

static bool answer(void *ctx, const struct loopback_request *request, int fd) {
    (void)ctx;
    unsigned n = atomic_fetch_add(&fake.asked, 1) + 1;
    char end[32], body[2048];
    pthread_mutex_lock(&fake.lock);
    size_t used = strlen(fake.log);
    (void)snprintf(fake.log + used, sizeof fake.log - used, "%s %s %.*s\n", request->method, request->target, (int)request->body.len,
                   request->body.data ? request->body.data : "");
    (void)loopback_header(request, fake.wanted ? fake.wanted : "authorization", fake.header, sizeof fake.header);
    pthread_mutex_unlock(&fake.lock);
    if (atomic_load(&fake.is_away))
        return loopback_answer(fd, 503, "", "");
    for (size_t i = 0; i < 6 && fake.answers[i].target; i++)
        if (str_equal(fake.answers[i].target, request->target) && str_equal(fake.answers[i].method, request->method))
            return loopback_answer(fd, fake.answers[i].status, "", fake.answers[i].body);
    (void)until(atomic_load(&fake.lifetime_s), end);
    if (str_equal(request->target, "/creds"))
        (void)snprintf(body, sizeof body, "{\"AccessKeyId\":\"ID%u\",\"SecretAccessKey\":\"s\",\"Token\":\"t%u\",\"Expiration\":\"%s\"}", n, n, end);
    else if (str_equal(request->target, "/"))
        (void)snprintf(body, sizeof body, "<R><Credentials><AccessKeyId>STS%u</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
                       "<SessionToken>tok</SessionToken><Expiration>%s</Expiration></Credentials></R>", n, end);
    else
        return loopback_answer(fd, 404, "", "");
    return loopback_answer(fd, 200, "", body);
}

static void set_up(void) {
    server = loopback_start(answer, &fake);
    pthread_mutex_init(&fake.lock, NULL);
    fake.lifetime_s = 3600;
    settings = (struct aws_settings){ .region = "us-east-1", .proxy = "", .access_key_id = "", .web_identity_token_file = "", .role_arn = "",
        .role_session_name = "", .credentials_file = "", .config_file = "", .profile = "default", .container_relative_uri = "",
        .container_full_uri = "", .container_token_file = "", .is_metadata_disabled = true, .metadata_endpoint = loopback_url(server),
        .assume_role_arn = "", .tenant_role_arn = "", .sts_endpoint = loopback_url(server) };
    http = http_client_new(&(struct http_options){ .allow_plain = true });
    cr_assert_not_null(mkdtemp(folder));
}

static void tear_down(void) {
    http_client_destroy(&http);
    loopback_stop(&server);
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_assert_eq(system(command), 0);
}

TestSuite(aws_credentials, .init = set_up, .fini = tear_down, .timeout = 30);

static const char *file(const char *name, const char *text) {
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    cr_assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    return strdup(path);
}

static enum status fetch(struct credentials **ret) {
    const struct credentials_source *source = credentials_source_of(&settings);
    struct source_context context = { .settings = &settings, .http = http, .metadata = http, .allow_plain = true };
    return source ? source->fetch(&context, clock_mono_ms() + 5000, ret, &why) : fail(&why, ST_INVALID, "none");
}

static char *url(const char *path) {
    char *text = malloc(128);
    (void)snprintf(text, 128, "%s%s", loopback_url(server), path);
    return text;
}

/* ---- which source ---- */

Test(aws_credentials, the_first_source_that_is_set_is_the_one) {
    cr_assert_null(credentials_source_of(&settings));
    settings.is_metadata_disabled = false;
    cr_assert_str_eq(credentials_source_of(&settings)->name, "instance");
    settings.container_relative_uri = "/x";
    cr_assert_str_eq(credentials_source_of(&settings)->name, "container");
    settings.credentials_file = "/x";
    cr_assert_str_eq(credentials_source_of(&settings)->name, "files");
    settings.web_identity_token_file = "/x";
    cr_assert_str_eq(credentials_source_of(&settings)->name, "web_identity");
    settings.access_key_id = "AKID";
    cr_assert_str_eq(credentials_source_of(&settings)->name, "environment");
    struct credentials *c = NULL;
    cr_assert_eq(fetch(&c), ST_INVALID, "half a key is no reason to be somebody else");
}

/* ---- container ---- */

Test(aws_credentials, a_container_gives_its_role_for_its_token) {
    settings.container_full_uri = url("/creds");
    settings.container_token_file = file("token", "Bearer abc\n");
    struct credentials *c = NULL;
    cr_assert_eq(fetch(&c), ST_OK, "%s", why.text);
    cr_assert_str_eq(c->access_key_id, "ID1");
    cr_assert_str_eq(secret_text(c->session_token), "t1");
    cr_assert_gt(c->expires_at_us, clock_unix_us() + INT64_C(3500000000));
    cr_assert_str_eq(fake.header, "Bearer abc");
    credentials_release(&c);
}

Test(aws_credentials, a_token_with_line_breaks_inside_is_refused) {
    settings.container_full_uri = url("/creds");
    settings.container_token_file = file("token", "abc\r\nX-Evil: 1\n");
    struct credentials *c = NULL;
    cr_assert_eq(fetch(&c), ST_INVALID);
    cr_assert_eq(fake.asked, 0);
}

Test(aws_credentials, credentials_are_not_asked_of_strangers_in_the_clear) {
    static const char *const SAFE[] = { "https://any.example/x", "http://127.0.0.1/x", "http://127.0.0.1:80/x", "http://169.254.170.2/v2",
                                        "http://169.254.170.23/v1", "http://[fd00:ec2::23]/v1", "http://[::1]:8080", NULL };
    static const char *const UNSAFE[] = { "http://10.0.0.1/x", "http://127.0.0.1.evil.example/x", "http://127.0.0.1@evil.example/x",
                                          "http://169.254.170.2:80@evil/x", "http://localhost/x", "ftp://127.0.0.1/", "", NULL };
    for (const char *const *u = SAFE; *u; u++)
        cr_expect(metadata_url_is_safe(*u), "%s", *u);
    for (const char *const *u = UNSAFE; *u; u++)
        cr_expect_not(metadata_url_is_safe(*u), "%s", *u);
    settings.container_full_uri = "http://10.1.2.3/creds";
    struct credentials *c = NULL;
    cr_assert_eq(fetch(&c), ST_INVALID);
}

Test(aws_credentials, answers_that_hold_no_credentials_are_refused) {
    static const char *const BODIES[] = { "", "[]", "{}", "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s\"}", "{\"AccessKeyId\":1}",
        "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s\",\"Token\":\"t\",\"Expiration\":\"tomorrow\"}", NULL };
    settings.container_full_uri = url("/bad");
    for (const char *const *b = BODIES; *b; b++) {
        fake.answers[0].method = "GET";
        fake.answers[0].target = "/bad";
        fake.answers[0].status = 200;
        (void)snprintf(fake.answers[0].body, sizeof fake.answers[0].body, "%s", *b);
        struct credentials *c = NULL;
        cr_expect_eq(fetch(&c), ST_UNAVAILABLE, "%s", *b);
    }
}

/* ---- instance ---- */

Test(aws_credentials, an_instance_is_asked_with_a_session_token_only) {
    settings.is_metadata_disabled = false;
    fake.wanted = "x-aws-ec2-metadata-token";
    fake.answers[0].method = "PUT";
    fake.answers[0].target = "/latest/api/token";
    fake.answers[0].status = 200;
    strcpy(fake.answers[0].body, "TOKEN");
    fake.answers[1].method = "GET";
    fake.answers[1].target = "/latest/meta-data/iam/security-credentials/";
    fake.answers[1].status = 200;
    strcpy(fake.answers[1].body, "cordon-query");
    fake.answers[2].method = "GET";
    fake.answers[2].target = "/latest/meta-data/iam/security-credentials/cordon-query";
    fake.answers[2].status = 200;
    char end[32];
    (void)snprintf(fake.answers[2].body, sizeof fake.answers[2].body,
                   "{\"Code\":\"Success\",\"AccessKeyId\":\"ASIA\",\"SecretAccessKey\":\"s\",\"Token\":\"t\",\"Expiration\":\"%s\"}", until(600, end));
    struct credentials *c = NULL;
    cr_assert_eq(fetch(&c), ST_OK, "%s", why.text);
    cr_assert_str_eq(c->access_key_id, "ASIA");
    cr_assert_str_eq(fake.header, "TOKEN");
    credentials_release(&c);
    fake.answers[0].status = 403;       /* IMDSv1 is not tried instead */
    unsigned before = fake.asked;
    cr_assert_eq(fetch(&c), ST_UNAVAILABLE);
    cr_assert_eq(fake.asked, before + 1);
}

/* ---- files ---- */

static const char SHARED[] = "# comment\n[other]\naws_access_key_id = OTHER\naws_secret_access_key = o\n\n[default]\n"
                             "  aws_access_key_id=AKFILE  \r\naws_secret_access_key = with=equals+/ \naws_session_token = tok\n";

Test(aws_credentials, the_shared_file_gives_the_keys_of_its_profile) {
    settings.credentials_file = file("credentials", SHARED);
    struct credentials *c = NULL;
    cr_assert_eq(fetch(&c), ST_OK, "%s", why.text);
    cr_assert_str_eq(c->access_key_id, "AKFILE");
    cr_assert_str_eq(secret_text(c->secret_access_key), "with=equals+/");
    cr_assert_str_eq(secret_text(c->session_token), "tok");
    cr_assert_eq(c->expires_at_us, 0);
    cr_assert_gt(c->renew_at_us, clock_unix_us(), "the file is read again, it may be rotated");
    credentials_release(&c);
    settings.profile = "missing";
    cr_assert_eq(fetch(&c), ST_INVALID);
}

Test(aws_credentials, a_profile_takes_on_a_role_with_the_keys_of_another) {
    settings.credentials_file = file("credentials", SHARED);
    settings.config_file = file("config", "[profile clinic]\nrole_arn = arn:aws:iam::1:role/clinic\nsource_profile = other\nexternal_id = e 1\n");
    settings.profile = "clinic";
    struct credentials *c = NULL;
    cr_assert_eq(fetch(&c), ST_OK, "%s", why.text);
    cr_assert_str_eq(c->access_key_id, "STS1");
    cr_assert_not_null(strstr(fake.header, "Credential=OTHER/"), "signed as the source profile");
    cr_assert_not_null(strstr(fake.log, "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fclinic"
                                        "&RoleSessionName=cordon&DurationSeconds=3600&ExternalId=e%201"), "%s", fake.log);
    credentials_release(&c);
}

Test(aws_credentials, programs_named_by_a_profile_are_not_run) {
    settings.credentials_file = file("credentials", "[default]\ncredential_process = /bin/true\n");
    struct credentials *c = NULL;
    cr_assert_eq(fetch(&c), ST_INVALID);
}

/* ---- roles ---- */

Test(aws_credentials, a_web_identity_is_exchanged_unsigned) {
    settings.web_identity_token_file = file("token", "eyJ.a.b\n");
    settings.role_arn = "arn:aws:iam::1:role/query";
    settings.role_session_name = "pod-1";
    struct credentials *c = NULL;
    cr_assert_eq(fetch(&c), ST_OK, "%s", why.text);
    cr_assert_str_eq(fake.log, "POST / Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fquery"
                               "&RoleSessionName=pod-1&WebIdentityToken=eyJ.a.b\n");
    cr_assert_str_eq(fake.header, "");
    cr_assert_str_eq(c->access_key_id, "STS1");
    credentials_release(&c);
    settings.role_arn = "";
    cr_assert_eq(fetch(&c), ST_INVALID);
}

Test(aws_credentials, a_role_is_taken_on_upon_whichever_source) {
    settings.container_full_uri = url("/creds");
    settings.assume_role_arn = "arn:aws:iam::1:role/query";
    struct refresher *r = NULL;
    cr_assert_eq(refresher_start(&settings, false, true, NULL, &r, &why), ST_OK, "%s", why.text);
    struct credentials_provider p = refresher_provider(r);
    struct credentials *c = NULL;
    cr_assert_eq(p.get(p.ctx, &c, &why), ST_OK);
    cr_assert_str_eq(c->access_key_id, "STS2");
    cr_assert_not_null(strstr(fake.header, "Credential=ID1/"));
    credentials_release(&c);
    refresher_destroy(&r);
}

/* ---- renewal ---- */

static void pause_ms(int ms) {
    (void)nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L }, NULL);
}

/* Ask until the access key is not `before`; the new one in out. */
static bool changes(struct credentials_provider p, const char *before, char out[129]) {
    for (int64_t until_ms = clock_mono_ms() + 15000; clock_mono_ms() < until_ms; pause_ms(20)) {
        struct credentials *c = NULL;
        if (p.get(p.ctx, &c, &why) != ST_OK)
            continue;
        (void)snprintf(out, 129, "%s", c->access_key_id);
        credentials_release(&c);
        if (!str_equal(out, before))
            return true;
    }
    return false;
}

Test(aws_credentials, credentials_are_renewed_ahead_of_their_end_and_nobody_waits) {
    settings.container_full_uri = url("/creds");
    fake.lifetime_s = 4;
    struct metrics *m = metrics_new();
    struct refresher *r = NULL;
    cr_assert_eq(refresher_start(&settings, false, true, m, &r, &why), ST_OK, "%s", why.text);
    struct credentials_provider p = refresher_provider(r);
    char now[129];
    int64_t from_ms = clock_mono_ms();
    cr_assert(changes(p, "ID1", now));
    cr_assert_lt(clock_mono_ms() - from_ms, 3900, "before the first ones ended");
    refresher_destroy(&r);
    metrics_destroy(&m);
}

Test(aws_credentials, while_the_source_is_away_the_old_ones_serve_to_their_end_and_then_requests_fail) {
    settings.container_full_uri = url("/creds");
    fake.lifetime_s = 2;
    struct refresher *r = NULL;
    cr_assert_eq(refresher_start(&settings, false, true, NULL, &r, &why), ST_OK, "%s", why.text);
    fake.is_away = true;
    struct credentials_provider p = refresher_provider(r);
    struct credentials *c = NULL;
    cr_assert_eq(p.get(p.ctx, &c, &why), ST_OK);
    credentials_release(&c);
    enum status st = ST_OK;
    for (int64_t until_ms = clock_mono_ms() + 10000; st == ST_OK && clock_mono_ms() < until_ms; pause_ms(20))
        if ((st = p.get(p.ctx, &c, &why)) == ST_OK)
            credentials_release(&c);
    cr_assert_eq(st, ST_UNAVAILABLE);
    fake.is_away = false;
    fake.lifetime_s = 3600;
    char now[129];
    cr_assert(changes(p, "ID1", now), "and it comes back by itself");
    refresher_destroy(&r);
}

Test(aws_credentials, what_aws_calls_expired_is_replaced_and_the_request_repeated) {
    settings.container_full_uri = url("/creds");
    struct aws *aws = NULL;
    cr_assert_eq(aws_open(&settings, false, NULL, &aws, &why), ST_OK, "%s", why.text);
    fake.answers[0].method = "PUT";
    fake.answers[0].target = "/docs/k";
    fake.answers[0].status = 400;
    strcpy(fake.answers[0].body, "<Error><Code>ExpiredToken</Code></Error>");
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    cr_assert_eq(s3_put(s3, "k", "text/plain", NULL, "x", 1, clock_mono_ms() + 3000, &why), ST_UNAVAILABLE);
    cr_assert_not_null(strstr(fake.header, "Credential=ID"));
    cr_assert_not_null(strstr(fake.log, "GET /creds \nPUT /docs/k x\nGET /creds"), "%s", fake.log);
    s3_destroy(&s3);
    aws_destroy(&aws);
}

Test(aws_credentials, no_source_and_a_source_that_is_away_are_told_at_start) {
    struct aws *aws = NULL;
    cr_assert_eq(aws_open(&settings, true, NULL, &aws, &why), ST_INVALID);
    settings.container_full_uri = url("/nothing");
    cr_assert_eq(aws_open(&settings, false, NULL, &aws, &why), ST_UNAVAILABLE);
    cr_assert_null(aws);
}

/* ---- tenants ---- */

static const char TENANT_A[] = "019c0000-0000-7000-8000-00000000000a", TENANT_B[] = "019c0000-0000-7000-8000-00000000000b";

static struct aws *open_for_tenants(void) {
    settings.container_full_uri = url("/creds");
    settings.tenant_role_arn = "arn:aws:iam::1:role/query-tenant";
    struct aws *aws = NULL;
    cr_assert_eq(aws_open(&settings, false, NULL, &aws, &why), ST_OK, "%s", why.text);
    return aws;
}

Test(aws_credentials, objects_of_a_tenant_are_asked_for_in_a_session_tagged_with_it) {
    struct aws *aws = open_for_tenants();
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    char key[80];
    (void)snprintf(key, sizeof key, "tenants/%s/d", TENANT_A);
    struct s3_head head;
    for (int i = 0; i < 3; i++)     /* 404 by our fake: all that counts is who asked */
        cr_assert_eq(s3_head(s3, key, clock_mono_ms() + 3000, &head, &why), ST_NOT_FOUND, "%s", why.text);
    cr_assert_not_null(strstr(fake.header, "Credential=STS2/"), "%s", fake.header);
    cr_assert_not_null(strstr(fake.log, "Tags.member.1.Key=tenant_id&Tags.member.1.Value=019c0000-0000-7000-8000-00000000000a"));
    (void)snprintf(key, sizeof key, "tenants/%s/d", TENANT_B);
    cr_assert_eq(s3_head(s3, key, clock_mono_ms() + 3000, &head, &why), ST_NOT_FOUND);
    cr_assert_null(strstr(fake.header, "Credential=STS2/"), "another tenant is another session");
    cr_assert_eq(s3_head(s3, "checkpoints/1", clock_mono_ms() + 3000, &head, &why), ST_NOT_FOUND);
    cr_assert_not_null(strstr(fake.header, "Credential=ID1/"), "what is nobody's is asked for as the process");
    unsigned sts = 0;
    for (const char *at = fake.log; (at = strstr(at, "Action=AssumeRole")); at++)
        sts++;
    cr_assert_eq(sts, 2);
    s3_destroy(&s3);
    aws_destroy(&aws);
}

Test(aws_credentials, a_session_that_is_not_to_be_had_is_asked_for_once_per_request_and_not_once_per_attempt) {
    struct aws *aws = open_for_tenants();
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    char key[80];
    struct s3_head head;
    (void)snprintf(key, sizeof key, "tenants/%s/d", TENANT_A);
    fake.answers[0].method = "POST";
    fake.answers[0].target = "/";
    fake.answers[0].status = 503;
    cr_expect_eq(s3_head(s3, key, clock_mono_ms() + 20000, &head, &why), ST_UNAVAILABLE);
    cr_expect_eq(why.code, ERR_STORE_UNAVAILABLE, "in the words of who needed it: %s", why.text);
    unsigned sts = 0;
    for (const char *at = fake.log; (at = strstr(at, "Action=AssumeRole")); at++)
        sts++;
    cr_expect_eq(sts, 3, "%s", fake.log);
    s3_destroy(&s3);
    aws_destroy(&aws);
}

static void *ask_as_tenant(void *arg) {
    struct uuid tenant;
    struct credentials *c = NULL;
    struct why mine = { 0 };
    cr_assert(uuid_parse(TENANT_A, strlen(TENANT_A), &tenant));
    enum status st = tenants_get(arg, &tenant, clock_mono_ms() + 5000, &c, &mine);
    credentials_release(&c);
    return (void *)(uintptr_t)st;
}

Test(aws_credentials, threads_that_want_one_tenant_ask_once) {
    CLEANUP(secret_destroy) struct secret *key = secret_new("s", 1);
    struct credentials *base = credentials_new("AKID", key, NULL, 0);
    struct aws *aws = aws_new(&(struct aws_options){ .region = "us-east-1", .credentials = credentials_static(base), .allow_plain = true });
    struct tenants *tenants = tenants_new(aws, loopback_url(server), "arn:aws:iam::1:role/t", "");
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, ask_as_tenant, tenants), 0);
    for (int i = 0; i < 8; i++) {
        void *st;
        pthread_join(threads[i], &st);
        cr_assert_eq((uintptr_t)st, ST_OK);
    }
    cr_assert_eq(fake.asked, 1);
    tenants_destroy(&tenants);
    aws_destroy(&aws);
    credentials_release(&base);
}

Test(aws_credentials, more_tenants_than_are_kept_are_all_served) {
    CLEANUP(secret_destroy) struct secret *key = secret_new("s", 1);
    struct credentials *base = credentials_new("AKID", key, NULL, 0);
    struct aws *aws = aws_new(&(struct aws_options){ .region = "us-east-1", .credentials = credentials_static(base), .allow_plain = true });
    struct tenants *tenants = tenants_new(aws, loopback_url(server), "arn:aws:iam::1:role/t", "");
    for (unsigned i = 0; i < TENANTS_KEPT + 20; i++) {
        struct uuid tenant = uuid_v7();
        struct credentials *c = NULL;
        cr_assert_eq(tenants_get(tenants, &tenant, clock_mono_ms() + 5000, &c, &why), ST_OK);
        credentials_release(&c);
    }
    tenants_destroy(&tenants);
    aws_destroy(&aws);
    credentials_release(&base);
}

Test(aws_credentials, an_objects_tenant_is_read_off_its_key) {
    char key[100], text[UUID_TEXT_BYTES];
    (void)snprintf(key, sizeof key, "tenants/%s/019c0000-0000-7000-8000-00000000000c", TENANT_A);
    struct uuid tenant = s3_tenant(key);
    cr_assert_str_eq(uuid_format(&tenant, text), TENANT_A);
    static const char *const OTHERS[] = { "", "tenants/", "tenants/x/y", "checkpoints/1", "tenant/019c0000-0000-7000-8000-00000000000a/x", NULL };
    for (const char *const *o = OTHERS; *o; o++)
        cr_expect(uuid_is_nil(&(struct uuid[]){ s3_tenant(*o) }[0]), "%s", *o);
}

Test(aws_credentials, times_are_read_as_aws_writes_them) {
    int64_t us = 0;
    cr_assert(aws_time_parse("2026-01-31T23:59:59Z", &us));
    cr_assert_eq(us, INT64_C(1769903999000000));
    cr_assert(aws_time_parse("2026-01-31T23:59:59.123Z", &us));
    cr_assert_not(aws_time_parse("2026-01-31T23:59:59", &us));
    cr_assert_not(aws_time_parse("2026-01-31T23:59:59+02:00", &us));
    cr_assert_not(aws_time_parse("", &us));
}
