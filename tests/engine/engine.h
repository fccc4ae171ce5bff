/* What every engine test program uses. It sets something up, calls test_freeze_point (once), and checks what
 * it set up: the code after that call runs in every clone, never in the original. */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define ENGINE_PORT 9001

/* Sends a request to the harness and reads the answer: in between the process is frozen, and each clone gets
 * an answer of its own, which says which clone it is. */
void test_freeze_point(void);
extern int test_clone_index; /* from 0, after the freeze point */
extern int test_connection;  /* the descriptor of the connection to the harness */

/* After the freeze point: returns when all clones that are alive have come here. */
void test_barrier(void);
/* The same; and it fails the test when two clones bring the same bytes (at most 64). */
void test_unique(const void *bytes, size_t len);

/* The main function of a program that makes the one thing that its first argument names, which must refuse the freeze.
 * `make` returns a negative number when it could not. */
struct test_maker {
    const char *name;
    int (*make)(void);
};
int test_refusal(int argc, char **argv, const struct test_maker *makers, size_t count);

/* Until thread `tid` of this process sleeps in system call `number` (-1: any). */
void test_wait_blocked(pid_t tid, long number);
pid_t test_gettid(void);

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            int error_number_ = errno; \
            printf("FAIL: %s:%d: %s (errno %d, clone %d)\n", __FILE__, __LINE__, #condition, error_number_, \
                test_clone_index); \
            fflush(stdout); \
            _exit(1); \
        } \
    } while (0)
#define CHECK_EQUAL(a, b) \
    do { \
        long long a_ = (long long)(a), b_ = (long long)(b); \
        if (a_ != b_) { \
            int error_number_ = errno; \
            printf("FAIL: %s:%d: %s is %lld, not %lld (errno %d, clone %d)\n", __FILE__, __LINE__, #a, a_, \
                b_, error_number_, test_clone_index); \
            fflush(stdout); \
            _exit(1); \
        } \
    } while (0)
