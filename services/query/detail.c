#include "detail.h"

#include "core/clock.h"
#include "core/uuid.h"

void detail_put_id(struct json_writer *w, const char *name, const ProtobufCBinaryData *in) {
    struct uuid id;
    char text[UUID_TEXT_BYTES];
    if (uuid_from_bytes(in->data, in->len, &id))
        detail_put_code(w, name, uuid_format(&id, text));
}

void detail_put_time(struct json_writer *w, const char *name, int64_t unix_us) {
    char text[CLOCK_TEXT_BYTES];
    if (unix_us)
        detail_put_code(w, name, clock_format(unix_us, text));
}

void detail_put_code(struct json_writer *w, const char *name, const char *text) {
    if (!*text)
        return;
    json_put_name(w, name);
    json_put_text(w, text);
}

void detail_put_number(struct json_writer *w, const char *name, int64_t number) {
    json_put_name(w, name);
    json_put_i64(w, number);
}
