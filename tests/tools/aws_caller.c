// links: aws config
/* aws_caller [OBJECT SECONDS THREADS]
 * Who AWS says we are, with credentials got as every process gets its own: by the variables of aws/settings.h (and
 * AWS_ENDPOINT_URL_S3, ENVIRONMENT). Prints the ARN. OBJECT is bucket/key: so many threads then read it for so long, once at least, and a
 * line says how many reads succeeded and how many failed; the first failure goes to stderr. A key tenants/<id>/... is
 * read in that tenant's session, when CORDON_AWS_TENANT_ROLE_ARN is set. Exit status 1: AWS is not reached or refuses. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aws/s3.h"
#include "aws/settings.h"
#include "aws/sts.h"
#include "core/clock.h"
#include "core/str.h"

enum { BUDGET_MS = 20000, SECONDS_MAX = 3600, THREADS_MAX = 64 };

struct settings {
    struct aws_settings aws;
    const char *s3_endpoint, *environment;
};

static const struct setting SETTINGS[] = {
    AWS_SETTINGS(struct settings, aws, "nobody"),
    AWS_ENDPOINT_SETTING(struct settings, s3_endpoint, "S3"),
    { "ENVIRONMENT", SET_TEXT, "production", 1, 16, "", offsetof(struct settings, environment), "development: plain http." },
    { 0 }
};

struct reader {
    struct s3 *s3;
    const char *key;
    int64_t until_ms;
    unsigned good, bad;
    struct why why;                 /* of the first failure */
    pthread_t thread;
};

static enum status ignore(void *ctx, const void *data, size_t len, struct why *why) {
    (void)ctx, (void)data, (void)len, (void)why;
    return ST_OK;
}

static void *read_on(void *arg) {
    struct reader *r = arg;
    do {
        struct why why = { 0 };
        bool is_good = s3_get(r->s3, r->key, 0, 0, ignore, NULL, clock_mono_ms() + BUDGET_MS, &why) == ST_OK;
        if (!is_good && r->bad == 0)
            r->why = why;
        r->good += is_good;
        r->bad += !is_good;
    } while (clock_mono_ms() < r->until_ms);
    return NULL;
}

/* What main was given: object, seconds, threads. */
static int read_object(struct aws *aws, const struct settings *settings, char *words[]) {
    struct reader readers[THREADS_MAX] = { 0 }, all = { 0 };
    char *object = words[0], *key = strchr(object, '/');
    int64_t seconds, count;
    if (!key || !str_to_i64(words[1], 0, SECONDS_MAX, &seconds) || !str_to_i64(words[2], 1, THREADS_MAX, &count))
        return EXIT_FAILURE;
    *key++ = '\0';
    struct s3 *s3 = s3_new(aws, settings->s3_endpoint, object);
    for (int i = 0; i < count; i++) {
        readers[i] = (struct reader){ .s3 = s3, .key = key, .until_ms = clock_mono_ms() + 1000 * seconds };
        if (pthread_create(&readers[i].thread, NULL, read_on, &readers[i]) != 0)
            abort();
    }
    for (int i = 0; i < count; i++) {
        (void)pthread_join(readers[i].thread, NULL);
        if (readers[i].bad > 0)
            all.why = readers[i].why;
        all.good += readers[i].good;
        all.bad += readers[i].bad;
    }
    s3_destroy(&s3);
    (void)printf("%u good, %u bad\n", all.good, all.bad);
    if (all.bad > 0)
        (void)fprintf(stderr, "%s\n", all.why.text);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(aws_destroy) struct aws *aws = NULL;
    struct settings settings = { 0 };
    struct why why = { 0 };
    char *arn = NULL;
    enum status st = config_load(SETTINGS, &settings, NULL, &why);
    if (st == ST_OK)
        st = aws_open(&settings.aws, !str_equal(settings.environment, "development"), NULL, &aws, &why);
    if (st == ST_OK)
        st = sts_identity(aws, settings.aws.sts_endpoint, clock_mono_ms() + BUDGET_MS, mem, &arn, &why);
    if (st != ST_OK) {
        (void)fprintf(stderr, "%s\n", why.text);
        config_release(SETTINGS, &settings);
        return EXIT_FAILURE;
    }
    (void)printf("%s\n", arn);
    int status = argc == 4 ? read_object(aws, &settings, argv + 1) : EXIT_SUCCESS;
    aws_destroy(&aws);
    config_release(SETTINGS, &settings);
    return status;
}
