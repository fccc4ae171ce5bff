#include "catalog/internal.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static size_t map_find(const struct catalog_map *map, const char *key, bool *found)
{
    size_t low = 0, high = map->count;
    *found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(map->pairs[middle].key, key);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void catalog_map_set(struct catalog_map *map, const char *key, const char *value)
{
    bool found;
    size_t at = map_find(map, key, &found);
    char *copy = xstrdup(value);
    if (found) {
        free(map->pairs[at].value);
        map->pairs[at].value = copy;
        return;
    }
    map->pairs = xrealloc(map->pairs, (map->count + 1) * sizeof *map->pairs);
    memmove(&map->pairs[at + 1], &map->pairs[at], (map->count - at) * sizeof *map->pairs);
    map->pairs[at] = (struct catalog_pair){xstrdup(key), copy};
    map->count++;
}

bool catalog_map_remove(struct catalog_map *map, const char *key)
{
    bool found;
    size_t at = map_find(map, key, &found);
    if (!found)
        return false;
    free(map->pairs[at].key);
    free(map->pairs[at].value);
    map->count--;
    memmove(&map->pairs[at], &map->pairs[at + 1], (map->count - at) * sizeof *map->pairs);
    return true;
}

const char *catalog_map_get(const struct catalog_map *map, const char *key)
{
    bool found;
    size_t at = map_find(map, key, &found);
    return found ? map->pairs[at].value : NULL;
}

void catalog_map_copy(struct catalog_map *to, const struct catalog_map *from)
{
    to->count = from->count;
    to->pairs = xcalloc(from->count, sizeof *to->pairs);
    for (size_t i = 0; i < from->count; i++)
        to->pairs[i] = (struct catalog_pair){xstrdup(from->pairs[i].key), xstrdup(from->pairs[i].value)};
}

void catalog_map_free(struct catalog_map *map)
{
    for (size_t i = 0; i < map->count; i++) {
        free(map->pairs[i].key);
        free(map->pairs[i].value);
    }
    free(map->pairs);
    *map = (struct catalog_map){0};
}

/* The strings of a configuration, with the names they have in its stored form. One table serves copying,
 * freeing, writing and reading. */
static const struct {
    const char *name;
    size_t offset;
} config_strings[] = {
    {"runtime", offsetof(struct catalog_config, runtime)},
    {"handler", offsetof(struct catalog_config, handler)},
    {"role", offsetof(struct catalog_config, role)},
    {"description", offsetof(struct catalog_config, description)},
    {"architecture", offsetof(struct catalog_config, architecture)},
    {"tracing_mode", offsetof(struct catalog_config, tracing_mode)},
    {"log_format", offsetof(struct catalog_config, log_format)},
    {"log_level_app", offsetof(struct catalog_config, log_level_app)},
    {"log_level_system", offsetof(struct catalog_config, log_level_system)},
    {"log_group", offsetof(struct catalog_config, log_group)},
};

static const struct {
    const char *name;
    size_t offset;
} config_numbers[] = {
    {"timeout_s", offsetof(struct catalog_config, timeout_s)},
    {"memory_mb", offsetof(struct catalog_config, memory_mb)},
    {"tmp_mb", offsetof(struct catalog_config, tmp_mb)},
};

static char **string_at(const struct catalog_config *config, size_t i)
{
    return (char **)((char *)config + config_strings[i].offset);
}

static uint32_t *number_at(const struct catalog_config *config, size_t i)
{
    return (uint32_t *)((char *)config + config_numbers[i].offset);
}

void catalog_config_copy(struct catalog_config *to, const struct catalog_config *from)
{
    *to = *from;
    for (size_t i = 0; i < countof(config_strings); i++) {
        const char *value = *string_at(from, i);
        *string_at(to, i) = xstrdup(value != NULL ? value : "");
    }
    catalog_map_copy(&to->environment, &from->environment);
}

void catalog_config_free(struct catalog_config *config)
{
    for (size_t i = 0; i < countof(config_strings); i++)
        free(*string_at(config, i));
    catalog_map_free(&config->environment);
    *config = (struct catalog_config){0};
}

static json_t *map_to_json(const struct catalog_map *map)
{
    json_t *object = json_object();
    for (size_t i = 0; i < map->count; i++)
        json_object_set_new_nocheck(object, map->pairs[i].key, json_string_nocheck(map->pairs[i].value));
    return object;
}

static int map_from_json(struct catalog_map *map, json_t *object, struct error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(object))
        return error_set(err, ERROR_CORRUPT, "the catalog holds something else where a map should be");
    json_object_foreach (object, key, value) {
        if (!json_is_string(value))
            return error_set(err, ERROR_CORRUPT, "the catalog holds a value that is no string in a map");
        catalog_map_set(map, key, json_string_value(value));
    }
    return 0;
}

char *map_encode(const struct catalog_map *map)
{
    json_t *object = map_to_json(map);
    char *text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(object);
    return text != NULL ? text : xstrdup("{}");
}

int map_decode(struct catalog_map *map, const char *text, struct error *err)
{
    json_t *object = json_loads(text, 0, NULL);
    int result = map_from_json(map, object, err);
    json_decref(object);
    if (result != 0)
        catalog_map_free(map);
    return result;
}

char *config_encode(const struct catalog_config *config)
{
    json_t *object = json_object();
    for (size_t i = 0; i < countof(config_strings); i++) {
        const char *value = *string_at(config, i);
        json_object_set_new(object, config_strings[i].name, json_string_nocheck(value != NULL ? value : ""));
    }
    for (size_t i = 0; i < countof(config_numbers); i++)
        json_object_set_new(object, config_numbers[i].name, json_integer(*number_at(config, i)));
    json_object_set_new(object, "snap_start", json_boolean(config->snap_start));
    json_object_set_new(object, "environment", map_to_json(&config->environment));
    char *text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(object);
    return text != NULL ? text : xstrdup("{}");
}

static int config_from_json(struct catalog_config *config, json_t *object, struct error *err)
{
    for (size_t i = 0; i < countof(config_strings); i++) {
        const char *value = json_string_value(json_object_get(object, config_strings[i].name));
        if (value == NULL)
            return error_set(err, ERROR_CORRUPT, "a stored configuration has no %s", config_strings[i].name);
        *string_at(config, i) = xstrdup(value);
    }
    for (size_t i = 0; i < countof(config_numbers); i++) {
        json_t *value = json_object_get(object, config_numbers[i].name);
        if (!json_is_integer(value) || json_integer_value(value) < 0 ||
            json_integer_value(value) > UINT32_MAX)
            return error_set(err, ERROR_CORRUPT, "a stored configuration has no %s", config_numbers[i].name);
        *number_at(config, i) = (uint32_t)json_integer_value(value);
    }
    config->snap_start = json_is_true(json_object_get(object, "snap_start"));
    return map_from_json(&config->environment, json_object_get(object, "environment"), err);
}

int config_decode(struct catalog_config *config, const char *text, struct error *err)
{
    *config = (struct catalog_config){0};
    json_t *object = json_loads(text, 0, NULL);
    int result = config_from_json(config, object, err);
    json_decref(object);
    if (result != 0)
        catalog_config_free(config);
    return result;
}
