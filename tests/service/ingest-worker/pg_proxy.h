/* pg_proxy — stands between a client and PostgreSQL and cuts the connection at a statement: before it arrives, or when
 * it was carried out and its answer is on the way. */
#ifndef CORDON_TESTS_PG_PROXY_H
#define CORDON_TESTS_PG_PROXY_H

enum proxy_cut { CUT_QUESTION, CUT_ANSWER };

struct pg_proxy;

/* Cut at the first `cuts` statements that end in `word`. */
struct pg_proxy *pg_proxy_start(const char *word, enum proxy_cut cut, unsigned cuts);
void pg_proxy_stop(struct pg_proxy **proxy_p);
/* Let so many of them pass first. */
void pg_proxy_spare(struct pg_proxy *proxy, unsigned count);
unsigned pg_proxy_cuts(struct pg_proxy *proxy);
/* As pg_url(), through the proxy. */
const char *pg_proxy_url(struct pg_proxy *proxy, const char *role);

#endif
