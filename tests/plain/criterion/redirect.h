#ifndef CORDON_TESTS_PLAIN_REDIRECT_H
#define CORDON_TESTS_PLAIN_REDIRECT_H

#include <stdio.h>

/* What a test of this process would have shown is not asked for by any of ours. */
static inline void cr_redirect_stdout(void) { (void)!freopen("/dev/null", "w", stdout); }
static inline void cr_redirect_stderr(void) { (void)!freopen("/dev/null", "w", stderr); }

#endif
