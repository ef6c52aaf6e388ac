/* Preloaded into a process: counts its calls that change files below a folder, and at the chosen one kills it, half-way through where
 * it writes, or lets the call fail; or makes every such call slow; or lets the wall clock jump. `lives.py` compiles and uses it.
 *
 *   FAULTS_BELOW   the folder, an absolute path; nothing else is counted
 *   FAULTS_LOG     a file that gets a line before ("b N CALL PATH") and after ("e N") every counted call
 *   FAULTS_AT      the number of the call, from 1
 *   FAULTS_DO      kill: SIGKILL before it;  half: SIGKILL after half of a write, else after the call;  fail: from this call on;
 *                  once: this call alone fails
 *   FAULTS_ERRNO   what a failing call says; ENOSPC comes from calls that need room, others from all
 *   FAULTS_SLOW    microseconds that every counted call takes longer, a write half-way through
 *   FAULTS_CLOCK   "N:SECONDS N:SECONDS ...": from the N-th look at the wall clock on it is off by so many seconds
 *
 * The variables are read once in every process, also in one that was forked.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FD = 4096, MAX_JUMPS = 8 };
enum what { NOTHING, KILL, HALF, FAIL, ONCE };

static pid_t known;
static char below[PATH_MAX];
static size_t below_length;
static int log_fd = -1, chosen_errno;
static long at, slow;
static enum what what;
static atomic_long calls, looks;
static long jump_at[MAX_JUMPS], jump_by[MAX_JUMPS];
static int jumps;
static char *paths[MAX_FD]; /* of the descriptors opened for writing below the folder */

static void set_up(void) {
    pid_t self = (pid_t)syscall(SYS_getpid);
    if (self == known)
        return;
    known = self;
    calls = looks = 0;
    what = NOTHING;
    jumps = 0;
    const char *value = getenv("FAULTS_BELOW");
    snprintf(below, sizeof below, "%s", value ? value : "");
    below_length = strlen(below);
    value = getenv("FAULTS_LOG");
    log_fd = value ? (int)syscall(SYS_openat, AT_FDCWD, value, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
    value = getenv("FAULTS_AT");
    at = value ? atol(value) : 0;
    value = getenv("FAULTS_ERRNO");
    chosen_errno = value ? atoi(value) : EIO;
    value = getenv("FAULTS_SLOW");
    slow = value ? atol(value) : 0;
    value = getenv("FAULTS_DO");
    if (value)
        what = !strcmp(value, "kill") ? KILL : !strcmp(value, "half") ? HALF : !strcmp(value, "fail") ? FAIL : ONCE;
    for (value = getenv("FAULTS_CLOCK"); value && jumps < MAX_JUMPS; value = strchr(value, ' ') ? strchr(value, ' ') + 1 : NULL) {
        if (sscanf(value, "%ld:%ld", &jump_at[jumps], &jump_by[jumps]) == 2)
            jumps++;
    }
}

static void say(const char *kind, long number, const char *call, const char *path) {
    char line[PATH_MAX + 64];
    int length = snprintf(line, sizeof line, "%s %ld %s %s\n", kind, number, call, path);
    if (log_fd >= 0)
        syscall(SYS_write, log_fd, line, (size_t)length);
}

/* The absolute path, or NULL where it is not below the folder. */
static const char *inside(int folder, const char *path, char *whole) {
    set_up();
    if (!below_length || !path)
        return NULL;
    if (path[0] == '/') {
        snprintf(whole, PATH_MAX, "%s", path);
    } else {
        char link[64];
        ssize_t length;
        if (folder == AT_FDCWD) {
            if (!getcwd(whole, PATH_MAX))
                return NULL;
            length = (ssize_t)strlen(whole);
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            if ((length = readlink(link, whole, PATH_MAX - 1)) < 0)
                return NULL;
        }
        snprintf(whole + length, PATH_MAX - (size_t)length, "/%s", path);
    }
    return strncmp(whole, below, below_length) == 0 && (whole[below_length] == '/' || !whole[below_length]) ? whole : NULL;
}

static void die(long number) {
    say("k", number, "", "");
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
}

/* Counts a call. True where it is to fail. `half` is given where the call can be done half. */
static int begins(const char *call, const char *path, int needs_room, long *number, int *half) {
    *number = ++calls;
    *half = 0;
    say("b", *number, call, path);
    if (slow)
        usleep((useconds_t)slow);
    if (*number == at && what == KILL)
        die(*number);
    if (*number == at && what == HALF)
        *half = 1;
    int fails = what == FAIL ? at && *number >= at : what == ONCE && *number == at;
    if (fails && (chosen_errno != ENOSPC || needs_room)) {
        say("f", *number, call, path);
        errno = chosen_errno;
        return 1;
    }
    return 0;
}

static void ended(long number, int half) {
    int kept = errno;
    if (half)
        die(number);
    say("e", number, "", "");
    errno = kept;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define CHANGES(call, folder, path, needs_room, real)                                                                                  \
    char whole[PATH_MAX];                                                                                                              \
    if (!inside(folder, path, whole))                                                                                                  \
        return real;                                                                                                                   \
    long number;                                                                                                                       \
    int half;                                                                                                                          \
    if (begins(call, whole, needs_room, &number, &half))                                                                               \
        return -1;                                                                                                                     \
    int result = real;                                                                                                                 \
    ended(number, half);                                                                                                               \
    return result;

int rename(const char *from, const char *to) { CHANGES("rename", AT_FDCWD, to, 0, REAL(rename)(from, to)) }
int renameat(int a, const char *from, int b, const char *to) { CHANGES("rename", b, to, 0, REAL(renameat)(a, from, b, to)) }
int unlink(const char *path) { CHANGES("unlink", AT_FDCWD, path, 0, REAL(unlink)(path)) }
int unlinkat(int folder, const char *path, int flags) { CHANGES("unlink", folder, path, 0, REAL(unlinkat)(folder, path, flags)) }
int rmdir(const char *path) { CHANGES("rmdir", AT_FDCWD, path, 0, REAL(rmdir)(path)) }
int mkdir(const char *path, mode_t mode) { CHANGES("mkdir", AT_FDCWD, path, 1, REAL(mkdir)(path, mode)) }
int mkdirat(int folder, const char *path, mode_t mode) { CHANGES("mkdir", folder, path, 1, REAL(mkdirat)(folder, path, mode)) }

static int opened(int folder, const char *path, int flags, mode_t mode) {
    char whole[PATH_MAX];
    int writes = (flags & O_ACCMODE) != O_RDONLY;
    if (!writes || !inside(folder, path, whole))
        return (int)syscall(SYS_openat, folder, path, flags, mode);
    long number;
    int half;
    if (begins("open", whole, 1, &number, &half))
        return -1;
    int fd = (int)syscall(SYS_openat, folder, path, flags, mode);
    if (fd >= 0 && fd < MAX_FD) {
        free(paths[fd]);
        paths[fd] = strdup(whole);
    }
    ended(number, half);
    return fd;
}

#define MODE                                                                                                                           \
    mode_t mode = 0;                                                                                                                   \
    if (flags & (O_CREAT | O_TMPFILE)) {                                                                                               \
        va_list rest;                                                                                                                  \
        va_start(rest, flags);                                                                                                         \
        mode = va_arg(rest, mode_t);                                                                                                   \
        va_end(rest);                                                                                                                  \
    }

int open(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE return opened(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE return opened(folder, path, flags | O_LARGEFILE, mode); }

static const char *written(int fd) {
    set_up();
    return below_length && fd >= 0 && fd < MAX_FD ? paths[fd] : NULL;
}

int close(int fd) {
    if (written(fd)) {
        free(paths[fd]);
        paths[fd] = NULL;
    }
    return (int)syscall(SYS_close, fd);
}

ssize_t write(int fd, const void *data, size_t count) {
    const char *path = written(fd);
    if (!path)
        return syscall(SYS_write, fd, data, count);
    long number;
    int half;
    if (begins("write", path, 1, &number, &half))
        return -1;
    ssize_t first = 0;
    if ((half || slow) && count > 1) {
        first = syscall(SYS_write, fd, data, count / 2);
        if (slow)
            usleep((useconds_t)slow);
        if (half)
            die(number);
        if (first < 0)
            return first;
    }
    ssize_t second = syscall(SYS_write, fd, (const char *)data + first, count - (size_t)first);
    ended(number, half);
    return second < 0 ? second : first + second;
}

#define OF_FD(call, needs_room, real)                                                                                                  \
    const char *path = written(fd);                                                                                                    \
    if (!path)                                                                                                                         \
        return real;                                                                                                                   \
    long number;                                                                                                                       \
    int half;                                                                                                                          \
    if (begins(call, path, needs_room, &number, &half))                                                                                \
        return -1;                                                                                                                     \
    __typeof__(real) result = real;                                                                                                    \
    ended(number, half);                                                                                                               \
    return result;

ssize_t writev(int fd, const struct iovec *parts, int count) { OF_FD("write", 1, REAL(writev)(fd, parts, count)) }
ssize_t pwrite64(int fd, const void *data, size_t count, off64_t offset) { OF_FD("write", 1, REAL(pwrite64)(fd, data, count, offset)) }
int fsync(int fd) { OF_FD("fsync", 1, (int)syscall(SYS_fsync, fd)) }
int fdatasync(int fd) { OF_FD("fsync", 1, (int)syscall(SYS_fdatasync, fd)) }
int ftruncate64(int fd, off64_t length) { OF_FD("truncate", 1, (int)syscall(SYS_ftruncate, fd, length)) }

/* The wall clock. The monotonic one is left alone, as setting the clock leaves it. */
static long off(void) {
    set_up();
    long number = ++looks, by = 0;
    for (int index = 0; index < jumps; index++)
        if (number >= jump_at[index])
            by = jump_by[index];
    return by;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
        now->tv_sec += off();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int result = (int)syscall(SYS_gettimeofday, now, zone);
    now->tv_sec += off();
    return result;
}

time_t time(time_t *now) {
    struct timespec found;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &found);
    found.tv_sec += off();
    if (now)
        *now = found.tv_sec;
    return found.tv_sec;
}
