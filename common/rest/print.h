/* print — a protobuf message as JSON, by walking its descriptor; the way back of fill. Empty bytes,
 * times of 0 and absent messages are left out, everything else is always there. */
#ifndef CORDON_REST_PRINT_H
#define CORDON_REST_PRINT_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "json/writer.h"

/* Puts one object. False when the message cannot be printed: an id that is not 16 bytes, a `*_json` field
 * that is no object. A buffer that is full is json_finish's to tell. Then nothing may be sent. */
bool print_message(const ProtobufCMessage *msg, struct json_writer *w) MUST_USE;

#endif
