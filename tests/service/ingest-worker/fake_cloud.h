/* fake_cloud — S3 and KMS on loopback, as far as ingest-worker uses them: objects in memory, the bytes of one multipart
 * upload at a time, tenant keys made of tenant and purpose. Each can be told to answer with an error. */
#ifndef CORDON_TESTS_FAKE_CLOUD_H
#define CORDON_TESTS_FAKE_CLOUD_H

#include <pthread.h>

#include "support/loopback.h"

enum { CLOUD_OBJECTS_MAX = 32, CLOUD_UPLOADS_MAX = 8 };

struct cloud_object { char key[256]; struct buffer data; };

struct fake_cloud {
    struct loopback *server;
    pthread_mutex_t lock;               /* guards objects and parts */
    struct cloud_object objects[CLOUD_OBJECTS_MAX];
    struct buffer parts;                /* of the multipart upload under way */
    struct { char key[256]; const char *begun; } uploads[CLOUD_UPLOADS_MAX];     /* key "": none */
    atomic_int put_status, get_status, kms_status;      /* 0: as it should be */
    const char *get_refused;            /* get_status is for requests that name this only; NULL: for all */
    const char *kms_error;              /* AWS's code that goes with kms_status */
    atomic_uint aborted, completed, decrypted;
};

void fake_cloud_start(struct fake_cloud *cloud);
void fake_cloud_stop(struct fake_cloud *cloud);

/* Originals, and second shares of document keys. */
unsigned fake_cloud_count(struct fake_cloud *cloud);
unsigned fake_cloud_shares(struct fake_cloud *cloud);
/* Do the objects hold these bytes? */
bool fake_cloud_shows(struct fake_cloud *cloud, const char *text);
/* Multipart uploads that are neither completed nor aborted. */
unsigned fake_cloud_uploads(struct fake_cloud *cloud);
/* Put an object, or begin a multipart upload (begun: S3's time), behind the back of everybody. key: in the document bucket, or
 * "/bucket/key". */
void fake_cloud_leave(struct fake_cloud *cloud, const char *key, const char *begun);
/* Lose every object of that kind: originals are "/docs/...", shares "/shares/..."; "": all. */
void fake_cloud_lose(struct fake_cloud *cloud, const char *prefix);

#endif
