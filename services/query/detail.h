/* detail — what was asked for, as members of an event's detail. Absent filters are left out. */
#ifndef CORDON_QUERY_DETAIL_H
#define CORDON_QUERY_DETAIL_H

#include <protobuf-c/protobuf-c.h>

#include "json/writer.h"

void detail_put_id(struct json_writer *w, const char *name, const ProtobufCBinaryData *id);
void detail_put_time(struct json_writer *w, const char *name, int64_t unix_us);
void detail_put_code(struct json_writer *w, const char *name, const char *text);
void detail_put_number(struct json_writer *w, const char *name, int64_t number);

#endif
