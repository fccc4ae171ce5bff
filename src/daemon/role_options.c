/* The command line. */
#include "base/fault.h"
#include "daemon/role.h"
#include "origin/s3.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLANKS_MAX 256
#define CONCURRENCY_MAX 4000
#define DRAIN_SECONDS_MAX 900
#define IDLE_SECONDS_MAX (7 * 24 * 3600)
#define SIZE_BYTES_MAX (1ull << 60)
#define INACTIVE_AFTER_S_MAX (10ull * 365 * 24 * 3600)
#define EVENT_RETRY_MS_MAX (6 * 3600 * 1000)

static const char USAGE[] =
    "thawd: a Lambda-compatible function server that freezes initialised functions and thaws them\n"
    "\n"
    "usage: thawd [options]           (as root)\n"
    "  --listen ADDRESS:PORT   loopback only, as requests are not authenticated (127.0.0.1:8429)\n"
    "  --data DIR              functions, snapshots, logs and the key (/var/lib/thaw)\n"
    "  --runtimes DIR          the bootstraps of managed runtimes (beside the program, else\n"
    "                          /usr/share/thaw/runtimes)\n"
    "  --idle-seconds N        idle environments end after this (300)\n"
    "  --concurrency N         environments at once, all functions together (1000)\n"
    "  --function-concurrency N  invocations of one function at once (as --concurrency)\n"
    "  --event-retry-ms N      before the first retry of an Event invocation; the second waits twice as\n"
    "                          long (60000)\n"
    "  --address-layout MODE   of versions being initialised to be frozen: fixed (republished ones share\n"
    "                          most of what is stored) or random (fixed)\n"
    "  --inactive-after TIME   versions with a snapshot that are not invoked for as long become Inactive, "
    "and\n"
    "                          their snapshots are deleted: 30s, 90m, 12h, 14d, 2w, or never (14d)\n"
    "  --blanks N              sandboxes kept ready ahead of need (8)\n"
    "  --template-budget SIZE  memory for templates, such as 512M or 8G; the least valuable go first (half\n"
    "                          of the machine's)\n"
    "  --origin s3://BUCKET/PREFIX  where snapshots are kept beside the local folder, for several machines;\n"
    "                          keys from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN\n"
    "  --store-budget SIZE     of the local folder then: chunks used longest ago go first (no limit)\n"
    "  --s3-endpoint URL       of the object store, such as http://127.0.0.1:9000 (that of AWS)\n"
    "  --s3-region NAME        (us-east-1)\n"
    "  --s3-credentials FILE   the keys, as AWS's tools keep them, in place of the environment\n"
    "  --s3-ca FILE            certificates to trust in place of the system's\n"
    "  --drain SECONDS         running invocations may take this long when it is stopped (10)\n"
    "  --user NAME             the user of the unprivileged role (thaw if there is one, else uid 60901)\n"
    "  --master-key SOURCE     file:PATH, env:NAME or command:PROGRAM: what snapshots' keys are wrapped\n"
    "                          with (file:thaw.key in the data folder)\n"
    "  --old-master-key SOURCE where the key is that was used before, to change to another source\n"
    "  --region NAME           as ARNs show it (us-east-1)\n"
    "  --account-id DIGITS     as ARNs show it (000000000000)\n"
    "  --log-level LEVEL       error, warning, info or debug (info)\n"
    "  --help, --version\n";

enum option_code {
    OPTION_LISTEN = 1,
    OPTION_DATA,
    OPTION_RUNTIMES,
    OPTION_IDLE_SECONDS,
    OPTION_CONCURRENCY,
    OPTION_FUNCTION_CONCURRENCY,
    OPTION_EVENT_RETRY_MS,
    OPTION_ADDRESS_LAYOUT,
    OPTION_INACTIVE_AFTER,
    OPTION_BLANKS,
    OPTION_TEMPLATE_BUDGET,
    OPTION_STORE_BUDGET,
    OPTION_ORIGIN,
    OPTION_S3_ENDPOINT,
    OPTION_S3_REGION,
    OPTION_S3_CREDENTIALS,
    OPTION_S3_CA,
    OPTION_DRAIN,
    OPTION_USER,
    OPTION_MASTER_KEY,
    OPTION_OLD_MASTER_KEY,
    OPTION_REGION,
    OPTION_ACCOUNT_ID,
    OPTION_LOG_LEVEL,
    OPTION_ROLE,
    OPTION_LIST_FAULT_POINTS,
    OPTION_HELP,
    OPTION_VERSION,
};

static const struct option OPTIONS[] = {
    {"listen", required_argument, NULL, OPTION_LISTEN},
    {"data", required_argument, NULL, OPTION_DATA},
    {"runtimes", required_argument, NULL, OPTION_RUNTIMES},
    {"idle-seconds", required_argument, NULL, OPTION_IDLE_SECONDS},
    {"concurrency", required_argument, NULL, OPTION_CONCURRENCY},
    {"function-concurrency", required_argument, NULL, OPTION_FUNCTION_CONCURRENCY},
    {"event-retry-ms", required_argument, NULL, OPTION_EVENT_RETRY_MS},
    {"address-layout", required_argument, NULL, OPTION_ADDRESS_LAYOUT},
    {"inactive-after", required_argument, NULL, OPTION_INACTIVE_AFTER},
    {"blanks", required_argument, NULL, OPTION_BLANKS},
    {"template-budget", required_argument, NULL, OPTION_TEMPLATE_BUDGET},
    {"store-budget", required_argument, NULL, OPTION_STORE_BUDGET},
    {"origin", required_argument, NULL, OPTION_ORIGIN},
    {"s3-endpoint", required_argument, NULL, OPTION_S3_ENDPOINT},
    {"s3-region", required_argument, NULL, OPTION_S3_REGION},
    {"s3-credentials", required_argument, NULL, OPTION_S3_CREDENTIALS},
    {"s3-ca", required_argument, NULL, OPTION_S3_CA},
    {"drain", required_argument, NULL, OPTION_DRAIN},
    {"user", required_argument, NULL, OPTION_USER},
    {"master-key", required_argument, NULL, OPTION_MASTER_KEY},
    {"old-master-key", required_argument, NULL, OPTION_OLD_MASTER_KEY},
    {"region", required_argument, NULL, OPTION_REGION},
    {"account-id", required_argument, NULL, OPTION_ACCOUNT_ID},
    {"log-level", required_argument, NULL, OPTION_LOG_LEVEL},
    {"role", required_argument, NULL, OPTION_ROLE},
    {"list-fault-points", no_argument, NULL, OPTION_LIST_FAULT_POINTS},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

static int complain(const char *what, const char *value)
{
    fprintf(stderr, "thawd: %s: %s\n", what, value);
    return 2;
}

static int parse_number(const char *text, uint32_t least, uint32_t most, uint32_t *out, const char *name)
{
    char *end;
    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && v >= least && v <= most) {
        *out = (uint32_t)v;
        return -1;
    }
    fprintf(stderr, "thawd: %s must be a number between %u and %u, not \"%s\"\n", name, least, most, text);
    return 2;
}

/* A number of bytes, or of KiB, MiB, GiB or TiB. */
static int parse_size(const char *text, uint64_t *out, const char *name)
{
    static const char units[] = "KMGT";
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    const char *unit = *end != '\0' ? strchr(units, *end) : NULL;
    unsigned shift = unit != NULL ? 10 * (unsigned)(unit - units + 1) : 0;
    bool is_number = text[0] >= '0' && text[0] <= '9' && errno == 0;
    if (is_number && v > 0 && end[unit != NULL] == '\0' && v <= SIZE_BYTES_MAX >> shift) {
        *out = (uint64_t)v << shift;
        return -1;
    }
    fprintf(stderr, "thawd: %s must be a size such as 512M or 8G, not \"%s\"\n", name, text);
    return 2;
}

/* A number and its unit. */
static int parse_time(const char *text, uint64_t most_s, uint64_t *out_s, const char *name)
{
    static const struct {
        char unit;
        uint64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 24 * 3600}, {'w', 7 * 24 * 3600}};
    if (strcmp(text, "never") == 0) {
        *out_s = 0;
        return -1;
    }
    size_t digits = strspn(text, "0123456789");
    for (size_t i = 0; i < sizeof units / sizeof *units && digits > 0 && digits <= 9; i++) {
        uint64_t seconds = strtoull(text, NULL, 10) * units[i].seconds;
        if (text[digits] != units[i].unit || text[digits + 1] != '\0' || seconds == 0 || seconds > most_s)
            continue;
        *out_s = seconds;
        return -1;
    }
    fprintf(stderr,
        "thawd: %s must be never, or a number and one of s, m, h, d, w, such as 14d and at most ten years, "
        "not "
        "\"%s\"\n",
        name, text);
    return 2;
}

static int parse_log_level(const char *text, enum log_level *out)
{
    static const struct {
        const char *name;
        enum log_level level;
    } levels[] = {{"error", LOG_LEVEL_ERROR}, {"warning", LOG_LEVEL_WARNING}, {"info", LOG_LEVEL_INFO},
        {"debug", LOG_LEVEL_DEBUG}};
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        if (strcmp(text, levels[i].name) != 0)
            continue;
        *out = levels[i].level;
        return -1;
    }
    return complain("--log-level must be error, warning, info or debug, not", text);
}

/* Splits "HOST:PORT", where an IPv6 host stands in brackets. */
static bool split_address(const char *text, char *host, size_t host_size, uint16_t *port)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text)
        return false;
    char *end;
    unsigned long number = strtoul(colon + 1, &end, 10);
    if (colon[1] < '0' || colon[1] > '9' || *end != '\0' || number > UINT16_MAX)
        return false;
    size_t len = (size_t)(colon - text);
    if (text[0] == '[' && colon[-1] == ']') {
        text++;
        len -= 2;
    }
    if (len >= host_size)
        return false;
    memcpy(host, text, len);
    host[len] = '\0';
    *port = (uint16_t)number;
    return true;
}

static int parse_listen(struct role_options *o)
{
    char host[64];
    uint16_t port;
    struct sockaddr_in *v4 = (struct sockaddr_in *)&o->listen_address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&o->listen_address;
    if (!split_address(o->listen, host, sizeof host, &port))
        return complain("--listen must be ADDRESS:PORT, such as 127.0.0.1:8429, not", o->listen);
    if (strcmp(host, "localhost") == 0)
        memcpy(host, "127.0.0.1", sizeof "127.0.0.1");
    bool loopback;
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        o->listen_address_len = sizeof *v4;
        loopback = ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    } else if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        o->listen_address_len = sizeof *v6;
        loopback = IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
    } else {
        return complain("--listen needs a numeric address, not", host);
    }
    if (loopback)
        return -1;
    fprintf(stderr,
        "thawd: refusing to listen at %s: requests are not authenticated yet (no SigV4), so only loopback\n"
        "addresses are allowed, such as 127.0.0.1:8429\n",
        o->listen);
    return 2;
}

static bool is_folder(const char *path)
{
    return access(path, R_OK | X_OK) == 0;
}

/* Beside the program when it runs from its build folder, else where it is installed. */
static void find_runtimes(struct role_options *o)
{
    static const char *const places[] = {"../runtimes", "../share/thaw/runtimes", "../../runtimes"};
    char program[PATH_MAX] = "";
    if (readlink("/proc/self/exe", program, sizeof program - 1) > 0)
        *strrchr(program, '/') = '\0';
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char path[PATH_MAX + 32];
        snprintf(path, sizeof path, "%s/%s", program, places[i]);
        if (!is_folder(path) || realpath(path, o->runtimes_buffer) == NULL)
            continue;
        o->runtimes_dir = o->runtimes_buffer;
        return;
    }
    o->runtimes_dir = "/usr/share/thaw/runtimes";
}

static int take_origin_option(struct role_options *o, int code)
{
    const char **places[] = {[OPTION_ORIGIN] = &o->origin,
        [OPTION_S3_ENDPOINT] = &o->s3_endpoint,
        [OPTION_S3_REGION] = &o->s3_region,
        [OPTION_S3_CREDENTIALS] = &o->s3_credentials,
        [OPTION_S3_CA] = &o->s3_ca};
    *places[code] = optarg;
    return -1;
}

/* So that what is wrong is said at once, and by the process that was started. */
static int check_origin(struct role_options *o)
{
    struct s3_options s3;
    struct error err = {0};
    if (o->origin == NULL && o->store_budget > 0) {
        fputs("thawd: --store-budget needs an --origin, which keeps what is evicted here\n", stderr);
        return 2;
    }
    if (o->origin == NULL)
        return -1;
    if (o->s3_endpoint == NULL) {
        snprintf(o->endpoint_buffer, sizeof o->endpoint_buffer, "https://s3.%s.amazonaws.com", o->s3_region);
        o->s3_endpoint = o->endpoint_buffer;
    }
    if (role_parse_origin(o, &s3, &err) == 0)
        return -1;
    fprintf(stderr, "thawd: %s\n", err.text);
    return 2;
}

static int take_option(struct role_options *o, int code)
{
    switch (code) {
    case OPTION_LISTEN:
        o->listen = optarg;
        return -1;
    case OPTION_DATA:
        o->data_dir = optarg;
        return -1;
    case OPTION_RUNTIMES:
        o->runtimes_dir = optarg;
        return -1;
    case OPTION_IDLE_SECONDS:
        return parse_number(optarg, 1, IDLE_SECONDS_MAX, &o->idle_seconds, "--idle-seconds");
    case OPTION_CONCURRENCY:
        return parse_number(optarg, 1, CONCURRENCY_MAX, &o->concurrency, "--concurrency");
    case OPTION_FUNCTION_CONCURRENCY:
        return parse_number(optarg, 1, CONCURRENCY_MAX, &o->function_concurrency, "--function-concurrency");
    case OPTION_EVENT_RETRY_MS:
        return parse_number(optarg, 1, EVENT_RETRY_MS_MAX, &o->event_retry_ms, "--event-retry-ms");
    case OPTION_ADDRESS_LAYOUT:
        o->random_layout = strcmp(optarg, "random") == 0;
        return o->random_layout || strcmp(optarg, "fixed") == 0
                   ? -1
                   : complain("--address-layout must be fixed or random, not", optarg);
    case OPTION_INACTIVE_AFTER:
        return parse_time(optarg, INACTIVE_AFTER_S_MAX, &o->inactive_after_s, "--inactive-after");
    case OPTION_BLANKS:
        return parse_number(optarg, 0, BLANKS_MAX, &o->blanks, "--blanks");
    case OPTION_TEMPLATE_BUDGET:
        return parse_size(optarg, &o->template_budget, "--template-budget");
    case OPTION_STORE_BUDGET:
        return parse_size(optarg, &o->store_budget, "--store-budget");
    case OPTION_ORIGIN:
    case OPTION_S3_ENDPOINT:
    case OPTION_S3_REGION:
    case OPTION_S3_CREDENTIALS:
    case OPTION_S3_CA:
        return take_origin_option(o, code);
    case OPTION_DRAIN:
        return parse_number(optarg, 0, DRAIN_SECONDS_MAX, &o->drain_seconds, "--drain");
    case OPTION_USER:
        o->user = optarg;
        return -1;
    case OPTION_MASTER_KEY:
        o->master_key = optarg;
        return -1;
    case OPTION_OLD_MASTER_KEY:
        o->old_master_key = optarg;
        return -1;
    case OPTION_REGION:
        o->region = optarg;
        return -1;
    case OPTION_ACCOUNT_ID:
        o->account_id = optarg;
        return strspn(optarg, "0123456789") == 12 && optarg[12] == '\0'
                   ? -1
                   : complain("--account-id must be 12 digits, not", optarg);
    case OPTION_LOG_LEVEL:
        return parse_log_level(optarg, &o->log_level);
    case OPTION_ROLE:
        o->front = strcmp(optarg, "front") == 0;
        o->courier = strcmp(optarg, "courier") == 0;
        return o->front || o->courier ? -1 : complain("--role is for thawd itself; there is no role", optarg);
    case OPTION_LIST_FAULT_POINTS:
        fault_list(stdout);
        return 0;
    case OPTION_HELP:
        fputs(USAGE, stdout);
        return 0;
    case OPTION_VERSION:
        puts("thawd " THAW_VERSION);
        return 0;
    default:
        fputs("Try thawd --help.\n", stderr);
        return 2;
    }
}

int role_parse_options(struct role_options *o, int argc, char **argv)
{
    *o = (struct role_options){
        .listen = "127.0.0.1:8429",
        .data_dir = "/var/lib/thaw",
        .region = "us-east-1",
        .account_id = "000000000000",
        .s3_region = "us-east-1",
        .idle_seconds = 300,
        .concurrency = 1000,
        .event_retry_ms = 60000,
        .inactive_after_s = 14 * 24 * 3600,
        .blanks = 8,
        .drain_seconds = 10,
        .log_level = LOG_LEVEL_INFO,
    };
    int code;
    while ((code = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
        int status = take_option(o, code);
        if (status >= 0)
            return status;
    }
    if (optind < argc)
        return complain("unexpected argument", argv[optind]);
    if (o->runtimes_dir == NULL)
        find_runtimes(o);
    int status = check_origin(o);
    return status >= 0 ? status : parse_listen(o);
}
