/* cors — which other origins' pages may read our answers: those in ALLOWED_ORIGINS, compared whole, none
 * by default. Never "*". Pure. */
#ifndef CORDON_EDGE_CORS_H
#define CORDON_EDGE_CORS_H

#include <stdbool.h>

/* Is origin in the comma list? "null" and "*" never are. */
bool cors_allows(const char *allowed_origins, const char *origin);

#endif
