/* What commands take: names of functions, numbers. */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* arn:aws:lambda:REGION:ACCOUNT:function:NAME[:VERSION] -> NAME[:VERSION] */
static const char *skip_arn(const char *text)
{
    const char *function = strstr(text, ":function:");
    return strncmp(text, "arn:", 4) == 0 && function ? function + strlen(":function:") : text;
}

int cli_target_parse(struct cli_target *target, const char *text, struct error *err)
{
    const char *name = skip_arn(text);
    const char *colon = strchr(name, ':');
    size_t name_len = colon ? (size_t)(colon - name) : strlen(name);
    if (name_len == 0 || (colon && (colon[1] == 0 || strchr(colon + 1, ':'))))
        return error_set(err, ERROR_INVALID, "'%s' names no function: write NAME or NAME:VERSION", text);
    target->name = xstrndup(name, name_len);
    target->version = colon ? xstrdup(colon + 1) : NULL;
    return 0;
}

void cli_target_free(struct cli_target *target)
{
    free(target->name);
    free(target->version);
}

int cli_parse_number(
    long *out, const char *option, const char *text, long least, long most, struct error *err)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < least || value > most)
        return error_set(
            err, ERROR_INVALID, "%s takes a number from %ld to %ld, not '%s'", option, least, most, text);
    *out = value;
    return 0;
}
