/* conformance: sockets | TCP connections with many bytes waiting, in both directions at once | kept | up to 128 KiB each way
 *
 * A hundred thousand bytes each way: more than one window. */
#include "sockets.h"

#include <pthread.h>

static char block[100000];
static int client, server;

static void *read_at_server(void *got)
{
    CHECK_EQUAL(recv(server, got, sizeof block, MSG_WAITALL), sizeof block);
    return NULL;
}

int main(void)
{
    static char first[sizeof block], second[sizeof block];
    int listener = test_listen(5000, 5);
    client = test_connect(5000);
    server = accept(listener, NULL, NULL);
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (char)(i * 7 + i / 32749);
    CHECK_EQUAL(send(client, block, sizeof block, MSG_DONTWAIT), sizeof block);
    CHECK_EQUAL(send(server, block, sizeof block, MSG_DONTWAIT), sizeof block);

    test_freeze_point();
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, read_at_server, first) == 0);
    CHECK_EQUAL(recv(client, second, sizeof second, MSG_WAITALL), sizeof second);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(memcmp(first, block, sizeof block) == 0 && memcmp(second, block, sizeof block) == 0);
    CHECK(test_would_block(client) && test_would_block(server) && test_talks(client, server));
    return 0;
}
