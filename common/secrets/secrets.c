#include "secrets/secrets.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "aws/secretsmanager.h"
#include "aws/sts.h"
#include "core/arena.h"
#include "core/clock.h"
#include "core/str.h"
#include "core/worker.h"
#include "json/reader.h"

enum { START_MS = 20000, READ_MS = 8000, REFUSED_MS = 3000, PAUSE_MS = 1000 };

static const char CURRENT[] = "AWSCURRENT", PENDING[] = "AWSPENDING";

struct tally { struct counter *same, *changed, *failed; struct gauge *outdated; };

struct secrets {
    const struct aws_settings *settings;
    struct config_references references;
    struct secret_name names[CONFIG_REFERENCES_MAX];
    struct tally tally;
    struct worker worker;
    pthread_mutex_t reading;            /* held while AWS is asked */
    int64_t read_at_ms;                 /* under it: when the last reading for a refused value ended */
    pthread_mutex_t lock;
    /* under the lock */
    struct aws *aws;                    /* the process's; NULL: nothing is read again */
};

/* ---- names ---- */

/* Copy up to the next colon and step over it; false when it does not fit. */
static bool take(const char **text, char *out, size_t size) {
    size_t len = strcspn(*text, ":");
    if (len >= size)
        return false;
    memcpy(out, *text, len);
    out[len] = '\0';
    *text += len + ((*text)[len] == ':');
    return true;
}

enum status secret_name_parse(const char *text, const char *region, struct secret_name *ret_name, struct why *why) {
    static const char *const FORM = "needs arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME[:JSON-KEY[:STAGE[:VERSION-ID]]]";
    enum { COLONS = 6 };                /* of an ARN of a secret */
    const char *field[COLONS + 1] = { text };
    for (int i = 1; i <= COLONS; i++) {
        const char *colon = strchr(field[i - 1], ':');
        if (!colon)
            return fail(why, ST_INVALID, "%s", FORM);
        field[i] = colon + 1;
    }
    const char *end = field[COLONS] + strcspn(field[COLONS], ":"), *more = *end ? end + 1 : end;
    struct secret_name name = { 0 };
    if (!str_starts_with(text, "arn:aws") || !str_starts_with(field[2], "secretsmanager:") || !str_starts_with(field[5], "secret:") ||
        end == field[COLONS] || (size_t)(end - text) >= sizeof name.id)
        return fail(why, ST_INVALID, "%s", FORM);
    memcpy(name.id, text, (size_t)(end - text));
    if (!take(&more, name.key, sizeof name.key) || !take(&more, name.stage, sizeof name.stage) ||
        !take(&more, name.version_id, sizeof name.version_id) || *more || (*name.stage && *name.version_id))
        return fail(why, ST_INVALID, "%s, and a stage or a version", FORM);
    if (!str_starts_with(field[3], region) || field[3][strlen(region)] != ':')
        return fail(why, ST_INVALID, "the secret is not in AWS_REGION");
    if (!*name.stage && !*name.version_id)
        memcpy(name.stage, CURRENT, sizeof CURRENT);
    *ret_name = name;
    return ST_OK;
}

static bool is_same_secret(const struct secret_name *a, const struct secret_name *b) {
    return str_equal(a->id, b->id) && str_equal(a->stage, b->stage) && str_equal(a->version_id, b->version_id);
}

/* ---- reading ---- */

/* *why with the variable's name in front. */
static enum status name_it(const struct config_reference *reference, enum status st, struct why *why) {
    char name[CONFIG_NAME_BYTES];
    struct why said = *why;
    (void)!fail(why, st, "%s: %.170s", config_reference_name(reference->row, name), said.text);
    return st;
}

/* The value of a reference out of its secret's text: all of it, or a member. */
static enum status pick(const struct secret_name *name, const struct secret *text, struct secret **ret_value, struct why *why) {
    CLEANUP(json_destroy) json_t *json = NULL;
    const char *value = NULL;
    struct why reason = { 0 };
    if (!*name->key) {
        *ret_value = secret_new(text->bytes, text->len);
        return ST_OK;
    }
    if (json_parse(text->bytes, text->len, SECRETSMANAGER_TEXT_MAX_BYTES, &json, &reason) != ST_OK)
        return fail(why, ST_INVALID, "the secret is no JSON object");
    if (json_get_text(json, name->key, JSON_REQUIRED, SECRETSMANAGER_TEXT_MAX_BYTES, &value, &reason) != ST_OK)
        return fail(why, ST_INVALID, "the secret has no text under the key '%.60s'", name->key);
    *ret_value = secret_new(value, strlen(value));
    return ST_OK;
}

static bool is_live(const struct config_reference *reference) {
    return reference->row->type == SET_LIVE_SECRET;
}

/* The member of the settings that it is for. */
static void *value_of(const struct config_reference *reference) {
    return (char *)reference->settings + reference->row->offset;
}

/* What one reading found. */
struct found { unsigned changed, outdated; };

/* The text is there: give a reference its value, or at a later reading, which only live ones follow, compare. */
static enum status apply(struct secrets *s, size_t i, const struct secret *text, bool is_first, struct found *found, struct why *why) {
    const struct config_reference *reference = &s->references.list[i];
    CLEANUP(secret_destroy) struct secret *value = NULL;
    bool is_changed = false;
    enum status st = pick(&s->names[i], text, &value, why);
    if (st != ST_OK)
        return name_it(reference, st, why);
    if (!is_first && !is_live(reference)) {
        const struct secret *has = *(struct secret **)value_of(reference);
        found->outdated += !secret_equal(has, value->bytes, value->len);
        return ST_OK;
    }
    st = config_resolve(reference, value->bytes, value->len, &is_changed, why);
    found->changed += is_changed;
    return st;
}

/* Ask for each secret once, however many settings are in it. The first failure is told; the others are read all the same. */
static enum status read_all(struct secrets *s, struct aws *aws, bool is_first, int64_t deadline_ms, struct found *found, struct why *why) {
    enum status first = ST_OK;
    for (size_t i = 0; i < s->references.count && (first == ST_OK || !is_first); i++) {
        CLEANUP(secret_destroy) struct secret *text = NULL;
        const struct secret_name *name = &s->names[i];
        struct why own = { 0 };
        bool is_done = false;
        for (size_t before = 0; before < i; before++)
            is_done = is_done || is_same_secret(&s->names[before], name);
        if (is_done)
            continue;
        enum status st = secretsmanager_get(aws, s->settings->secrets_endpoint, name->id, name->stage, name->version_id, deadline_ms, &text, &own);
        if (st != ST_OK)
            st = name_it(&s->references.list[i], st, &own);
        for (size_t same = i; st == ST_OK && same < s->references.count; same++)
            if (is_same_secret(&s->names[same], name))
                st = apply(s, same, text, is_first, found, &own);
        if (st != ST_OK && first == ST_OK) {
            first = st;
            *why = own;
        }
    }
    return first;
}

static void count(struct secrets *s, enum status st, const struct found *found) {
    counter_add(st != ST_OK ? s->tally.failed : found->changed ? s->tally.changed : s->tally.same, 1);
}

/* ---- a value was refused ---- */

static struct aws *aws_now(struct secrets *s) {
    pthread_mutex_lock(&s->lock);
    struct aws *aws = s->aws;
    pthread_mutex_unlock(&s->lock);
    return aws;
}

/* As it is now and, while that is what was refused, as it will be when the rotation that is under way is over. */
static enum status read_one(struct secrets *s, struct aws *aws, size_t i, int64_t deadline_ms, struct found *found, struct why *why) {
    const struct secret_name *name = &s->names[i];
    const char *const stages[] = { name->stage, PENDING };
    enum status st = ST_OK;
    for (size_t n = 0; n < (str_equal(name->stage, CURRENT) ? 2 : 1) && !found->changed; n++) {
        CLEANUP(secret_destroy) struct secret *text = NULL;
        enum status got = secretsmanager_get(aws, s->settings->secrets_endpoint, name->id, stages[n], name->version_id, deadline_ms, &text, why);
        if (got == ST_OK)
            got = apply(s, i, text, false, found, why);
        if (n == 0)         /* that there is no rotation under way is no failure */
            st = got;
    }
    return st;
}

/* Has somebody else found another one meanwhile? Then what is AWSCURRENT may be the one that was refused. */
static bool is_another(struct live_secret *s, unsigned version) {
    unsigned now = 0;
    struct secret *copy = live_secret_copy(s, &now);
    secret_destroy(&copy);
    return now != version;
}

static void look(void *ctx, struct live_secret *refused, unsigned version, int64_t deadline_ms) {
    struct secrets *s = ctx;
    int64_t since_ms = clock_mono_ms(), until_ms = since_ms + REFUSED_MS;
    struct why why = { 0 };
    struct found found = { 0 };
    pthread_mutex_lock(&s->reading);
    struct aws *aws = aws_now(s);
    size_t i = 0;
    while (i < s->references.count && !(is_live(&s->references.list[i]) &&
           *(struct live_secret **)value_of(&s->references.list[i]) == refused))
        i++;
    bool is_due = !is_another(refused, version) && (s->read_at_ms == 0 || since_ms >= s->read_at_ms + PAUSE_MS);
    if (aws && is_due && i < s->references.count) {
        enum status st = read_one(s, aws, i, until_ms < deadline_ms ? until_ms : deadline_ms, &found, &why);
        count(s, st, &found);
        s->read_at_ms = found.changed ? 0 : clock_mono_ms();
    }
    pthread_mutex_unlock(&s->reading);
}

/* ---- now and then ---- */

/* The interval, a tenth more or less; false: time to end. */
static bool wait_interval(struct secrets *s) {
    uint32_t bits;
    if (getrandom(&bits, sizeof bits, 0) != sizeof bits)
        abort();
    int64_t ms = s->settings->secrets_reread_s * 1000, wait_ms = ms - ms / 10 + (int64_t)(bits % (uint32_t)(ms / 5 + 1));
    return worker_rests(&s->worker, wait_ms);
}

static void *read_again(void *arg) {
    struct secrets *s = arg;
    while (wait_interval(s)) {
        struct found found = { 0 };
        struct why why = { 0 };
        pthread_mutex_lock(&s->reading);
        struct aws *aws = aws_now(s);
        enum status st = aws ? read_all(s, aws, false, clock_mono_ms() + READ_MS, &found, &why) : ST_OK;
        pthread_mutex_unlock(&s->reading);
        count(s, st, &found);
        if (st == ST_OK)
            gauge_set(s->tally.outdated, found.outdated);
    }
    return NULL;
}

static struct tally make_tally(struct metrics *metrics) {
    static const char NAME[] = "cordon_secrets_reads_total", HELP[] = "Readings of named secrets after the first, by outcome.";
    return (struct tally){
        .same = metrics_counter(metrics, NAME, HELP, "outcome=\"same\""), .changed = metrics_counter(metrics, NAME, HELP, "outcome=\"changed\""),
        .failed = metrics_counter(metrics, NAME, HELP, "outcome=\"failed\""),
        .outdated = metrics_gauge(metrics, "cordon_secrets_outdated", "Named secrets that are another by now and wait for a restart.", "") };
}

static void keep(struct secrets *s, struct aws *aws, const struct tally *tally) {
    s->tally = *tally;
    pthread_mutex_lock(&s->lock);
    s->aws = aws;
    pthread_mutex_unlock(&s->lock);
    if (s->settings->secrets_reread_s > 0)
        worker_start(&s->worker, read_again, s);
    for (size_t i = 0; i < s->references.count; i++)
        if (is_live(&s->references.list[i]))
            live_secret_keep(*(struct live_secret **)value_of(&s->references.list[i]), look, s);
}

/* ---- life ---- */

static void secrets_stop(struct secrets *s) {
    pthread_mutex_lock(&s->lock);
    s->aws = NULL;
    pthread_mutex_unlock(&s->lock);
    worker_stop(&s->worker);
    pthread_mutex_lock(&s->reading);        /* a reading under way is the last */
    pthread_mutex_unlock(&s->reading);
}

static void secrets_destroy(struct secrets **secrets_p) {
    struct secrets *s = *secrets_p;
    if (!s)
        return;
    secrets_stop(s);
    config_references_end(&s->references);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->reading);
    free(s);
    *secrets_p = NULL;
}

static bool asks_sts(const struct aws_settings *settings, bool is_production) {
    return is_production || *settings->sts_endpoint;    /* else there may be nobody to ask */
}

static enum status check_identity(const struct aws_settings *settings, bool is_production, struct aws *aws, struct why *why) {
    return asks_sts(settings, is_production) ? sts_assert(aws, settings->sts_endpoint, settings->identity, clock_mono_ms() + START_MS, why) : ST_OK;
}

static enum status secrets_fetch(struct config_references *references, const void *aws_settings, bool is_production,
                                 struct secrets **ret_secrets, struct why *why) {
    CLEANUP(secrets_destroy) struct secrets *s = xalloc(sizeof *s);
    CLEANUP(aws_destroy) struct aws *aws = NULL;
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->reading, NULL);
    s->settings = aws_settings;
    s->references = *references;
    *references = (struct config_references){ 0 };
    enum status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < s->references.count; i++)
        if ((st = secret_name_parse(s->references.list[i].text, s->settings->region, &s->names[i], why)) != ST_OK)
            st = name_it(&s->references.list[i], st, why);
    if (st == ST_OK)
        st = aws_open_briefly(s->settings, is_production, &aws, why);
    if (st == ST_OK)
        st = check_identity(s->settings, is_production, aws, why);
    if (st == ST_OK)
        st = read_all(s, aws, true, clock_mono_ms() + START_MS, &(struct found){ 0 }, why);
    if (st != ST_OK)
        return st;
    *ret_secrets = s;
    s = NULL;
    return ST_OK;
}

const struct secret_store SECRETS_MANAGER = { .fetch = secrets_fetch, .stop = secrets_stop, .destroy = secrets_destroy };

enum status secrets_open_aws(const struct aws_settings *settings, struct runtime *rt, struct aws **ret_aws, struct why *why) {
    CLEANUP(aws_destroy) struct aws *aws = NULL;
    enum status st = aws_open(settings, rt->is_production, rt->metrics, &aws, why);
    if (st == ST_OK)
        st = check_identity(settings, rt->is_production, aws, why);
    struct tally tally = make_tally(rt->metrics);       /* also where nothing is named: 0 is an answer */
    if (st != ST_OK)
        return st;
    if (rt->secrets)
        keep(rt->secrets, aws, &tally);
    *ret_aws = aws;
    aws = NULL;
    return ST_OK;
}
