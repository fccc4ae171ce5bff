/* What is sent to a function: --payload JSON or --payload @FILE ("@-" is standard input). */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

/* Appends the payload to `out`, checked to be JSON. NULL gives "{}". */
MUST_CHECK int payload_read(struct buffer *out, const char *text, struct error *err);
void base64_encode(struct buffer *out, struct bytes data);
/* Decodes base64 into `out`; stops at the first byte that is none. */
void base64_decode(struct buffer *out, const char *text);
