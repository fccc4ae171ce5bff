/* The smallest function: an empty handler for the runtime `provided`, in C without libraries. It asks for an
 * event, answers `null`, and asks again, on one connection. See README.md. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REPLY_BYTES_MAX (8 * 1024 * 1024)

static char reply[REPLY_BYTES_MAX + 1];

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(1);
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

/* One whole reply into `reply`: its head, terminated, then its body. */
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
    int fd = open_connection();
    for (;;) {
        char id[64] = "", answer[256];
        send_all(fd, next, sizeof next - 1);
        receive(fd);
        const char *field = strcasestr(reply, "\r\nlambda-runtime-aws-request-id:");
        if (!field || sscanf(field + 32, " %63[^\r\n]", id) != 1)
            fail("no request id");
        int len = snprintf(answer, sizeof answer,
            "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: runtime\r\n"
            "Content-Type: application/json\r\nContent-Length: 4\r\n\r\nnull",
            id);
        send_all(fd, answer, (size_t)len);
        receive(fd);
    }
}
