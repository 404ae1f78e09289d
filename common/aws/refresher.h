/* refresher — keeps a process's credentials fresh: fetched once when it starts, and again ahead of their end by one
 * thread of its own, so that no request waits for it. While the source is away the old ones serve to their last
 * second, and then requests are told so. Any thread may ask. */
#ifndef CORDON_AWS_REFRESHER_H
#define CORDON_AWS_REFRESHER_H

#include "aws/credentials.h"
#include "aws/settings.h"
#include "obs/metrics.h"

struct refresher;

/* Chooses the source, fetches and starts the thread if what came does not last for ever and is to be renewed. settings
 * must outlive it. metrics: NULL or counted in. ST_INVALID, ST_UNAVAILABLE, ST_TIMEOUT: no credentials. */
enum status refresher_start(const struct aws_settings *settings, bool is_production, bool renews, struct metrics *metrics,
                            struct refresher **ret_refresher, struct why *why) MUST_USE;
void refresher_destroy(struct refresher **refresher_p);

struct credentials_provider refresher_provider(struct refresher *refresher);

#endif
