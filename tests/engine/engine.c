#include "engine.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>

int test_clone_index = -1;
int test_connection = -1;

static void send_text(const char *text)
{
    size_t len = strlen(text);
    CHECK_EQUAL(send(test_connection, text, len, MSG_NOSIGNAL), len);
}

/* Reads an answer up to the empty line; answers have no body. */
static void read_answer(char *answer, size_t size)
{
    size_t len = 0;
    while (len < 4 || memcmp(answer + len - 4, "\r\n\r\n", 4) != 0) {
        CHECK(len + 1 < size);
        ssize_t got = read(test_connection, answer + len, 1);
        if (got < 0 && errno == EINTR)
            continue;
        CHECK_EQUAL(got, 1);
        len++;
    }
    answer[len] = 0;
}

void test_freeze_point(void)
{
    char answer[512];
    struct sockaddr_in api = {AF_INET, htons(ENGINE_PORT), {htonl(INADDR_LOOPBACK)}, {0}};
    fflush(stdout);
    CHECK((test_connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
    CHECK(connect(test_connection, (struct sockaddr *)&api, sizeof api) == 0);
    send_text("GET /2018-06-01/runtime/restore/next HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n\r\n");
    read_answer(answer, sizeof answer);
    const char *index = strstr(answer, "Clone-Index: ");
    CHECK(index);
    test_clone_index = atoi(index + 13);
}

void test_barrier(void)
{
    char answer[512];
    send_text("GET /barrier HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n\r\n");
    read_answer(answer, sizeof answer);
}

void test_unique(const void *bytes, size_t len)
{
    char request[512] = "GET /unique/", answer[512];
    CHECK(len <= 64);
    for (size_t i = 0; i < len; i++)
        snprintf(request + 12 + 2 * i, 3, "%02x", ((const unsigned char *)bytes)[i]);
    strcat(request, " HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n\r\n");
    send_text(request);
    read_answer(answer, sizeof answer);
}

pid_t test_gettid(void)
{
    return (pid_t)syscall(SYS_gettid);
}

void test_wait_blocked(pid_t tid, long number)
{
    char path[64], text[128];
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
    for (;;) {
        FILE *file = fopen(path, "r");
        CHECK(file);
        bool got = fgets(text, sizeof text, file) != NULL;
        fclose(file);
        if (got && strncmp(text, "running", 7) != 0 && (number == -1 || atol(text) == number))
            return;
        usleep(1000);
    }
}

int test_refusal(int argc, char **argv, const struct test_maker *makers, size_t count)
{
    const char *what = argc > 1 ? argv[1] : "";
    int result = -1;
    for (size_t i = 0; i < count; i++)
        if (strcmp(what, makers[i].name) == 0)
            result = makers[i].make();
    CHECK(result >= 0);
    test_freeze_point();
    return 0;
}
