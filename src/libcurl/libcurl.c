#include "libcurl/libcurl.h"

#include "base/bytes.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#define CURL_LIBRARY "libcurl.so.4"

static const struct {
    const char *name;
    size_t place;
} functions[] = {
    {"curl_global_init", offsetof(struct curl_library, global_init)},
    {"curl_easy_init", offsetof(struct curl_library, easy_init)},
    {"curl_easy_reset", offsetof(struct curl_library, easy_reset)},
    {"curl_easy_setopt", offsetof(struct curl_library, easy_setopt)},
    {"curl_easy_perform", offsetof(struct curl_library, easy_perform)},
    {"curl_easy_getinfo", offsetof(struct curl_library, easy_getinfo)},
    {"curl_easy_strerror", offsetof(struct curl_library, easy_strerror)},
    {"curl_easy_cleanup", offsetof(struct curl_library, easy_cleanup)},
    {"curl_slist_append", offsetof(struct curl_library, slist_append)},
    {"curl_slist_free_all", offsetof(struct curl_library, slist_free_all)},
    {"curl_getdate", offsetof(struct curl_library, getdate)},
    {"curl_multi_init", offsetof(struct curl_library, multi_init)},
    {"curl_multi_setopt", offsetof(struct curl_library, multi_setopt)},
    {"curl_multi_add_handle", offsetof(struct curl_library, multi_add_handle)},
    {"curl_multi_remove_handle", offsetof(struct curl_library, multi_remove_handle)},
    {"curl_multi_assign", offsetof(struct curl_library, multi_assign)},
    {"curl_multi_socket_action", offsetof(struct curl_library, multi_socket_action)},
    {"curl_multi_info_read", offsetof(struct curl_library, multi_info_read)},
    {"curl_multi_cleanup", offsetof(struct curl_library, multi_cleanup)},
};

const struct curl_library *curl_load(struct error *err)
{
    static struct curl_library library;
    if (library.slist_free_all != NULL)
        return &library;
    struct curl_library found;
    void *handle = dlopen(CURL_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; i < countof(functions); i++) {
        void *function = handle == NULL ? NULL : dlsym(handle, functions[i].name);
        if (function == NULL) {
            error_set(err, ERROR_UNSUPPORTED, "cannot load %s: %s", CURL_LIBRARY, dlerror());
            return NULL;
        }
        memcpy((char *)&found + functions[i].place, &function, sizeof function);
    }
    if (found.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        error_set(err, ERROR_INTERNAL, "libcurl does not start");
        return NULL;
    }
    library = found;
    return &library;
}
