/* What a package seems to be: its runtime and its handler, from the files at its root. */
#include "cli/deploy.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CANDIDATES_MAX 5

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

/* ---- runtimes ---- */

int deploy_check_runtime(const json_t *runtimes, const char *runtime, struct error *err)
{
    size_t i;
    const json_t *known;
    json_array_foreach (runtimes, i, known) {
        if (strcmp(text_of(known, "runtime"), runtime) != 0)
            continue;
        if (json_is_true(json_object_get(known, "offered")))
            return 0;
        return error_set(err, ERROR_NOT_FOUND,
            "the server's host does not offer %s: install %s there, and restart thawd; 'thaw runtimes' lists "
            "what it offers",
            runtime, text_of(known, "install"));
    }
    return error_set(err, ERROR_NOT_FOUND,
        "there is no runtime %s on the server's host: 'thaw runtimes' lists them", runtime);
}

/* The newest on offer of a family, "python3." say. */
static int newest(struct deploy_guess *guess, const json_t *runtimes, const char *family, struct error *err)
{
    unsigned long best = 0;
    bool found = false;
    size_t i;
    const json_t *known;
    json_array_foreach (runtimes, i, known) {
        const char *name = text_of(known, "runtime");
        if (!json_is_true(json_object_get(known, "offered")) || strncmp(name, family, strlen(family)) != 0)
            continue;
        unsigned long number = strtoul(name + strlen(family), NULL, 10);
        if (found && number < best)
            continue;
        best = number;
        found = true;
        snprintf(guess->runtime, sizeof guess->runtime, "%s", name);
    }
    if (found)
        return 0;
    return error_set(err, ERROR_NOT_FOUND,
        "%s wants a runtime %s..., and the server's host offers none: 'thaw runtimes' says what to install",
        guess->from, family);
}

/* ---- text ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);
    return len > end_len && strcmp(text + len - end_len, end) == 0;
}

/* Whether a line of the file begins with this word. */
static bool has_line(const struct deploy_entry *entry, const char *begin)
{
    const char *at = (const char *)entry->content.data;
    size_t len = strlen(begin);
    while (at) {
        if (strncmp(at, begin, len) == 0 && !isalnum((unsigned char)at[len]) && at[len] != '_')
            return true;
        at = strchr(at, '\n');
        at += at != NULL;
    }
    return false;
}

/* ---- what a kind of function looks like ---- */

struct kind {
    const char *family;
    const char *files[8];  /* at the root, the likeliest first */
    const char *extension; /* else the only file at the root that ends so */
    const char *begins[6]; /* of the line that makes the handler, with its name in the same place below */
    const char *names[6];
    const char *otherwise; /* the handler's name where no such line is found; NULL: there must be one */
};

static const struct kind KINDS[] = {
    {"python3.", {"lambda_function.py", "app.py", "main.py", "handler.py", "index.py"}, ".py",
        {"def lambda_handler", "def handler", "lambda_handler =", "handler ="},
        {"lambda_handler", "handler", "lambda_handler", "handler"}, NULL},
    {"nodejs", {"index.mjs", "index.js", "index.cjs", "app.mjs", "app.js", "main.mjs", "main.js"}, ".mjs",
        {0}, {0}, "handler"},
    {"nodejs", {0}, ".js", {0}, {0}, "handler"},
    {"ruby3.", {"lambda_function.rb", "app.rb", "main.rb", "handler.rb", "index.rb"}, ".rb",
        {"def lambda_handler", "def handler"}, {"lambda_handler", "handler"}, NULL},
};

static const struct deploy_entry *main_file(const struct deploy_package *package, const struct kind *kind)
{
    for (size_t i = 0; i < countof(kind->files) && kind->files[i]; i++) {
        const struct deploy_entry *entry = deploy_package_find(package, kind->files[i]);
        if (entry)
            return entry;
    }
    const struct deploy_entry *only = NULL;
    for (size_t i = 0; i < package->count; i++) {
        const struct deploy_entry *entry = &package->entries[i];
        if (strchr(entry->name, '/') || !ends_with(entry->name, kind->extension))
            continue;
        if (only)
            return NULL;
        only = entry;
    }
    return only;
}

static const char *handler_name(const struct deploy_entry *entry, const struct kind *kind)
{
    for (size_t i = 0; i < countof(kind->begins) && kind->begins[i]; i++)
        if (has_line(entry, kind->begins[i]))
            return kind->names[i];
    return kind->otherwise;
}

/* 1: guessed; 0: the package is none of this kind. */
static int guess_script(struct deploy_guess *guess, const struct deploy_package *package,
    const struct kind *kind, const json_t *runtimes, struct error *err)
{
    const struct deploy_entry *entry = main_file(package, kind);
    if (!entry)
        return 0;
    const char *name = handler_name(entry, kind);
    snprintf(guess->from, sizeof guess->from, "%s", entry->name);
    if (!name)
        return error_set(err, ERROR_INVALID,
            "no handler is to be seen in %s: name it with --handler %.*s.FUNCTION", entry->name,
            (int)(strrchr(entry->name, '.') - entry->name), entry->name);
    snprintf(guess->handler, sizeof guess->handler, "%.*s.%s", (int)(strrchr(entry->name, '.') - entry->name),
        entry->name, name);
    return newest(guess, runtimes, kind->family, err) < 0 ? -1 : 1;
}

static int guess_bootstrap(
    struct deploy_guess *guess, const struct deploy_package *package, struct error *err)
{
    const struct deploy_entry *entry = deploy_package_find(package, "bootstrap");
    if (!entry)
        return 0;
    if (!entry->is_executable && !entry->is_link)
        return error_set(err, ERROR_INVALID, "bootstrap is not executable: run 'chmod +x bootstrap'");
    snprintf(guess->runtime, sizeof guess->runtime, "provided.al2023");
    snprintf(guess->handler, sizeof guess->handler, "bootstrap");
    snprintf(guess->from, sizeof guess->from, "bootstrap");
    return 1;
}

/* A program that speaks to the Runtime API by itself, with AWS's own client, and so has no handler to be named. */
static bool is_dotnet_program(const struct deploy_package *package, const char *assembly)
{
    CLEANUP_FREE char *name = xasprintf("%s.deps.json", assembly);
    const struct deploy_entry *entry = deploy_package_find(package, name);
    return entry && strstr((const char *)entry->content.data, "\"Amazon.Lambda.RuntimeSupport/");
}

static int guess_dotnet(struct deploy_guess *guess, const struct deploy_package *package,
    const json_t *runtimes, struct error *err)
{
    static const char end[] = ".runtimeconfig.json", tfm[] = "\"net";
    for (size_t i = 0; i < package->count; i++) {
        const struct deploy_entry *entry = &package->entries[i];
        if (strchr(entry->name, '/') || !ends_with(entry->name, end))
            continue;
        snprintf(guess->from, sizeof guess->from, "%s", entry->name);
        int len = (int)(strlen(entry->name) - (sizeof end - 1));
        snprintf(guess->handler, sizeof guess->handler, "%.*s", len, entry->name);
        if (!is_dotnet_program(package, guess->handler))
            return error_set(err, ERROR_INVALID,
                "no handler is to be seen in %s: name it with --handler %s::NAMESPACE.TYPE::METHOD",
                entry->name, guess->handler);
        /* The version that it was built for, when that is on offer. */
        const char *version = strstr((const char *)entry->content.data, tfm);
        unsigned long number = version ? strtoul(version + sizeof tfm - 1, NULL, 10) : 0;
        snprintf(guess->runtime, sizeof guess->runtime, "dotnet%lu", number);
        struct error ignored;
        if (deploy_check_runtime(runtimes, guess->runtime, &ignored) == 0)
            return 1;
        return newest(guess, runtimes, "dotnet", err) < 0 ? -1 : 1;
    }
    return 0;
}

/* ---- Java: the class that names one of Lambda's handler interfaces ---- */

static bool names_handler(const struct deploy_entry *entry)
{
    static const char *const interfaces[] = {"com/amazonaws/services/lambda/runtime/RequestHandler",
        "com/amazonaws/services/lambda/runtime/RequestStreamHandler"};
    for (size_t i = 0; i < countof(interfaces); i++)
        if (memmem(entry->content.data, entry->content.len, interfaces[i], strlen(interfaces[i])))
            return true;
    return false;
}

static int guess_java(struct deploy_guess *guess, const struct deploy_package *package,
    const json_t *runtimes, struct error *err)
{
    char candidates[512] = "";
    size_t classes = 0, count = 0;
    for (size_t i = 0; i < package->count; i++) {
        const struct deploy_entry *entry = &package->entries[i];
        if (!ends_with(entry->name, ".class") || strncmp(entry->name, "META-INF/", 9) == 0)
            continue;
        classes++;
        if (strncmp(entry->name, "com/amazonaws/", 14) == 0 || !names_handler(entry))
            continue;
        snprintf(guess->from, sizeof guess->from, "%s", entry->name);
        snprintf(guess->handler, sizeof guess->handler, "%.*s", (int)(strlen(entry->name) - 6), entry->name);
        for (char *c = guess->handler; *c; c++)
            *c = (char)(*c == '/' ? '.' : *c);
        size_t used = strlen(candidates);
        if (count++ < CANDIDATES_MAX)
            snprintf(candidates + used, sizeof candidates - used, " %s", guess->handler);
    }
    if (classes == 0)
        return 0;
    if (count == 0)
        return error_set(err, ERROR_INVALID,
            "no class implements RequestHandler or RequestStreamHandler: name the handler with --handler "
            "package.Class::method");
    if (count > 1)
        return error_set(err, ERROR_INVALID,
            "more than one class may be the handler: name it with --handler, of%s", candidates);
    return newest(guess, runtimes, "java", err) < 0 ? -1 : 1;
}

/* ---- all of them ---- */

static int nothing_guessed(const struct deploy_package *package, struct error *err)
{
    static const struct {
        const char *file, *advice;
    } sources[] = {
        {"go.mod", "CGO_ENABLED=0 go build -o bootstrap"},
        {"Cargo.toml", "cargo build --release, and copy the program to a folder as bootstrap"},
        {"Makefile", "make, so that there is a bootstrap"},
    };
    for (size_t i = 0; i < countof(sources); i++)
        if (deploy_package_find(package, sources[i].file))
            return error_set(err, ERROR_INVALID,
                "%s is here, but no executable called bootstrap: build it first (%s)", sources[i].file,
                sources[i].advice);
    return error_set(err, ERROR_INVALID,
        "nothing here tells what the function is: there is no bootstrap, app.py, index.js, app.rb, class or "
        ".runtimeconfig.json; name it with --runtime and --handler");
}

int deploy_guess(struct deploy_guess *guess, const struct deploy_package *package, const json_t *runtimes,
    const char *runtime, struct error *err)
{
    int found = 0;
    bool any = runtime == NULL;
    *guess = (struct deploy_guess){0};
    if (any || strncmp(runtime, "provided", 8) == 0)
        found = guess_bootstrap(guess, package, err);
    if (found == 0 && (any || strncmp(runtime, "dotnet", 6) == 0))
        found = guess_dotnet(guess, package, runtimes, err);
    if (found == 0 && (any || strncmp(runtime, "java", 4) == 0))
        found = guess_java(guess, package, runtimes, err);
    for (size_t i = 0; found == 0 && i < countof(KINDS); i++)
        if (any || strncmp(runtime, KINDS[i].family, strlen(KINDS[i].family)) == 0)
            found = guess_script(guess, package, &KINDS[i], runtimes, err);
    if (found < 0)
        return -1;
    if (found == 0 && any)
        return nothing_guessed(package, err);
    if (found == 0)
        return error_set(err, ERROR_INVALID,
            "nothing here tells the handler of a %s function: name it with --handler", runtime);
    if (!any)
        snprintf(guess->runtime, sizeof guess->runtime, "%s", runtime);
    return 0;
}
