/* fuzz: src/base src/http/parse.c
 * The head of a request, in place; and the segments of its path and its query, decoded. */
#include "http/parse.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const struct http_head *head)
{
    size_t sum = strlen(head->method) + strlen(head->path);
    for (size_t i = 0; i < head->field_count; i++)
        sum += strlen(head->fields[i].name) + strlen(head->fields[i].value);
    if (sum > 1u << 24 || head->field_count > HTTP_FIELDS_MAX)
        abort();
    for (const char *segment = head->path; *segment;) {
        size_t len = strcspn(segment, "/");
        free(http_decode_segment(segment, len));
        segment += len + (segment[len] == '/');
    }
    free(http_decode_query(head->query, "Qualifier"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* The end must be found at the same place however the bytes come in. */
    size_t seen = 0, stepwise = 0;
    for (size_t len = 1; len <= size && stepwise == 0; len++)
        stepwise = http_find_head_end((const char *)data, len, &seen);
    seen = 0;
    size_t end = http_find_head_end((const char *)data, size, &seen);
    if (end != stepwise || end > size)
        abort();
    if (end == 0)
        return 0;
    char *text = malloc(end);
    memcpy(text, data, end);
    struct http_head head;
    const char *why = NULL;
    unsigned status = http_parse_head(&head, text, end, &why);
    if (status == 0)
        walk(&head);
    else if (status < 400 || status > 599 || why == NULL)
        abort();
    free(text);
    return 0;
}
