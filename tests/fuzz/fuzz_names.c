// links: secrets
/* Names and times as settings and AWS write them. */
#include <stdlib.h>
#include <string.h>

#include "aws/bedrock_control.h"
#include "aws/sources.h"
#include "aws/time.h"
#include "secrets/secrets.h"

static void check_secret(const char *text) {
    struct secret_name name;
    struct why why = { 0 };
    if (secret_name_parse(text, "eu-west-1", &name, &why) != ST_OK)
        return;
    if (strncmp(text, name.id, strlen(name.id)) != 0 || !strstr(name.id, ":eu-west-1:") || (*name.stage != '\0') == (*name.version_id != '\0'))
        abort();
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    const char *text = arena_strndup(mem, (const char *)data, size);
    char name[128];
    int64_t us = 0;
    check_secret(text);
    if (sts_arn_name(text, name, sizeof name) && (!*name || !strstr(text, name)))
        abort();
    if (metadata_url_is_safe(text) && strncmp(text, "https://", 8) != 0 && strcspn(text + 7, "@") < strcspn(text + 7, "/"))
        abort();        /* whoever stands before the @ is not the host */
    (void)aws_time_parse(text, &us);
    (void)bedrock_is_profile(text);
    return 0;
}
