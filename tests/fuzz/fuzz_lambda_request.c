/* fuzz: src/base src/catalog src/lambda -ljansson -lsqlite3 -larchive -lcrypto -lcmocka
 * Whole requests: "METHOD /path?query", a line end, an invocation type or client context, a line end, the
 * body. */
#include "../unit/lambda_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fixture *fixture;

static void start(void)
{
    fixture = xcalloc(1, sizeof *fixture);
    strcpy(fixture->folder, "/dev/shm/fuzz-lambda-XXXXXX");
    if (mkdtemp(fixture->folder) == NULL)
        abort();
    fixture->backend.outcome =
        (struct lambda_outcome){.kind = LAMBDA_OUTCOME_RESULT, .payload = {(const uint8_t *)"1", 1}};
    fixture_open(fixture);
    CLEANUP_FREE char *zip = small_package("x");
    CLEANUP_FREE char *body =
        xasprintf("{\"FunctionName\":\"pets\",\"Runtime\":\"python3.11\",\"Handler\":\"a.b\","
                  "\"Role\":\"arn:aws:iam::000000000000:role/r\",\"Code\":{\"ZipFile\":\"%s\"}}",
            zip);
    exchange_free(ask(fixture, "POST /2015-03-31/functions", body));
}

static void stop(void)
{
    fixture_close(fixture);
    nftw(fixture->folder, fixture_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(fixture);
}

/* The next line as a string; a path has no control characters once it comes through HTTP. */
static char *take_line(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *line = *at, *newline = memchr(line, '\n', (size_t)(end - line));
    size_t len = (size_t)((newline != NULL ? newline : end) - line);
    *at = newline != NULL ? newline + 1 : end;
    char *text = xcalloc(1, len + 1);
    for (size_t i = 0; i < len; i++)
        text[i] = line[i] < 0x21 && line[i] != ' ' ? '_' : (char)line[i];
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (fixture == NULL) {
        start();
        atexit(stop);
    }
    const uint8_t *at = data, *end = data + size;
    CLEANUP_FREE char *request = take_line(&at, end);
    CLEANUP_FREE char *header = take_line(&at, end);
    const char *path = strstr(request, " /");
    if (path == NULL || strncmp(request, "DELETE /2015-03-31/functions/pets", 33) == 0 ||
        strlen(header) > 4000)
        return 0;
    CLEANUP_FREE char *type = xasprintf("X-Amz-Invocation-Type: %s", header);
    CLEANUP_FREE char *context = xasprintf("X-Amz-Client-Context: %s", header);
    const char *headers[] = {strlen(header) < 16 ? type : context, NULL};
    struct http_exchange *exchange = begin(fixture, request, (struct bytes){at, (size_t)(end - at)}, headers);
    finish(fixture, exchange);
    exchange_free(exchange);
    return 0;
}
