#include "aws/tenants.h"

#include <pthread.h>
#include <stdlib.h>

#include "aws/sts.h"
#include "core/arena.h"
#include "core/clock.h"

struct session {
    struct uuid tenant;
    struct credentials *credentials;    /* NULL: none yet */
    unsigned waiting_count;             /* threads that use this slot now: it may not be given away */
    bool is_taken, is_asked;            /* has a tenant; a thread asks STS */
    uint64_t used_at;
};

struct tenants {
    struct aws *aws;
    const char *sts_endpoint, *role_arn, *session_name;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under the lock */
    struct session sessions[TENANTS_KEPT];
    uint64_t uses;
};

struct tenants *tenants_new(struct aws *aws, const char *sts_endpoint, const char *role_arn, const char *session_name) {
    struct tenants *t = xalloc(sizeof *t);
    t->aws = aws;
    t->sts_endpoint = sts_endpoint;
    t->role_arn = role_arn;
    t->session_name = session_name;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->changed, NULL);
    return t;
}

void tenants_destroy(struct tenants **tenants_p) {
    struct tenants *t = *tenants_p;
    *tenants_p = NULL;
    if (!t)
        return;
    for (size_t i = 0; i < TENANTS_KEPT; i++)
        credentials_release(&t->sessions[i].credentials);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

/* Under the lock: the tenant's slot, or the one unused for longest; NULL when all are in use. */
static struct session *find(struct tenants *t, const struct uuid *tenant) {
    struct session *oldest = NULL;
    for (struct session *s = t->sessions; s < t->sessions + TENANTS_KEPT; s++) {
        if (s->is_taken && uuid_equal(&s->tenant, tenant))
            return s;
        if (s->waiting_count == 0 && (!oldest || s->used_at < oldest->used_at))
            oldest = s;
    }
    if (oldest) {
        credentials_release(&oldest->credentials);
        *oldest = (struct session){ .tenant = *tenant, .is_taken = true };
    }
    return oldest;
}

static bool is_fresh(const struct session *s) {
    return s->credentials && clock_unix_us() < s->credentials->renew_at_us;
}

static enum status ask(struct tenants *t, const struct uuid *tenant, int64_t deadline_ms, struct credentials **ret_credentials,
                       struct why *why) {
    char text[UUID_TEXT_BYTES];
    struct sts_role role = { .arn = t->role_arn, .session_name = t->session_name, .tags = { { "tenant_id", uuid_format(tenant, text) } } };
    return sts_assume_role(t->aws, t->sts_endpoint, &role, deadline_ms, ret_credentials, why);
}

enum status tenants_get(struct tenants *t, const struct uuid *tenant, int64_t deadline_ms, struct credentials **ret_credentials,
                        struct why *why) {
    pthread_mutex_lock(&t->lock);
    struct session *s = find(t, tenant);
    if (!s) {
        pthread_mutex_unlock(&t->lock);
        return ask(t, tenant, deadline_ms, ret_credentials, why);
    }
    s->waiting_count++;
    s->used_at = ++t->uses;
    while (!is_fresh(s) && s->is_asked)     /* whoever asks has a deadline of its own */
        pthread_cond_wait(&t->changed, &t->lock);
    enum status st = ST_OK;
    if (!is_fresh(s)) {
        struct credentials *fresh = NULL;
        s->is_asked = true;
        pthread_mutex_unlock(&t->lock);
        st = ask(t, tenant, deadline_ms, &fresh, why);
        pthread_mutex_lock(&t->lock);
        s->is_asked = false;
        if (st == ST_OK) {
            credentials_release(&s->credentials);
            s->credentials = fresh;
        } else if (s->credentials && clock_unix_us() < s->credentials->expires_at_us) {
            st = ST_OK;     /* what we have serves to its end */
        }
        pthread_cond_broadcast(&t->changed);
    }
    if (st == ST_OK)
        *ret_credentials = credentials_hold(s->credentials);
    s->waiting_count--;
    pthread_mutex_unlock(&t->lock);
    return st;
}

void tenants_reject(struct tenants *t, const struct credentials *rejected) {
    pthread_mutex_lock(&t->lock);
    for (struct session *s = t->sessions; s < t->sessions + TENANTS_KEPT; s++)
        if (s->credentials == rejected && s->waiting_count == 0)
            credentials_release(&s->credentials);
    pthread_mutex_unlock(&t->lock);
}
