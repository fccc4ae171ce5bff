/* The courier's start: its keys are taken out of the environment, its folder is opened to it, it is started; and its own side: take
 * the descriptors, drop all rights, serve. */
#include "base/fd.h"
#include "daemon/role.h"
#include "libcurl/libcurl.h"
#include "origin/courier.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define CREDENTIALS_FILE_MAX 65536
#define CHUNK_FOLDERS 256
#define SHARED_MODE 0731 /* the courier makes files in it, and lists nothing */

/* ---- in the warden: keys ---- */

/* The value is overwritten where it stands, too: that is what /proc/PID/environ shows. */
static bool take_variable(const char *name, char *out, size_t size)
{
    char *value = getenv(name);
    size_t len = value != NULL ? strlen(value) : 0;
    bool fits = value != NULL && len < size;
    if (fits)
        memcpy(out, value, len + 1);
    if (value != NULL)
        OPENSSL_cleanse(value, len);
    unsetenv(name);
    return fits;
}

static void take_line(char *line, struct sigv4_credentials *c)
{
    const struct {
        const char *name;
        char *out;
        size_t size;
    } wanted[] = {{"aws_access_key_id", c->access_key, sizeof c->access_key},
        {"aws_secret_access_key", c->secret_key, sizeof c->secret_key},
        {"aws_session_token", c->session_token, sizeof c->session_token}};
    char *equals = strchr(line, '=');
    if (equals == NULL)
        return;
    *equals = '\0';
    char *value = equals + 1 + strspn(equals + 1, " \t");
    line += strspn(line, " \t");
    line[strcspn(line, " \t")] = '\0';
    value[strcspn(value, " \t\r")] = '\0';
    for (size_t i = 0; i < countof(wanted); i++)
        if (strcmp(line, wanted[i].name) == 0 && wanted[i].out[0] == '\0')
            snprintf(wanted[i].out, wanted[i].size, "%s", value);
}

/* The AWS tools' format: lines `name = value`, of which the first of each name counts. */
static int read_credentials(const char *path, struct sigv4_credentials *c, struct error *err)
{
    CLEANUP_BUFFER struct buffer text = {0};
    struct stat about;
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &about) < 0)
        return error_system(err, "cannot open %s", path);
    if (!S_ISREG(about.st_mode) || (about.st_mode & (S_IROTH | S_IWOTH)) != 0)
        return error_set(
            err, ERROR_INVALID, "%s must be a file that is not for everybody to read (chmod 600)", path);
    if (fd_read_all(fd, &text, CREDENTIALS_FILE_MAX, err) < 0)
        return error_prefix(err, "%s", path);
    buffer_append_u8(&text, 0);
    char *rest = (char *)text.data;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;)
        take_line(line, c);
    OPENSSL_cleanse(text.data, text.len);
    if (c->access_key[0] != '\0' && c->secret_key[0] != '\0')
        return 0;
    return error_set(
        err, ERROR_INVALID, "%s has no lines aws_access_key_id = ... and aws_secret_access_key = ...", path);
}

int role_take_credentials(const struct role_options *o, struct sigv4_credentials *c, struct error *err)
{
    *c = (struct sigv4_credentials){0};
    if (o->s3_credentials != NULL)
        return read_credentials(o->s3_credentials, c, err);
    bool has_key = take_variable("AWS_ACCESS_KEY_ID", c->access_key, sizeof c->access_key);
    bool has_secret = take_variable("AWS_SECRET_ACCESS_KEY", c->secret_key, sizeof c->secret_key);
    take_variable("AWS_SESSION_TOKEN", c->session_token, sizeof c->session_token);
    if (has_key && has_secret)
        return 0;
    return error_set(err, ERROR_INVALID,
        "--origin needs the environment variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
        "--s3-credentials FILE");
}

/* ---- in the warden: starting it ---- */

static void find_courier(uid_t *uid, gid_t *gid)
{
    const struct passwd *user = getpwnam("thaw-courier");
    *uid = user != NULL && user->pw_uid != 0 ? user->pw_uid : ROLE_COURIER_UID;
    *gid = user != NULL && user->pw_uid != 0 ? user->pw_gid : ROLE_COURIER_UID;
}

static int share_folder(int parent_fd, const char *name, gid_t gid, struct error *err)
{
    if (mkdirat(parent_fd, name, 0711) < 0 && errno != EEXIST)
        return error_system(err, "cannot make the folder %s", name);
    CLEANUP_FD int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fchown(fd, (uid_t)-1, gid) < 0 || fchmod(fd, SHARED_MODE) < 0)
        return error_system(err, "cannot open the folder %s to the courier", name);
    return 0;
}

int role_admit_courier(int data_fd, struct error *err)
{
    uid_t uid;
    gid_t gid;
    find_courier(&uid, &gid);
    if (share_folder(data_fd, "store/tmp", gid, err) < 0)
        return -1;
    for (unsigned i = 0; i < CHUNK_FOLDERS; i++) {
        char name[sizeof "store/chunks/ab"];
        snprintf(name, sizeof name, "store/chunks/%02x", i);
        if (share_folder(data_fd, name, gid, err) < 0)
            return -1;
    }
    return 0;
}

/* Through a pipe, which holds them all: so they are in no environment and on no command line. */
static int open_credentials(const struct sigv4_credentials *credentials, struct error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return error_system(err, "cannot make a pipe");
    ssize_t n = write(ends[1], credentials, sizeof *credentials);
    close(ends[1]);
    if (n == sizeof *credentials)
        return ends[0];
    close(ends[0]);
    return error_set(err, ERROR_INTERNAL, "a pipe does not hold the credentials");
}

int role_start_courier(char **argv, int control_fd, const struct sigv4_credentials *credentials, pid_t *pid,
    int *pidfd, struct error *err)
{
    CLEANUP_FD int credentials_fd = open_credentials(credentials, err);
    if (credentials_fd < 0)
        return -1;
    const int fds[ROLE_COURIER_FD_COUNT] = {
        [ROLE_FD_CONTROL] = control_fd, [ROLE_FD_CREDENTIALS] = credentials_fd};
    return role_start(argv, "--role=courier", fds, ROLE_COURIER_FD_COUNT, pid, pidfd, err);
}

/* ---- the courier's own side ---- */

static void tell_news(bool works, const char *text)
{
    if (works)
        log_info("the origin answers");
    else
        log_warning("the origin cannot be used: %s", text);
}

static int take_descriptors(struct sigv4_credentials *credentials, struct error *err)
{
    struct stat about;
    if (fstat(ROLE_FD_CONTROL, &about) < 0 || !S_ISSOCK(about.st_mode))
        return error_set(err, ERROR_INVALID, "--role=courier is for thawd itself");
    fcntl(ROLE_FD_CONTROL, F_SETFD, FD_CLOEXEC);
    int result = fd_read_full(ROLE_FD_CREDENTIALS, credentials, sizeof *credentials, err);
    close(ROLE_FD_CREDENTIALS);
    credentials->access_key[SIGV4_ACCESS_KEY_MAX] = credentials->secret_key[SIGV4_SECRET_MAX] =
        credentials->session_token[SIGV4_TOKEN_MAX] = '\0';
    return result;
}

int role_parse_origin(const struct role_options *o, struct s3_options *s3, struct error *err)
{
    *s3 = (struct s3_options){.bundle = o->s3_ca != NULL ? ROLE_COURIER_CA : NULL};
    if (s3_parse_origin(s3, o->origin, err) < 0 || s3_parse_endpoint(s3, o->s3_endpoint, err) < 0)
        return -1;
    size_t len = strlen(o->s3_region);
    if (len == 0 || len > S3_REGION_MAX)
        return error_set(err, ERROR_INVALID, "not a region: \"%s\"", o->s3_region);
    memcpy(s3->region, o->s3_region, len + 1);
    return 0;
}

static int confine(const struct role_options *o, struct error *err)
{
    uid_t uid;
    gid_t gid;
    pid_t parent = getppid();
    CLEANUP_FREE char *data_dir = realpath(o->data_dir, NULL);
    find_courier(&uid, &gid); /* and what libcurl is made of, while their files can be seen */
    if (data_dir == NULL)
        return error_system(err, "cannot find the data folder");
    if (curl_load(err) == NULL || role_enter_courier_root(data_dir, o->s3_ca, err) < 0 ||
        role_drop_rights(uid, gid, err) < 0)
        return -1;
    umask(0);
    /* Changing the user has undone it, if it was there before. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != parent)
        return error_set(err, ERROR_BUSY, "the warden has gone");
    return 0;
}

int role_run_courier(const struct role_options *o)
{
    struct error err = {0};
    struct sigv4_credentials credentials;
    struct courier_options courier = {
        .control_fd = ROLE_FD_CONTROL, .credentials = &credentials, .news = tell_news};
    log_open("thawd courier", o->log_level);
    signal(SIGTERM, SIG_IGN); /* the warden ends it, after all others */
    signal(SIGINT, SIG_IGN);
    int result = -1;
    if (take_descriptors(&credentials, &err) == 0 && role_parse_origin(o, &courier.s3, &err) == 0 &&
        confine(o, &err) == 0) {
        courier.store_fd = open(ROLE_COURIER_STORE, O_PATH | O_DIRECTORY | O_CLOEXEC);
        result = courier_run(&courier, &err);
    }
    if (result < 0)
        log_error("%s", err.text);
    return result < 0;
}
