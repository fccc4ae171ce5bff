/* fuzz: src/base/bytes.c src/base/error.c src/lambda/json_check.c src/lambda/zip.c -ljansson
 * The JSON check must take what a JSON library takes, and the tables of a zip must never be read beyond. */
#include "lambda/internal.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char why[256];
    struct bytes text = {data, size};
    if (zip_check(text, why) == 0 || (size > 0 && zip_name_ok((const char *)data, size, why) && *data == '/'))
        abort();
    bool good = json_check(text, why);
    json_t *tree = json_loadb((const char *)data, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    /* jansson takes a NUL for the end. */
    bool nul = size > 0 && memchr(data, '\0', size) != NULL;
    if (tree != NULL && !good && !nul && strstr(why, "nesting depth") == NULL)
        abort();
    json_decref(tree);
    return 0;
}
