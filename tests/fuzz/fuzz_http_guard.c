// links: edge_lib
/* Lines of bytes as the head that civetweb parsed; what passes has exactly one way to end its body. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "guard.h"
#include "rest/header.h"
#include "routes.h"
#include "sender.h"

static unsigned count(const struct mg_request_info *in, const char *name) {
    unsigned n = 0;
    for (int i = 0; i < in->num_headers; i++)
        n += strcasecmp(in->http_headers[i].name, name) == 0;
    return n;
}

/* What proxies say of addresses is read before the guard has spoken. An address comes out, and the same one again. */
static void check_sender(struct mg_request_info *in) {
    static const char *const HEADERS[] = { "x-forwarded-for", "x-real-ip", "forwarded" };
    for (int i = 0; i < 3; i++) {
        struct proxies proxies;
        struct sender sender;
        struct why why = { 0 };
        strcpy(in->remote_addr, "127.0.0.1");
        if (proxies_read("127.0.0.0/8", HEADERS[i], &proxies, &why) != ST_OK)
            abort();
        sender_find(&proxies, in, &sender);
        uint8_t again[16];
        if (inet_pton(strchr(sender.text, ':') ? AF_INET6 : AF_INET, sender.text, again) != 1)
            abort();
    }
    struct proxies proxies;
    struct why why = { 0 };
    (void)guard_allows_host("a.example,[::1]", in->num_headers ? in->http_headers[0].value : NULL);
    (void)proxies_read(in->num_headers ? in->http_headers[0].value : "", "forwarded", &proxies, &why);
}

static void check(const struct mg_request_info *in) {
    struct framing framing;
    struct why why = { 0 };
    struct media_type type;
    struct disposition disposition;
    if (guard_check(in, &framing, &why) != ST_OK) {
        if (!*why.text || error_http(why.code) < 400)
            abort();
        return;
    }
    if (count(in, "Content-Length") + count(in, "Transfer-Encoding") > 1 || count(in, "Host") > 1 || count(in, "Authorization") > 1)
        abort();
    if (framing.is_chunked && framing.length_bytes >= 0)
        abort();
    (void)route_match(in->request_method, in->local_uri_raw);
    if (framing.content_type)
        (void)media_type_parse(framing.content_type, &type);
    if (framing.content_disposition)
        (void)disposition_parse(framing.content_disposition, &disposition);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    char *text = malloc(size + 1), *save = NULL;
    memcpy(text, data, size);
    text[size] = '\0';
    struct mg_request_info in = { .content_length = -1 };
    in.request_method = strtok_r(text, "\n", &save);
    in.local_uri_raw = in.request_uri = in.local_uri = strtok_r(NULL, "\n", &save);
    in.http_version = strtok_r(NULL, "\n", &save);
    in.query_string = strtok_r(NULL, "\n", &save);
    for (char *line; in.num_headers < MG_MAX_HEADERS && (line = strtok_r(NULL, "\n", &save));) {
        char *colon = strchr(line, ':');
        if (!colon)
            continue;
        *colon = '\0';
        in.http_headers[in.num_headers].name = line;
        in.http_headers[in.num_headers++].value = colon + 1;
    }
    check_sender(&in);
    check(&in);
    free(text);
    return 0;
}
