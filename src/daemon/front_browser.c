/* Requests need no credentials here, so a page in a browser on this machine must not be able to make them: not by
 * sending a form to 127.0.0.1, and not by a name of its own that it lets point to 127.0.0.1. Clients that are no
 * browsers send no Origin, and call us by a loopback address or name. */
#include "daemon/front_private.h"

#include <string.h>
#include <strings.h>

static bool has_suffix(const char *name, size_t len, const char *suffix)
{
    size_t suffix_len = strlen(suffix);
    return len >= suffix_len && strncasecmp(name + len - suffix_len, suffix, suffix_len) == 0;
}

/* "127.0.0.1:8429", "localhost", "[::1]:8429", "bucket.localhost": the host part names this machine alone. */
static bool is_loopback(const char *authority)
{
    if (strncmp(authority, "[::1]", 5) == 0)
        return authority[5] == '\0' || authority[5] == ':';
    size_t len = strcspn(authority, ":");
    if (strncmp(authority, "127.", 4) == 0 && strspn(authority, "0123456789.") == len)
        return true;
    return (len == 9 && strncasecmp(authority, "localhost", 9) == 0) ||
           has_suffix(authority, len, ".localhost");
}

static bool is_same_origin(const char *origin, const char *host)
{
    return strncmp(origin, "http://", 7) == 0 && strcasecmp(origin + 7, host) == 0;
}

bool front_browser_refused(struct http_exchange *exchange)
{
    const char *host = http_header(exchange, "Host"), *origin = http_header(exchange, "Origin");
    const char *why = NULL;
    if (host != NULL && !is_loopback(host))
        why = "{\"Message\":\"This server answers to loopback names only: use http://127.0.0.1 and its "
              "port.\"}";
    else if (origin != NULL && (host == NULL || !is_same_origin(origin, host)))
        why = "{\"Message\":\"Requests from pages of other sites are refused, as this server asks for no "
              "credentials.\"}";
    if (why == NULL)
        return false;
    const struct http_field fields[] = {
        {"Content-Type", "application/json"},
        {"x-amzn-ErrorType", "AccessDeniedException"},
    };
    http_reply(exchange, 403, fields, countof(fields), why, strlen(why));
    return true;
}
