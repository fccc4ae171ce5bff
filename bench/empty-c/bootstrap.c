/* The smallest `provided` runtime there is: an empty handler over one keep-alive connection. What it takes to
 * invoke it is what the server adds. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char reply[1 << 16];
static int api;

/* Sends one request and reads the whole reply. */
static void exchange(const char *request, size_t len)
{
    size_t got = 0, want = 0;
    if (write(api, request, len) != (ssize_t)len)
        exit(1);
    while (want == 0 || got < want) {
        ssize_t more = read(api, reply + got, sizeof reply - 1 - got);
        if (more <= 0)
            exit(2);
        got += (size_t)more;
        reply[got] = 0;
        const char *end = strstr(reply, "\r\n\r\n");
        const char *length = strcasestr(reply, "\r\ncontent-length:");
        if (end)
            want = (size_t)(end + 4 - reply) + (length ? strtoul(length + 17, NULL, 10) : 0);
    }
}

int main(void)
{
    static const char next[] = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: api\r\n\r\n";
    static char answer[512];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9001), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    api = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(api, (const struct sockaddr *)&to, sizeof to) != 0)
        return 3;
    for (;;) {
        exchange(next, sizeof next - 1);
        const char *id = strcasestr(reply, "\r\nlambda-runtime-aws-request-id:");
        if (!id)
            return 4;
        id += 32;
        id += strspn(id, " ");
        int len = snprintf(answer, sizeof answer,
            "POST /2018-06-01/runtime/invocation/%.36s/response HTTP/1.1\r\nHost: api\r\nContent-Length: 4\r\n\r\nnull",
            id);
        exchange(answer, (size_t)len);
    }
}
