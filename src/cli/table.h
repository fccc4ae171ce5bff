/* Aligned tables for people. Columns are as wide as their widest cell; headings are bold on a terminal. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define TABLE_COLUMNS 16

struct table;

/* `headings` holds one word for each column, separated by '|'; one that begins with '>' is right-aligned. */
struct table *table_new(const char *headings);
void table_free(struct table **table);
#define CLEANUP_TABLE __attribute__((cleanup(table_free)))
/* The next cell, from left to right and line by line. Copied. */
void table_add(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
void table_print(const struct table *table, FILE *out);

/* Whether to colour what goes to `out`: a terminal, and NO_COLOR is not set. */
bool table_may_colour(FILE *out);
/* "1.2 MB", "340 kB", "12 B"; into `out`, which is returned. */
#define SIZE_TEXT 16
char *size_text(char out[SIZE_TEXT], double bytes);
