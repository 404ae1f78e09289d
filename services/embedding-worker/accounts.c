#include "accounts.h"

#include <pthread.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/arena.h"
#include "core/str.h"
#include "core/text_codec.h"
#include "json/reader.h"

enum { TICKET_MAX_BYTES = 8 << 10, PERIODS = 2, MICRO = 1000000, RETRY_MAX_MS = INT32_MAX, UNKNOWN_RETRY_MS = 1000 };

/* One tenant's. Costs are in millionths of a millionth of the currency. */
struct account {
    struct uuid tenant;                 /* first: what they are ordered by */
    double weight;
    int64_t budgets[PERIODS], costs[PERIODS], begun_s[PERIODS];     /* of the day and the month */
    int64_t untold;                     /* part of both costs that was not taken yet */
    struct counter *tokens[USE_COUNT];
    struct gauge *cost;
};

struct accounts {
    struct accounts_options options;
    pthread_mutex_t lock;
    void *tree;                         /* of struct account */
    int64_t series_count;
    bool is_unknown;                    /* what was spent before; so long budgets are not granted */
    struct counter *refused;
};

static int compare(const void *a, const void *b) {
    return memcmp(((const struct account *)a)->tenant.bytes, ((const struct account *)b)->tenant.bytes, UUID_BYTES);
}

/* Of the nil tenant, too: what is for nobody is counted with the others, so those are there from the start. */
static void make_series(struct accounts *accounts, struct account *a) {
    static const struct { const char *model, *direction; } USES[USE_COUNT] = {
        [USE_EMBED] = { "embed", "input" }, [USE_CHAT_INPUT] = { "chat", "input" }, [USE_CHAT_OUTPUT] = { "chat", "output" },
    };
    char name[UUID_TEXT_BYTES] = "other", labels[128];
    if (!uuid_is_nil(&a->tenant) && accounts->series_count < accounts->options.series_count) {
        accounts->series_count++;
        (void)uuid_format(&a->tenant, name);
    }
    for (int use = 0; use < USE_COUNT; use++) {
        (void)snprintf(labels, sizeof labels, "tenant=\"%s\",model=\"%s\",direction=\"%s\"", name, USES[use].model, USES[use].direction);
        a->tokens[use] = metrics_counter(accounts->options.metrics, "cordon_model_tenant_tokens_total",
                                         "Tokens that the models counted, by whom they were for.", labels);
    }
    (void)snprintf(labels, sizeof labels, "tenant=\"%s\"", name);
    a->cost = metrics_total(accounts->options.metrics, "cordon_model_tenant_cost_total",
                            "What they cost by the prices of the settings, in their currency.", labels);
}

/* With the lock held: the tenant's account, made when there is none. */
static struct account *account_of(struct accounts *accounts, const struct uuid *tenant) {
    struct account key = { .tenant = *tenant };
    void *found = tfind(&key, &accounts->tree, compare);
    if (found)
        return *(struct account **)found;
    struct account *a = xalloc(sizeof *a);
    *a = (struct account){ .tenant = *tenant, .weight = 1, .budgets = { accounts->options.day_budget, accounts->options.month_budget } };
    if (!tsearch(a, &accounts->tree, compare))
        abort();
    return a;
}

/* "<tenant>=<weight>[/<day>/<month>]" */
static bool read_exception(struct accounts *accounts, char *text) {
    char *equals = strchr(text, '='), *day = equals ? strchr(equals, '/') : NULL, *month = day ? strchr(day + 1, '/') : NULL;
    struct uuid tenant;
    int64_t weight, budgets[PERIODS] = { accounts->options.day_budget, accounts->options.month_budget };
    if (!equals || (day && !month))
        return false;
    *equals = '\0';
    if (day)
        *day = *month = '\0';
    if (!uuid_parse(text, strlen(text), &tenant) || !str_to_i64(equals + 1, 1, 1000, &weight) ||
        (day && (!str_to_i64(day + 1, 0, INT64_MAX / MICRO, &budgets[0]) || !str_to_i64(month + 1, 0, INT64_MAX / MICRO, &budgets[1]))))
        return false;
    struct account *a = account_of(accounts, &tenant);
    a->weight = (double)weight;
    memcpy(a->budgets, budgets, sizeof budgets);
    return true;
}

enum status accounts_new(const struct accounts_options *options, struct accounts **ret_accounts, struct why *why) {
    CLEANUP(accounts_destroy) struct accounts *accounts = xalloc(sizeof *accounts);
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    accounts->options = *options;
    if (pthread_mutex_init(&accounts->lock, NULL) != 0)
        abort();
    accounts->refused = metrics_counter(options->metrics, "cordon_model_budget_refusals_total", "Calls refused because their tenant's budget was used up.", "");
    make_series(accounts, account_of(accounts, &(struct uuid){ 0 }));
    char *list = arena_strdup(mem, options->exceptions), *rest = NULL;
    for (char *item = strtok_r(list, ",", &rest); item; item = strtok_r(NULL, ",", &rest))
        if (!read_exception(accounts, item))
            return fail(why, ST_INVALID, "CORDON_MODEL_TENANTS is no list of tenant=weight or tenant=weight/day/month");
    *ret_accounts = accounts;
    accounts = NULL;
    return ST_OK;
}

void accounts_destroy(struct accounts **accounts_p) {
    if (!*accounts_p)
        return;
    tdestroy((*accounts_p)->tree, free);
    (void)pthread_mutex_destroy(&(*accounts_p)->lock);
    free(*accounts_p);
    *accounts_p = NULL;
}

struct uuid accounts_payer(const char *ticket) {
    CLEANUP(json_destroy) json_t *claims = NULL;
    struct uuid tenant = { 0 };
    struct why unused = { 0 };
    const char *first = strchr(ticket, '.'), *hex = first ? strchr(first + 1, '.') : NULL, *end = hex ? strchr(hex + 1, '.') : NULL;
    const char *text = "";
    uint8_t json[TICKET_MAX_BYTES / 2];
    size_t len = end ? (size_t)(end - hex - 1) : 0;
    if (len == 0 || len / 2 > sizeof json || !hex_decode(hex + 1, len, json) || json_parse(json, len / 2, sizeof json, &claims, &unused) != ST_OK ||
        json_get_text(claims, "tenant_id", JSON_OPTIONAL, UUID_TEXT_BYTES, &text, &unused) != ST_OK || !text ||
        !uuid_parse(text, strlen(text), &tenant))
        return (struct uuid){ 0 };
    return tenant;
}

double accounts_weight(struct accounts *accounts, const struct uuid *tenant) {
    (void)pthread_mutex_lock(&accounts->lock);
    double weight = account_of(accounts, tenant)->weight;
    (void)pthread_mutex_unlock(&accounts->lock);
    return weight;
}

/* Begin of the period of now, and of the next one. */
static int64_t period(int which, int64_t now_s, int64_t *ret_next_s) {
    struct tm t;
    time_t now = (time_t)now_s;
    (void)gmtime_r(&now, &t);
    t.tm_sec = t.tm_min = t.tm_hour = 0;
    t.tm_mday = which == 0 ? t.tm_mday : 1;
    int64_t begin_s = (int64_t)timegm(&t);
    *(which == 0 ? &t.tm_mday : &t.tm_mon) += 1;
    *ret_next_s = (int64_t)timegm(&t);
    return begin_s;
}

/* With the lock held: what was spent in an earlier period is forgotten. Returns in how many seconds the present one ends. */
static int64_t turn_over(struct account *a, int which, int64_t now_us) {
    int64_t now_s = now_us / MICRO, next_s = 0, begin_s = period(which, now_s, &next_s);
    if (a->begun_s[which] != begin_s)
        a->costs[which] = 0;
    a->begun_s[which] = begin_s;
    return next_s - now_s;
}

enum status accounts_admit(struct accounts *accounts, const struct uuid *tenant, int64_t now_us, struct why *why) {
    static const char *const NAMES[PERIODS] = { "day", "month" };
    enum status st = ST_OK;
    int64_t left_s = 0;
    (void)pthread_mutex_lock(&accounts->lock);
    struct account *a = account_of(accounts, tenant);
    bool is_unknown = accounts->is_unknown && (a->budgets[0] || a->budgets[1]);
    for (int which = 0; which < PERIODS; which++) {
        int64_t ends_s = turn_over(a, which, now_us);
        if (a->budgets[which] == 0 || a->costs[which] / MICRO < a->budgets[which])
            continue;
        left_s = ends_s > left_s ? ends_s : left_s;
        st = fail_as(why, ERR_MODEL_BUDGET, "the tenant's budget of the %s is used up", NAMES[which]);
    }
    (void)pthread_mutex_unlock(&accounts->lock);
    if (is_unknown) {
        why->retry_after_ms = UNKNOWN_RETRY_MS;
        return fail_as(why, ERR_MODEL_UNAVAILABLE, "what the tenant has spent of its budget is not known yet");
    }
    if (st != ST_OK) {
        why->retry_after_ms = left_s < RETRY_MAX_MS / 1000 ? (int)left_s * 1000 : RETRY_MAX_MS;
        counter_add(accounts->refused, 1);
    }
    return st;
}

/* What does not fit is the most that does: a model is not believed to count, and a sum that turns negative would grant anything. */
static int64_t plus(int64_t sum, uint64_t count, int64_t price) {
    int64_t more, all;
    return count > INT64_MAX || __builtin_mul_overflow((int64_t)count, price, &more) || __builtin_add_overflow(sum, more, &all) ? INT64_MAX : all;
}

void accounts_charge(struct accounts *accounts, const struct uuid *tenant, const uint64_t tokens[USE_COUNT], int64_t now_us) {
    int64_t cost = 0;
    (void)pthread_mutex_lock(&accounts->lock);
    struct account *a = account_of(accounts, tenant);
    if (!a->cost)
        make_series(accounts, a);
    for (int use = 0; use < USE_COUNT; use++) {
        cost = plus(cost, tokens[use], accounts->options.prices[use]);
        counter_add(a->tokens[use], tokens[use]);
    }
    for (int which = 0; which < PERIODS; which++) {
        (void)turn_over(a, which, now_us);
        a->costs[which] = plus(a->costs[which], 1, cost);
    }
    a->untold = plus(a->untold, 1, cost);
    gauge_add(a->cost, (double)cost / MICRO / MICRO);
    (void)pthread_mutex_unlock(&accounts->lock);
}

void accounts_await(struct accounts *accounts) {
    (void)pthread_mutex_lock(&accounts->lock);
    accounts->is_unknown = true;
    (void)pthread_mutex_unlock(&accounts->lock);
}

void accounts_know(struct accounts *accounts) {
    (void)pthread_mutex_lock(&accounts->lock);
    accounts->is_unknown = false;
    (void)pthread_mutex_unlock(&accounts->lock);
}

struct taking { struct account_cost *costs; size_t count, max; };

static void take(const void *node, VISIT visit, void *taking_p) {
    struct account *a = *(struct account *const *)node;
    struct taking *taking = taking_p;
    if ((visit != postorder && visit != leaf) || a->untold == 0 || taking->count == taking->max)
        return;
    taking->costs[taking->count++] = (struct account_cost){ a->tenant, a->untold };
    a->untold = 0;
}

size_t accounts_take(struct accounts *accounts, struct account_cost ret_costs[], size_t max) {
    struct taking taking = { ret_costs, 0, max };
    (void)pthread_mutex_lock(&accounts->lock);
    twalk_r(accounts->tree, take, &taking);
    (void)pthread_mutex_unlock(&accounts->lock);
    return taking.count;
}

void accounts_learn(struct accounts *accounts, const struct uuid *tenant, const int64_t sums[PERIODS], int64_t now_us) {
    (void)pthread_mutex_lock(&accounts->lock);
    struct account *a = account_of(accounts, tenant);
    for (int which = 0; which < PERIODS; which++) {
        (void)turn_over(a, which, now_us);
        a->costs[which] = plus(sums[which], 1, a->untold);
    }
    (void)pthread_mutex_unlock(&accounts->lock);
}
