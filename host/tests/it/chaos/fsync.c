/* Loaded into the host before libc: makes an fsync of the queue's files fail when it is told to, and keeps beside each
 * file a copy of what would be there after a loss of power.
 *
 * FSYNC_FAULTS names a directory. A file `fail` in it holds the end of a name ("queue.db-wal"): the next fsync of such
 * a file fails with EIO, once, as Linux does it: the next one succeeds, and what was written before the failure does
 * not reach the disk by it, but what is written anew does. `journal` tells of every fsync.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define BLOCK 4096

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static int ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return tail > 0 && length >= tail && strcmp(text + length - tail, end) == 0;
}

static void must(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "fsync.c: %s: %s\n", what, strerror(errno));
        abort();
    }
}

static void note(const char *faults, const char *what, const char *path) {
    char name[PATH_MAX], line[PATH_MAX];
    snprintf(name, sizeof name, "%s/journal", faults);
    int file = open(name, O_WRONLY | O_CREAT | O_APPEND, 0644);
    must(file >= 0, "opening the journal");
    int length = snprintf(line, sizeof line, "%s %d %s\n", what, (int)getpid(), path);
    must(write(file, line, length) == length, "writing the journal");
    close(file);
}

/* Opens what is kept of `path` beside it: `.durable` is what is on the disk, `.lost` has a byte for each block, 1 where
 * it was written before a failed fsync and not since. */
static int beside(const char *path, const char *kind, int flags) {
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s.%s", path, kind);
    return open(name, flags, 0644);
}

/* An fsync that succeeds: each block is on the disk as it is, but for the lost ones, which are as they were. */
static void settle(const char *path) {
    int from = open(path, O_RDONLY), to = beside(path, "durable", O_RDWR | O_CREAT), lost = beside(path, "lost", O_RDONLY);
    must(from >= 0 && to >= 0, "opening the copies");
    char block[BLOCK], is_lost;
    off_t at = 0;
    ssize_t size;
    while ((size = pread(from, block, BLOCK, at)) > 0) {
        if (lost < 0 || pread(lost, &is_lost, 1, at / BLOCK) != 1 || !is_lost) {
            must(pwrite(to, block, size, at) == size, "writing a copy");
        }
        at += size;
    }
    must(ftruncate(to, at) == 0, "cutting a copy");
    close(from);
    close(to);
    if (lost >= 0) {
        close(lost);
    }
}

/* An fsync that fails: what is not on the disk yet will not be by a later one. */
static void lose(const char *path) {
    int from = open(path, O_RDONLY), to = beside(path, "durable", O_RDONLY);
    int lost = beside(path, "lost", O_WRONLY | O_CREAT | O_TRUNC);
    must(from >= 0 && lost >= 0, "opening the copies");
    char block[BLOCK], durable[BLOCK];
    off_t at = 0;
    ssize_t size;
    while ((size = pread(from, block, BLOCK, at)) > 0) {
        char is_lost = to < 0 || pread(to, durable, size, at) != size || memcmp(block, durable, size) != 0;
        must(pwrite(lost, &is_lost, 1, at / BLOCK) == 1, "noting what is lost");
        at += size;
    }
    close(from);
    close(lost);
    if (to >= 0) {
        close(to);
    }
}

/* What is written anew reaches the disk with the next fsync, by whole blocks. */
static void written(const char *path, off_t at, ssize_t length) {
    int lost = beside(path, "lost", O_RDWR);
    if (lost < 0) {
        return;
    }
    for (off_t block = at / BLOCK; block * BLOCK < at + length; block++) {
        must(pwrite(lost, "", 1, block) == 1, "noting what is written");
    }
    close(lost);
}

/* Whether this fsync is to fail, once. */
static int is_to_fail(const char *faults, const char *path) {
    char name[PATH_MAX], end[64] = "";
    snprintf(name, sizeof name, "%s/fail", faults);
    int file = open(name, O_RDONLY);
    if (file < 0) {
        return 0;
    }
    ssize_t size = read(file, end, sizeof end - 1);
    close(file);
    return size > 0 && ends_with(path, end) && unlink(name) == 0;
}

/* The path of an open file of the queue; 0 when it is none of them. */
static int is_of_queue(int fd, char *path, size_t room) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, room - 1);
    path[length > 0 ? length : 0] = 0;
    return ends_with(path, "/queue.db") || ends_with(path, "/queue.db-wal");
}

static int synced(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    const char *faults = getenv("FSYNC_FAULTS");
    char path[PATH_MAX - 16];
    if (faults == NULL || !is_of_queue(fd, path, sizeof path)) {
        return real(fd);
    }
    pthread_mutex_lock(&one_at_a_time);
    int failed = is_to_fail(faults, path);
    if (failed) {
        lose(path);
    } else {
        settle(path);
    }
    note(faults, failed ? "failed" : "done", path);
    pthread_mutex_unlock(&one_at_a_time);
    if (failed) {
        errno = EIO;
        return -1;
    }
    return real(fd);
}

int fsync(int fd) {
    return synced("fsync", fd);
}

int fdatasync(int fd) {
    return synced("fdatasync", fd);
}

static void note_write(int fd, off_t at, ssize_t length) {
    char path[PATH_MAX - 16];
    int before = errno;
    if (length > 0 && getenv("FSYNC_FAULTS") != NULL && is_of_queue(fd, path, sizeof path)) {
        pthread_mutex_lock(&one_at_a_time);
        written(path, at, length);
        pthread_mutex_unlock(&one_at_a_time);
    }
    errno = before;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    static ssize_t (*real)(int, const void *, size_t);
    if (real == NULL) {
        real = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    }
    ssize_t done = real(fd, bytes, length);
    if (done > 0) {
        note_write(fd, lseek(fd, 0, SEEK_CUR) - done, done);
    }
    return done;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (real == NULL) {
        real = (ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    }
    ssize_t done = real(fd, bytes, length, at);
    note_write(fd, at, done);
    return done;
}
