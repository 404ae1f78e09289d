/* xml — one value out of AWS's small XML answers. Not a parser of XML: no attributes, no nesting is understood, the
 * first element of the name counts. Answers are signed for by TLS and capped; what is not as expected is "not
 * there". Pure. */
#ifndef CORDON_AWS_XML_H
#define CORDON_AWS_XML_H

#include <stdbool.h>
#include <stddef.h>

#include "core/arena.h"
#include "core/buffer.h"

/* Text of the first <name>text</name>, its five entities and numbers below 128 resolved; false when there is no
 * such element, it holds others, or an unknown entity. */
bool xml_text(struct arena *mem, const char *xml, size_t len, const char *name, char **ret_text);

/* Append text as element content. */
bool xml_escape(const char *text, struct buffer *out);

#endif
