/* columns — values of a row, copied into the reply that they are for: rows end before replies do. */
#ifndef CORDON_QUERY_COLUMNS_H
#define CORDON_QUERY_COLUMNS_H

#include <protobuf-c/protobuf-c.h>

#include "core/uuid.h"
#include "db/rows.h"
#include "db/sql.h"

ProtobufCBinaryData column_id(struct arena *mem, const PGresult *rows, int row, int column);        /* empty for NULL */
ProtobufCBinaryData column_bytes(struct arena *mem, const PGresult *rows, int row, int column);     /* empty for NULL */
char *column_text(struct arena *mem, const PGresult *rows, int row, int column);                    /* "" for NULL */
uint32_t column_count(const PGresult *rows, int row, int column);                                   /* 0 for NULL */

#endif
