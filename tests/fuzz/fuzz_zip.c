/* fuzz: src/base src/lambda/zip.c
 * The tables of a zip, before libarchive sees a byte. */
#include "lambda/package.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char why[256] = "";
    zip_check((struct bytes){data, size}, why);
    bool good = zip_name_ok((const char *)data, size, why);
    if (good && (size == 0 || size > PACKAGE_NAME_MAX || data[0] == '/' || memchr(data, 0, size) != NULL))
        abort();
    return 0;
}
