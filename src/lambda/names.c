/* The ways to name a function: NAME, NAME:QUALIFIER,
 * [arn:aws:lambda:][REGION:][ACCOUNT:][function:]NAME[:QUALIFIER]. */
#include "lambda/internal.h"

#include <ctype.h>
#include <string.h>

#define SEGMENTS_MAX 8 /* arn:aws:lambda:REGION:ACCOUNT:function:NAME:QUALIFIER */
#define QUALIFIER_MAX 128
#define NAME_PATTERN \
    "(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}:)?" \
    "(\\d{12}:)?(function:)?([a-zA-Z0-9-_\\.]+)(:(\\$LATEST(\\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
#define QUALIFIER_PATTERN "\\$(LATEST(\\.PUBLISHED)?)|[a-zA-Z0-9-_$]+"
#define RESOURCE_PATTERN \
    "arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}:\\d{12}:" \
    "(function:[a-zA-Z0-9-_]+(:(\\$LATEST|[a-zA-Z0-9-_]+))?|layer:([a-zA-Z0-9-_]+)|" \
    "code-signing-config:csc-[a-z0-9]{17}|" \
    "event-source-mapping:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|" \
    "capacity-provider:[a-zA-Z0-9-_]+)"

struct segment {
    const char *at;
    size_t len;
};

static bool equals(struct segment s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.at, text, s.len) == 0;
}

static bool all_of(struct segment s, const char *more)
{
    for (size_t i = 0; i < s.len; i++)
        if (!isalnum((unsigned char)s.at[i]) && (s.at[i] == '\0' || strchr(more, s.at[i]) == NULL))
            return false;
    return s.len > 0;
}

static bool is_partition(struct segment s)
{
    if (s.len == 0)
        return true;
    if (s.len < 3 || memcmp(s.at, "aws", 3) != 0)
        return false;
    for (size_t i = 3; i < s.len; i++)
        if (!isalpha((unsigned char)s.at[i]) && s.at[i] != '-')
            return false;
    return true;
}

/* us-east-1, eusc-de-east-1, us-gov-west-1, us-isob-east-1 */
static bool is_region(struct segment s)
{
    const char *c = s.at, *end = s.at + s.len;
    if (end - c > 5 && memcmp(c, "eusc-", 5) == 0)
        c += 5;
    if (end - c < 2 || !islower((unsigned char)c[0]) || !islower((unsigned char)c[1]))
        return false;
    c += 2;
    int words = 0;
    while (c < end && *c == '-' && c + 1 < end && islower((unsigned char)c[1])) {
        const char *word = ++c;
        while (c < end && islower((unsigned char)*c))
            c++;
        size_t len = (size_t)(c - word);
        bool iso = len >= 3 && len <= 4 && memcmp(word, "iso", 3) == 0;
        bool more = c + 1 < end && *c == '-' && islower((unsigned char)c[1]);
        if (++words == 1 && more && !iso && !(len == 3 && memcmp(word, "gov", 3) == 0))
            return false;
        if (words > 2)
            return false;
    }
    return words >= 1 && end - c == 2 && c[0] == '-' && isdigit((unsigned char)c[1]) && s.len < 32;
}

static bool is_account(struct segment s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!isdigit((unsigned char)s.at[i]))
            return false;
    return s.len == 12;
}

static bool is_qualifier(struct segment s)
{
    return equals(s, "$LATEST") || equals(s, "$LATEST.PUBLISHED") || all_of(s, "-_");
}

static void copy(char *out, struct segment s)
{
    memcpy(out, s.at, s.len);
    out[s.len] = '\0';
}

/* One of the pattern's optional parts is taken when its bit is set in `take`. */
enum { TAKE_ARN = 8, TAKE_REGION = 4, TAKE_ACCOUNT = 2, TAKE_FUNCTION = 1, TAKE_ALL = 15 };

static bool match(const struct segment *s, size_t count, unsigned take, struct name_parts *parts)
{
    size_t i = 0;
    struct segment region = {"", 0}, account = {"", 0};
    if ((take & TAKE_ARN) != 0) {
        if (count < 3 || !equals(s[0], "arn") || !is_partition(s[1]) || !equals(s[2], "lambda"))
            return false;
        i = 3;
    }
    if ((take & TAKE_REGION) != 0) {
        if (i >= count || !is_region(s[i]))
            return false;
        region = s[i++];
    }
    if ((take & TAKE_ACCOUNT) != 0) {
        if (i >= count || !is_account(s[i]))
            return false;
        account = s[i++];
    }
    if ((take & TAKE_FUNCTION) != 0 && (i >= count || !equals(s[i++], "function")))
        return false;
    if (i >= count || !all_of(s[i], "-_.") || count - i > 2)
        return false;
    if (count - i == 2 && !is_qualifier(s[i + 1]))
        return false;
    copy(parts->region, region);
    copy(parts->account, account);
    copy(parts->name, s[i]);
    copy(parts->qualifier, count - i == 2 ? s[i + 1] : (struct segment){"", 0});
    return true;
}

bool name_parse(const char *text, struct name_parts *parts)
{
    struct segment segments[SEGMENTS_MAX];
    size_t count = 0;
    *parts = (struct name_parts){0};
    if (strlen(text) > NAME_TEXT_MAX)
        return false;
    for (const char *at = text;; at++) {
        size_t len = strcspn(at, ":");
        if (count == SEGMENTS_MAX)
            return false;
        segments[count++] = (struct segment){at, len};
        at += len;
        if (*at == '\0')
            break;
    }
    /* As the pattern is greedy: an optional part that can be there is there. */
    for (unsigned take = TAKE_ALL + 1; take-- > 0;)
        if (match(segments, count, take, parts))
            return true;
    return false;
}

bool name_is_version(const char *qualifier)
{
    return strcmp(qualifier, CATALOG_LATEST) == 0 ||
           (*qualifier != '\0' && qualifier[strspn(qualifier, "0123456789")] == '\0');
}

bool name_is_ours(struct call *call, const struct name_parts *parts)
{
    const char *region = catalog_region(call->api->catalog);
    if (parts->region[0] != '\0' && strcmp(parts->region, region) != 0) {
        reply_error(call, 404, "ResourceNotFoundException",
            "Functions from '%s' are not reachable in this region ('%s')", parts->region, region);
        return false;
    }
    const char *account = catalog_account_id(call->api->catalog);
    if (parts->account[0] != '\0' && strcmp(parts->account, account) != 0) {
        reply_error(call, 403, "AccessDeniedException",
            "This server holds the functions of account %s, not of %s", account, parts->account);
        return false;
    }
    return true;
}

static bool qualifier_ok(const char *qualifier)
{
    struct segment s = {qualifier, strlen(qualifier)};
    return all_of(s, "-_$") || equals(s, "$LATEST.PUBLISHED");
}

bool call_target(struct call *call, struct name_parts *target)
{
    const char *text = call->segments[0], *qualifier = http_query(call->exchange, "Qualifier");
    struct problems problems = {0};
    if (strlen(text) > NAME_TEXT_MAX)
        problems_add(&problems,
            "Value '%s' at 'functionName' failed to satisfy constraint: Member must have length less than or "
            "equal to %d",
            text, NAME_TEXT_MAX);
    else if (!name_parse(text, target))
        problems_add(&problems,
            "Value '%s' at 'functionName' failed to satisfy constraint: Member must satisfy regular "
            "expression "
            "pattern: " NAME_PATTERN,
            text);
    if (qualifier != NULL && strlen(qualifier) > QUALIFIER_MAX)
        problems_add(&problems,
            "Value '%s' at 'qualifier' failed to satisfy constraint: Member must have length less than or "
            "equal "
            "to %d",
            qualifier, QUALIFIER_MAX);
    else if (qualifier != NULL && !qualifier_ok(qualifier))
        problems_add(&problems,
            "Value '%s' at 'qualifier' failed to satisfy constraint: Member must satisfy regular expression "
            "pattern: " QUALIFIER_PATTERN,
            qualifier);
    if (problems_reply(&problems, call) || !name_is_ours(call, target))
        return false;
    if (qualifier != NULL && target->qualifier[0] != '\0' && strcmp(qualifier, target->qualifier) != 0) {
        reply_invalid(
            call, "The derived qualifier from the function name does not match the specified qualifier.");
        return false;
    }
    if (qualifier != NULL)
        snprintf(target->qualifier, sizeof target->qualifier, "%s", qualifier);
    return true;
}

bool call_function(struct call *call, struct name_parts *target, const struct catalog_function **function)
{
    struct error err;
    if (!call_target(call, target))
        return false;
    if (catalog_get(call->api->catalog, target->name, target->qualifier, function, &err) == 0)
        return true;
    reply_catalog_error(call, &err, CONFLICT_EXISTS);
    return false;
}

bool call_tagged(struct call *call, struct name_parts *target)
{
    const char *arn = call->segments[0];
    if (strncmp(arn, "arn:aws", 7) != 0 || !name_parse(arn, target) || target->region[0] == '\0' ||
        target->account[0] == '\0' || strstr(arn, ":function:") == NULL) {
        reply_error(call, 400, "ValidationException",
            "1 validation error detected: Value '%s' at 'resource' failed to satisfy constraint: Member must "
            "satisfy regular expression pattern: " RESOURCE_PATTERN,
            arn);
        return false;
    }
    if (!name_is_ours(call, target))
        return false;
    if (target->qualifier[0] != '\0') {
        reply_invalid(
            call, "Tags on function aliases and versions are not supported. Please specify a function ARN.");
        return false;
    }
    return true;
}
