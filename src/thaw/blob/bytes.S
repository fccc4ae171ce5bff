/* The linked blob as bytes inside the library: BLOB_FILE is given by the build. */
    .section .rodata
    .balign 4096
    .global thaw_blob_start
    .global thaw_blob_end
thaw_blob_start:
    .incbin BLOB_FILE
thaw_blob_end:
    .section .note.GNU-stack,"",@progbits
