#include "catalog/internal.h"

#include <stdlib.h>
#include <string.h>

const struct catalog_function *catalog_function_ref(const struct catalog_function *function)
{
    ((struct catalog_function *)function)->references++;
    return function;
}

void catalog_function_unref(const struct catalog_function **function)
{
    struct catalog_function *f = (struct catalog_function *)*function;
    *function = NULL;
    if (f == NULL || --f->references > 0)
        return;
    catalog_config_free(&f->config);
    free(f->arn);
    free(f->qualified_arn);
    free(f->state_reason);
    free(f->state_reason_code);
    free(f->last_update_reason);
    free(f->last_update_reason_code);
    free(f);
}

/* FNV-1a over the name only, so that all versions of a function share a bucket and are forgotten together. */
static size_t bucket_of(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *name != '\0'; name++)
        hash = (hash ^ (uint8_t)*name) * 0x100000001b3u;
    return (size_t)(hash ^ (hash >> 32)) & (CATALOG_CACHE_BUCKETS - 1);
}

const struct catalog_function *cache_find(const struct catalog *catalog, const char *name, uint64_t number)
{
    for (const struct cached_version *v = catalog->cache[bucket_of(name)]; v != NULL; v = v->next)
        if (v->function->number == number && strcmp(v->function->name, name) == 0)
            return v->function;
    return NULL;
}

void cache_add(struct catalog *catalog, const struct catalog_function *function)
{
    if (catalog->cached >= CATALOG_CACHE_LIMIT)
        cache_clear(catalog);
    struct cached_version **bucket = &catalog->cache[bucket_of(function->name)];
    struct cached_version *added = xcalloc(1, sizeof *added);
    *added = (struct cached_version){catalog_function_ref(function), *bucket};
    *bucket = added;
    catalog->cached++;
}

static void forget(struct catalog *catalog, struct cached_version **at, const char *name)
{
    while (*at != NULL) {
        struct cached_version *v = *at;
        if (name != NULL && strcmp(v->function->name, name) != 0) {
            at = &v->next;
            continue;
        }
        *at = v->next;
        catalog_function_unref(&v->function);
        free(v);
        catalog->cached--;
    }
}

void cache_forget(struct catalog *catalog, const char *name)
{
    forget(catalog, &catalog->cache[bucket_of(name)], name);
}

void cache_clear(struct catalog *catalog)
{
    for (size_t i = 0; i < CATALOG_CACHE_BUCKETS; i++)
        forget(catalog, &catalog->cache[i], NULL);
}
