/* Faults at system calls: a library for LD_PRELOAD.
 *
 * It counts the calls that change files below a folder, in all processes of a program together, and strikes one of them: a signal, an
 * error, a torn or short write. It also shifts the clock of the time of day. Settings and counts are in a file that all processes map;
 * see shim.py, which has the same layout. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum action { NOTHING, SIGNAL, TORN, ERROR_ONCE, ERROR_FROM_THERE, SHORT_WRITES };
enum operation { WRITE = 1, SYNC = 2, RENAME = 4, CREATE = 8, REMOVE = 16 };

struct control {
    long calls, struck;
    long first, action, operations, signal, group, error;
    long jump_at, offset; /* nanoseconds of CLOCK_MONOTONIC; seconds */
    long of_operation[5];
    char folder[1024], place[1024];
};

static struct control *control;

#define NEXT(type, name, ...)                                     \
    static type (*next)(__VA_ARGS__);                             \
    if (!next) next = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

void soak_arm(const char *path) {
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    void *map = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (map != MAP_FAILED) control = map;
}

__attribute__((constructor)) static void arm_from_environment(void) {
    const char *path = getenv("SOAK_CONTROL");
    if (path) soak_arm(path);
}

static int below(const char *path) {
    char whole[PATH_MAX];
    if (path[0] != '/') {
        if (!getcwd(whole, sizeof whole - 1)) return 0;
        strcat(whole, "/");
        path = whole; /* no command leaves its working folder by a relative path */
    }
    return strncmp(path, control->folder, strlen(control->folder)) == 0;
}

static int is_ours(int file) {
    char link[64], path[PATH_MAX];
    if (!control || file < 3) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return path[0] == '/' && below(path); /* others are pipes and sockets */
}

/* Count a call; nonzero if it is to be struck. */
static int counted(enum operation operation, const char *name, const char *path, int file) {
    char link[64];
    __sync_add_and_fetch(&control->of_operation[__builtin_ctz(operation)], 1);
    long number = __sync_add_and_fetch(&control->calls, control->operations & operation ? 1 : 0);
    if (!(control->operations & operation) || control->action == NOTHING || number < control->first) return 0;
    int lasts = control->action == ERROR_FROM_THERE || control->action == SHORT_WRITES;
    if (number > control->first && !lasts) return 0;
    if (__sync_fetch_and_add(&control->struck, 1) == 0) {
        int length = snprintf(control->place, sizeof control->place, "%s ", name);
        snprintf(link, sizeof link, "/proc/self/fd/%d", file);
        if (path)
            snprintf(control->place + length, sizeof control->place - length, "%s", path);
        else if ((length += readlink(link, control->place + length, sizeof control->place - length - 1)) > 0)
            control->place[length] = 0;
    }
    return 1;
}

static void send_signal(void) {
    int saved = errno;
    kill(control->group ? 0 : getpid(), (int)control->signal);
    errno = saved;
}

/* What a struck call other than a write does: nonzero if it fails. */
static int fails(void) {
    if (control->action == SIGNAL || control->action == TORN) send_signal();
    if (control->action != ERROR_ONCE && control->action != ERROR_FROM_THERE) return 0;
    errno = (int)control->error;
    return 1;
}

/* The length that a struck write is to have; 0 if it fails. */
static size_t length_of(size_t length) {
    if (control->action == SHORT_WRITES && length > 1) return length - length / 2;
    return fails() ? 0 : length;
}

ssize_t write(int file, const void *data, size_t length) {
    NEXT(ssize_t, "write", int, const void *, size_t);
    if (!is_ours(file) || !counted(WRITE, "write", NULL, file)) return next(file, data, length);
    if (control->action == TORN) {
        next(file, data, length / 2);
        send_signal();
    }
    size_t part = length_of(length);
    return part || !length ? next(file, data, part) : -1;
}

static ssize_t struck_pwrite(ssize_t (*next)(int, const void *, size_t, off_t), int file, const void *data, size_t length, off_t at) {
    if (!is_ours(file) || !counted(WRITE, "pwrite", NULL, file)) return next(file, data, length, at);
    size_t part = length_of(length);
    return part || !length ? next(file, data, part, at) : -1;
}

ssize_t pwrite(int file, const void *data, size_t length, off_t at) {
    NEXT(ssize_t, "pwrite", int, const void *, size_t, off_t);
    return struck_pwrite(next, file, data, length, at);
}

ssize_t pwrite64(int file, const void *data, size_t length, off_t at) {
    NEXT(ssize_t, "pwrite64", int, const void *, size_t, off_t);
    return struck_pwrite(next, file, data, length, at);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    NEXT(ssize_t, "writev", int, const struct iovec *, int);
    if (!is_ours(file) || !counted(WRITE, "writev", NULL, file)) return next(file, parts, count);
    if (control->action == SHORT_WRITES && count) return next(file, parts, 1);
    return fails() ? -1 : next(file, parts, count);
}

ssize_t sendfile(int to, int from, off_t *offset, size_t length) {
    NEXT(ssize_t, "sendfile", int, int, off_t *, size_t);
    if (!is_ours(to) || !counted(WRITE, "sendfile", NULL, to)) return next(to, from, offset, length);
    size_t part = length_of(length);
    return part || !length ? next(to, from, offset, part) : -1;
}

int fsync(int file) {
    NEXT(int, "fsync", int);
    return is_ours(file) && counted(SYNC, "fsync", NULL, file) && fails() ? -1 : next(file);
}

int fdatasync(int file) {
    NEXT(int, "fdatasync", int);
    return is_ours(file) && counted(SYNC, "fdatasync", NULL, file) && fails() ? -1 : next(file);
}

int rename(const char *from, const char *to) {
    NEXT(int, "rename", const char *, const char *);
    return control && below(to) && counted(RENAME, "rename to", to, -1) && fails() ? -1 : next(from, to);
}

int renameat(int old, const char *from, int new, const char *to) {
    NEXT(int, "renameat", int, const char *, int, const char *);
    return control && below(to) && counted(RENAME, "rename to", to, -1) && fails() ? -1 : next(old, from, new, to);
}

int link(const char *from, const char *to) {
    NEXT(int, "link", const char *, const char *);
    return control && below(to) && counted(RENAME, "link", to, -1) && fails() ? -1 : next(from, to);
}

int unlink(const char *path) {
    NEXT(int, "unlink", const char *);
    return control && below(path) && counted(REMOVE, "unlink", path, -1) && fails() ? -1 : next(path);
}

int mkdir(const char *path, mode_t mode) {
    NEXT(int, "mkdir", const char *, mode_t);
    return control && below(path) && counted(CREATE, "mkdir", path, -1) && fails() ? -1 : next(path, mode);
}

static int creates(const char *path, int flags) {
    return control && flags & O_CREAT && below(path) && counted(CREATE, "create", path, -1) && fails();
}

#define MODE                                          \
    mode_t mode = 0;                                  \
    if (flags & (O_CREAT | O_TMPFILE)) {              \
        va_list more;                                 \
        va_start(more, flags);                        \
        mode = va_arg(more, mode_t);                  \
        va_end(more);                                 \
    }

int open(const char *path, int flags, ...) {
    NEXT(int, "open", const char *, int, ...);
    MODE
    return creates(path, flags) ? -1 : next(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    NEXT(int, "open64", const char *, int, ...);
    MODE
    return creates(path, flags) ? -1 : next(path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...) {
    NEXT(int, "openat", int, const char *, int, ...);
    MODE
    return creates(path, flags) ? -1 : next(folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...) {
    NEXT(int, "openat64", int, const char *, int, ...);
    MODE
    return creates(path, flags) ? -1 : next(folder, path, flags, mode);
}

static int (*real_clock)(clockid_t, struct timespec *);

static long offset(void) {
    struct timespec now;
    if (!control || !control->offset) return 0;
    real_clock(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec >= control->jump_at ? control->offset : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!real_clock) real_clock = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real_clock(clock, now);
    if (result == 0 && clock == CLOCK_REALTIME) now->tv_sec += offset();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    int result = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return result;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}

/* The kernel compares with its own clock. */
int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
    NEXT(int, "sem_timedwait", sem_t *, const struct timespec *);
    struct timespec real = *until;
    real.tv_sec -= offset();
    return next(semaphore, &real);
}
