/* accounts — what each tenant may have of the models and has had: its weight in the line, its budgets of a day and of a
 * month (UTC), its tokens and their price. Whom a call is for, its ticket says; this process cannot verify a ticket and need
 * not: only ingest-worker and query may call, and the record that has to be made before text leaves verifies it
 * (ADR 0029). Counted in this process; what was spent before its start, and by its replicas, it is told (spend.h). Any thread. */
#ifndef CORDON_EMBEDDING_ACCOUNTS_H
#define CORDON_EMBEDDING_ACCOUNTS_H

#include "core/status.h"
#include "core/uuid.h"
#include "obs/metrics.h"

struct accounts;

enum account_use { USE_EMBED, USE_CHAT_INPUT, USE_CHAT_OUTPUT, USE_COUNT };

struct accounts_options {
    int64_t prices[USE_COUNT];              /* of a token, in millionths of a millionth of the currency */
    int64_t day_budget, month_budget;       /* of each tenant, in millionths of the currency; 0: no limit */
    const char *exceptions;                 /* "<tenant>=<weight>[/<day>/<month>],..." */
    int64_t series_count;                   /* tenants with metrics of their own; the others are "other" */
    struct metrics *metrics;
};

/* ST_INVALID: the exceptions cannot be read. */
enum status accounts_new(const struct accounts_options *options, struct accounts **ret_accounts, struct why *why) MUST_USE;
void accounts_destroy(struct accounts **accounts_p);

/* The tenant that a ticket names, unverified; nil when it names none. */
struct uuid accounts_payer(const char *ticket);

double accounts_weight(struct accounts *accounts, const struct uuid *tenant);
/* ST_LIMITED MODEL_004, with when to come back: a budget is used up. What is on its way may go over it. now_us: since the epoch. */
enum status accounts_admit(struct accounts *accounts, const struct uuid *tenant, int64_t now_us, struct why *why) MUST_USE;
void accounts_charge(struct accounts *accounts, const struct uuid *tenant, const uint64_t tokens[USE_COUNT], int64_t now_us);

/* From here on budgets are granted only once accounts_learn has told what was spent of them. */
void accounts_await(struct accounts *accounts);
/* What tenants have cost since it was last taken, up to max of them; the rest another time. */
struct account_cost { struct uuid tenant; int64_t cost; };
size_t accounts_take(struct accounts *accounts, struct account_cost ret_costs[], size_t max);
/* What a tenant has cost today and in this month, of all replicas, with all that was taken here. */
void accounts_learn(struct accounts *accounts, const struct uuid *tenant, const int64_t sums[2], int64_t now_us);
/* All that there was to learn at first has been. */
void accounts_know(struct accounts *accounts);

#endif
