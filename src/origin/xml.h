/* The little XML that S3 answers with: a tree of elements with text in the leaves. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <stdbool.h>

#define XML_DEPTH_MAX 8
#define XML_PATH_MAX 256  /* bytes of "ListBucketResult/Contents/Key" */
#define XML_TEXT_MAX 2048 /* bytes in one element */

/* Called at the end of every element with its path from the root and the text directly in it. -1 ends the parsing. */
typedef int xml_element(void *context, const char *path, const char *text, struct error *err);
/* ERROR_CORRUPT: not well-formed, with a document type, or beyond the limits. */
MUST_CHECK int xml_parse(struct bytes document, xml_element *element, void *context, struct error *err);
