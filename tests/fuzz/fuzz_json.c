/* fuzz: src/base src/lambda/json_check.c -ljansson
 * The check of payloads: whatever jansson reads is JSON, too. */
#include "lambda/internal.h"

#include <jansson.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char why[256] = "";
    bool good = json_check((struct bytes){data, size}, why);
    if (!good && why[0] == 0)
        abort();
    json_t *json = json_loadb((const char *)data, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (json != NULL && !good)
        abort();
    json_decref(json);
    return 0;
}
