/* Changes to functions and versions. Each follows one shape: take the version as it is, make a draft of it,
 * change the draft, write it in one transaction, and only then let the cache show it.
 *
 * Invariants: (1) the cache never shows what is not committed; (2) a generation is given out once, ever;
 * (3) a version's row, once number > 0, keeps its config and code; (4) next_version only grows. */
#include "base/clock.h"
#include "catalog/internal.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

const char *catalog_state_name(enum catalog_state state)
{
    static const char *const names[] = {"Unknown", "Pending", "Active", "Inactive", "Failed"};
    return (size_t)state < countof(names) ? names[state] : names[0];
}

const char *catalog_update_name(enum catalog_update status)
{
    static const char *const names[] = {"Unknown", "Successful", "InProgress", "Failed"};
    return (size_t)status < countof(names) ? names[status] : names[0];
}

static void new_revision(struct catalog_function *f)
{
    uint8_t random[16];
    char hex[33];
    if (getrandom(random, sizeof random, 0) != sizeof random)
        abort(); /* cannot happen for 16 bytes once the pool is ready */
    random[6] = (random[6] & 0x0f) | 0x40;
    random[8] = (random[8] & 0x3f) | 0x80;
    hex_encode(hex, random, sizeof random);
    snprintf(f->revision_id, sizeof f->revision_id, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12,
        hex + 16, hex + 20);
}

static void set_modified_now(struct catalog_function *f)
{
    uint64_t now_ms = clock_wall_ms();
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm utc;
    char day[32];
    gmtime_r(&seconds, &utc);
    strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(f->last_modified, sizeof f->last_modified, "%s.%03u+0000", day, (unsigned)(now_ms % 1000));
}

void draft_set_text(char **slot, const char *text)
{
    char *copy = xstrdup(text != NULL ? text : "");
    free(*slot);
    *slot = copy;
}

static void copy_column(char *out, size_t size, sqlite3_stmt *row, int column)
{
    const char *text = (const char *)sqlite3_column_text(row, column);
    snprintf(out, size, "%s", text != NULL ? text : "");
}

static void set_number(struct catalog *catalog, struct catalog_function *f, const char *name, uint64_t number)
{
    snprintf(f->name, sizeof f->name, "%s", name);
    f->number = number;
    if (number == 0)
        snprintf(f->version, sizeof f->version, "%s", CATALOG_LATEST);
    else
        snprintf(f->version, sizeof f->version, "%llu", (unsigned long long)number);
    free(f->arn);
    free(f->qualified_arn);
    f->arn = xasprintf("arn:aws:lambda:%s:%s:function:%s", catalog->region, catalog->account_id, f->name);
    f->qualified_arn = xasprintf("%s:%s", f->arn, f->version);
}

static struct catalog_function *draft_new(struct catalog *catalog, const char *name, uint64_t number)
{
    struct catalog_function *f = xcalloc(1, sizeof *f);
    f->references = 1;
    set_number(catalog, f, name, number);
    draft_set_text(&f->state_reason, "");
    draft_set_text(&f->state_reason_code, "");
    draft_set_text(&f->last_update_reason, "");
    draft_set_text(&f->last_update_reason_code, "");
    return f;
}

struct catalog_function *draft_copy(
    struct catalog *catalog, const struct catalog_function *from, uint64_t number)
{
    struct catalog_function *f = xcalloc(1, sizeof *f);
    *f = *from;
    f->references = 1;
    f->arn = f->qualified_arn = NULL;
    set_number(catalog, f, from->name, number);
    catalog_config_copy(&f->config, &from->config);
    f->state_reason = xstrdup(from->state_reason);
    f->state_reason_code = xstrdup(from->state_reason_code);
    f->last_update_reason = xstrdup(from->last_update_reason);
    f->last_update_reason_code = xstrdup(from->last_update_reason_code);
    return f;
}

static const struct catalog_function *function_from_row(
    struct catalog *catalog, sqlite3_stmt *row, struct error *err)
{
    struct catalog_function *f =
        draft_new(catalog, (const char *)sqlite3_column_text(row, 0), (uint64_t)sqlite3_column_int64(row, 1));
    CLEANUP_FUNCTION const struct catalog_function *owner = f;
    const char *config = (const char *)sqlite3_column_text(row, 3);
    if (config_decode(&f->config, config != NULL ? config : "", err) != 0) {
        error_prefix(err, "%s:%s", f->name, f->version);
        return NULL;
    }
    f->generation = (uint64_t)sqlite3_column_int64(row, 2);
    copy_column(f->code.id, sizeof f->code.id, row, 4);
    copy_column(f->code.sha256, sizeof f->code.sha256, row, 5);
    f->code.size = (uint64_t)sqlite3_column_int64(row, 6);
    f->state = (enum catalog_state)sqlite3_column_int(row, 7);
    draft_set_text(&f->state_reason, (const char *)sqlite3_column_text(row, 8));
    draft_set_text(&f->state_reason_code, (const char *)sqlite3_column_text(row, 9));
    f->last_update = (enum catalog_update)sqlite3_column_int(row, 10);
    draft_set_text(&f->last_update_reason, (const char *)sqlite3_column_text(row, 11));
    draft_set_text(&f->last_update_reason_code, (const char *)sqlite3_column_text(row, 12));
    copy_column(f->revision_id, sizeof f->revision_id, row, 13);
    copy_column(f->last_modified, sizeof f->last_modified, row, 14);
    copy_column(f->snapshot_id, sizeof f->snapshot_id, row, 15);
    f->optimized = sqlite3_column_int(row, 16) != 0;
    return steal_pointer(owner);
}

static int not_found(struct catalog *catalog, const char *name, const char *qualifier, struct error *err)
{
    return error_set(err, ERROR_NOT_FOUND, "Function not found: arn:aws:lambda:%s:%s:function:%s%s%s",
        catalog->region, catalog->account_id, name, qualifier != NULL && *qualifier != '\0' ? ":" : "",
        qualifier != NULL ? qualifier : "");
}

/* Digits only, no leading zero, within what SQLite's integers hold. */
static bool parse_qualifier(const char *qualifier, uint64_t *number)
{
    *number = 0;
    if (qualifier == NULL || *qualifier == '\0' || strcmp(qualifier, CATALOG_LATEST) == 0)
        return true;
    size_t digits = strspn(qualifier, "0123456789");
    if (qualifier[digits] != '\0' || digits > 18 || qualifier[0] == '0')
        return false;
    *number = strtoull(qualifier, NULL, 10);
    return true;
}

static int load(struct catalog *catalog, const char *name, uint64_t number,
    const struct catalog_function **out, struct error *err)
{
    CLEANUP_STATEMENT sqlite3_stmt *statement =
        db_statement(catalog, "SELECT " VERSION_COLUMNS " FROM versions WHERE function = ? AND number = ?",
            err, "si", name, (int64_t)number);
    if (statement == NULL)
        return -1;
    int step = db_step(catalog, statement, err);
    if (step < 0)
        return -1;
    if (step == 0)
        return error_set(err, ERROR_NOT_FOUND, "no such version");
    const struct catalog_function *f = function_from_row(catalog, statement, err);
    if (f == NULL)
        return -1;
    cache_add(catalog, f);
    *out = f;
    return 0;
}

int catalog_get(struct catalog *catalog, const char *name, const char *qualifier,
    const struct catalog_function **out, struct error *err)
{
    uint64_t number;
    if (!parse_qualifier(qualifier, &number))
        return not_found(catalog, name, qualifier, err);
    const struct catalog_function *cached = cache_find(catalog, name, number);
    if (cached != NULL) {
        *out = catalog_function_ref(cached);
        return 0;
    }
    struct error why = {0};
    if (load(catalog, name, number, out, &why) == 0)
        return 0;
    if (why.kind == ERROR_NOT_FOUND)
        return not_found(catalog, name, qualifier, err);
    if (err != NULL)
        *err = why;
    return -1;
}

/* The digest of what a version is published from. */
static void content_digest(char out[65], const struct catalog_function *f)
{
    CLEANUP_FREE char *config = config_encode(&f->config);
    CLEANUP_FREE char *both = xasprintf("%s\n%s", f->code.id, config);
    uint8_t digest[32];
    unsigned len = sizeof digest;
    if (EVP_Digest(both, strlen(both), digest, &len, EVP_sha256(), NULL) != 1)
        abort();
    hex_encode(out, digest, sizeof digest);
}

static int write_version(
    struct catalog *catalog, const struct catalog_function *f, const char *content, struct error *err)
{
    CLEANUP_FREE char *config = config_encode(&f->config);
    if (strlen(config) > CATALOG_CONFIG_BYTES)
        return error_set(err, ERROR_LIMIT, "the configuration of %s is too large", f->name);
    return db_run(catalog,
        "INSERT OR REPLACE INTO versions(" VERSION_COLUMNS
        ", content) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        err, "siisssiississsssis", f->name, (int64_t)f->number, (int64_t)f->generation, config, f->code.id,
        f->code.sha256, (int64_t)f->code.size, (int64_t)f->state, f->state_reason, f->state_reason_code,
        (int64_t)f->last_update, f->last_update_reason, f->last_update_reason_code, f->revision_id,
        f->last_modified, f->snapshot_id, (int64_t)f->optimized, content);
}

static int next_generation(struct catalog *catalog, struct catalog_function *f, struct error *err)
{
    int64_t generation;
    if (db_integer(catalog, &generation,
            "UPDATE counters SET value = value + 1 WHERE name = 'generation' RETURNING value", err, "") != 0)
        return -1;
    f->generation = (uint64_t)generation;
    return 0;
}

int draft_finish(struct catalog *catalog, struct catalog_function *draft, int result,
    const struct catalog_function **out, struct error *err)
{
    CLEANUP_FUNCTION const struct catalog_function *owner = draft;
    if (db_end(catalog, result, err) != 0)
        return -1;
    cache_forget(catalog, draft->name);
    cache_add(catalog, draft);
    if (out != NULL)
        *out = steal_pointer(owner);
    return 0;
}

int catalog_create_function(struct catalog *catalog, const char *name, const struct catalog_config *config,
    const struct catalog_code *code, const struct catalog_map *tags, const struct catalog_function **out,
    struct error *err)
{
    CLEANUP_FUNCTION const struct catalog_function *existing = NULL;
    if (catalog_get(catalog, name, NULL, &existing, NULL) == 0)
        return error_set(err, ERROR_CONFLICT, "Function already exist: %s", name);
    struct catalog_function *f = draft_new(catalog, name, 0);
    catalog_config_copy(&f->config, config);
    f->code = *code;
    f->state = CATALOG_ACTIVE;
    f->last_update = CATALOG_UPDATE_SUCCESSFUL;
    new_revision(f);
    set_modified_now(f);
    static const struct catalog_map no_tags;
    CLEANUP_FREE char *tag_text = map_encode(tags != NULL ? tags : &no_tags);
    char content[65];
    content_digest(content, f);
    int result = db_begin(catalog, err);
    if (result == 0)
        result = db_run(catalog, "INSERT INTO functions(name, next_version, tags) VALUES(?, 1, ?)", err, "ss",
            name, tag_text);
    if (result == 0)
        result = next_generation(catalog, f, err);
    if (result == 0)
        result = write_version(catalog, f, content, err);
    return draft_finish(catalog, f, result, out, err);
}

static int check_revision(const struct catalog_function *current, const char *revision_id, struct error *err)
{
    if (revision_id == NULL || strcmp(revision_id, current->revision_id) == 0)
        return 0;
    return error_set(err, ERROR_CONFLICT,
        "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API "
        "to retrieve the latest Revision Id");
}

/* Write a draft of $LATEST that runs something else than before. Takes the draft over. */
static int write_latest(struct catalog *catalog, struct catalog_function *draft,
    const struct catalog_function **out, struct error *err)
{
    char content[65];
    content_digest(content, draft);
    new_revision(draft);
    set_modified_now(draft);
    draft->last_update = CATALOG_UPDATE_SUCCESSFUL;
    int result = db_begin(catalog, err);
    if (result == 0)
        result = next_generation(catalog, draft, err);
    if (result == 0)
        result = write_version(catalog, draft, content, err);
    return draft_finish(catalog, draft, result, out, err);
}

int catalog_update_code(struct catalog *catalog, const char *name, const struct catalog_code *code,
    const char *architecture, const char *revision_id, const struct catalog_function **out, struct error *err)
{
    CLEANUP_FUNCTION const struct catalog_function *current = NULL;
    if (catalog_get(catalog, name, NULL, &current, err) != 0 ||
        check_revision(current, revision_id, err) != 0)
        return -1;
    struct catalog_function *draft = draft_copy(catalog, current, 0);
    draft->code = *code;
    if (architecture != NULL)
        draft_set_text(&draft->config.architecture, architecture);
    return write_latest(catalog, draft, out, err);
}

int catalog_update_configuration(struct catalog *catalog, const char *name,
    const struct catalog_config *config, const char *revision_id, const struct catalog_function **out,
    struct error *err)
{
    CLEANUP_FUNCTION const struct catalog_function *current = NULL;
    if (catalog_get(catalog, name, NULL, &current, err) != 0 ||
        check_revision(current, revision_id, err) != 0)
        return -1;
    struct catalog_function *draft = draft_copy(catalog, current, 0);
    catalog_config_free(&draft->config);
    catalog_config_copy(&draft->config, config);
    return write_latest(catalog, draft, out, err);
}

/* The newest version, when it was published from this very content and did not fail; else NULL in *out. */
static int find_published(struct catalog *catalog, const struct catalog_function *latest, const char *content,
    const struct catalog_function **out, struct error *err)
{
    *out = NULL;
    CLEANUP_STATEMENT sqlite3_stmt *statement = db_statement(catalog,
        "SELECT number, content, state FROM versions WHERE function = ? AND number > 0"
        " ORDER BY number DESC LIMIT 1",
        err, "s", latest->name);
    if (statement == NULL)
        return -1;
    int step = db_step(catalog, statement, err);
    if (step <= 0)
        return step;
    const char *published_from = (const char *)sqlite3_column_text(statement, 1);
    if (published_from == NULL || strcmp(published_from, content) != 0 ||
        sqlite3_column_int(statement, 2) == CATALOG_FAILED)
        return 0;
    char number[24];
    snprintf(number, sizeof number, "%lld", (long long)sqlite3_column_int64(statement, 0));
    return catalog_get(catalog, latest->name, number, out, err);
}

static struct catalog_function *draft_version(
    struct catalog *catalog, const struct catalog_function *latest, uint64_t number, const char *description)
{
    struct catalog_function *f = draft_copy(catalog, latest, number);
    if (description != NULL)
        draft_set_text(&f->config.description, description);
    f->state = f->config.snap_start ? CATALOG_PENDING : CATALOG_ACTIVE;
    draft_set_text(&f->state_reason, f->config.snap_start ? "The function is being created." : "");
    draft_set_text(&f->state_reason_code, f->config.snap_start ? "Creating" : "");
    f->snapshot_id[0] = '\0';
    f->optimized = false;
    new_revision(f);
    set_modified_now(f);
    return f;
}

int catalog_publish(struct catalog *catalog, const char *name, const char *description,
    const char *revision_id, bool *is_new, const struct catalog_function **out, struct error *err)
{
    CLEANUP_FUNCTION const struct catalog_function *latest = NULL, *published = NULL;
    char content[65];
    *is_new = false;
    if (catalog_get(catalog, name, NULL, &latest, err) != 0 || check_revision(latest, revision_id, err) != 0)
        return -1;
    content_digest(content, latest);
    if (find_published(catalog, latest, content, &published, err) != 0)
        return -1;
    if (published != NULL) {
        if (out != NULL)
            *out = steal_pointer(published);
        return 0;
    }
    int64_t next = 0;
    int result = db_begin(catalog, err);
    if (result == 0)
        result = db_integer(catalog, &next,
            "UPDATE functions SET next_version = next_version + 1 WHERE name = ? RETURNING next_version", err,
            "s", name);
    struct catalog_function *f = draft_version(catalog, latest, (uint64_t)next - 1, description);
    if (result == 0)
        result = next_generation(catalog, f, err);
    if (result == 0)
        result = write_version(catalog, f, content, err);
    if (draft_finish(catalog, f, result, out, err) != 0)
        return -1;
    *is_new = true;
    return 0;
}

static int delete_rows(
    struct catalog *catalog, const char *name, const struct catalog_function *version, struct error *err)
{
    if (version == NULL)
        return db_run(catalog, "DELETE FROM functions WHERE name = ?", err, "s", name);
    if (db_run(catalog, "DELETE FROM events WHERE function = ? AND qualifier = ?", err, "ss", name,
            version->version) != 0)
        return -1;
    return db_run(catalog, "DELETE FROM versions WHERE function = ? AND number = ?", err, "si", name,
        (int64_t)version->number);
}

int catalog_delete(struct catalog *catalog, const char *name, const char *qualifier, struct error *err)
{
    CLEANUP_FUNCTION const struct catalog_function *found = NULL;
    bool whole = qualifier == NULL || *qualifier == '\0';
    if (catalog_get(catalog, name, qualifier, &found, err) != 0)
        return -1;
    if (!whole && found->number == 0)
        return error_set(
            err, ERROR_INVALID, "$LATEST version cannot be deleted without deleting the function.");
    int result = db_begin(catalog, err);
    if (result == 0)
        result = delete_rows(catalog, name, whole ? NULL : found, err);
    if (db_end(catalog, result, err) != 0)
        return -1;
    cache_forget(catalog, name);
    /* The deletion stands; a count that could not be made anew only leaves the queue's limits too strict. */
    struct error ignored;
    (void)events_count(catalog, &ignored);
    return 0;
}

static sqlite3_stmt *list_statement(struct catalog *catalog, const char *name, bool all_versions,
    const char *marker_name, uint64_t marker_number, size_t max, struct error *err)
{
    int64_t limit = (int64_t)max + 1;
    int64_t after = marker_name != NULL ? (int64_t)marker_number : -1;
    if (name != NULL)
        return db_statement(catalog,
            "SELECT " VERSION_COLUMNS " FROM versions WHERE function = ? AND number > ? AND (number = 0 OR ?)"
            " ORDER BY number LIMIT ?",
            err, "siii", name, after, (int64_t)all_versions, limit);
    if (all_versions)
        return db_statement(catalog,
            "SELECT " VERSION_COLUMNS " FROM versions WHERE (function, number) > (?, ?)"
            " ORDER BY function, number LIMIT ?",
            err, "sii", marker_name, after, limit);
    return db_statement(catalog,
        "SELECT " VERSION_COLUMNS
        " FROM versions WHERE number = 0 AND function > ? ORDER BY function LIMIT ?",
        err, "si", marker_name, limit);
}

const struct catalog_function *version_from_row(struct catalog *catalog, sqlite3_stmt *row, struct error *err)
{
    const char *name = (const char *)sqlite3_column_text(row, 0);
    const struct catalog_function *cached =
        cache_find(catalog, name != NULL ? name : "", (uint64_t)sqlite3_column_int64(row, 1));
    return cached != NULL ? catalog_function_ref(cached) : function_from_row(catalog, row, err);
}

int catalog_list(struct catalog *catalog, const char *name, bool all_versions, const char *marker_name,
    uint64_t marker_number, size_t max, struct catalog_list *out, struct error *err)
{
    *out = (struct catalog_list){0};
    CLEANUP_FUNCTION const struct catalog_function *exists = NULL;
    if (name != NULL && catalog_get(catalog, name, NULL, &exists, err) != 0)
        return -1;
    CLEANUP_STATEMENT sqlite3_stmt *statement =
        list_statement(catalog, name, all_versions, marker_name, marker_number, max, err);
    if (statement == NULL)
        return -1;
    int step;
    while ((step = db_step(catalog, statement, err)) > 0) {
        if (out->count == max) {
            out->more = true;
            return 0;
        }
        const struct catalog_function *f = version_from_row(catalog, statement, err);
        if (f == NULL) {
            step = -1;
            break;
        }
        out->items = xrealloc(out->items, (out->count + 1) * sizeof(*out->items));
        out->items[out->count++] = f;
    }
    if (step < 0)
        catalog_list_free(out);
    return step < 0 ? -1 : 0;
}

void catalog_list_free(struct catalog_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        catalog_function_unref(&list->items[i]);
    free(list->items);
    *list = (struct catalog_list){0};
}

int catalog_tags(struct catalog *catalog, const char *name, struct catalog_map *out, struct error *err)
{
    CLEANUP_STATEMENT sqlite3_stmt *statement =
        db_statement(catalog, "SELECT tags FROM functions WHERE name = ?", err, "s", name);
    if (statement == NULL)
        return -1;
    int step = db_step(catalog, statement, err);
    if (step < 0)
        return -1;
    if (step == 0)
        return not_found(catalog, name, NULL, err);
    *out = (struct catalog_map){0};
    const char *text = (const char *)sqlite3_column_text(statement, 0);
    return map_decode(out, text != NULL ? text : "", err);
}

int catalog_set_tags(
    struct catalog *catalog, const char *name, const struct catalog_map *tags, struct error *err)
{
    CLEANUP_FREE char *text = map_encode(tags);
    if (db_run(catalog, "UPDATE functions SET tags = ? WHERE name = ?", err, "ss", text, name) != 0)
        return -1;
    return sqlite3_changes(catalog->db) > 0 ? 0 : not_found(catalog, name, NULL, err);
}

int catalog_account_usage(
    struct catalog *catalog, uint64_t *code_bytes, uint64_t *functions, struct error *err)
{
    int64_t bytes, count;
    if (db_integer(catalog, &bytes, "SELECT ifnull(sum(code_size), 0) FROM versions", err, "") != 0 ||
        db_integer(catalog, &count, "SELECT count(*) FROM functions", err, "") != 0)
        return -1;
    *code_bytes = (uint64_t)bytes;
    *functions = (uint64_t)count;
    return 0;
}

int catalog_code_used(struct catalog *catalog, const char *code_id, bool *used, struct error *err)
{
    int64_t count;
    if (db_integer(catalog, &count, "SELECT EXISTS(SELECT 1 FROM versions WHERE code_id = ?)", err, "s",
            code_id) != 0)
        return -1;
    *used = count != 0;
    return 0;
}
