/* A snapshot thaws only where the kernel and the processor are those it was frozen on: the vDSO, the layout
 * of what the kernel keeps in user memory, and every CPU feature that a library has chosen its code by. */
#include "image/image.h"
#include "image/machine.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

/* FNV-1a over four lanes: a fingerprint to compare with, not a defence (the manifest is sealed). */
struct fingerprint {
    uint64_t lane[4];
    size_t at;
};

static void fingerprint_take(void *context, const void *data, size_t len)
{
    struct fingerprint *f = context;
    const uint8_t *bytes = data;
    for (size_t i = 0; i < len; i++) {
        uint64_t *lane = &f->lane[f->at++ % 4];
        *lane = (*lane ^ bytes[i]) * 0x100000001b3u;
    }
}

int image_stamp_machine(struct image *image, struct error *err)
{
    struct utsname name;
    if (uname(&name) < 0)
        return error_system(err, "cannot ask for the kernel's name");
    snprintf(image->kernel_release, sizeof image->kernel_release, "%s", name.release);
    struct fingerprint f = {.lane = {0xcbf29ce484222325u, 1, 2, 3}};
    fingerprint_take(&f, name.version, strlen(name.version));
    machine_describe(fingerprint_take, &f);
    memcpy(image->cpu_features, f.lane, sizeof image->cpu_features);
    return 0;
}

int image_check_machine(const struct image *image, struct error *err)
{
    struct image here = {0};
    if (image_stamp_machine(&here, err) < 0)
        return -1;
    if (strcmp(here.kernel_release, image->kernel_release) != 0)
        return error_set(err, ERROR_UNSUPPORTED, "it was frozen on kernel %s, and this is %s",
            image->kernel_release, here.kernel_release);
    if (memcmp(here.cpu_features, image->cpu_features, sizeof here.cpu_features) != 0)
        return error_set(
            err, ERROR_UNSUPPORTED, "it was frozen on another processor or kernel build than this one");
    return 0;
}
