/* Errors: every function that can fail returns 0 or -1 (or a pointer or NULL), must be checked, and fills a
 * struct error that says what failed, on what, and why. Libraries never log and never exit. */
#pragma once

#include <stdarg.h>
#include <stddef.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(format_at, first_at) __attribute__((format(printf, format_at, first_at)))

enum error_kind {
    ERROR_NONE = 0,
    ERROR_SYSTEM,      /* a system call failed: see errno_value */
    ERROR_INVALID,     /* the caller's or the user's input is wrong */
    ERROR_LIMIT,       /* a named limit was reached */
    ERROR_NOT_FOUND,   /* no such thing */
    ERROR_CONFLICT,    /* the thing exists already, or is in a state that forbids this */
    ERROR_UNSUPPORTED, /* cannot be frozen, thawed or run on this machine */
    ERROR_CORRUPT,     /* stored bytes are not what was written */
    ERROR_BUSY,        /* try again later */
    ERROR_INTERNAL,    /* an invariant of ours does not hold */
};

struct error {
    enum error_kind kind;
    int errno_value; /* 0 unless a system call failed */
    char text[512];  /* a sentence for people, always terminated */
};

/* Fill `err` (which may be NULL) and return -1, so that `return error_set(...)` reads well. */
int error_set(struct error *err, enum error_kind kind, const char *format, ...) PRINTF_LIKE(3, 4);
/* The same with ": <strerror(errno)>" appended and kind ERROR_SYSTEM. Keeps errno. */
int error_system(struct error *err, const char *format, ...) PRINTF_LIKE(2, 3);
/* Put "<prefix>: " before the text of an error that is already set, and return -1. */
int error_prefix(struct error *err, const char *format, ...) PRINTF_LIKE(2, 3);

#if defined(__clang_analyzer__) && !defined(ERROR_HERE)
/* What a static analyser of one file cannot see: these always return -1. */
#define error_set(...) (error_set(__VA_ARGS__), -1)
#define error_system(...) (error_system(__VA_ARGS__), -1)
#define error_prefix(...) (error_prefix(__VA_ARGS__), -1)
#endif
