#include "base/log.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *program = "thaw";
static enum log_level threshold = LOG_LEVEL_INFO;

void log_open(const char *name, enum log_level most)
{
    program = name;
    threshold = most;
}

void log_line(enum log_level level, const char *format, ...)
{
    if (level > threshold)
        return;
    char line[1024];
    int used = isatty(STDERR_FILENO) ? 0 : snprintf(line, sizeof line, "<%d>", level);
    used += snprintf(line + used, sizeof line - (size_t)used, "%s: ", program);
    va_list args;
    va_start(args, format);
    vsnprintf(line + used, sizeof line - (size_t)used - 1, format, args);
    va_end(args);
    size_t len = strlen(line);
    line[len] = '\n';
    /* One write, so that lines of several processes do not mix. Nothing can be done if it fails. */
    if (write(STDERR_FILENO, line, len + 1) < 0)
        return;
}
