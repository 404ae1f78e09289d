/* bucket — the anchor bucket: a server on loopback that keeps objects as Object Lock would, never another under a name. */
#ifndef BUCKET_H
#define BUCKET_H

#include "rig.h"
#include "support/loopback.h"

enum { BUCKET_OBJECTS_MAX = 64 };
extern struct bucket {
    struct loopback *server;
    struct { char key[100], *data; size_t len; bool is_held; } objects[BUCKET_OBJECTS_MAX];
    size_t count, unlocked;
    bool is_away;
    int puts_left;                  /* of them the answer comes; then the bucket is away. < 0: any number */
    void (*before_head)(void *ctx); /* once, before a HEAD is answered */
    void *before_head_ctx;
} bucket;

/* The key that heads are signed with in these tests. */
extern const char SKEY[];

void bucket_open(void);
void bucket_close(void);
/* Place of the n-th object whose key has this in it; -1. */
int bucket_find(const char *part, int n);

#endif
