/* The files that a snapshot relies on, as lines for the front: it keeps them with the version, and has it frozen
 * anew when one of them is another. Told through a memfd, as the freeze runs in a child. */
#include "daemon/warden_private.h"
#include "image/image.h"

#include <sys/mman.h>
#include <unistd.h>

int files_open(void)
{
    return memfd_create("files", MFD_CLOEXEC);
}

/* What does not fit into a message is left out: it is still looked at when the template is built. */
void files_tell(int fd, const struct image *image)
{
    CLEANUP_BUFFER struct buffer lines = {0};
    struct error ignored; /* without the list, the template's own look at the files has to do */
    for (uint32_t i = 0; i < image->file_count; i++) {
        const struct image_file *file = &image->files[i];
        size_t before = lines.len;
        buffer_printf(&lines, "%llu %lld %s\n", (unsigned long long)file->bytes, (long long)file->modified_ns,
            file->path);
        if (lines.len > WIRE_FILES_BYTES)
            lines.len = before;
    }
    if (fd >= 0)
        (void)!fd_write_all(fd, lines.data, lines.len, &ignored);
}

void files_take(int fd, struct buffer *lines)
{
    struct error ignored;
    if (fd < 0 || lseek(fd, 0, SEEK_SET) < 0 || fd_read_all(fd, lines, WIRE_FILES_BYTES, &ignored) < 0)
        lines->len = 0;
}
