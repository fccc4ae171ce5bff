/* The manifest's format, which image.c writes and decode.c reads. Private to image. */
#pragma once

#define MANIFEST_MAGIC 0x4e53574148543101u /* "\x01" "1THAWSN" */
#define MANIFEST_VERSION 3
#define MANIFEST_TEXT_MAX 4096
