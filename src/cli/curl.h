/* libcurl, loaded when it is first needed: it brings some thirty other libraries, which would take longer than all else
 * that a command without a server does. */
#pragma once

#include "base/error.h"

#include <curl/curl.h>

struct curl_library {
    __typeof__(curl_global_init) *global_init;
    __typeof__(curl_easy_init) *easy_init;
    __typeof__(curl_easy_reset) *easy_reset;
    __typeof__(curl_easy_setopt) *easy_setopt;
    __typeof__(curl_easy_perform) *easy_perform;
    __typeof__(curl_easy_getinfo) *easy_getinfo;
    __typeof__(curl_easy_strerror) *easy_strerror;
    __typeof__(curl_easy_cleanup) *easy_cleanup;
    __typeof__(curl_slist_append) *slist_append;
    __typeof__(curl_slist_free_all) *slist_free_all;
};

/* Loaded and initialised, for good; or NULL. */
MUST_CHECK const struct curl_library *curl_load(struct error *err);
