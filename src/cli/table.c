#include "cli/table.h"

#include "base/bytes.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct table {
    size_t columns, cells, capacity;
    bool right[TABLE_COLUMNS];
    char **cell; /* the headings are the first line */
};

static void add_owned(struct table *table, char *text)
{
    if (table->cells == table->capacity) {
        table->capacity = table->capacity ? 2 * table->capacity : 64;
        table->cell = xrealloc(table->cell, table->capacity * sizeof *table->cell);
    }
    table->cell[table->cells++] = text;
}

struct table *table_new(const char *headings)
{
    struct table *table = xcalloc(1, sizeof *table);
    for (;;) {
        bool right = *headings == '>';
        headings += right;
        size_t len = strcspn(headings, "|");
        table->right[table->columns++] = right;
        add_owned(table, xstrndup(headings, len));
        if (headings[len] == 0 || table->columns == TABLE_COLUMNS)
            return table;
        headings += len + 1;
    }
}

void table_free(struct table **table)
{
    if (!*table)
        return;
    for (size_t i = 0; i < (*table)->cells; i++)
        free((*table)->cell[i]);
    free((*table)->cell);
    free(*table);
    *table = NULL;
}

void table_add(struct table *table, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = NULL;
    if (vasprintf(&text, format, args) < 0)
        abort();
    va_end(args);
    add_owned(table, text);
}

/* How many columns of a terminal a UTF-8 text takes, for the letters that we print. */
static size_t text_width(const char *text)
{
    size_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

bool table_may_colour(FILE *out)
{
    const char *no_color = getenv("NO_COLOR");
    return !(no_color && *no_color) && isatty(fileno(out));
}

static void print_cell(const struct table *table, size_t at, size_t width, FILE *out)
{
    size_t column = at % table->columns;
    bool last = column == table->columns - 1;
    int pad = (int)(width - text_width(table->cell[at]));
    if (table->right[column])
        fprintf(out, "%*s%s", pad, "", table->cell[at]);
    else
        fprintf(out, "%s%*s", table->cell[at], last ? 0 : pad, "");
    fputs(last ? "\n" : "  ", out);
}

void table_print(const struct table *table, FILE *out)
{
    size_t width[TABLE_COLUMNS] = {0};
    for (size_t i = 0; i < table->cells; i++) {
        size_t cell = text_width(table->cell[i]);
        if (cell > width[i % table->columns])
            width[i % table->columns] = cell;
    }
    bool colour = table_may_colour(out);
    for (size_t i = 0; i < table->cells; i++) {
        if (colour && i == 0)
            fputs("\033[1m", out);
        print_cell(table, i, width[i % table->columns], out);
        if (colour && i == table->columns - 1)
            fputs("\033[0m", out);
    }
}

char *size_text(char out[SIZE_TEXT], double bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    size_t unit = 0;
    while (bytes >= 1000 && unit + 1 < countof(units)) {
        bytes /= 1000;
        unit++;
    }
    snprintf(out, SIZE_TEXT, unit > 0 && bytes < 100 ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
    return out;
}
