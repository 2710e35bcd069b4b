// Faults at the calls by which a process changes files. Preloaded (LD_PRELOAD), it counts the calls on files
// below one folder; the n-th of them kills the process, a write after half of its bytes, or fails with an
// errno, and then so do all after it but those that remove.
//
// Left alone: reading, mapped memory (LMDB writes by pwrite), and what libc writes for stdio by itself.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static atomic_long calls;
static long fault_at;
static int fault_errno;

// Begins to count. `at`: the call that the fault strikes, 0 for none. `error`: its errno, 0 for SIGKILL.
void fault_arm(const char* below, long at, int error) {
  calls = 0;
  fault_at = at;
  fault_errno = error;
  snprintf(folder, sizeof folder, "%s", below);
}

long fault_calls(void) {
  return calls;
}

static bool below(const char* path) {
  char full[2 * PATH_MAX];
  size_t length = strlen(folder);
  if (!length) return false;
  if (path[0] == '/') return !strncmp(path, folder, length);
  if (!getcwd(full, PATH_MAX)) return false;
  strcat(full, "/");
  strncat(full, path, PATH_MAX - 1);
  return !strncmp(full, folder, length);
}

static bool file_below(int file) {
  char link[64], path[PATH_MAX];
  if (!folder[0]) return false;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return false;
  path[length] = 0;
  return below(path);
}

enum Strike { kNone, kKill, kFail };

static enum Strike strike(bool ours, bool removes) {
  if (!ours) return kNone;
  long n = ++calls;
  if (!fault_at || n < fault_at) return kNone;
  if (!fault_errno) return n == fault_at ? kKill : kNone;
  if (removes) return kNone;
  errno = fault_errno;
  return kFail;
}

// Whether the call is not to happen.
static bool stops(enum Strike strike) {
  if (strike == kKill) kill(getpid(), SIGKILL);
  return strike != kNone;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

// A call that is one step: it happens or not.
#define STEP(name, parameters, arguments, ours, removes)             \
  int name parameters {                                              \
    return stops(strike(ours, removes)) ? -1 : REAL(name) arguments; \
  }

STEP(fsync, (int file), (file), file_below(file), false)
STEP(fdatasync, (int file), (file), file_below(file), false)
STEP(ftruncate, (int file, off_t size), (file, size), file_below(file), false)
STEP(ftruncate64, (int file, off64_t size), (file, size), file_below(file), false)
STEP(truncate, (const char* path, off_t size), (path, size), below(path), false)
STEP(truncate64, (const char* path, off64_t size), (path, size), below(path), false)
STEP(rename, (const char* from, const char* to), (from, to), below(to), false)
STEP(renameat, (int a, const char* from, int b, const char* to), (a, from, b, to), below(to), false)
STEP(mkdir, (const char* path, mode_t mode), (path, mode), below(path), false)
STEP(unlink, (const char* path), (path), below(path), true)
STEP(unlinkat, (int at, const char* path, int flags), (at, path, flags), below(path) || file_below(at), true)
STEP(rmdir, (const char* path), (path), below(path), true)

// A call that writes: a process that is killed in it may have written a part.
#define WRITE(name, parameters, arguments, half)         \
  ssize_t name parameters {                              \
    enum Strike found = strike(file_below(file), false); \
    if (found == kKill) half;                            \
    return stops(found) ? -1 : REAL(name) arguments;     \
  }

WRITE(write, (int file, const void* data, size_t size), (file, data, size), REAL(write)(file, data, size / 2))
WRITE(pwrite, (int file, const void* data, size_t size, off_t at), (file, data, size, at),
    REAL(pwrite)(file, data, size / 2, at))
WRITE(pwrite64, (int file, const void* data, size_t size, off64_t at), (file, data, size, at),
    REAL(pwrite64)(file, data, size / 2, at))
WRITE(writev, (int file, const struct iovec* parts, int count), (file, parts, count),
    REAL(writev)(file, parts, count / 2))
WRITE(pwritev, (int file, const struct iovec* parts, int count, off_t at), (file, parts, count, at),
    REAL(pwritev)(file, parts, count / 2, at))
WRITE(pwritev64, (int file, const struct iovec* parts, int count, off64_t at), (file, parts, count, at),
    REAL(pwritev64)(file, parts, count / 2, at))

// Opening counts where it may make or change the file.
#define OPEN(name, parameters, arguments)                                       \
  int name parameters {                                                         \
    va_list rest;                                                               \
    va_start(rest, flags);                                                      \
    mode_t mode = (flags & (O_CREAT | __O_TMPFILE)) ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                                               \
    bool ours = (flags & (O_CREAT | O_WRONLY | O_RDWR)) && below(path);         \
    return stops(strike(ours, false)) ? -1 : REAL(name) arguments;              \
  }

OPEN(open, (const char* path, int flags, ...), (path, flags, mode))
OPEN(open64, (const char* path, int flags, ...), (path, flags, mode))
OPEN(openat, (int at, const char* path, int flags, ...), (at, path, flags, mode))
OPEN(openat64, (int at, const char* path, int flags, ...), (at, path, flags, mode))
