/* Unix sockets: pairs of each type with queued data, half closed, with the other end gone, with a descriptor
 * in flight; listeners with a connection made and one waiting; datagrams to a bound name; abstract names.
 *
 * conformance: sockets | unix sockets of each type | kept | with queued data and descriptors in flight
 */
#include "engine.h"

#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static socklen_t name_of(struct sockaddr_un *address, const char *name)
{
    *address = (struct sockaddr_un){AF_UNIX, ""};
    strcpy(address->sun_path + (name[0] == '@'), name + (name[0] == '@'));
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name) + (name[0] != '@'));
}

static int open_named(int type, const char *name, int backlog)
{
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, type, 0);
    socklen_t len = name_of(&address, name);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0);
    CHECK(backlog == 0 || listen(fd, backlog) == 0);
    return fd;
}

static int connect_to(int type, const char *name)
{
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, type, 0);
    socklen_t len = name_of(&address, name);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, len) == 0);
    return fd;
}

static void check_text(int fd, const char *text)
{
    char got[256] = {0};
    CHECK_EQUAL(recv(fd, got, sizeof got - 1, MSG_DONTWAIT), strlen(text));
    if (strcmp(got, text) != 0)
        printf("got %s wanted %s\n", got, text);
    CHECK(strcmp(got, text) == 0);
}

static void check_empty(int fd)
{
    char byte;
    CHECK(recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
}

static void check_talk(int a, int b)
{
    CHECK_EQUAL(send(a, "ping", 4, 0), 4);
    check_text(b, "ping");
    CHECK_EQUAL(send(b, "pong", 4, 0), 4);
    check_text(a, "pong");
}

static void send_fd(int sock, int fd)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    struct iovec part = {(char *)"fd", 2};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    CHECK_EQUAL(sendmsg(sock, &message, 0), 2);
}

static int receive_fd(int sock)
{
    char text[8];
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {text, sizeof text};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int fd;
    CHECK_EQUAL(recvmsg(sock, &message, 0), 2);
    CHECK(message.msg_controllen > 0);
    memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
    return fd;
}

int main(void)
{
    int stream[2], packets[2], datagrams[2], half[2], widow[2], carrier[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, packets) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, half) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, widow) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, carrier) == 0);
    CHECK_EQUAL(send(stream[0], "to one", 6, 0), 6);
    CHECK_EQUAL(send(stream[1], "to zero", 7, 0), 7);
    static char large[150000];
    memset(large, 'L', sizeof large);
    CHECK_EQUAL(send(half[1], large, sizeof large, MSG_DONTWAIT), sizeof large);
    for (const char *const *text = (const char *const[]){"a", "bb", "ccc", NULL}; *text; text++) {
        CHECK_EQUAL(send(packets[0], *text, strlen(*text), 0), strlen(*text));
        CHECK_EQUAL(send(datagrams[1], *text, strlen(*text), 0), strlen(*text));
    }
    CHECK_EQUAL(send(half[0], "end", 3, 0), 3);
    CHECK(shutdown(half[0], SHUT_WR) == 0);
    CHECK_EQUAL(send(widow[0], "will", 4, 0), 4);
    close(widow[0]);
    int counter = eventfd(5, EFD_NONBLOCK);
    send_fd(carrier[0], counter);

    CHECK(mkdir("/tmp/run", 0700) == 0);
    int listener = open_named(SOCK_STREAM, "/tmp/run/server", 7),
        abstract = open_named(SOCK_SEQPACKET, "@abstract", 3);
    CHECK(fcntl(listener, F_SETFL, O_NONBLOCK) == 0);
    int client = connect_to(SOCK_STREAM, "/tmp/run/server"), server = accept(listener, NULL, NULL);
    int waiting = connect_to(SOCK_STREAM, "/tmp/run/server");
    CHECK_EQUAL(send(waiting, "early", 5, 0), 5);
    CHECK_EQUAL(send(server, "welcome", 7, 0), 7);
    int abstract_client = connect_to(SOCK_SEQPACKET, "@abstract"),
        abstract_server = accept(abstract, NULL, NULL);
    int old_listener = open_named(SOCK_STREAM, "/tmp/run/old", 1);
    int old_client = connect_to(SOCK_STREAM, "/tmp/run/old"), old_server = accept(old_listener, NULL, NULL);
    close(old_listener);
    CHECK(unlink("/tmp/run/old") == 0);
    int inbox = open_named(SOCK_DGRAM, "/tmp/run/inbox", 0), outbox = open_named(SOCK_DGRAM, "@outbox", 0);
    struct sockaddr_un address;
    socklen_t len = name_of(&address, "/tmp/run/inbox");
    CHECK(connect(outbox, (struct sockaddr *)&address, len) == 0);
    CHECK_EQUAL(send(outbox, "letter", 6, 0), 6);
    int idle = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), size = 30000;
    CHECK(setsockopt(stream[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
    CHECK(setsockopt(stream[0], SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int)) == 0);

    test_freeze_point();
    CHECK(fcntl(stream[0], F_GETFD) == FD_CLOEXEC && fcntl(packets[1], F_GETFD) == 0);
    CHECK((fcntl(packets[1], F_GETFL) & O_NONBLOCK) && !(fcntl(stream[1], F_GETFL) & O_NONBLOCK));
    check_text(stream[1], "to one");
    check_text(stream[0], "to zero");
    check_talk(stream[0], stream[1]);
    check_text(packets[1], "a");
    check_text(packets[1], "bb");
    check_text(packets[1], "ccc");
    check_empty(packets[1]);
    check_talk(packets[0], packets[1]);
    check_text(datagrams[0], "a");
    check_text(datagrams[0], "bb");
    check_text(datagrams[0], "ccc");
    check_talk(datagrams[0], datagrams[1]);
    check_text(half[1], "end");
    check_text(half[1], "");
    CHECK(send(half[0], "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
    static char got[sizeof large];
    CHECK_EQUAL(recv(half[0], got, sizeof got, MSG_WAITALL), sizeof got);
    CHECK(memcmp(got, large, sizeof got) == 0);
    check_text(widow[1], "will");
    check_text(widow[1], "");
    int received = receive_fd(carrier[1]);
    eventfd_t value;
    CHECK(eventfd_write(received, 2) == 0 && eventfd_read(counter, &value) == 0 && value == 7);

    CHECK(fcntl(listener, F_GETFL) & O_NONBLOCK);
    check_text(client, "welcome");
    check_talk(client, server);
    int accepted = accept(listener, NULL, NULL);
    CHECK(accepted >= 0);
    check_text(accepted, "early");
    check_talk(accepted, waiting);
    CHECK(accept(listener, NULL, NULL) < 0 && errno == EAGAIN);
    int more = connect_to(SOCK_STREAM, "/tmp/run/server");
    CHECK((accepted = accept(listener, NULL, NULL)) >= 0);
    check_talk(more, accepted);
    len = sizeof address;
    CHECK(getpeername(client, (struct sockaddr *)&address, &len) == 0);
    CHECK(strcmp(address.sun_path, "/tmp/run/server") == 0);
    check_talk(abstract_client, abstract_server);
    more = connect_to(SOCK_SEQPACKET, "@abstract");
    check_talk(old_client, old_server);
    len = sizeof address;
    CHECK(getsockname(old_server, (struct sockaddr *)&address, &len) == 0);
    CHECK(strcmp(address.sun_path, "/tmp/run/old") == 0);
    struct stat st;
    CHECK(lstat("/tmp/run/old", &st) < 0 && errno == ENOENT);
    len = sizeof address;
    CHECK_EQUAL(recvfrom(inbox, got, sizeof got, MSG_DONTWAIT, (struct sockaddr *)&address, &len), 6);
    CHECK(len == name_of(&(struct sockaddr_un){0}, "@outbox") &&
          memcmp(address.sun_path + 1, "outbox", 6) == 0);
    CHECK_EQUAL(send(outbox, "next", 4, 0), 4);
    check_text(inbox, "next");
    CHECK((fcntl(idle, F_GETFL) & O_NONBLOCK) && recv(idle, got, 1, 0) < 0);
    len = sizeof size;
    CHECK(getsockopt(stream[0], SOL_SOCKET, SO_SNDBUF, &size, &len) == 0);
    CHECK_EQUAL(size, 60000);
    CHECK(getsockopt(stream[0], SOL_SOCKET, SO_PASSCRED, &size, &len) == 0 && size == 1);
    return 0;
}
