/* What the engine's tests of sockets share. */
#pragma once

#include "help.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static inline struct sockaddr_in test_address(uint16_t port)
{
    return (struct sockaddr_in){AF_INET, htons(port), {htonl(INADDR_LOOPBACK)}, {0}};
}

static inline int test_listen(uint16_t port, int backlog)
{
    struct sockaddr_in at = test_address(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, backlog) == 0);
    return fd;
}

static inline int test_connect(uint16_t port)
{
    struct sockaddr_in at = test_address(port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) == 0);
    return fd;
}

/* A bound UDP socket; port 0: any. */
static inline int test_udp(uint16_t port)
{
    struct sockaddr_in at = test_address(port);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0);
    return fd;
}

static inline bool test_send_to(int fd, const char *text, uint16_t port)
{
    struct sockaddr_in to = test_address(port);
    return sendto(fd, text, strlen(text), 0, (struct sockaddr *)&to, sizeof to) == (ssize_t)strlen(text);
}

/* Waits for all of the text, which may come in parts. */
static inline bool test_receives(int fd, const char *text)
{
    char got[4096];
    size_t len = strlen(text);
    return recv(fd, got, len, MSG_WAITALL) == (ssize_t)len && memcmp(got, text, len) == 0;
}

/* The next message, from any kind of socket, is just this one. */
static inline bool test_message(int fd, const char *text)
{
    char got[4096];
    ssize_t n = recv(fd, got, sizeof got, 0);
    return n == (ssize_t)strlen(text) && memcmp(got, text, (size_t)n) == 0;
}

static inline bool test_talks(int a, int b)
{
    return send(a, "ping", 4, MSG_NOSIGNAL) == 4 && test_receives(b, "ping") &&
           send(b, "pong!", 5, MSG_NOSIGNAL) == 5 && test_receives(a, "pong!");
}

static inline bool test_would_block(int fd)
{
    char byte;
    return recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

static inline int test_option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    return getsockopt(fd, level, name, &value, &len) < 0 ? -errno : value;
}

static inline bool test_set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) == 0;
}

/* A new connection to a listener of ours talks to the one that is accepted. */
static inline bool test_accepts(int listener, uint16_t port)
{
    int client = test_connect(port), server = accept(listener, NULL, NULL);
    bool good = test_talks(client, server);
    close(client);
    close(server);
    return good;
}

static inline uint16_t test_port(int fd)
{
    struct sockaddr_in6 address;
    socklen_t len = sizeof address;
    CHECK(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    return ntohs(address.sin6_port);
}

/* A unix address; a name that begins with @ is abstract. */
static inline socklen_t test_name(struct sockaddr_un *address, const char *name)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    bool abstract = name[0] == '@';
    memcpy(address->sun_path + abstract, name + abstract, strlen(name) - abstract);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name) + !abstract);
}

static inline int test_unix(int type, const char *name, int backlog)
{
    struct sockaddr_un address;
    socklen_t len = test_name(&address, name);
    int fd = socket(AF_UNIX, type, 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0);
    CHECK(backlog == 0 || listen(fd, backlog) == 0);
    return fd;
}

static inline int test_unix_connect(int type, const char *name)
{
    struct sockaddr_un address;
    socklen_t len = test_name(&address, name);
    int fd = socket(AF_UNIX, type, 0);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, len) == 0);
    return fd;
}

/* Whether the socket's own (or the other's) name is this one. */
static inline bool test_is_named(int fd, bool other, const char *name)
{
    struct sockaddr_un address, wanted;
    socklen_t len = sizeof address, wanted_len = test_name(&wanted, name);
    int failed = other ? getpeername(fd, (struct sockaddr *)&address, &len)
                       : getsockname(fd, (struct sockaddr *)&address, &len);
    return failed == 0 && len == wanted_len && memcmp(&address, &wanted, len) == 0;
}

union test_control {
    struct cmsghdr header;
    char space[CMSG_SPACE(16 * sizeof(int))];
};

static inline bool test_send_descriptors(int sock, const char *text, const int *fds, size_t count)
{
    union test_control control = {.header = {CMSG_LEN(count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    struct iovec part = {(char *)text, strlen(text)};
    struct msghdr message = {.msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
    return sendmsg(sock, &message, 0) == (ssize_t)strlen(text);
}

/* How many descriptors came with the next bytes, or -1 when they are not this text. */
static inline int test_receive_descriptors(int sock, const char *text, int fds[16])
{
    char got[256];
    union test_control control;
    struct iovec part = {got, strlen(text)};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(sock, &message, MSG_DONTWAIT);
    if (n != (ssize_t)strlen(text) || memcmp(got, text, (size_t)n) != 0)
        return -1;
    const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (!header || header->cmsg_type != SCM_RIGHTS)
        return 0;
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds, CMSG_DATA(header), count * sizeof(int));
    return (int)count;
}
