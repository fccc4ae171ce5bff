#include "lambda/internal.h"

#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

/* A system call for each of an invocation's three ids would be a quarter of what the API costs it. They are
 * names, not secrets; the pool is never seen after a fork, as children make no ids. */
static void random_hex(char *out, size_t bytes)
{
    static uint8_t pool[256];
    static size_t left;
    if (left < bytes) {
        if (getrandom(pool, sizeof pool, 0) != (ssize_t)sizeof pool)
            abort(); /* so few bytes always come whole once the kernel's pool is ready */
        left = sizeof pool;
    }
    left -= bytes;
    hex_encode(out, pool + left, bytes);
}

void lambda_make_request_id(char out[LAMBDA_REQUEST_ID])
{
    char hex[33];
    random_hex(hex, 16);
    hex[12] = '4';
    hex[16] = "89ab"[hex[16] & 3];
    snprintf(out, LAMBDA_REQUEST_ID, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

void lambda_make_trace_id(char out[LAMBDA_TRACE_ID_BYTES])
{
    char root[25], parent[17];
    random_hex(root, 12);
    random_hex(parent, 8);
    snprintf(out, LAMBDA_TRACE_ID_BYTES, "Root=1-%08lx-%s;Parent=%s;Sampled=0", (unsigned long)time(NULL),
        root, parent);
}
