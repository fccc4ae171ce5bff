/* thaw_region: lets the interpreter take memory from places of our choosing for a while, so that what a load takes shifts
 * nothing that is allocated after it. thaw_layout.py says why, and uses it.
 *
 *   reserve()                      maps the region; returns its address, the size of its first part, for what stays, and of all of it.
 *                                  From then on, memory in it can be freed
 *   begin(objects, buffers)        the calling thread's objects now come from the one offset upwards, and the buffers that lists and
 *                                  the compiler grow from the other one, which may be the same
 *   place(offset, size, f, value)  f(value), with the objects that it makes in these bytes as far as they fit
 *   end()                          all comes from the interpreter's own allocators again. Returns how far the two parts of the region
 *                                  have been used since it was last called; 0 is not at all
 *   tidy(begin, end, give_back)    where the last allocation ends that lives in a part, which was begun with at `begin`. `give_back`: the
 *                                  pages in which nothing lives become zeros, the last one's rest too
 *   drop(begin)                    all pages from there on become zeros: nothing lives there
 *   keep_versions(n)               from now on, the number that every change of a dict draws is brought to a multiple of n whenever the
 *                                  interpreter's allocator needs a new arena (256 KiB or 1 MiB); 0: no longer
 *   align_versions()               now, too
 *
 * Memory in the region is taken once: what is freed is used again only before the next begin(). While nothing is begun, malloc is
 * the interpreter's own, without a detour; free and realloc look whether the memory is the region's. All but free are
 * called with the interpreter's lock held, and so are the allocators of these two domains.
 *
 * The functions come from the python program itself; they are declared here, so that building needs no headers of Python's, and so
 * that one file serves all its versions. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct object PyObject;
typedef PyObject *function(PyObject *module, PyObject *arguments);
struct method {
    const char *name;
    function *call;
    int flags; /* how it is called: METH_NOARGS (no arguments), METH_VARARGS (a tuple) */
    const char *documentation;
};
struct module {
    intptr_t head[5]; /* an object's, and what the interpreter keeps there */
    const char *name, *documentation;
    intptr_t size;
    struct method *methods;
    void *slots, *traverse, *clear, *free;
};
struct allocator {
    void *context;
    void *(*malloc)(void *context, size_t size);
    void *(*calloc)(void *context, size_t count, size_t size);
    void *(*realloc)(void *context, void *old, size_t size);
    void (*free)(void *context, void *old);
};
struct arena_allocator {
    void *context;
    void *(*alloc)(void *context, size_t size);
    void (*free)(void *context, void *arena, size_t size);
};
#define METH_VARARGS 1
#define METH_NOARGS 4
#define LIMITED_API 3
extern PyObject *PyModule_Create2(struct module *definition, int api_version);
extern int PyArg_ParseTuple(PyObject *arguments, const char *format, ...);
extern void PyMem_GetAllocator(int domain, struct allocator *found);
extern void PyMem_SetAllocator(int domain, struct allocator *wanted);
extern void PyObject_GetArenaAllocator(struct arena_allocator *found);
extern void PyObject_SetArenaAllocator(struct arena_allocator *wanted);
extern PyObject *PyObject_CallFunctionObjArgs(PyObject *callable, ...);
extern PyObject *PyErr_SetFromErrno(PyObject *type);
extern PyObject *PyExc_OSError, *PyExc_ValueError;
extern void PyErr_SetString(PyObject *type, const char *message);
extern PyObject *Py_BuildValue(const char *format, ...);
extern PyObject *PyLong_FromSize_t(size_t value);
extern PyObject *PyDict_New(void);
extern int PyDict_SetItem(PyObject *dict, PyObject *key, PyObject *value);

#define REGION_AT ((void *)0x200000000000) /* nothing else comes to lie here: the kernel fills from the top */
#define REGION_BYTES ((size_t)64 << 20)    /* of addresses; memory is what has been written to */
#define CODE_BYTES ((size_t)16 << 20)      /* of them, for what stays; what follows is for compiling */
#define ALLOCATION_MAX (REGION_BYTES / 8)
#define GRAIN ((size_t)16) /* allocations are multiples of it, and aligned to it */
#define STEP ((size_t)256) /* of sizes above SMALL_MAX, up to MEDIUM_MAX */
#define SMALL_MAX ((size_t)1024)
#define MEDIUM_MAX ((size_t)16384)
#define MEDIUM_BINS ((MEDIUM_MAX - SMALL_MAX) / STEP)
#define BINS (SMALL_MAX / GRAIN + MEDIUM_BINS + 32) /* the last ones are for powers of two */
#define DICT_VERSION_WORD 3 /* of a dict, in Python 3.8 to 3.13: header, length, version */

/* Ahead of each allocation. */
struct block {
    uint32_t size;
    uint32_t live;
    struct block *next; /* in its bin, when it was freed */
};
_Static_assert(sizeof(struct block) == GRAIN, "what follows a block's head is aligned");

struct area {
    char *begin, *next, *end;
    struct block *bins[BINS];
};

/* Python's domains 1 and 2; its third, 0, is for use without the interpreter's lock. */
enum { MEM, OBJ, DOMAINS };

static char *region;
static struct area areas[DOMAINS];
static struct area narrow; /* of place(): what does not fit goes where it would have gone without */
static struct area *area_of[DOMAINS]; /* that is allocated from; they may be the same */
static pthread_t owner;               /* whose allocations these are */
static bool begun;
static struct {
    PyObject *dict, *values[2];
    size_t multiple; /* 0: versions are left alone */
} counter;
static struct arena_allocator own_arenas;
static size_t used[2]; /* how far either part of the region has been allocated from since end() told */

/* ---- the area ---- */

static bool is_ours(const void *p)
{
    return (uintptr_t)p - (uintptr_t)region < REGION_BYTES;
}
static bool is_for_area(void)
{
    return begun && pthread_equal(pthread_self(), owner);
}
static struct block *block_of(void *p)
{
    return (struct block *)((char *)p - GRAIN);
}

/* The bin for allocations of that size, which is rounded up to the size of all that are in it. */
static size_t bin_of(size_t *size)
{
    if (*size <= SMALL_MAX) {
        *size = *size > 0 ? (*size + GRAIN - 1) & ~(GRAIN - 1) : GRAIN;
        return *size / GRAIN - 1;
    }
    if (*size <= MEDIUM_MAX) {
        *size = (*size + STEP - 1) & ~(STEP - 1);
        return SMALL_MAX / GRAIN + (*size - SMALL_MAX) / STEP - 1;
    }
    int bits = 64 - __builtin_clzl(*size - 1);
    *size = (size_t)1 << bits;
    return SMALL_MAX / GRAIN + MEDIUM_BINS + (size_t)bits - 15;
}

static void *take(struct area *area, size_t size)
{
    if (size > ALLOCATION_MAX)
        return NULL;
    size_t bin = bin_of(&size);
    struct block *block = area->bins[bin];
    if (block != NULL) {
        area->bins[bin] = block->next;
    } else {
        if ((size_t)(area->end - area->next) < GRAIN + size)
            return NULL;
        block = (struct block *)area->next;
        block->size = (uint32_t)size;
        area->next += GRAIN + size;
    }
    block->live = 1;
    return (char *)block + GRAIN;
}

static void give(void *p)
{
    struct block *block = block_of(p);
    block->live = 0;
    for (int domain = 0; is_for_area() && domain < DOMAINS; domain++) {
        struct area *area = area_of[domain];
        if ((char *)p > area->begin && (char *)p < area->next) {
            size_t size = block->size, bin = bin_of(&size);
            block->next = area->bins[bin];
            area->bins[bin] = block;
            return;
        }
    }
}

/* ---- the interpreter's allocators ---- */

static struct allocator own[DOMAINS];

static void *take_or(int domain, size_t size)
{
    void *p = is_for_area() ? take(area_of[domain], size) : NULL;
    if (p == NULL && is_for_area() && area_of[domain] == &narrow)
        p = take(&areas[OBJ], size);
    return p != NULL ? p : own[domain].malloc(own[domain].context, size);
}

static void *take_zeros_or(int domain, size_t count, size_t size)
{
    size_t bytes;
    if (is_for_area() && !__builtin_mul_overflow(count, size, &bytes)) {
        void *p = take(area_of[domain], bytes);
        if (p != NULL)
            return memset(p, 0, bytes);
    }
    return own[domain].calloc(own[domain].context, count, size);
}

static void free_any(int domain, void *p)
{
    if (is_ours(p))
        give(p);
    else
        own[domain].free(own[domain].context, p);
}

/* What is in the region leaves it when it grows outside of a load, and what is not never comes into it. */
static void *resize_any(int domain, void *p, size_t size)
{
    if (p == NULL)
        return take_or(domain, size);
    if (!is_ours(p))
        return own[domain].realloc(own[domain].context, p, size);
    size_t had = block_of(p)->size;
    if (size <= had)
        return p;
    void *larger = take_or(domain, size);
    if (larger != NULL) {
        memcpy(larger, p, had);
        give(p);
    }
    return larger;
}

#define HOOKS(domain, name) \
    static void *malloc_##name(void *context, size_t size) \
    { \
        (void)context; \
        return take_or(domain, size); \
    } \
    static void *calloc_##name(void *context, size_t count, size_t size) \
    { \
        (void)context; \
        return take_zeros_or(domain, count, size); \
    } \
    static void *realloc_##name(void *context, void *p, size_t size) \
    { \
        (void)context; \
        return resize_any(domain, p, size); \
    } \
    static void free_##name(void *context, void *p) \
    { \
        (void)context; \
        free_any(domain, p); \
    }
HOOKS(MEM, mem)
HOOKS(OBJ, obj)

static const struct allocator hooked[DOMAINS] = {
    [MEM] = {NULL, malloc_mem, calloc_mem, realloc_mem, free_mem},
    [OBJ] = {NULL, malloc_obj, calloc_obj, realloc_obj, free_obj},
};

/* Ours, with the interpreter's own context and, while nothing is begun, its malloc and calloc: they fit in any mixture. */
static void set_allocators(void)
{
    for (int domain = 0; domain < DOMAINS; domain++) {
        struct allocator wanted = hooked[domain];
        wanted.context = own[domain].context;
        if (!begun) {
            wanted.malloc = own[domain].malloc;
            wanted.calloc = own[domain].calloc;
        }
        PyMem_SetAllocator(domain + 1, &wanted);
    }
}

/* ---- what Python sees ---- */

static PyObject *region_reserve(PyObject *module, PyObject *nothing)
{
    (void)module, (void)nothing;
    if (region == NULL) {
        void *at = mmap(REGION_AT, REGION_BYTES, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (at == MAP_FAILED)
            return PyErr_SetFromErrno(PyExc_OSError);
        region = at;
        for (int domain = 0; domain < DOMAINS; domain++)
            PyMem_GetAllocator(domain + 1, &own[domain]);
        set_allocators();
    }
    return Py_BuildValue("nnn", (intptr_t)region, CODE_BYTES, REGION_BYTES);
}

static void note_use(const struct area *area)
{
    size_t offset = (size_t)(area->next - region);
    size_t *part = &used[offset > CODE_BYTES];
    *part = offset > *part ? offset : *part;
}

/* Something else that has set allocators since, such as tracemalloc, is not to be disturbed. */
static bool are_ours(void)
{
    for (int domain = 0; domain < DOMAINS; domain++) {
        struct allocator now;
        PyMem_GetAllocator(domain + 1, &now);
        if (now.free != hooked[domain].free)
            return false;
    }
    return true;
}

static size_t part_end(size_t offset)
{
    return offset < CODE_BYTES ? CODE_BYTES : REGION_BYTES;
}

static struct area area_at(size_t offset, size_t size)
{
    return (struct area){.begin = region + offset, .next = region + offset, .end = region + offset + size};
}

static PyObject *region_begin(PyObject *module, PyObject *arguments)
{
    (void)module;
    size_t objects, buffers;
    if (!PyArg_ParseTuple(arguments, "nn", &objects, &buffers))
        return NULL;
    if (region == NULL || (objects | buffers) % GRAIN != 0 || objects > REGION_BYTES ||
        buffers > REGION_BYTES) {
        PyErr_SetString(PyExc_ValueError, "not places in the region");
        return NULL;
    }
    if (!are_ours()) {
        PyErr_SetString(PyExc_ValueError, "the interpreter's allocators are another's by now");
        return NULL;
    }
    areas[OBJ] = area_at(objects, part_end(objects) - objects);
    areas[MEM] = area_at(buffers, part_end(buffers) - buffers);
    area_of[OBJ] = &areas[OBJ];
    area_of[MEM] = buffers == objects ? &areas[OBJ] : &areas[MEM];
    owner = pthread_self();
    begun = true;
    set_allocators();
    return Py_BuildValue("");
}

static PyObject *region_place(PyObject *module, PyObject *arguments)
{
    (void)module;
    size_t offset, size;
    PyObject *callable, *value;
    if (!PyArg_ParseTuple(arguments, "nnOO", &offset, &size, &callable, &value))
        return NULL;
    if (!begun || offset % GRAIN != 0 || offset > REGION_BYTES || size > REGION_BYTES - offset) {
        PyErr_SetString(PyExc_ValueError, "not a place in the region, or nothing is begun");
        return NULL;
    }
    narrow = area_at(offset, size);
    area_of[OBJ] = &narrow;
    PyObject *placed = PyObject_CallFunctionObjArgs(callable, value, NULL);
    area_of[OBJ] = &areas[OBJ];
    note_use(&narrow);
    return placed;
}

static PyObject *region_end(PyObject *module, PyObject *nothing)
{
    (void)module, (void)nothing;
    if (begun) {
        begun = false;
        set_allocators();
        note_use(area_of[OBJ]);
        note_use(area_of[MEM]);
    }
    size_t code = used[0], compiling = used[1];
    memset(used, 0, sizeof used);
    return Py_BuildValue("nn", code, compiling);
}

/* Gives back the whole pages among these bytes. */
static void drop(char *begin, char *end)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ((uintptr_t)begin + page - 1) & -page, last = (uintptr_t)end & -page;
    if (first < last)
        madvise((void *)first, last - first, MADV_DONTNEED);
}

static bool is_part(size_t begin, size_t end)
{
    if (!begun && region != NULL && begin % GRAIN == 0 && begin <= end && end <= REGION_BYTES)
        return true;
    PyErr_SetString(PyExc_ValueError, "not a part of the region, or something is begun");
    return false;
}

static PyObject *region_tidy(PyObject *module, PyObject *arguments)
{
    (void)module;
    size_t begin, end;
    int give_back;
    if (!PyArg_ParseTuple(arguments, "nni", &begin, &end, &give_back) || !is_part(begin, end))
        return NULL;
    char *dead = region + begin, *at = dead,
         *last = region + end; /* where nothing was, zeros are empty blocks */
    while (at < last) {
        struct block *block = (struct block *)at;
        char *next = at + GRAIN + block->size;
        if (block->live) {
            if (give_back)
                drop(dead, at);
            dead = next;
        }
        at = next;
    }
    if (give_back)
        drop(dead, last + (size_t)sysconf(_SC_PAGESIZE) - 1);
    return PyLong_FromSize_t((size_t)(dead - region));
}

static PyObject *region_drop(PyObject *module, PyObject *arguments)
{
    (void)module;
    size_t begin;
    if (!PyArg_ParseTuple(arguments, "n", &begin) || !is_part(begin, REGION_BYTES))
        return NULL;
    drop(region + begin, region + REGION_BYTES);
    return Py_BuildValue("");
}

/* Of a dict whose only value is replaced: that allocates nothing. */
static int draw_versions(size_t multiple)
{
    uint64_t before = 0;
    for (size_t i = 0; i <= multiple + 1; i++) {
        if (PyDict_SetItem(counter.dict, counter.values[0], counter.values[i % 2]) < 0)
            return -1;
        uint64_t now = ((const uint64_t *)(const void *)counter.dict)[DICT_VERSION_WORD];
        uint64_t step = now - before; /* the lowest bits are not part of it, from 3.12 on */
        if (i > 0 && (step == 0 || now / step % multiple == 0))
            break;
        before = now;
    }
    return 0;
}

static PyObject *region_align_versions(PyObject *module, PyObject *nothing)
{
    (void)module, (void)nothing;
    if (counter.multiple > 0 && draw_versions(counter.multiple) < 0)
        return NULL;
    return Py_BuildValue("");
}

static void *alloc_arena(void *context, size_t size)
{
    void *arena = own_arenas.alloc(context, size);
    if (arena != NULL && counter.multiple > 0)
        draw_versions(counter.multiple); /* fails for lack of memory only, and takes none */
    return arena;
}

static PyObject *region_keep_versions(PyObject *module, PyObject *arguments)
{
    (void)module;
    size_t multiple;
    struct arena_allocator now;
    if (!PyArg_ParseTuple(arguments, "n", &multiple))
        return NULL;
    if (counter.dict == NULL) {
        counter.dict = PyDict_New();
        counter.values[0] = PyLong_FromSize_t(0);
        counter.values[1] = PyLong_FromSize_t(1);
        if (counter.dict == NULL || counter.values[0] == NULL || counter.values[1] == NULL ||
            PyDict_SetItem(counter.dict, counter.values[0], counter.values[0]) < 0)
            return NULL;
    }
    counter.multiple = multiple;
    PyObject_GetArenaAllocator(&now);
    if (multiple > 0 && now.alloc != alloc_arena) {
        own_arenas = now;
        now.alloc = alloc_arena;
        PyObject_SetArenaAllocator(&now);
    } else if (multiple == 0 && now.alloc == alloc_arena) {
        PyObject_SetArenaAllocator(&own_arenas);
    }
    return Py_BuildValue("");
}

static struct method methods[] = {
    {"reserve", region_reserve, METH_NOARGS, NULL},
    {"begin", region_begin, METH_VARARGS, NULL},
    {"place", region_place, METH_VARARGS, NULL},
    {"end", region_end, METH_NOARGS, NULL},
    {"tidy", region_tidy, METH_VARARGS, NULL},
    {"drop", region_drop, METH_VARARGS, NULL},
    {"keep_versions", region_keep_versions, METH_VARARGS, NULL},
    {"align_versions", region_align_versions, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static struct module definition = {.head = {1}, .name = "thaw_region", .size = -1, .methods = methods};

PyObject *PyInit_thaw_region(void)
{
    return PyModule_Create2(&definition, LIMITED_API);
}
