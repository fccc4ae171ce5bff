#include "lambda/internal.h"

#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

static void random_hex(char *out, size_t bytes)
{
    uint8_t random[16];
    if (getrandom(random, bytes, 0) != (ssize_t)bytes)
        abort(); /* so few bytes always come whole once the pool is ready */
    hex_encode(out, random, bytes);
}

void uuid_make(char out[LAMBDA_REQUEST_ID])
{
    char hex[33];
    random_hex(hex, 16);
    hex[12] = '4';
    hex[16] = "89ab"[hex[16] & 3];
    snprintf(out, LAMBDA_REQUEST_ID, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

void trace_id_make(char out[LAMBDA_TRACE_ID_BYTES])
{
    char root[25], parent[17];
    random_hex(root, 12);
    random_hex(parent, 8);
    snprintf(out, LAMBDA_TRACE_ID_BYTES, "Root=1-%08lx-%s;Parent=%s;Sampled=0", (unsigned long)time(NULL),
        root, parent);
}
