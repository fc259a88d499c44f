/* lock.c - one process at a time in a folder; see files.h.
 *
 * The kernel drops a flock with its process, so a crash leaves no stale lock, only the file. Where
 * a file system has no flock the lock is not exclusive; that is safe, since everything is written
 * under names of its own and published by a rename that refuses to replace. */
#include "runtime/base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct wane_lock {
    int fd;
    char *path;
};

/* Whether path still names the file behind fd: its last holder may have removed it meanwhile. */
static bool still_named(int fd, const char *path)
{
    struct stat a, b;
    return !fstat(fd, &a) && !stat(path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static wane_status held_by_another(int fd, const char *dir, const char *path, wane_err *e)
{
    char text[256], owner[512], shown[512];
    ssize_t n = pread(fd, text, sizeof text, 0);
    while (n > 0 && text[n - 1] == '\n') n--;
    wane_escape(owner, sizeof owner, text, n > 0 ? (size_t)n : 0);
    wane_escape(shown, sizeof shown, dir, strlen(dir));
    wane_fail(e, WANE_EIO, "%s is in use by %s; wait for it, or take another folder", shown,
              owner[0] ? owner : "another process");
    wane_err_at(e, "lock", NULL, path);
    return WANE_EIO;
}

wane_status wane_lock_take(const char *dir, wane_lock **out, wane_err *e)
{
    char host[256] = "?", text[320];
    wane_status s = WANE_OK;
    *out = NULL;
    size_t size = strlen(dir) + sizeof "/.lock";
    wane_lock *lock = malloc(sizeof *lock);
    char *path = malloc(size);
    int fd = -1;
    if (!lock || !path) {
        s = wane_fail(e, WANE_EOOM, "host: no memory for a lock");
        goto done;
    }
    snprintf(path, size, "%s/.lock", dir);
    for (bool taken = false; !taken;) {
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (fd < 0) {
            s = wane_fail_io(e, "lock", path);
            goto done;
        }
        if (flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) {
            s = held_by_another(fd, dir, path, e);
            goto done;
        }
        taken = still_named(fd, path);
        if (!taken) close(fd);
    }
    gethostname(host, sizeof host - 1);
    int length = snprintf(text, sizeof text, "process %ld on %s\n", (long)getpid(), host);
    /* the text only serves the message of whoever comes next: a full disk must not stop the work */
    if (!ftruncate(fd, 0) && pwrite(fd, text, (size_t)length, 0) < 0) errno = 0;
    lock->fd = fd;
    lock->path = path;
    *out = lock;
    return WANE_OK;
done:
    if (fd >= 0) close(fd);
    free(path);
    free(lock);
    return s;
}

void wane_lock_drop(wane_lock *lock)
{
    if (!lock) return;
    unlink(lock->path); /* before it is unlocked, or it could be another's */
    close(lock->fd);
    free(lock->path);
    free(lock);
}
