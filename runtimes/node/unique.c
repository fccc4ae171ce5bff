/* unique.node: what JavaScript cannot do for the clones of one snapshot.
 *
 *   page      an ArrayBuffer over memory that the kernel wipes in every clone
 *   reseed()  gives OpenSSL's generators, in all threads, fresh entropy: it tells processes apart by their id, which
 *             clones share
 *
 * The functions come from the node program itself; they are declared here, so that building needs no headers of Node's. */
#define _GNU_SOURCE
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

typedef void *napi_env, *napi_value, *napi_callback_info;
extern int napi_create_function(napi_env env, const char *name, size_t length,
    napi_value (*callback)(napi_env, napi_callback_info), void *data, napi_value *result);
extern int napi_create_external_arraybuffer(napi_env env, void *data, size_t length,
    void (*finalize)(napi_env, void *, void *), void *hint, napi_value *result);
extern int napi_set_named_property(napi_env env, napi_value object, const char *name, napi_value value);
extern int napi_throw_error(napi_env env, const char *code, const char *message);
extern void RAND_add(const void *bytes, int length, double entropy);

#define NAPI_AUTO_LENGTH ((size_t)-1)
#define SEED_BYTES 32

static napi_value reseed(napi_env env, napi_callback_info info)
{
    unsigned char seed[SEED_BYTES];
    (void)info;
    if (getrandom(seed, sizeof seed, 0) != SEED_BYTES)
        napi_throw_error(env, NULL, "the kernel gives no random bytes");
    else
        RAND_add(seed, SEED_BYTES, SEED_BYTES);
    explicit_bzero(seed, sizeof seed);
    return NULL;
}

napi_value napi_register_module_v1(napi_env env, napi_value exports)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    napi_value page, function;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || madvise(memory, size, MADV_WIPEONFORK) < 0 ||
        napi_create_external_arraybuffer(env, memory, size, NULL, NULL, &page) != 0 ||
        napi_create_function(env, "reseed", NAPI_AUTO_LENGTH, reseed, NULL, &function) != 0) {
        napi_throw_error(env, NULL, "the kernel or this Node cannot do what unique.node needs");
        return exports;
    }
    napi_set_named_property(env, exports, "page", page);
    napi_set_named_property(env, exports, "reseed", function);
    return exports;
}
