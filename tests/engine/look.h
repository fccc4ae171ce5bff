/* How test programs look at themselves: what an access to memory does, what /proc says. */
#pragma once

#include "engine.h"

#define TEST_PAGE 4096ul

/* The signal that reading or writing one byte raises (SIGSEGV, SIGBUS), or 0. One thread at a time. */
int test_fault(volatile char *at, bool write);

/* Private anonymous memory. */
char *test_map(size_t bytes, int protection);
/* Every page gets bytes that follow from `seed` and its number; and whether it still has them. */
void test_fill(char *at, size_t bytes, unsigned seed);
bool test_filled(const char *at, size_t bytes, unsigned seed);

/* Of the mapping that holds `at`: whether VmFlags in /proc/self/smaps has the code; the number behind a key. */
bool test_vm_flag(const void *at, const char *code);
long test_vm_number(const void *at, const char *key);
/* How many mappings this process has. */
size_t test_mapping_count(void);

/* What follows `key` ("\nUmask:") in a file, up to the line's end, without blanks before it; "" when it is not there.
 * Valid until the next call by the same thread. */
const char *test_file_value(const char *path, const char *key);
/* The whole file, at most 64 KiB: static, as above. */
const char *test_file_text(const char *path, size_t *len);

/* Until `*word` is at least `value`; written by another thread or a handler. */
void test_wait_word(const volatile int *word, int value);
