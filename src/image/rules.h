/* Which operations a plan may have, and with which arguments: the list is what the freeze emits, and nothing else.
 * Private to image. */
#pragma once

#include "image/image.h"

/* Where a rule holds. The sandbox part is that of the root's process plan before sandbox_ops_end. */
enum rule_plan {
    RULE_TEMPLATE = 1,
    RULE_SANDBOX = 2,
    RULE_PROCESS = 4,
    RULE_THREAD = 8,
    RULE_RELEASE = 16,
};

/* What an argument must be; `n` is the rule's own number for it. Lengths are literals of other arguments. */
enum rule_arg_kind {
    RULE_ZERO = 0, /* literal 0: also what no argument is */
    RULE_ANY,      /* any literal */
    RULE_IS,       /* the literal n */
    RULE_MAX,      /* a literal up to n */
    RULE_BITS,     /* a literal with no other bits than n */
    RULE_LIST,     /* a literal of `list`, which ends with -1 */
    RULE_PID,      /* the literal number of the process itself */
    RULE_FD,       /* a literal number, or a register that holds a descriptor */
    RULE_MADE,     /* a register that holds a descriptor which this plan has made */
    RULE_SLOTS,    /* a slot of the mask n */
    RULE_TEXT,     /* text in the data area, with its end */
    RULE_PATH,     /* the same, not of another process in /proc */
    RULE_IN,       /* n bytes in the data area */
    RULE_IN_LEN,   /* as many bytes in the data area as argument n says */
    RULE_FILE_LEN, /* the same in the bulk area */
    RULE_OUT,      /* n bytes in the data area that the call writes */
    RULE_OUT_LEN,  /* as many as argument n says */
    RULE_MEMORY,   /* page-aligned address; it and the length in argument n lie in mappings of the process */
    RULE_POINTER,  /* an address of the process's own, which only the kernel looks at */
    RULE_VALUE,    /* anything: literal, address of data, register */
};

struct rule_arg {
    uint8_t kind; /* enum rule_arg_kind */
    int64_t n;
    const int16_t *list;
};

struct rule {
    uint16_t kind, number; /* of the operation: enum plan_op_kind, system call */
    uint8_t plans;         /* mask of enum rule_plan */
    struct rule_arg args[PLAN_ARGS];
};

extern const struct rule image_rules[];
extern const size_t image_rule_count; /* at most RULES_MAX; the numbers of their calls are below 512 */
#define RULES_MAX 256
