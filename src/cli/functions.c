/* thaw functions: what there is, with versions and states. */
#include "cli/client.h"
#include "cli/table.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

/* All items of a listing that comes in pages. Returns a new array, or NULL. */
static json_t *list_all(struct client *client, const char *path, const char *member, struct error *err)
{
    json_t *all = json_array();
    CLEANUP_FREE char *marker = NULL;
    for (;;) {
        CLEANUP_FREE char *page_path =
            xasprintf("%s?MaxItems=50%s%s", path, marker ? "&Marker=" : "", marker ? marker : "");
        json_t *page = client_get_json(client, page_path, err);
        if (!page) {
            json_decref(all);
            return NULL;
        }
        json_array_extend(all, json_object_get(page, member));
        const char *next = json_string_value(json_object_get(page, "NextMarker"));
        free_pointer(&marker);
        marker = next && *next ? client_escape(next) : NULL;
        json_decref(page);
        if (!marker)
            return all;
    }
}

/* Listings hold no states, as on Lambda: each version's configuration does. */
static int add_versions(struct client *client, const char *name, json_t *out, struct error *err)
{
    CLEANUP_FREE char *escaped = client_escape(name);
    CLEANUP_FREE char *path = xasprintf("/2015-03-31/functions/%s/versions", escaped);
    json_t *versions = list_all(client, path, "Versions", err);
    if (!versions)
        return -1;
    size_t i;
    json_t *version;
    json_array_foreach (versions, i, version) {
        CLEANUP_FREE char *one = configuration_path(name, text_of(version, "Version"));
        json_t *configuration = client_get_json(client, one, err);
        if (!configuration) {
            json_decref(versions);
            return -1;
        }
        json_array_append_new(out, configuration);
    }
    json_decref(versions);
    return 0;
}

static const char *snap_start_text(const json_t *version)
{
    const json_t *snap_start = json_object_get(version, "SnapStart");
    if (strcmp(text_of(snap_start, "OptimizationStatus"), "On") == 0)
        return "frozen";
    if (strcmp(text_of(snap_start, "ApplyOn"), "PublishedVersions") != 0)
        return "-";
    if (strcmp(text_of(version, "State"), "Inactive") == 0)
        return "when invoked";
    return strcmp(text_of(version, "Version"), "$LATEST") == 0 ? "when published" : "not yet";
}

static size_t count_environments(const json_t *environments, const json_t *version)
{
    size_t i, count = 0;
    json_t *environment;
    json_array_foreach (environments, i, environment)
        count += strcmp(text_of(environment, "function"), text_of(version, "FunctionName")) == 0 &&
                 strcmp(text_of(environment, "version"), text_of(version, "Version")) == 0;
    return count;
}

static void print_versions(const json_t *versions, const json_t *environments)
{
    CLEANUP_TABLE struct table *table =
        table_new("FUNCTION|>VERSION|STATE|SNAPSTART|>ALIVE|RUNTIME|>MEMORY|>CODE|MODIFIED");
    size_t i;
    json_t *version;
    json_array_foreach (versions, i, version) {
        char size[SIZE_TEXT];
        table_add(table, "%s", text_of(version, "FunctionName"));
        table_add(table, "%s", text_of(version, "Version"));
        table_add(table, "%s", text_of(version, "State"));
        table_add(table, "%s", snap_start_text(version));
        table_add(table, "%zu", count_environments(environments, version));
        table_add(table, "%s", text_of(version, "Runtime"));
        table_add(table, "%lld MB", (long long)json_integer_value(json_object_get(version, "MemorySize")));
        table_add(table, "%s", size_text(size, json_number_value(json_object_get(version, "CodeSize"))));
        table_add(table, "%.19s", text_of(version, "LastModified"));
    }
    table_print(table, stdout);
    json_array_foreach (versions, i, version) {
        if (*text_of(version, "StateReason"))
            printf("%s:%s: %s\n", text_of(version, "FunctionName"), text_of(version, "Version"),
                text_of(version, "StateReason"));
    }
}

/* The configurations of every version of `only`, or of all functions. Returns a new array, or NULL. */
static json_t *gather(struct client *client, const char *only, struct error *err)
{
    json_t *versions = json_array();
    int failed = 0;
    if (only) {
        failed = add_versions(client, only, versions, err);
    } else {
        json_t *functions = list_all(client, "/2015-03-31/functions", "Functions", err);
        failed = functions ? 0 : -1;
        for (size_t i = 0; !failed && i < json_array_size(functions); i++)
            failed =
                add_versions(client, text_of(json_array_get(functions, i), "FunctionName"), versions, err);
        json_decref(functions);
    }
    if (!failed)
        return versions;
    json_decref(versions);
    return NULL;
}

static int show_functions(const struct cli_options *options, const char *only, bool json, struct error *err)
{
    CLEANUP_CLIENT struct client *client = client_new(options, err);
    if (!client)
        return -1;
    json_t *versions = gather(client, only, err);
    json_t *alive = versions ? client_get_json(client, "/thaw/v1/environments", err) : NULL;
    if (alive && json) {
        cli_print_json(versions);
    } else if (alive && json_array_size(versions) == 0) {
        fputs("There are no functions yet. 'aws lambda create-function' makes one.\n", stderr);
    } else if (alive) {
        print_versions(versions, json_object_get(alive, "environments"));
    }
    int result = alive ? 0 : -1;
    json_decref(versions);
    json_decref(alive);
    return result;
}

static enum cli_exit run(const struct cli_options *options, int argc, char **argv)
{
    bool json;
    if (!cli_take_json_option(&command_functions, argc, argv, &json))
        return CLI_USAGE;
    if (argc - optind > 1)
        return cli_usage_error(&command_functions, "name one function, or none for all");
    struct error err;
    CLEANUP_TARGET struct cli_target target = {0};
    if (optind < argc && cli_target_parse(&target, argv[optind], &err) < 0)
        return cli_usage_error(&command_functions, "%s", err.text);
    return show_functions(options, target.name, json, &err) < 0 ? cli_fail(&err) : CLI_OK;
}

const struct cli_command command_functions = {
    .name = "functions",
    .arguments = "[NAME] [--json]",
    .summary = "List functions with their versions, states and SnapStart",
    .details =
        "SNAPSTART says 'frozen' when new environments of that version are thawed from a snapshot; ALIVE\n"
        "counts the environments that there are now.\n"
        "\n"
        "  --json   the configurations as the Lambda API gives them, as one JSON array\n"
        "\n"
        "examples:\n"
        "  thaw functions\n"
        "  thaw functions pets --json | jq '.[].State'\n",
    .run = run,
};
