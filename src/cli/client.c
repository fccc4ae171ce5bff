#include "cli/client.h"

#include "libcurl/libcurl.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct client {
    const struct curl_library *library;
    CURL *curl;
    char *endpoint;
};

struct client *client_new(const struct cli_options *options, struct error *err)
{
    /* The server is on this machine's loopback for now: a proxy in the environment is not meant for it. */
    const struct curl_library *library = curl_load(err);
    if (!library)
        return NULL;
    struct client *client = xcalloc(1, sizeof *client);
    client->library = library;
    client->endpoint = xstrdup(options->endpoint);
    client->curl = library->easy_init();
    if (!client->curl) {
        client_free(&client);
        error_set(err, ERROR_INTERNAL, "libcurl does not start");
        return NULL;
    }
    return client;
}

void client_free(struct client **client)
{
    if (!*client)
        return;
    if ((*client)->curl)
        (*client)->library->easy_cleanup((*client)->curl);
    free((*client)->endpoint);
    free(*client);
    *client = NULL;
}

void client_reply_free(struct client_reply *reply)
{
    for (size_t i = 0; i < reply->field_count; i++) {
        free_pointer(&reply->fields[i].name);
        free_pointer(&reply->fields[i].value);
    }
    free(reply->fields);
    buffer_free(&reply->body);
    *reply = (struct client_reply){0};
}

const char *client_reply_field(const struct client_reply *reply, const char *name)
{
    for (size_t i = 0; i < reply->field_count; i++)
        if (strcasecmp(reply->fields[i].name, name) == 0)
            return reply->fields[i].value;
    return NULL;
}

struct transfer {
    const struct client_request *request;
    struct client_reply *reply;
    bool too_long, stopped;
};

static size_t take_header(char *line, size_t size, size_t count, void *context)
{
    size_t len = size * count;
    struct client_reply *reply = ((struct transfer *)context)->reply;
    const char *colon = memchr(line, ':', len);
    if (!colon || reply->field_count == CLIENT_HEADERS)
        return len;
    const char *value = colon + 1, *end = line + len;
    while (value < end && *value == ' ')
        value++;
    while (end > value && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' '))
        end--;
    reply->fields = xrealloc(reply->fields, (reply->field_count + 1) * sizeof *reply->fields);
    reply->fields[reply->field_count++] = (struct client_field){
        .name = xstrndup(line, (size_t)(colon - line)), .value = xstrndup(value, (size_t)(end - value))};
    return len;
}

static size_t take_body(char *data, size_t size, size_t count, void *context)
{
    struct transfer *transfer = context;
    size_t len = size * count;
    if (transfer->request->stream) {
        transfer->stopped = transfer->request->stream(transfer->request->context, data, len) < 0;
        return transfer->stopped ? 0 : len;
    }
    transfer->too_long = transfer->reply->body.len + len > CLIENT_REPLY_BYTES;
    if (transfer->too_long)
        return 0;
    buffer_append(&transfer->reply->body, data, len);
    return len;
}

static int explain(
    const struct client *client, CURLcode code, const struct transfer *transfer, struct error *err)
{
    if (transfer->too_long)
        return error_set(err, ERROR_LIMIT, "the reply is longer than %u bytes", CLIENT_REPLY_BYTES);
    switch (code) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
        return error_set(err, ERROR_NOT_FOUND,
            "no server answers at %s: start one with 'sudo thawd', or name another with --endpoint or "
            "THAW_ENDPOINT",
            client->endpoint);
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return error_set(
            err, ERROR_INVALID, "%s is no address: write it like http://127.0.0.1:8429", client->endpoint);
    case CURLE_OPERATION_TIMEDOUT:
        return error_set(err, ERROR_BUSY, "the server at %s took too long to answer", client->endpoint);
    default:
        return error_set(err, ERROR_SYSTEM, "no reply from %s: %s", client->endpoint,
            client->library->easy_strerror(code));
    }
}

static struct curl_slist *header_list(
    const struct curl_library *library, const struct client_request *request)
{
    /* libcurl would ask "Expect: 100-continue" for large bodies: a round trip for nothing here. */
    struct curl_slist *list = library->slist_append(NULL, "Expect:");
    for (size_t i = 0; i < request->field_count; i++) {
        CLEANUP_FREE char *line = xasprintf("%s: %s", request->fields[i].name, request->fields[i].value);
        list = library->slist_append(list, line);
    }
    return list;
}

int client_send(struct client *client, const struct client_request *request, struct client_reply *reply,
    struct error *err)
{
    struct transfer transfer = {.request = request, .reply = reply};
    CLEANUP_FREE char *url = xasprintf("%s%s", client->endpoint, request->path);
    const struct curl_library *library = client->library;
    CURL *curl = client->curl;
    library->easy_reset(curl);
    library->easy_setopt(curl, CURLOPT_URL, url);
    library->easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
    library->easy_setopt(curl, CURLOPT_NOPROXY, "*");
    library->easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    library->easy_setopt(curl, CURLOPT_TIMEOUT, request->timeout_s);
    library->easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    library->easy_setopt(curl, CURLOPT_HEADERDATA, &transfer);
    library->easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    library->easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
    if (strcmp(request->method, "GET") != 0) {
        library->easy_setopt(curl, CURLOPT_POST, 1L);
        library->easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
        library->easy_setopt(
            curl, CURLOPT_POSTFIELDS, request->body.len ? (const void *)request->body.data : "");
        library->easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
    }
    struct curl_slist *headers = header_list(library, request);
    library->easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    CURLcode code = library->easy_perform(curl);
    library->slist_free_all(headers);
    buffer_append_u8(&reply->body, 0);
    reply->body.len--;
    if (code != CURLE_OK && !transfer.stopped)
        return explain(client, code, &transfer, err);
    library->easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &reply->status);
    return 0;
}

int client_refused(const struct client_reply *reply, struct error *err)
{
    const char *type = client_reply_field(reply, "x-amzn-ErrorType");
    json_t *body = json_loadb((const char *)reply->body.data, reply->body.len, 0, NULL);
    const char *message = json_string_value(json_object_get(body, "message"));
    if (!message)
        message = json_string_value(json_object_get(body, "Message"));
    error_set(err, reply->status == 404 ? ERROR_NOT_FOUND : ERROR_INVALID, "%s%s(HTTP status %ld%s%s)",
        message ? message : "the server refused the request", message ? " " : ": ", reply->status,
        type ? ", " : "", type ? type : "");
    json_decref(body);
    return -1;
}

static json_t *ask_json(struct client *client, const char *method, const char *path, struct error *err)
{
    CLEANUP_REPLY struct client_reply reply = {0};
    struct client_request request = {.method = method, .path = path};
    if (client_send(client, &request, &reply, err) < 0)
        return NULL;
    if (reply.status < 200 || reply.status > 299) {
        client_refused(&reply, err);
        return NULL;
    }
    json_error_t where;
    json_t *json = json_loadb((const char *)reply.body.data, reply.body.len, 0, &where);
    if (!json)
        error_set(err, ERROR_CORRUPT, "%s answered something that is not JSON: %s", path, where.text);
    return json;
}

json_t *client_get_json(struct client *client, const char *path, struct error *err)
{
    return ask_json(client, "GET", path, err);
}

json_t *client_post_json(struct client *client, const char *path, struct error *err)
{
    return ask_json(client, "POST", path, err);
}

char *client_escape(const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
    char *out = xcalloc(3 * strlen(text) + 1, 1), *at = out;
    for (; *text; text++) {
        if (strchr(plain, *text))
            *at++ = *text;
        else
            at += snprintf(at, 4, "%%%02X", (unsigned char)*text);
    }
    return out;
}
