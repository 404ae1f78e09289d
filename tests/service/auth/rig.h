/* rig — auth with everything around it: a database from the migrations, a server on loopback that plays the
 * OpenID provider and AWS, and an audit log that remembers what it was told (rig.c stands in for
 * audit/client.h; the real one is tested with audit-writer). */
#ifndef CORDON_TESTS_AUTH_RIG_H
#define CORDON_TESTS_AUTH_RIG_H

#include "audit/record.h"
#include "auth.h"
#include "auth.pb-c.h"
#include "support/pg.h"
#include "support/signer.h"

enum { RIG_EVENTS_MAX = 256, RIG_KEYS_MAX = 16 };

struct rig_event { enum audit_action action; bool has_tenant; char detail[512]; };
struct rig_key { char arn[128], alias[128], description[128], tags[512], state[32]; };

struct rig {
    struct arena *mem;
    struct auth *auth;
    struct signer *signer, *second;
    struct signer *previous;            /* its key, "k1", is published beside signer's while it is not NULL */
    struct metrics *metrics;
    const char *issuer;                 /* URL of the loopback server */
    /* What the provider and AWS do. */
    const char *token_answer;           /* the token endpoint's, with token_status (0: 200) */
    int token_status;
    char form[8192], form_path[64];     /* what it was asked last */
    unsigned form_count;
    const char *key_id;                 /* kid that is published */
    bool is_provider_down, is_kms_down;
    struct rig_key keys[RIG_KEYS_MAX];
    unsigned key_count, data_key_count;
    char contexts[RIG_KEYS_MAX][256];   /* encryption contexts of the data keys */
    /* What the audit log did. */
    enum status audit_answer;           /* ST_OK: takes it */
    bool refuses_tickets;               /* ST_UNAUTHENTICATED for events with a ticket */
    struct rig_event events[RIG_EVENTS_MAX];
    unsigned event_count;
    struct why why;                     /* of the last call */
};

extern struct rig rig;
/* What the next rig_open() configures. "%s" in the text stands for the provider's URL, under which a second
 * provider, signing with rig.second, is at /two. */
extern const char *rig_issuers;
extern bool rig_requires_mfa;
extern int rig_idle_s;                  /* 0: 900 */
/* How the provider answers for its keys. */
enum rig_keys { RIG_KEYS_GOOD, RIG_KEYS_PAGE, RIG_KEYS_HUGE, RIG_KEYS_SLOW };
extern _Atomic(enum rig_keys) rig_keys;     /* the server's threads read it */
#define RIG_CLIENT_SECRET "client-secret"
#define RIG_DIRECTORY_KEY "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

void rig_open(void);
void rig_close(void);

/* One call from edge. *ret_reply lives in rig.mem; rig.why is set. */
enum status rig_call(const char *method, const char *ticket, const ProtobufCMessage *req, ProtobufCMessage **ret_reply);

/* A token of the rig's issuer, good for 10 minutes: members are added to iss, aud, exp, iat and sub. */
const char *rig_token(const char *subject, const char *members);
enum status rig_authenticate(const char *token, Auth__AuthenticateReply **ret_reply);
/* A platform administrator's ticket. */
const char *rig_platform_ticket(void);

#endif
