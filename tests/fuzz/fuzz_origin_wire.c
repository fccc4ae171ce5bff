/* fuzz: src/base src/store/origin_wire.c src/store/origin.c
 * What the courier and its clients say to each other. What decodes encodes to what decodes to the same. */
#include "store/origin_wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_request(struct bytes packet)
{
    struct origin_wire_request request, again;
    struct error err = {0};
    if (origin_wire_decode_request(&request, packet, &err) < 0)
        return;
    CLEANUP_BUFFER struct buffer first = {0};
    origin_wire_encode_request(&first, &request);
    if (origin_wire_decode_request(&again, (struct bytes){first.data, first.len}, &err) < 0 ||
        again.id != request.id || again.verb != request.verb || strcmp(again.name, request.name) != 0 ||
        !(request.verb == ORIGIN_LIST || origin_name_is_valid(request.name)))
        abort();
}

static void try_reply(struct bytes packet)
{
    struct origin_wire_reply reply, again;
    struct error err = {0};
    if (origin_wire_decode_reply(&reply, packet, &err) < 0)
        return;
    CLEANUP_BUFFER struct buffer first = {0};
    if (reply.entry_count > ORIGIN_LIST_MAX)
        abort();
    origin_wire_encode_reply(&first, &reply);
    if (origin_wire_decode_reply(&again, (struct bytes){first.data, first.len}, &err) < 0 ||
        again.id != reply.id || again.entry_count != reply.entry_count)
        abort();
    free(reply.entries);
    free(again.entries);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_request((struct bytes){data, size});
    try_reply((struct bytes){data, size});
    return 0;
}
