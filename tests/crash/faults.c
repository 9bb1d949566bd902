// Counts the system calls of a process that change a folder, and lets the one with a given number go wrong.
// Preloaded (LD_PRELOAD) into the process under test, so that it holds for all code in it, of whatever language.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum fault { NONE, KILL, TORN, FULL, POWER };  // TORN: half of a write is made; POWER: what is not synced is lost

static char folder[4096];
static long count, at;
static enum fault fault;
static int journal = -1;
static int unsynced[256], unsynced_count;  // descriptors of our own of files with data that only memory holds

// Called in the child before the command runs. `path` is absolute, `log` a descriptor for one line a call.
void faults_arm(const char* path, long number, int what, int log) {
  snprintf(folder, sizeof folder, "%s", path);
  count = 0, at = number, fault = what, journal = log;
}

static int inside(const char* path) {
  size_t n = strlen(folder);
  return n && !strncmp(path, folder, n) && (path[n] == '/' || !path[n]);
}

static int descriptor_inside(int fd, char* path, size_t size) {
  char link[64];
  if (!folder[0]) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, size - 1);
  if (n < 0) return 0;
  path[n] = 0;
  return inside(path);
}

static void die(void) {
  if (fault == POWER)
    for (int i = 0; i < unsynced_count; ++i)
      if (syscall(SYS_ftruncate, unsynced[i], 0)) continue;
  syscall(SYS_kill, getpid(), SIGKILL);
  for (;;) pause();
}

// Before each call; whether it shall fail with ENOSPC. `fills`: 1 takes room, 0 may, -1 never does. `half`, where it is
// a write, makes half of it.
static int strike(const char* call, const char* path, int fills, void (*half)(void*), void* argument) {
  char line[4200];
  const char* name = path + strlen(folder);
  int n = snprintf(line, sizeof line, "%s %s\n", call, *name ? name + 1 : ".");
  ++count;
  if (journal >= 0 && syscall(SYS_write, journal, line, n) != n) die();
  if (fault == NONE || count < at) return 0;
  if (fault == FULL) {
    if (count == at && half) half(argument);
    return fills > 0 || (!fills && count == at);  // a full disk still gives files other names, and takes them away
  }
  if (fault == TORN && half) half(argument);
  die();
  return 0;
}

static int full(void) {
  errno = ENOSPC;
  return -1;
}

static int is_file(int fd, struct stat* about) { return !fstat(fd, about) && S_ISREG(about->st_mode); }

static void mark_unsynced(int fd) {
  struct stat mine, other;
  if (fault != POWER || !is_file(fd, &mine)) return;
  for (int i = 0; i < unsynced_count; ++i)
    if (is_file(unsynced[i], &other) && mine.st_ino == other.st_ino) return;
  if (unsynced_count < 256) unsynced[unsynced_count++] = fcntl(fd, F_DUPFD_CLOEXEC, 100);
}

static void mark_synced(int fd) {
  struct stat mine, other;
  if (fault != POWER || !is_file(fd, &mine)) return;
  for (int i = 0; i < unsynced_count; ++i)
    if (is_file(unsynced[i], &other) && mine.st_ino == other.st_ino) {
      close(unsynced[i]);
      unsynced[i--] = unsynced[--unsynced_count];
    }
}

struct data {
  int fd;
  const void* bytes;
  size_t size;
};

static void write_half(void* argument) {
  struct data* d = argument;
  if (syscall(SYS_write, d->fd, d->bytes, d->size / 2) < 0) return;
}

ssize_t write(int fd, const void* bytes, size_t size) {
  char path[4096];
  struct data d = {fd, bytes, size};
  if (descriptor_inside(fd, path, sizeof path)) {
    if (strike("write", path, 1, write_half, &d)) return full();
    mark_unsynced(fd);
  }
  return syscall(SYS_write, fd, bytes, size);
}

ssize_t writev(int fd, const struct iovec* parts, int n) {
  char path[4096];
  if (descriptor_inside(fd, path, sizeof path)) {
    if (strike("write", path, 1, NULL, NULL)) return full();
    mark_unsynced(fd);
  }
  return syscall(SYS_writev, fd, parts, n);
}

ssize_t pwrite64(int fd, const void* bytes, size_t size, off64_t where) {
  char path[4096];
  if (descriptor_inside(fd, path, sizeof path)) {
    if (strike("write", path, 1, NULL, NULL)) return full();
    mark_unsynced(fd);
  }
  return syscall(SYS_pwrite64, fd, bytes, size, where);
}

#define ON_DESCRIPTOR(name, call, synced)                                                                \
  int name(int fd) {                                                                                     \
    char path[4096];                                                                                     \
    if (descriptor_inside(fd, path, sizeof path) && strike("fsync", path, 1, NULL, NULL)) return full(); \
    int result = syscall(call, fd);                                                                      \
    if (synced && !result) mark_synced(fd);                                                              \
    return result;                                                                                       \
  }
ON_DESCRIPTOR(fsync, SYS_fsync, 1)
ON_DESCRIPTOR(fdatasync, SYS_fdatasync, 1)

int rename(const char* from, const char* to) {
  if (inside(to) && strike("rename", to, 0, NULL, NULL)) return full();
  return syscall(SYS_rename, from, to);
}

int unlink(const char* path) {
  if (inside(path) && strike("unlink", path, -1, NULL, NULL)) return full();
  return syscall(SYS_unlink, path);
}

int rmdir(const char* path) {
  if (inside(path) && strike("rmdir", path, -1, NULL, NULL)) return full();
  return syscall(SYS_rmdir, path);
}

int mkdir(const char* path, mode_t mode) {
  if (inside(path) && strike("mkdir", path, 1, NULL, NULL)) return full();
  return syscall(SYS_mkdir, path, mode);
}

static int open_at(int where, const char* path, int flags, mode_t mode) {
  if ((flags & (O_CREAT | O_TRUNC)) && inside(path) && strike("create", path, 1, NULL, NULL)) return full();
  return syscall(SYS_openat, where, path, flags, mode);
}

#define MODE                           \
  mode_t mode = 0;                     \
  if (flags & (O_CREAT | O_TMPFILE)) { \
    va_list rest;                      \
    va_start(rest, flags);             \
    mode = va_arg(rest, mode_t);       \
    va_end(rest);                      \
  }
int open(const char* path, int flags, ...) { MODE return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char* path, int flags, ...) { MODE return open_at(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int where, const char* path, int flags, ...) { MODE return open_at(where, path, flags, mode); }
int openat64(int where, const char* path, int flags, ...) {
  MODE return open_at(where, path, flags | O_LARGEFILE, mode);
}
