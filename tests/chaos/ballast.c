/* A function whose memory is known to the last byte, for tests that damage what it was frozen into. Its start fills
 * 2 MB that every seed has in common and 2 MB of its own, half of it compressible, from the environment variable SEED;
 * each invocation computes what all of it must be, compares, and answers
 *
 *    {"seed": "7", "right": true, "born": "1f2e..."}        born: drawn at the start, the same in all clones
 *
 * A runtime for `provided`, in C without libraries, on one connection. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define PART_BYTES (2u << 20)
#define REPLY_BYTES_MAX (64 * 1024)

static char reply[REPLY_BYTES_MAX + 1];
static uint64_t *parts[2];
static uint64_t born;

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* Word `at` of a part: random-looking in even blocks of 64 KiB, small numbers in odd ones, zero in each eighth. */
static uint64_t word(uint64_t seed, uint64_t at)
{
    uint64_t block = at / 8192, x = (seed + 1) * 0x9e3779b97f4a7c15u + at;
    if (block % 8 == 7)
        return 0;
    if (block % 2 == 1)
        return (seed << 32) + at % 100;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t *fill(uint64_t seed)
{
    uint64_t *part = mmap(NULL, PART_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (part == MAP_FAILED)
        fail("mmap");
    for (uint64_t i = 0; i < PART_BYTES / 8; i++)
        part[i] = word(seed, i);
    return part;
}

static bool is_right(const uint64_t *part, uint64_t seed)
{
    for (uint64_t i = 0; i < PART_BYTES / 8; i++)
        if (part[i] != word(seed, i))
            return false;
    return true;
}

static int open_connection(void)
{
    const char *api = getenv("AWS_LAMBDA_RUNTIME_API");
    unsigned port = 0;
    char host[64] = "";
    if (!api || sscanf(api, "%63[^:]:%u", host, &port) != 2)
        fail("AWS_LAMBDA_RUNTIME_API");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0 || inet_pton(AF_INET, host, &address.sin_addr) != 1 ||
        connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void send_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
        if (n <= 0)
            fail("send");
        text += n;
        len -= (size_t)n;
    }
}

/* One whole reply into `reply`: its head, then its body. */
static void receive(int fd)
{
    size_t have = 0, need = 0;
    while (need == 0 || have < need) {
        ssize_t n = recv(fd, reply + have, REPLY_BYTES_MAX - have, 0);
        if (n <= 0)
            fail("recv");
        have += (size_t)n;
        reply[have] = '\0';
        char *end = need == 0 ? strstr(reply, "\r\n\r\n") : NULL;
        if (end) {
            char *length = strcasestr(reply, "\r\ncontent-length:");
            need = (size_t)(end + 4 - reply) + (length ? strtoul(length + 17, NULL, 10) : 0);
        }
    }
}

int main(void)
{
    static const char next[] = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: runtime\r\n\r\n";
    const char *text = getenv("SEED");
    uint64_t seed = text ? strtoull(text, NULL, 10) : 1;
    if (getrandom(&born, sizeof born, 0) != sizeof born)
        fail("getrandom");
    parts[0] = fill(0);
    parts[1] = fill(seed);
    int fd = open_connection();
    for (;;) {
        char id[64] = "", body[128], head[256];
        send_all(fd, next, sizeof next - 1);
        receive(fd);
        const char *field = strcasestr(reply, "\r\nlambda-runtime-aws-request-id:");
        if (!field || sscanf(field + 32, " %63[^\r\n]", id) != 1)
            fail("no request id");
        bool right = is_right(parts[0], 0) && is_right(parts[1], seed);
        int body_len =
            snprintf(body, sizeof body, "{\"seed\": \"%llu\", \"right\": %s, \"born\": \"%016llx\"}",
                (unsigned long long)seed, right ? "true" : "false", (unsigned long long)born);
        int len = snprintf(head, sizeof head,
            "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: runtime\r\n"
            "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n",
            id, body_len);
        send_all(fd, head, (size_t)len);
        send_all(fd, body, (size_t)body_len);
        receive(fd);
    }
}
