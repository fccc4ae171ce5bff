/* What an owner asks of an exchange. */
#include "http/internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char *http_method(const struct http_exchange *exchange)
{
    return exchange->head.method;
}

const char *http_path(const struct http_exchange *exchange)
{
    return exchange->head.path;
}

const char *http_query_text(const struct http_exchange *exchange)
{
    return exchange->head.query;
}

const char *http_query(const struct http_exchange *exchange, const char *name)
{
    char *value = http_decode_query(exchange->head.query, name);
    if (value == NULL)
        return NULL;
    struct http_note *note = xcalloc(1, sizeof *note);
    struct http_exchange *owner = &exchange->connection->exchange;
    *note = (struct http_note){.next = owner->notes, .text = value};
    owner->notes = note;
    return value;
}

const char *http_header(const struct http_exchange *exchange, const char *name)
{
    for (size_t i = 0; i < exchange->head.field_count; i++)
        if (strcasecmp(exchange->head.fields[i].name, name) == 0)
            return exchange->head.fields[i].value;
    return NULL;
}

struct bytes http_body(const struct http_exchange *exchange)
{
    return exchange->body;
}

uint64_t http_content_length(const struct http_exchange *exchange)
{
    return exchange->head.content_length;
}

struct http_connection *http_exchange_connection(const struct http_exchange *exchange)
{
    return exchange->connection;
}

uint16_t http_peer_port(const struct http_connection *connection)
{
    return connection->peer_port;
}

uint64_t http_started_ns(const struct http_exchange *exchange)
{
    return exchange->started_ns;
}

void http_set_user(struct http_exchange *exchange, void *user)
{
    exchange->user = user;
}

void *http_user(const struct http_exchange *exchange)
{
    return exchange->user;
}
