#include "http/client.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/cancel.h"
#include "core/clock.h"
#include "core/str.h"
#include "http/backoff.h"
#include "obs/trace.h"

enum {
    IDLE_MAX = 64,
    TICK_MS = 10,                       /* curl rounds its timeouts down */
    SINK_BYTES = 64 << 10,              /* read at once for a sink; curl's own 16 KiB are many system calls, and 256 KiB leave the cache */
};

struct http_client {
    bool allow_plain;
    char *proxy, *ca_file;
    pthread_mutex_t lock;               /* guards idle */
    CURL *idle[IDLE_MAX];               /* a stack: the warmest connection is taken first */
    size_t n_idle;
};

/* One request on its way: what curl's callbacks see. */
struct exchange {
    const struct http_request *request;
    struct http_response *response;
    CURL *curl;
    enum status sink_status;
    struct why sink_why;
    size_t sunk_bytes;
    bool is_over_cap;
    curl_off_t moved_bytes;             /* both ways, and when that last changed */
    int64_t moved_ms;
    bool is_stalled;
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void curl_start(void) {
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        abort();
}

struct http_client *http_client_new(const struct http_options *options) {
    (void)pthread_once(&curl_once, curl_start);
    struct http_client *client = xalloc(sizeof *client);
    client->allow_plain = options->allow_plain;
    client->proxy = xstrdup(options->proxy ? options->proxy : "");
    client->ca_file = xstrdup(options->ca_file ? options->ca_file : "");
    if (pthread_mutex_init(&client->lock, NULL) != 0)
        abort();
    return client;
}

void http_client_destroy(struct http_client **client_p) {
    struct http_client *client = *client_p;
    if (!client)
        return;
    while (client->n_idle > 0)
        curl_easy_cleanup(client->idle[--client->n_idle]);
    (void)pthread_mutex_destroy(&client->lock);
    free(client->proxy);
    free(client->ca_file);
    free(client);
    *client_p = NULL;
}

void http_response_end(struct http_response *response) {
    buffer_end(&response->body);
    buffer_end(&response->headers);
}

const char *http_response_header(const struct http_response *response, const char *name) {
    const char *p = response->headers.data, *end = p ? p + response->headers.len : NULL;
    while (p < end) {
        const char *value = p + strlen(p) + 1;
        if (strcasecmp(p, name) == 0)
            return value;
        p = value + strlen(value) + 1;
    }
    return NULL;
}

static CURL *take(struct http_client *client) {
    (void)pthread_mutex_lock(&client->lock);
    CURL *curl = client->n_idle > 0 ? client->idle[--client->n_idle] : NULL;
    (void)pthread_mutex_unlock(&client->lock);
    if (!curl && !(curl = curl_easy_init()))
        abort();
    return curl;
}

static void give_back(struct http_client *client, CURL *curl) {
    curl_easy_reset(curl);              /* forgets options, keeps connections */
    (void)pthread_mutex_lock(&client->lock);
    bool is_kept = client->n_idle < IDLE_MAX;
    if (is_kept)
        client->idle[client->n_idle++] = curl;
    (void)pthread_mutex_unlock(&client->lock);
    if (!is_kept)
        curl_easy_cleanup(curl);
}

static size_t on_header(char *line, size_t size, size_t count, void *ctx) {
    struct exchange *x = ctx;
    size_t len = size * count, name_len = 0;
    if (len >= 5 && memcmp(line, "HTTP/", 5) == 0) {    /* 100 Continue had headers of its own */
        buffer_clear(&x->response->headers);
        return len;
    }
    while (name_len < len && line[name_len] != ':')
        name_len++;
    if (name_len == len || memchr(line, '\0', len))
        return len;
    size_t from = name_len + 1, to = len;
    while (from < to && (line[from] == ' ' || line[from] == '\t'))
        from++;
    while (to > from && (line[to - 1] == '\r' || line[to - 1] == '\n' || line[to - 1] == ' ' || line[to - 1] == '\t'))
        to--;
    bool fits = buffer_add(&x->response->headers, line, name_len) && buffer_add(&x->response->headers, "", 1) &&
                buffer_add(&x->response->headers, line + from, to - from) && buffer_add(&x->response->headers, "", 1);
    x->is_over_cap = x->is_over_cap || !fits;
    return fits ? len : 0;
}

static size_t on_body(char *data, size_t size, size_t count, void *ctx) {
    struct exchange *x = ctx;
    size_t len = size * count;
    long status = 0;
    (void)curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &status);
    if (x->request->sink && status / 100 == 2) {
        x->sunk_bytes += len;
        x->is_over_cap = x->request->max_bytes > 0 && x->sunk_bytes > x->request->max_bytes;
        if (x->is_over_cap)
            return 0;
        x->sink_status = x->request->sink(x->request->sink_ctx, data, len, &x->sink_why);
        x->moved_ms = 0;                /* what the sink took is not the server's time */
        return x->sink_status == ST_OK ? len : 0;
    }
    bool fits = buffer_add(&x->response->body, data, len);
    x->is_over_cap = x->is_over_cap || !fits;
    return fits ? len : 0;
}

/* "host:port" of a URL, for *why: paths and queries may hold what must not be logged. */
static void host_of(const char *url, char out[128]) {
    const char *from = strstr(url, "://");
    from = from ? from + 3 : url;
    size_t len = strcspn(from, "/?#");
    const char *at = memrchr(from, '@', len);
    if (at) {
        len -= (size_t)(at + 1 - from);
        from = at + 1;
    }
    len = len < 127 ? len : 127;
    memcpy(out, from, len);
    out[len] = '\0';
}

static bool is_line(const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return false;
    return true;
}

static enum status check(const struct http_client *client, const struct http_request *request, struct why *why) {
    if (!str_starts_with(request->url, "https://") && !(client->allow_plain && str_starts_with(request->url, "http://")))
        return fail(why, ST_INTERNAL, "http: only https is allowed");
    if (!is_line(request->url) || strchr(request->url, ' '))
        return fail(why, ST_INTERNAL, "http: the URL is not encoded");
    for (size_t i = 0; request->headers && request->headers[i]; i++)
        if (!is_line(request->headers[i]))
            return fail(why, ST_INTERNAL, "http: a header has control characters");
    return ST_OK;
}

static struct curl_slist *header_list(const struct http_request *request) {
    bool has_type = false;
    struct curl_slist *list = NULL;
    for (size_t i = 0; request->headers && request->headers[i]; i++) {
        has_type = has_type || strncasecmp(request->headers[i], "content-type:", 13) == 0;
        list = curl_slist_append(list, request->headers[i]);
    }
    list = curl_slist_append(list, "Expect:");          /* no waiting for 100 Continue */
    if (!has_type)
        list = curl_slist_append(list, "Content-Type:");    /* not curl's idea of one */
    return list;
}

/* Called at least once a second. Stalls: curl's own measure is an average, which what was sent at first keeps up for
 * long, and it counts the time that a sink takes. */
static int on_progress(void *ctx, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up) {
    (void)down_total, (void)up_total;
    struct exchange *x = ctx;
    int64_t now_ms = clock_mono_ms();
    if (x->moved_ms == 0 || down + up != x->moved_bytes) {
        x->moved_bytes = down + up;
        x->moved_ms = now_ms;
    }
    x->is_stalled = x->request->stall_ms > 0 && now_ms - x->moved_ms >= x->request->stall_ms;
    if (x->request->watch && x->sink_status == ST_OK)
        x->sink_status = x->request->watch(x->request->watch_ctx, &x->sink_why);
    return x->is_stalled || x->sink_status != ST_OK || cancel_is_due();
}

static void set_up(const struct http_client *client, struct exchange *x, struct curl_slist *headers, int64_t left_ms) {
    const struct http_request *request = x->request;
    CURL *curl = x->curl;
    (void)curl_easy_setopt(curl, CURLOPT_URL, request->url);
    (void)curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);       /* the signature covers the path as it is */
    (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, client->allow_plain ? "http,https" : "https");
    (void)curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    (void)curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    (void)curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
    if (*client->ca_file)
        (void)curl_easy_setopt(curl, CURLOPT_CAINFO, client->ca_file);
    (void)curl_easy_setopt(curl, CURLOPT_PROXY, client->proxy); /* "": none, whatever the environment says */
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    (void)curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    (void)curl_easy_setopt(curl, CURLOPT_XFERINFODATA, x);
    (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)(left_ms < HTTP_CONNECT_MS ? left_ms : HTTP_CONNECT_MS));
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)left_ms);
    (void)curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, (long)request->is_once);
    (void)curl_easy_setopt(curl, CURLOPT_USERAGENT, "cordon/" CORDON_VERSION);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(curl, CURLOPT_HEADERDATA, x);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, x);
    if (request->sink)
        (void)curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, (long)SINK_BYTES);
    bool is_bare = str_equal(request->method, "GET") || str_equal(request->method, "DELETE");
    if (str_equal(request->method, "HEAD")) {
        (void)curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    } else if (request->body_len > 0 || !is_bare) {
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_len);
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body_len > 0 ? request->body : "");
        (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    } else {
        (void)curl_easy_setopt(curl, CURLOPT_HTTPGET, 1L);
        (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    }
}

static enum status outcome(const struct exchange *x, CURLcode code, struct why *why) {
    char host[128];
    if (code == CURLE_OK)
        return ST_OK;
    host_of(x->request->url, host);
    if (x->sink_status != ST_OK) {
        *why = x->sink_why;
        return x->sink_status;
    }
    if (x->is_over_cap)
        return fail(why, ST_UNAVAILABLE, "http: %s: the answer is over its limit", host);
    if (x->is_stalled)
        return fail(why, ST_UNAVAILABLE, "http: %s: nothing came for %lld ms", host, (long long)x->request->stall_ms);
    if (code == CURLE_OPERATION_TIMEDOUT && clock_mono_ms() + TICK_MS >= x->request->deadline_ms)
        return fail(why, ST_TIMEOUT, "http: %s: no answer in time", host);
    return fail(why, ST_UNAVAILABLE, "http: %s: %s", host, curl_easy_strerror(code));
}

enum status http_send(struct http_client *client, const struct http_request *request, struct http_response *response,
                      struct why *why) {
    enum status st = check(client, request, why);
    if (st != ST_OK)
        return st;
    int64_t left_ms = request->deadline_ms - clock_mono_ms();
    if (left_ms <= 0)
        return fail(why, ST_TIMEOUT, "http: no time left");
    http_response_end(response);
    size_t cap = request->max_bytes ? request->max_bytes : HTTP_BODY_MAX_BYTES;
    buffer_init(&response->body, request->sink ? HTTP_ERROR_BODY_MAX_BYTES : cap);
    buffer_init(&response->headers, HTTP_HEADERS_MAX_BYTES);
    struct exchange x = { .request = request, .response = response, .curl = take(client) };
    struct span span;
    span_begin(&span, request->operation ? request->operation : "http.request");
    span_text(&span, "http.request.method", request->method);
    struct curl_slist *headers = header_list(request);
    set_up(client, &x, headers, left_ms);
    CURLcode code = curl_easy_perform(x.curl);
    long status = 0;
    (void)curl_easy_getinfo(x.curl, CURLINFO_RESPONSE_CODE, &status);
    response->status = (int)status;
    st = outcome(&x, code, why);
    span_number(&span, "http.response.status_code", response->status);
    span_number(&span, "http.request.body.size", (int64_t)request->body_len);
    span_end(&span, st == ST_OK && response->status >= 500 ? ST_UNAVAILABLE : st);
    give_back(client, x.curl);
    curl_slist_free_all(headers);
    return st;
}

static bool is_passing(int status) {
    return status == 429 || status == 500 || (status >= 502 && status <= 504);
}

enum status http_send_idempotent(struct http_client *client, const struct http_request *request, unsigned attempts,
                                 struct http_response *response, struct why *why) {
    if (request->sink)
        return fail(why, ST_INTERNAL, "http: a request with a sink cannot be repeated");
    struct backoff backoff = { .base_ms = 100, .cap_ms = 2000, .deadline_ms = request->deadline_ms, .attempts = attempts };
    for (;;) {
        enum status st = http_send(client, request, response, why);
        bool is_worth_it = st == ST_UNAVAILABLE || (st == ST_OK && is_passing(response->status));
        if (!is_worth_it || !backoff_wait(&backoff, 0))
            return st;
    }
}

bool http_encode(const char *text, size_t len, bool keep_slash, struct buffer *out) {
    static const char HEX[] = "0123456789ABCDEF";
    bool fits = true;
    for (size_t i = 0; i < len && fits; i++) {
        unsigned char c = (unsigned char)text[i];
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                        c == '.' || c == '_' || c == '~' || (c == '/' && keep_slash);
        char encoded[3] = { '%', HEX[c >> 4], HEX[c & 15] };
        fits = is_plain ? buffer_add(out, text + i, 1) : buffer_add(out, encoded, 3);
    }
    return fits;
}
