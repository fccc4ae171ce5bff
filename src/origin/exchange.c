#include "origin/exchange.h"

#include "base/clock.h"
#include "libcurl/libcurl.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <unistd.h>

#define STATUS_OK 200
#define IDLE_HANDLES_MAX EXCHANGE_CONNECTIONS_MAX
#define NS_PER_MS 1000000ull

struct exchange_host {
    const struct curl_library *curl;
    struct loop *loop;
    CURLM *multi;
    struct loop_timer *timer;
    CURL *idle[IDLE_HANDLES_MAX]; /* easy handles for the next exchanges */
    size_t idle_count;
    char *bundle;
};

static void collect(struct exchange_host *host);

/* libcurl inside the loop. */

static void socket_event(void *context, uint32_t events);

struct socket_watch {
    struct exchange_host *host;
    struct loop_watch *watch;
    int fd;
};

static void act(struct exchange_host *host, int fd, int mask)
{
    int running;
    (void)!host->curl->multi_socket_action(host->multi, fd, mask, &running);
    collect(host);
}

static void socket_event(void *context, uint32_t events)
{
    const struct socket_watch *watch = context;
    int mask = (events & (EPOLLIN | EPOLLHUP) ? CURL_CSELECT_IN : 0) |
               (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) | (events & EPOLLERR ? CURL_CSELECT_ERR : 0);
    act(watch->host, watch->fd, mask);
}

static void end_watch(struct socket_watch *watch)
{
    loop_unwatch(&watch->watch);
    free(watch);
}

static int socket_changed(CURL *easy, curl_socket_t fd, int what, void *context, void *socket_context)
{
    (void)easy;
    struct exchange_host *host = context;
    struct socket_watch *watch = socket_context;
    struct error ignored;
    uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
    if (what == CURL_POLL_REMOVE) {
        if (watch != NULL)
            end_watch(watch);
        host->curl->multi_assign(host->multi, fd, NULL);
        return 0;
    }
    if (watch != NULL)
        return loop_watch_change(watch->watch, events, &ignored);
    watch = xcalloc(1, sizeof *watch);
    *watch = (struct socket_watch){.host = host, .fd = fd};
    watch->watch = loop_watch_fd(host->loop, fd, events, socket_event, watch, &ignored);
    if (watch->watch == NULL) {
        free(watch);
        return -1;
    }
    host->curl->multi_assign(host->multi, fd, watch);
    return 0;
}

static void timer_fired(void *context)
{
    act(context, CURL_SOCKET_TIMEOUT, 0);
}

static int timer_changed(CURLM *multi, long ms, void *context)
{
    (void)multi;
    struct exchange_host *host = context;
    if (ms < 0)
        loop_timer_cancel(&host->timer);
    else
        loop_timer_set(
            host->loop, &host->timer, clock_monotonic_ns() + (uint64_t)ms * NS_PER_MS, timer_fired, host);
    return 0;
}

struct exchange_host *exchange_host_new(struct loop *loop, const char *bundle, struct error *err)
{
    const struct curl_library *curl = curl_load(err);
    if (curl == NULL)
        return NULL;
    struct exchange_host *host = xcalloc(1, sizeof *host);
    host->curl = curl;
    host->loop = loop;
    host->bundle = bundle != NULL ? xstrdup(bundle) : NULL;
    host->multi = curl->multi_init();
    if (host->multi == NULL) {
        error_set(err, ERROR_INTERNAL, "libcurl gives no handle");
        exchange_host_free(host);
        return NULL;
    }
    curl->multi_setopt(host->multi, CURLMOPT_SOCKETFUNCTION, socket_changed);
    curl->multi_setopt(host->multi, CURLMOPT_SOCKETDATA, host);
    curl->multi_setopt(host->multi, CURLMOPT_TIMERFUNCTION, timer_changed);
    curl->multi_setopt(host->multi, CURLMOPT_TIMERDATA, host);
    curl->multi_setopt(host->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)EXCHANGE_CONNECTIONS_MAX);
    curl->multi_setopt(host->multi, CURLMOPT_MAXCONNECTS, (long)EXCHANGE_CONNECTIONS_MAX);
    curl->multi_setopt(host->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    return host;
}

void exchange_host_free(struct exchange_host *host)
{
    if (host == NULL)
        return;
    while (host->idle_count > 0)
        host->curl->easy_cleanup(host->idle[--host->idle_count]);
    if (host->multi != NULL)
        host->curl->multi_cleanup(host->multi);
    loop_timer_cancel(&host->timer);
    free(host->bundle);
    free(host);
}

/* The request's body, and the answer. */

static size_t give_body(char *out, size_t size, size_t count, void *context)
{
    struct exchange *e = context;
    size_t room = size * count, left = (size_t)(e->body_bytes - e->sent);
    size_t len = room < left ? room : left;
    if (len == 0)
        return 0;
    if (e->body_fd < 0) {
        memcpy(out, e->body.data + e->sent, len);
    } else {
        ssize_t n = pread(e->body_fd, out, len, (off_t)(e->body_offset + e->sent));
        if (n <= 0) {
            e->sink_errno = n < 0 ? errno : EIO; /* it became shorter */
            return CURL_READFUNC_ABORT;
        }
        len = (size_t)n;
    }
    e->sent += len;
    return len;
}

/* A connection that was reused and turned out to be closed: libcurl sends it all again. */
static int rewind_body(void *context, curl_off_t offset, int origin)
{
    struct exchange *e = context;
    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > e->body_bytes)
        return CURL_SEEKFUNC_FAIL;
    e->sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

static long status_of(const struct exchange *e)
{
    long status = 0;
    e->host->curl->easy_getinfo(e->easy, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

static size_t take_into_file(struct exchange *e, const char *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(e->sink_fd, data + done, len - done, (off_t)(e->received + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            e->sink_errno = n < 0 ? errno : EIO;
            return 0;
        }
        done += (size_t)n;
    }
    EVP_DigestUpdate(e->hash, data, len);
    e->received += len;
    return len;
}

static size_t take_body(char *data, size_t size, size_t count, void *context)
{
    struct exchange *e = context;
    size_t len = size * count;
    bool to_file = e->sink_fd >= 0 && status_of(e) == STATUS_OK;
    if (len > (to_file ? e->sink_max - e->received : EXCHANGE_TEXT_MAX - e->text.len)) {
        e->overflow = true;
        return 0;
    }
    if (to_file)
        return take_into_file(e, data, len);
    buffer_append(&e->text, data, len);
    e->received += len;
    return len;
}

static bool take_value(char out[EXCHANGE_HEADER_MAX], const char *line, size_t len, const char *name)
{
    size_t name_len = strlen(name);
    if (len <= name_len || strncasecmp(line, name, name_len) != 0 || line[name_len] != ':')
        return false;
    const char *at = line + name_len + 1, *end = line + len;
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    while (end > at && (end[-1] == ' ' || end[-1] == '\r' || end[-1] == '\n'))
        end--;
    size_t value_len = (size_t)(end - at);
    if (value_len >= EXCHANGE_HEADER_MAX || memchr(at, '\0', value_len) != NULL)
        value_len = 0;
    memcpy(out, at, value_len);
    out[value_len] = '\0';
    return true;
}

static size_t take_header(char *line, size_t size, size_t count, void *context)
{
    struct exchange *e = context;
    size_t len = size * count;
    char date[EXCHANGE_HEADER_MAX];
    if (take_value(e->etag, line, len, "etag") ||
        take_value(e->sha256, line, len, "x-amz-meta-thaw-sha256") ||
        take_value(e->encryption, line, len, "x-amz-server-side-encryption") ||
        take_value(e->region, line, len, "x-amz-bucket-region"))
        return len;
    if (take_value(date, line, len, "last-modified"))
        e->modified_s = (int64_t)e->host->curl->getdate(date, NULL);
    return len;
}

/* Starting. */

static CURL *take_handle(struct exchange_host *host)
{
    return host->idle_count > 0 ? host->idle[--host->idle_count] : host->curl->easy_init();
}

static void set_headers(struct exchange *e)
{
    const struct curl_library *curl = e->host->curl;
    struct curl_slist *list = NULL;
    for (size_t at = 0; at < e->headers.len; at += strlen((char *)e->headers.data + at) + 1) {
        struct curl_slist *longer = curl->slist_append(list, (char *)e->headers.data + at);
        if (longer == NULL)
            abort();
        list = longer;
    }
    e->header_list = list;
    curl->easy_setopt(e->easy, CURLOPT_HTTPHEADER, list);
}

static void set_method(struct exchange *e)
{
    const struct curl_library *curl = e->host->curl;
    switch (e->method) {
    case EXCHANGE_GET:
        curl->easy_setopt(e->easy, CURLOPT_HTTPGET, 1L);
        return;
    case EXCHANGE_HEAD:
        curl->easy_setopt(e->easy, CURLOPT_NOBODY, 1L);
        return;
    case EXCHANGE_DELETE:
        curl->easy_setopt(e->easy, CURLOPT_CUSTOMREQUEST, "DELETE");
        return;
    case EXCHANGE_POST:
        curl->easy_setopt(e->easy, CURLOPT_POST, 1L);
        curl->easy_setopt(e->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)e->body_bytes);
        break;
    case EXCHANGE_PUT:
        curl->easy_setopt(e->easy, CURLOPT_UPLOAD, 1L);
        curl->easy_setopt(e->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)e->body_bytes);
        break;
    }
    curl->easy_setopt(e->easy, CURLOPT_READFUNCTION, give_body);
    curl->easy_setopt(e->easy, CURLOPT_READDATA, e);
    curl->easy_setopt(e->easy, CURLOPT_SEEKFUNCTION, rewind_body);
    curl->easy_setopt(e->easy, CURLOPT_SEEKDATA, e);
}

static void set_options(struct exchange *e)
{
    const struct curl_library *curl = e->host->curl;
    CURL *easy = e->easy;
    curl->easy_setopt(easy, CURLOPT_PRIVATE, e);
    curl->easy_setopt(easy, CURLOPT_URL, e->url);
    curl->easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl->easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl->easy_setopt(easy, CURLOPT_PROXY, ""); /* none, whatever the environment says */
    curl->easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl->easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl->easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl->easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)EXCHANGE_CONNECT_MS);
    curl->easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, (long)EXCHANGE_STALL_BYTES);
    curl->easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)EXCHANGE_STALL_S);
    curl->easy_setopt(easy, CURLOPT_FRESH_CONNECT, (long)e->alone);
    curl->easy_setopt(easy, CURLOPT_FORBID_REUSE, (long)e->alone);
    curl->easy_setopt(easy, CURLOPT_BUFFERSIZE, 256L * 1024);
    curl->easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, 256L * 1024);
    curl->easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    curl->easy_setopt(easy, CURLOPT_WRITEDATA, e);
    curl->easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    curl->easy_setopt(easy, CURLOPT_HEADERDATA, e);
    if (e->host->bundle != NULL)
        curl->easy_setopt(easy, CURLOPT_CAINFO, e->host->bundle);
    set_headers(e);
    set_method(e);
}

void exchange_start(struct exchange_host *host, struct exchange *e)
{
    e->host = host;
    e->error = (struct error){0};
    e->status = 0;
    e->received = e->sent = 0;
    e->content_length = e->modified_s = -1;
    e->etag[0] = e->sha256[0] = e->encryption[0] = e->region[0] = '\0';
    e->overflow = false;
    e->sink_errno = 0;
    e->text.len = 0;
    e->easy = take_handle(host);
    e->hash = EVP_MD_CTX_new();
    if (e->easy == NULL || e->hash == NULL || EVP_DigestInit_ex(e->hash, EVP_sha256(), NULL) != 1)
        abort(); /* out of memory */
    set_options(e);
    if (host->curl->multi_add_handle(host->multi, e->easy) != CURLM_OK)
        abort();
}

/* Ending. */

/* Not CURLE_UNSUPPORTED_PROTOCOL: the scheme was checked, so it means an answer that is no HTTP. */
static bool is_hopeless(CURLcode code)
{
    switch (code) {
    case CURLE_URL_MALFORMAT:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_NOT_BUILT_IN:
        return true;
    default:
        return false;
    }
}

static void say_failure(struct exchange *e, CURLcode code)
{
    const char *words = e->host->curl->easy_strerror(code);
    if (e->overflow) {
        error_set(&e->error, ERROR_LIMIT, "the answer is longer than %llu bytes",
            (unsigned long long)(e->sink_fd >= 0 ? e->sink_max : EXCHANGE_TEXT_MAX));
    } else if (e->sink_errno != 0) {
        errno = e->sink_errno;
        error_system(
            &e->error, code == CURLE_WRITE_ERROR ? "cannot write what came" : "cannot read what to send");
    } else if (code == CURLE_OPERATION_TIMEDOUT && status_of(e) == 0 && e->sent == e->body_bytes) {
        error_set(&e->error, ERROR_BUSY, "no answer within the limit of time (%s)", words);
    } else {
        error_set(&e->error, is_hopeless(code) ? ERROR_INVALID : ERROR_BUSY, "%s", words);
    }
}

static void take_result(struct exchange *e, CURLcode code)
{
    const struct curl_library *curl = e->host->curl;
    curl_off_t length = -1;
    curl->easy_getinfo(e->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    e->content_length = length;
    if (code != CURLE_OK)
        say_failure(e, code);
    else
        e->status = (int)status_of(e);
    EVP_DigestFinal_ex(e->hash, e->received_sha256, NULL);
}

static void finish(struct exchange_host *host, CURL *easy, CURLcode code)
{
    char *private = NULL;
    host->curl->easy_getinfo(easy, CURLINFO_PRIVATE, &private);
    struct exchange *e = (void *)private;
    take_result(e, code);
    host->curl->multi_remove_handle(host->multi, easy);
    host->curl->easy_reset(easy);
    host->curl->slist_free_all(e->header_list);
    EVP_MD_CTX_free(e->hash);
    e->easy = e->header_list = e->hash = NULL;
    if (host->idle_count < IDLE_HANDLES_MAX)
        host->idle[host->idle_count++] = easy;
    else
        host->curl->easy_cleanup(easy);
    e->done(e);
}

static void collect(struct exchange_host *host)
{
    int left;
    CURLMsg *message;
    while ((message = host->curl->multi_info_read(host->multi, &left)) != NULL)
        if (message->msg == CURLMSG_DONE)
            finish(host, message->easy_handle, message->data.result);
}
