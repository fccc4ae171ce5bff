/* thaw snapshots: published versions with SnapStart, and how their snapshots fare. */
#include "cli/client.h"
#include "cli/table.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define AGE_TEXT 16

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

/* "12 s", "3 min", "5 h", "14 d"; "-" when it is not known. */
static const char *age_text(char out[AGE_TEXT], const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    long long seconds = (long long)json_integer_value(value);
    if (!value)
        snprintf(out, AGE_TEXT, "-");
    else if (seconds < 120)
        snprintf(out, AGE_TEXT, "%lld s", seconds);
    else if (seconds < 2 * 3600)
        snprintf(out, AGE_TEXT, "%lld min", seconds / 60);
    else if (seconds < 2 * 24 * 3600)
        snprintf(out, AGE_TEXT, "%lld h", seconds / 3600);
    else
        snprintf(out, AGE_TEXT, "%lld d", seconds / (24 * 3600));
    return out;
}

static const char *bytes_text(char out[SIZE_TEXT], const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return value ? size_text(out, json_number_value(value)) : "-";
}

/* What there is to say beyond the state, in a few words. */
static const char *note_of(const json_t *snapshot)
{
    const char *building = text_of(snapshot, "building");
    if (strcmp(building, "now") == 0)
        return "being frozen";
    if (*building)
        return "to be frozen";
    if (*text_of(snapshot, "failure"))
        return "could not be frozen";
    return *text_of(snapshot, "stale") ? "to be frozen anew" : "";
}

static void print_reasons(const json_t *list)
{
    static const char *const keys[] = {"state_reason", "stale", "failure"};
    size_t i;
    json_t *snapshot;
    json_array_foreach (list, i, snapshot) {
        for (size_t k = 0; k < countof(keys); k++)
            if (*text_of(snapshot, keys[k]))
                printf("%s:%s: %s\n", text_of(snapshot, "function"), text_of(snapshot, "version"),
                    text_of(snapshot, keys[k]));
    }
}

static void print_snapshots(const json_t *list)
{
    CLEANUP_TABLE struct table *table =
        table_new("FUNCTION|>VERSION|STATE|>AGE|>MEMORY|>STORED|>LAST USE|NOTE");
    size_t i;
    json_t *snapshot;
    json_array_foreach (list, i, snapshot) {
        char age[AGE_TEXT], used[AGE_TEXT], memory[SIZE_TEXT], stored[SIZE_TEXT];
        table_add(table, "%s", text_of(snapshot, "function"));
        table_add(table, "%s", text_of(snapshot, "version"));
        table_add(table, "%s", text_of(snapshot, "state"));
        table_add(table, "%s", age_text(age, snapshot, "age_seconds"));
        table_add(table, "%s", bytes_text(memory, snapshot, "memory_bytes"));
        table_add(table, "%s", bytes_text(stored, snapshot, "stored_bytes"));
        table_add(table, "%s", age_text(used, snapshot, "idle_seconds"));
        table_add(table, "%s", note_of(snapshot));
    }
    table_print(table, stdout);
    print_reasons(list);
}

/* A name that nobody has is an error, and not an empty list. */
static int check_name(struct client *client, const char *name, struct error *err)
{
    CLEANUP_FREE char *path = configuration_path(name, NULL);
    json_t *found = client_get_json(client, path, err);
    json_decref(found);
    return found ? 0 : -1;
}

static int show(const struct cli_options *options, const char *only, bool json, struct error *err)
{
    CLEANUP_CLIENT struct client *client = client_new(options, err);
    if (!client || (only && check_name(client, only, err) < 0))
        return -1;
    CLEANUP_FREE char *escaped = only ? client_escape(only) : NULL;
    CLEANUP_FREE char *path =
        xasprintf("/thaw/v1/snapshots%s%s", only ? "?function=" : "", only ? escaped : "");
    json_t *reply = client_get_json(client, path, err);
    if (!reply)
        return -1;
    const json_t *list = json_object_get(reply, "snapshots");
    if (json) {
        cli_print_json(list);
    } else if (json_array_size(list) == 0) {
        fputs("There are no published versions with SnapStart.\n", stderr);
    } else {
        print_snapshots(list);
    }
    json_decref(reply);
    return 0;
}

static enum cli_exit run(const struct cli_options *options, int argc, char **argv)
{
    bool json;
    if (!cli_take_json_option(&command_snapshots, argc, argv, &json))
        return CLI_USAGE;
    if (argc - optind > 1)
        return cli_usage_error(&command_snapshots, "name one function, or none for all");
    struct error err;
    CLEANUP_TARGET struct cli_target target = {0};
    if (optind < argc && cli_target_parse(&target, argv[optind], &err) < 0)
        return cli_usage_error(&command_snapshots, "%s", err.text);
    return show(options, target.name, json, &err) < 0 ? cli_fail(&err) : CLI_OK;
}

const struct cli_command command_snapshots = {
    .name = "snapshots",
    .arguments = "[NAME] [--json]",
    .summary = "List published versions with their snapshots: state, age, size, last use",
    .details =
        "A version that is not invoked for long (thawd --inactive-after) is Inactive and has no snapshot; "
        "its\n"
        "next invocation has one made. NOTE tells what happens in the background, and the lines below the\n"
        "table why. STORED is what the snapshot added to the disk.\n"
        "\n"
        "  --json   the same, and more, as one JSON array\n"
        "\n"
        "examples:\n"
        "  thaw snapshots\n"
        "  thaw snapshots pets --json | jq '.[].inactive_in_seconds'\n",
    .run = run,
};
