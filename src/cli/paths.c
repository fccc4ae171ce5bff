/* The server's addresses that more than one command asks. */
#include "cli/client.h"

char *evict_path(const struct cli_target *target, bool templates)
{
    CLEANUP_FREE char *name = client_escape(target->name);
    CLEANUP_FREE char *version = client_escape(target->version ? target->version : "");
    return xasprintf("/thaw/v1/evict?function=%s%s%s%s", name, target->version ? "&version=" : "", version,
        templates ? "&templates=1" : "");
}

char *invoke_path(const struct cli_target *target)
{
    CLEANUP_FREE char *name = client_escape(target->name);
    CLEANUP_FREE char *version = client_escape(target->version ? target->version : "");
    return xasprintf(
        "/2015-03-31/functions/%s/invocations%s%s", name, target->version ? "?Qualifier=" : "", version);
}

char *configuration_path(const char *name, const char *version)
{
    CLEANUP_FREE char *escaped_name = client_escape(name);
    CLEANUP_FREE char *escaped_version = client_escape(version ? version : "");
    return xasprintf("/2015-03-31/functions/%s/configuration%s%s", escaped_name, version ? "?Qualifier=" : "",
        escaped_version);
}
