/* fuzz: src/base src/origin/xml.c -lexpat
 * The documents that an object store answers with. Paths and texts that are told are within the limits. */
#include "origin/xml.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int element(void *context, const char *path, const char *text, struct error *err)
{
    size_t *count = context;
    (void)err;
    ++*count;
    return strlen(path) > XML_PATH_MAX || strlen(text) > XML_TEXT_MAX ? (abort(), -1) : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    size_t count = 0;
    if (xml_parse((struct bytes){data, size}, element, &count, &err) < 0 && err.kind != ERROR_CORRUPT)
        abort();
    return 0;
}
