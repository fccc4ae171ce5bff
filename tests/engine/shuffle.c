/* Hundreds of descriptors of many kinds at numbers in no order, some several times, some close-on-exec: what
 * stands in whose way is different for every seed.
 *
 * conformance: descriptors | duplicated descriptors, any order of numbers, close-on-exec | kept | they share offset and flags again
 */
#include "engine.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define NUMBERS 400
#define OBJECTS 150

enum kind { NOTHING, EVENTFD, PIPE_READ, PIPE_WRITE, STREAM_A, STREAM_B, FILE_AT, MEMFD, EPOLL, LISTENER };

static struct number {
    enum kind kind;
    int id;
    bool close_on_exec;
} table[NUMBERS];
static uint64_t state = 88172645463325252ull;

static unsigned draw(unsigned below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)(state >> 20) % below;
}

/* Put it at one to three free numbers; the number it was created at is given up. */
static void scatter(int fd, enum kind kind, int id)
{
    int high = fcntl(fd, F_DUPFD, NUMBERS + 50);
    CHECK(high >= 0);
    close(fd);
    for (unsigned copies = 1 + draw(6) / 4; copies > 0;) {
        unsigned to = 3 + draw(NUMBERS - 3);
        if (fcntl((int)to, F_GETFD) >= 0)
            continue;
        table[to] = (struct number){kind, id, draw(2)};
        CHECK_EQUAL(dup3(high, (int)to, table[to].close_on_exec ? O_CLOEXEC : 0), to);
        copies--;
    }
    close(high);
}

/* A connection through a listener, which stays or goes; its ends in either order, with bytes waiting. */
static void connect_pair(int id, int family)
{
    struct sockaddr_in in = {AF_INET, htons((uint16_t)(10000 + id)), {htonl(INADDR_LOOPBACK)}, {0}};
    struct sockaddr_un un = {AF_UNIX, ""};
    snprintf(un.sun_path, sizeof un.sun_path, "/tmp/socket-%d", id);
    struct sockaddr *address = family == AF_INET ? (struct sockaddr *)&in : (struct sockaddr *)&un;
    socklen_t len = family == AF_INET ? sizeof in : sizeof un;
    int listener = socket(family, SOCK_STREAM, 0), client = socket(family, SOCK_STREAM, 0);
    CHECK(
        bind(listener, address, len) == 0 && listen(listener, 5) == 0 && connect(client, address, len) == 0);
    int server = accept(listener, NULL, NULL);
    bool flip = draw(2), keep = draw(2);
    if (family == AF_UNIX && !keep && draw(2))
        CHECK(unlink(un.sun_path) == 0);
    if (keep)
        scatter(listener, LISTENER, id);
    else
        close(listener);
    CHECK_EQUAL(write(flip ? client : server, &id, sizeof id), sizeof id);
    if (draw(2)) {
        scatter(flip ? server : client, STREAM_A, id);
        scatter(flip ? client : server, STREAM_B, id);
    } else {
        scatter(flip ? client : server, STREAM_B, id);
        scatter(flip ? server : client, STREAM_A, id);
    }
}

static void make(int id)
{
    char text[32];
    int pair[2], fd;
    snprintf(text, sizeof text, "/tmp/file-%d", id);
    switch (draw(8)) {
    case 0:
        scatter(eventfd((unsigned)id, EFD_NONBLOCK), EVENTFD, id);
        break;
    case 1:
        CHECK(pipe(pair) == 0 && write(pair[1], &id, sizeof id) == sizeof id);
        scatter(pair[0], PIPE_READ, id);
        scatter(pair[1], PIPE_WRITE, id);
        break;
    case 2:
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && write(pair[1], &id, sizeof id) == sizeof id);
        scatter(pair[1], STREAM_B, id);
        scatter(pair[0], STREAM_A, id);
        break;
    case 3:
        CHECK((fd = open(text, O_RDWR | O_CREAT, 0600)) >= 0 && lseek(fd, id, SEEK_SET) == id);
        if (draw(2))
            CHECK(unlink(text) == 0);
        scatter(fd, FILE_AT, id);
        break;
    case 4:
        CHECK((fd = memfd_create(text, 0)) >= 0 && ftruncate(fd, id * 100) == 0);
        scatter(fd, MEMFD, id);
        break;
    case 5:
        scatter(epoll_create1(0), EPOLL, id);
        break;
    case 6:
        connect_pair(id, AF_INET);
        break;
    case 7:
        connect_pair(id, AF_UNIX);
        break;
    }
}

static void check_one(int fd, const struct number *n)
{
    struct stat st;
    int got = 0, waiting = -1;
    CHECK_EQUAL(fcntl(fd, F_GETFD), n->close_on_exec ? FD_CLOEXEC : 0);
    switch (n->kind) {
    case EVENTFD: {
        eventfd_t value = 0;
        CHECK(eventfd_read(fd, &value) == 0 && eventfd_write(fd, value) == 0);
        CHECK_EQUAL(value, n->id);
        break;
    }
    case PIPE_READ:
    case STREAM_A:
        while (waiting <= 0) /* on TCP it may still be on its way */
            CHECK(ioctl(fd, FIONREAD, &waiting) == 0);
        CHECK_EQUAL(waiting, sizeof got);
        CHECK(read(fd, &got, sizeof got) == sizeof got);
        CHECK_EQUAL(got, n->id);
        /* Back again for the next number that is the same. */
        for (int other = 3; other < NUMBERS; other++)
            if (table[other].id == n->id && table[other].kind == n->kind + 1) {
                CHECK_EQUAL(write(other, &got, sizeof got), sizeof got);
                return;
            }
        CHECK(!"the other end is somewhere");
        break;
    case FILE_AT:
        CHECK_EQUAL(lseek(fd, 0, SEEK_CUR), n->id);
        break;
    case MEMFD:
        CHECK(fstat(fd, &st) == 0 && st.st_size == n->id * 100);
        break;
    case LISTENER:
        CHECK(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &got, &(socklen_t){sizeof got}) == 0 && got == 1);
        break;
    case EPOLL:
        CHECK_EQUAL(epoll_wait(fd, &(struct epoll_event){0}, 1, 0), 0);
        break;
    default:
        break;
    }
}

int main(int argc, char **argv)
{
    if (argc > 1)
        state += strtoull(argv[1], NULL, 10) * 0x9e3779b97f4a7c15ull;
    for (int id = 1; id <= OBJECTS; id++)
        make(id);
    test_freeze_point();
    for (int fd = 3; fd < NUMBERS; fd++) {
        if (table[fd].kind != NOTHING)
            check_one(fd, &table[fd]);
        else
            CHECK(fcntl(fd, F_GETFD) < 0 || fd == test_connection);
    }
    return 0;
}
