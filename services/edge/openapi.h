/* openapi — the route table, the descriptors and fields.def as an OpenAPI 3.1 document, and the page that
 * shows it. Printed from what serves the requests, so that it cannot say anything else. */
#ifndef CORDON_EDGE_OPENAPI_H
#define CORDON_EDGE_OPENAPI_H

#include "core/buffer.h"

/* Appends the document. False: a defect in the tables. */
bool openapi_print(struct buffer *out) MUST_USE;

/* The endpoints as a Markdown table, for docs/api.md. */
void endpoints_print(struct buffer *out);

/* A page without external resources. Appends it; the Content-Security-Policy that lets just its own
 * style and script run goes into policy. */
void docs_page_print(struct buffer *page, struct buffer *policy);

#endif
