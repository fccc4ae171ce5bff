/* fuzz: src/base src/image -lcrypto
 * The manifest of a snapshot. Whatever decodes can be printed, and encodes to what decodes again. */
#include "image/image.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image image = {0}, again = {0};
    struct error err;
    if (image_decode(&image, (struct bytes){data, size}, &err) < 0) {
        if (err.kind == ERROR_NONE || err.text[0] == 0)
            abort();
        image_free(&image);
        return 0;
    }
    CLEANUP_BUFFER struct buffer text = {0}, json = {0}, first = {0}, second = {0};
    image_print(&text, &image, true, false);
    image_print(&json, &image, true, true);
    image_encode(&first, &image);
    if (image_decode(&again, (struct bytes){first.data, first.len}, &err) < 0)
        abort();
    image_encode(&second, &again);
    if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0)
        abort();
    image_free(&image);
    image_free(&again);
    return 0;
}
