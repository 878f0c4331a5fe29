/* A library for LD_PRELOAD: writes down every change of the file system below a folder, in order.

   Python's own calls and those of C++ (TensorStore) go through the functions of libc that are
   replaced here. Needs no root. Read by recorder.py, which also compiles it.

   TORTURE_ROOT     only changes below this folder count (absolute, without links)
   TORTURE_LOG      file to which records are appended
   TORTURE_KIND, TORTURE_PART
                    the moment: before the first change of this kind (a number) to a path that
                    contains this text, the new one of a rename
   TORTURE_SIGNAL   what the process gets then
   TORTURE_ERRNO    with this everything fails from then on that makes the disk fuller

   A record: 5 numbers of 8 bytes (kind, bytes of path, bytes of second path, argument, bytes of
   data), then the two paths and the data. Synchronizing is recorded, but is no change. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, MKDIR, RMDIR, LINK, SYMLINK };

static char root[PATH_MAX];
static size_t root_size;
static int journal = -1;
static const char *part;
static int kind_met, stop_signal, full_errno, met;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
  void *found = dlsym(RTLD_NEXT, name);
  if (!found) abort();
  return found;
}

__attribute__((constructor)) static void begin(void) {
  const char *folder = getenv("TORTURE_ROOT"), *log = getenv("TORTURE_LOG");
  const char *kind = getenv("TORTURE_KIND"), *with = getenv("TORTURE_SIGNAL");
  const char *number = getenv("TORTURE_ERRNO");
  if (!folder || !log) return;
  strncpy(root, folder, sizeof root - 1);
  root_size = strlen(root);
  part = getenv("TORTURE_PART");
  kind_met = kind ? atoi(kind) : 0;
  stop_signal = with ? atoi(with) : 0;
  full_errno = number ? atoi(number) : 0;
  journal = REAL(open)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

static int inside(const char *path) {
  return journal >= 0 && !strncmp(path, root, root_size) &&
         (path[root_size] == '/' || !path[root_size]);
}

/* The absolute path of an open file, as it is now; empty for what is no file with a name. */
static void path_of(int fd, char *out) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, out, PATH_MAX - 1);
  out[size > 0 ? size : 0] = 0;
  const char *gone = " (deleted)";
  if (size > 10 && !strcmp(out + size - 10, gone)) out[0] = 0;
}

/* The absolute path of an argument of one of the *at calls. */
static void path_at(int fd, const char *path, char *out) {
  if (path[0] == '/') {
    strncpy(out, path, PATH_MAX - 1);
    return;
  }
  if (fd == AT_FDCWD) {
    if (!getcwd(out, PATH_MAX)) out[0] = 0;
  } else {
    path_of(fd, out);
  }
  size_t size = strlen(out);
  snprintf(out + size, PATH_MAX - size, "/%s", path);
}

/* Before a change; nonzero if it must fail. `grows`: it takes room on the disk. */
static int comes(int kind, const char *path, int grows) {
  if (!met && part && kind == kind_met && strstr(path, part)) {
    met = 1;
    if (stop_signal) kill(getpid(), stop_signal);
  }
  if (!met || !full_errno || !grows) return 0;
  errno = full_errno;
  return 1;
}

static void put(const void *data, size_t size) {
  const char *next = data;
  while (size) {
    ssize_t done = REAL(write)(journal, next, size);
    if (done < 0) abort();
    next += done, size -= done;
  }
}

static void note(long kind, const char *path, const char *other, int64_t value, const void *data,
                 size_t size) {
  int kept = errno;
  int64_t head[5] = {kind, (int64_t)strlen(path), (int64_t)strlen(other), value, (int64_t)size};
  put(head, sizeof head);
  put(path, strlen(path));
  put(other, strlen(other));
  put(data, size);
  errno = kept;
}

/* What a call wrote that has no buffer of ours: it is read back. */
static void note_range(int fd, const char *path, int64_t offset, size_t size) {
  char link[64], *data = malloc(size ? size : 1);
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  int again = REAL(open)(link, O_RDONLY | O_CLOEXEC);
  if (again < 0 || pread(again, data, size, offset) != (ssize_t)size) abort();
  close(again);
  note(WRITE, path, "", offset, data, size);
  free(data);
}

static int opened(int fd, const char *path, int flags, mode_t mode) {
  char full[PATH_MAX] = "";
  int writes = flags & (O_CREAT | O_TRUNC);
  if (journal < 0 || !writes) return REAL(openat)(fd, path, flags, mode);
  path_at(fd, path, full);
  if (!inside(full)) return REAL(openat)(fd, path, flags, mode);
  pthread_mutex_lock(&lock);
  struct stat before;
  int there = !fstatat(AT_FDCWD, full, &before, 0);
  int changed = !there || ((flags & O_TRUNC) && before.st_size);
  int found = changed && comes(there ? TRUNCATE : CREATE, full, !there) ? -1 : REAL(openat)(fd, path, flags, mode);
  if (found >= 0 && !there) note(CREATE, full, "", 0, "", 0);
  if (found >= 0 && there && changed) note(TRUNCATE, full, "", 0, "", 0);
  pthread_mutex_unlock(&lock);
  return found;
}

#define MODE(flags, mode)              \
  mode_t mode = 0;                     \
  if ((flags) & (O_CREAT | O_TMPFILE)) { \
    va_list more;                      \
    va_start(more, flags);             \
    mode = va_arg(more, int);          \
    va_end(more);                      \
  }

int open(const char *path, int flags, ...) {
  MODE(flags, mode)
  return opened(AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
  MODE(flags, mode)
  return opened(AT_FDCWD, path, flags, mode);
}
int openat(int fd, const char *path, int flags, ...) {
  MODE(flags, mode)
  return opened(fd, path, flags, mode);
}
int openat64(int fd, const char *path, int flags, ...) {
  MODE(flags, mode)
  return opened(fd, path, flags, mode);
}
int creat(const char *path, mode_t mode) {
  return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
int creat64(const char *path, mode_t mode) {
  return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* A call that writes to `fd`; `place` is where, or -1 for where the file stands. */
#define WRITING(type, call, place, taken)                                 \
  char path[PATH_MAX] = "";                                               \
  if (journal < 0) return call;                                           \
  path_of(fd, path);                                                      \
  if (!inside(path)) return call;                                         \
  pthread_mutex_lock(&lock);                                              \
  type done = comes(WRITE, path, 1) ? -1 : call;                          \
  if (done > 0) {                                                         \
    int64_t offset = (place) >= 0 ? (int64_t)(place) : lseek(fd, 0, SEEK_CUR) - done; \
    taken;                                                                \
  }                                                                       \
  pthread_mutex_unlock(&lock);                                            \
  return done;

ssize_t write(int fd, const void *data, size_t size) {
  WRITING(ssize_t, REAL(write)(fd, data, size), -1, note(WRITE, path, "", offset, data, done))
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
  WRITING(ssize_t, REAL(pwrite)(fd, data, size, at), at, note(WRITE, path, "", offset, data, done))
}
ssize_t pwrite64(int fd, const void *data, size_t size, off_t at) {
  WRITING(ssize_t, REAL(pwrite)(fd, data, size, at), at, note(WRITE, path, "", offset, data, done))
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
  WRITING(ssize_t, REAL(writev)(fd, parts, count), -1, note_range(fd, path, offset, done))
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
  WRITING(ssize_t, REAL(pwritev)(fd, parts, count, at), at, note_range(fd, path, offset, done))
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at) {
  WRITING(ssize_t, REAL(pwritev)(fd, parts, count, at), at, note_range(fd, path, offset, done))
}
ssize_t sendfile(int fd, int from, off_t *at, size_t size) {
  WRITING(ssize_t, REAL(sendfile)(fd, from, at, size), -1, note_range(fd, path, offset, done))
}
ssize_t sendfile64(int fd, int from, off_t *at, size_t size) { return sendfile(fd, from, at, size); }
ssize_t copy_file_range(int from, off_t *from_at, int fd, off_t *at, size_t size, unsigned flags) {
  int64_t place = at ? *at : -1;
  WRITING(ssize_t, REAL(copy_file_range)(from, from_at, fd, at, size, flags), place,
          note_range(fd, path, offset, done))
}

/* A call that changes what the paths `a` and `b` name. */
#define CHANGING(kind, grows, call, from_fd, from, to_fd, to)             \
  char a[PATH_MAX] = "", b[PATH_MAX] = "";                                \
  if (journal < 0) return call;                                           \
  path_at(from_fd, from, a);                                              \
  if ((to)[0]) path_at(to_fd, to, b);                                     \
  if (!inside(a) && !inside(b)) return call;                              \
  pthread_mutex_lock(&lock);                                              \
  int done = comes(kind, b[0] ? b : a, grows) ? -1 : call;                \
  if (!done) note(kind, a, b, 0, "", 0);                                  \
  pthread_mutex_unlock(&lock);                                            \
  return done;

#define HERE AT_FDCWD
int rename(const char *x, const char *y) { CHANGING(RENAME, 0, REAL(rename)(x, y), HERE, x, HERE, y) }
int renameat(int f, const char *x, int g, const char *y) {
  CHANGING(RENAME, 0, REAL(renameat)(f, x, g, y), f, x, g, y)
}
int renameat2(int f, const char *x, int g, const char *y, unsigned flags) {
  CHANGING(RENAME, 0, REAL(renameat2)(f, x, g, y, flags), f, x, g, y)
}
int unlink(const char *x) { CHANGING(UNLINK, 0, REAL(unlink)(x), HERE, x, HERE, "") }
int rmdir(const char *x) { CHANGING(RMDIR, 0, REAL(rmdir)(x), HERE, x, HERE, "") }
int unlinkat(int f, const char *x, int flags) {
  CHANGING(flags & AT_REMOVEDIR ? RMDIR : UNLINK, 0, REAL(unlinkat)(f, x, flags), f, x, HERE, "")
}
int mkdir(const char *x, mode_t mode) { CHANGING(MKDIR, 1, REAL(mkdir)(x, mode), HERE, x, HERE, "") }
int mkdirat(int f, const char *x, mode_t mode) {
  CHANGING(MKDIR, 1, REAL(mkdirat)(f, x, mode), f, x, HERE, "")
}
int link(const char *x, const char *y) { CHANGING(LINK, 1, REAL(link)(x, y), HERE, x, HERE, y) }
int linkat(int f, const char *x, int g, const char *y, int flags) {
  CHANGING(LINK, 1, REAL(linkat)(f, x, g, y, flags), f, x, g, y)
}
int symlink(const char *x, const char *y) { CHANGING(SYMLINK, 1, REAL(symlink)(x, y), HERE, x, HERE, y) }

static int cut(int fd, off_t size) {
  char path[PATH_MAX] = "";
  if (journal < 0) return REAL(ftruncate)(fd, size);
  path_of(fd, path);
  if (!inside(path)) return REAL(ftruncate)(fd, size);
  pthread_mutex_lock(&lock);
  struct stat before;
  int changed = !fstat(fd, &before) && before.st_size != size;
  int done = changed && comes(TRUNCATE, path, 0) ? -1 : REAL(ftruncate)(fd, size);
  if (!done && changed) note(TRUNCATE, path, "", size, "", 0);
  pthread_mutex_unlock(&lock);
  return done;
}
int ftruncate(int fd, off_t size) { return cut(fd, size); }
int ftruncate64(int fd, off_t size) { return cut(fd, size); }

/* Synchronizing: recorded when it has succeeded. */
#define SYNCING(call)                                       \
  char path[PATH_MAX] = "";                                 \
  if (journal < 0) return call;                             \
  path_of(fd, path);                                        \
  if (!inside(path)) return call;                           \
  pthread_mutex_lock(&lock);                                \
  int done = call;                                          \
  if (!done) note(SYNC, path, "", 0, "", 0);                \
  pthread_mutex_unlock(&lock);                              \
  return done;

int fsync(int fd) { SYNCING(REAL(fsync)(fd)) }
int fdatasync(int fd) { SYNCING(REAL(fdatasync)(fd)) }
