/* Makes chosen writes and syncs below one directory fail, as a bad or full disk would.
 *
 * FAULT_DIR   only files below it count
 * FAULT_KIND  eio: the operation fails with EIO; full: writes fail with ENOSPC
 * FAULT_AT    the first operation that fails, counted from 1; 0 for none
 * FAULT_FOR   how many fail from there on
 * FAULT_COUNT file in which the number of operations is left at an orderly end
 *
 * Preloaded into the control plane by a_failing_disk_loses_nothing_acknowledged.rs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long operations;

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

/* The error with which this operation fails, 0 where it does not. */
static int fault(int fd, int is_write) {
    const char *below = getenv("FAULT_DIR"), *kind = getenv("FAULT_KIND");
    if (!below || !kind) return 0;
    int saved = errno;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length <= 0) return 0;
    path[length] = 0;
    if (strncmp(path, below, strlen(below)) != 0) return 0;
    long at = number("FAULT_AT"), now = atomic_fetch_add(&operations, 1) + 1;
    if (at == 0 || now < at || now >= at + number("FAULT_FOR")) return 0;
    if (strcmp(kind, "full") == 0) return is_write ? ENOSPC : 0;
    return EIO;
}

#define FAILING(is_write, result, name, parameters, arguments)                     \
    result name parameters {                                                       \
        static result (*real) parameters;                                          \
        if (!real) real = (result (*) parameters)dlsym(RTLD_NEXT, #name);          \
        int error = fault(fd, is_write);                                           \
        if (error) {                                                               \
            errno = error;                                                         \
            return -1;                                                             \
        }                                                                          \
        return real arguments;                                                     \
    }

FAILING(1, ssize_t, write, (int fd, const void *bytes, size_t size), (fd, bytes, size))
FAILING(1, ssize_t, pwrite, (int fd, const void *bytes, size_t size, off_t at), (fd, bytes, size, at))
FAILING(1, ssize_t, pwrite64, (int fd, const void *bytes, size_t size, off64_t at), (fd, bytes, size, at))
FAILING(1, ssize_t, writev, (int fd, const struct iovec *parts, int count), (fd, parts, count))
FAILING(0, int, fsync, (int fd), (fd))
FAILING(0, int, fdatasync, (int fd), (fd))

__attribute__((destructor)) static void tell(void) {
    const char *path = getenv("FAULT_COUNT");
    if (!path) return;
    FILE *file = fopen(path, "w");
    if (!file) return;
    fprintf(file, "%ld\n", (long)operations);
    fclose(file);
}
