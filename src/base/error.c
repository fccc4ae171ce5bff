#define ERROR_HERE
#include "base/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void fill(struct error *err, enum error_kind kind, int errno_value, const char *format, va_list args)
{
    err->kind = kind;
    err->errno_value = errno_value;
    vsnprintf(err->text, sizeof err->text, format, args);
    if (errno_value == 0)
        return;
    size_t used = strlen(err->text);
    snprintf(err->text + used, sizeof err->text - used, ": %s", strerror(errno_value));
}

int error_set(struct error *err, enum error_kind kind, const char *format, ...)
{
    if (err == NULL)
        return -1;
    va_list args;
    va_start(args, format);
    fill(err, kind, 0, format, args);
    va_end(args);
    return -1;
}

int error_system(struct error *err, const char *format, ...)
{
    int saved = errno;
    if (err == NULL)
        return -1;
    va_list args;
    va_start(args, format);
    fill(err, ERROR_SYSTEM, saved, format, args);
    va_end(args);
    errno = saved;
    return -1;
}

int error_prefix(struct error *err, const char *format, ...)
{
    if (err == NULL)
        return -1;
    char text[sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t used = strlen(text);
    snprintf(text + used, sizeof text - used, ": %s", err->text);
    memcpy(err->text, text, sizeof text);
    return -1;
}
