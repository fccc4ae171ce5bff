/* conformance: sockets | descriptors in flight (`SCM_RIGHTS`): several in a message, several messages, of files, pipes and sockets | kept | where the process has the same descriptor itself
 *
 * What arrives is the same open file: an offset or a counter is shared with the one that was sent. */
#include "sockets.h"

#include <sys/eventfd.h>

int main(void)
{
    int stream[2], datagrams[2], ends[2], fds[16], counter = eventfd(0, EFD_NONBLOCK),
                                                   file = open("/tmp/file", O_RDWR | O_CREAT, 0600);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, stream) == 0 &&
          socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams) == 0 && pipe(ends) == 0);
    CHECK(test_writes(file, "0123456789") && test_writes(ends[1], "in the pipe"));
    CHECK(test_writes(stream[0], "plain"));
    CHECK(test_send_descriptors(stream[0], "three", (int[]){file, ends[0], counter}, 3));
    CHECK(test_writes(stream[0], "between"));
    CHECK(test_send_descriptors(stream[0], "itself", (int[]){stream[0], stream[1]}, 2));
    CHECK(test_send_descriptors(datagrams[1], "one", &file, 1) && test_writes(datagrams[1], "none"));

    test_freeze_point();
    eventfd_t value;
    CHECK(test_receive_descriptors(stream[1], "plain", fds) == 0);
    CHECK(test_receive_descriptors(stream[1], "three", fds) == 3);
    CHECK(lseek(fds[0], 4, SEEK_SET) == 4 && test_reads(file, "456789") && test_reads(fds[1], "in the pipe"));
    CHECK(eventfd_write(fds[2], 9) == 0 && eventfd_read(counter, &value) == 0 && value == 9);
    CHECK(test_receive_descriptors(stream[1], "between", fds) == 0);
    CHECK(test_receive_descriptors(stream[1], "itself", fds) == 2);
    CHECK(test_is_own(fds[0], stream[1]) && test_is_own(fds[1], stream[0]));
    CHECK(test_receive_descriptors(datagrams[0], "one", fds) == 1 && lseek(fds[0], 1, SEEK_SET) == 1);
    CHECK(lseek(file, 0, SEEK_CUR) == 1 && test_message(datagrams[0], "none") &&
          test_would_block(datagrams[0]));
    return 0;
}
