/* Code packages: check a zip, unpack it under DATA/code, remove what no version runs. The parsing runs in a
 * child process (see jobs.c), as the zip is the most hostile input that the server takes. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "catalog/catalog.h"

#include <stdint.h>

#define PACKAGE_ENTRIES_MAX 65535 /* files, folders and links in one zip */
#define PACKAGE_NAME_MAX 1024     /* bytes in an entry's name */
#define PACKAGE_DEPTH_MAX 64      /* folders above a file */
#define PACKAGE_LINK_MAX 1024     /* bytes in a symbolic link's target */
#define PACKAGE_TEMP_NAME 40      /* tmp-<32 hex digits> */

enum package_verdict {
    PACKAGE_OK = 1,
    PACKAGE_NOT_BASE64,
    PACKAGE_TOO_LARGE,          /* the zip itself */
    PACKAGE_UNZIPPED_TOO_LARGE, /* what is in it */
    PACKAGE_EMPTY,
    PACKAGE_BAD,    /* not a zip, or one that must not be unpacked: `why` */
    PACKAGE_FAILED, /* our side: disk full, no rights: `why` */
};

struct package_result {
    enum package_verdict verdict;
    struct catalog_code code; /* when PACKAGE_OK, or known before it failed */
    uint64_t unzipped_bytes;
    char why[256]; /* a sentence, or "" */
};

/* Decode `base64` (JSON's \/ is understood), unpack it to <code_fd>/<temp>, then rename that to its digest.
 * Does nothing more when that is there already. What is left of `temp` after a failure is removed. With
 * `keep` false (DryRun) nothing is left of a good package either. */
void package_install(
    int code_fd, struct bytes base64, const char *temp, bool keep, struct package_result *result);
/* Everything below and with <dir_fd>/<name>, following no links. */
MUST_CHECK int package_remove_tree(int dir_fd, const char *name, struct error *err);

/* zip.c: the archive's own tables, before libarchive sees a byte. PACKAGE_OK, or why not. */
enum package_verdict zip_check(struct bytes zip, char why[256]);
/* Whether this name may be an entry of a package: relative, inside, no backslash, UTF-8, within the limits.
 */
bool zip_name_ok(const char *name, size_t len, char why[256]);
