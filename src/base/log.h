/* The daemon's and tools' own messages, one line each, to standard error, with the priority prefix that
 * systemd-journald understands ("<3>"; see sd-daemon(3)) when standard error is not a terminal. Only daemon/
 * and cli/ log: libraries return errors. */
#pragma once

#include "base/error.h"

enum log_level { LOG_LEVEL_ERROR = 3, LOG_LEVEL_WARNING = 4, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

void log_open(const char *name, enum log_level most); /* `name` (not copied) stands before every message */
void log_line(enum log_level level, const char *format, ...) PRINTF_LIKE(2, 3);
#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)
