/* files.c - reading whole files, writing through a temporary name, folders; see files.h.
 *
 * The order of a publish is the one that survives a power cut: the file's bytes, then its name,
 * then the folder that holds the name. */
#include "runtime/base/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "runtime/base/units.h"

enum { WRITE_MOST = 1 << 30, STARTS = 64 << 20, TREE_DEPTH = 64 };

static wane_status no_memory(wane_err *e, size_t bytes)
{
    wane_fail(e, WANE_EOOM, "host: no memory for %zu bytes", bytes);
    if (e) e->requested = bytes;
    return WANE_EOOM;
}

/* The folder of a path, the caller's to free; NULL without memory. */
static char *folder_of(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--; /* "a/b/" lies in "a" */
    while (n > 0 && path[n - 1] != '/') n--;
    if (n == 0) return strdup(".");
    while (n > 1 && path[n - 1] == '/') n--;
    return strndup(path, n);
}

static wane_status sync_folder_of(const char *path, wane_err *e)
{
    char *folder = folder_of(path);
    if (!folder) return no_memory(e, strlen(path));
    wane_status s = wane_dir_sync(folder, e);
    free(folder);
    return s;
}

static ssize_t read_some(int fd, char *out, size_t bytes)
{
    ssize_t n;
    do n = read(fd, out, bytes);
    while (n < 0 && errno == EINTR);
    return n;
}

static wane_status too_large(const char *path, uint64_t most, wane_err *e)
{
    char shown[512], limit[24];
    wane_escape(shown, sizeof shown, path, strlen(path));
    wane_bytes_format(limit, sizeof limit, most);
    wane_fail(e, WANE_EFORMAT, "%s is larger than the %s that such a file may have", shown, limit);
    wane_err_at(e, "read", NULL, path);
    return WANE_EFORMAT;
}

wane_status wane_file_read_all(const char *path, uint64_t most, char **out, size_t *length,
                               wane_err *e)
{
    struct stat about;
    char *text = NULL;
    wane_status s = WANE_OK;
    *out = NULL;
    *length = 0;
    if (most > SIZE_MAX / 4) most = SIZE_MAX / 4;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &about)) {
        s = wane_fail_io(e, "read", path);
        goto done;
    }
    if (S_ISREG(about.st_mode) && (uint64_t)about.st_size > most) {
        s = too_large(path, most, e);
        goto done;
    }
    /* the size is a hint: pipes and /proc say 0, and a log may grow under us */
    size_t room = (size_t)about.st_size + 1, used = 0;
    if (!S_ISREG(about.st_mode) || room < 4096) room = 4096;
    text = malloc(room + 1);
    if (!text) {
        s = no_memory(e, room + 1);
        goto done;
    }
    for (;;) {
        if (used == room) {
            room *= 2;
            char *more = realloc(text, room + 1);
            if (!more) {
                s = no_memory(e, room + 1);
                goto done;
            }
            text = more;
        }
        ssize_t n = read_some(fd, text + used, room - used);
        if (n < 0) {
            s = wane_fail_io(e, "read", path);
            goto done;
        }
        if (n == 0) break;
        used += (size_t)n;
        if (used > most) {
            s = too_large(path, most, e);
            goto done;
        }
    }
    text[used] = 0;
    *out = text;
    *length = used;
    text = NULL;
done:
    free(text);
    if (fd >= 0) close(fd);
    return s;
}

struct wane_writer {
    char *path, *temporary;
    int fd;
    uint64_t written, started; /* bytes, and of those, how many the disk was told to begin with */
    bool failed;               /* why holds the first failure */
    wane_err why;
};

wane_status wane_writer_open(const char *path, wane_writer **out, wane_err *e)
{
    wane_status s = WANE_OK;
    size_t size = strlen(path) + 48;
    *out = NULL;
    wane_writer *w = calloc(1, sizeof *w);
    if (w) {
        w->fd = -1;
        w->path = strdup(path);
        w->temporary = malloc(size);
    }
    if (!w || !w->path || !w->temporary) {
        s = no_memory(e, size);
        goto done;
    }
    /* a name that exists is another's, or was left by a process that had our number */
    for (int n = 0; w->fd < 0; n++) {
        snprintf(w->temporary, size, "%s.partial-%ld-%d", path, (long)getpid(), n);
        w->fd = open(w->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (w->fd < 0 && (errno != EEXIST || n == 9999)) {
            s = wane_fail_io(e, "write", path);
            goto done;
        }
    }
    *out = w;
    return WANE_OK;
done:
    if (w) {
        free(w->path);
        free(w->temporary);
        free(w);
    }
    return s;
}

wane_status wane_fail_disk(wane_err *e, const char *path, int fd, uint64_t bytes, const char *fix)
{
    int code = errno;
    struct statvfs disk;
    char shown[400], asked[24], left[24];
    wane_status s = wane_fail_io(e, "write", path);
    if ((code != ENOSPC && code != EDQUOT && code != EFBIG) || !e || fstatvfs(fd, &disk)) return s;
    e->requested = bytes;
    e->free = (uint64_t)disk.f_bavail * disk.f_frsize;
    wane_escape(shown, sizeof shown, path, strlen(path));
    snprintf(e->message, sizeof e->message, "cannot write %s: %s: %s asked for, %s free there; %s",
             shown, strerror(code), wane_bytes_format(asked, sizeof asked, bytes),
             wane_bytes_format(left, sizeof left, e->free), fix);
    return s;
}

static wane_status disk_error(const char *path, int fd, uint64_t bytes, wane_err *e)
{
    return wane_fail_disk(e, path, fd, bytes, "make room or take another folder");
}

static wane_status writer_failed(wane_writer *w, const wane_err *why, wane_err *e)
{
    if (!w->failed) w->why = *why;
    w->failed = true;
    if (e && e != &w->why) *e = w->why;
    return w->why.status;
}

wane_status wane_writer_reserve(wane_writer *w, uint64_t bytes, wane_err *e)
{
    wane_err why;
    int rc;
    if (w->failed) return writer_failed(w, &w->why, e);
    do rc = fallocate(w->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes);
    while (rc && errno == EINTR);
    /* only these two say that the bytes will not fit; a file system may just not know the call */
    if (!rc || (errno != ENOSPC && errno != EDQUOT)) return WANE_OK;
    disk_error(w->path, w->fd, bytes, &why);
    return writer_failed(w, &why, e);
}

/* Has the disk begin with what is written, so that the sync at the end has less to wait for. */
static void start_disk(wane_writer *w, uint64_t least)
{
    if (w->written - w->started < least) return;
    sync_file_range(w->fd, (off_t)w->started, (off_t)(w->written - w->started),
                    SYNC_FILE_RANGE_WRITE);
    w->started = w->written;
}

wane_status wane_writer_write(wane_writer *w, const void *data, size_t bytes, wane_err *e)
{
    const char *p = data;
    wane_err why;
    if (w->failed) return writer_failed(w, &w->why, e);
    while (bytes) {
        ssize_t n = write(w->fd, p, bytes < WRITE_MOST ? bytes : WRITE_MOST);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            disk_error(w->path, w->fd, bytes, &why);
            return writer_failed(w, &why, e);
        }
        p += n;
        bytes -= (size_t)n;
        w->written += (uint64_t)n;
    }
    start_disk(w, STARTS);
    return WANE_OK;
}

wane_status wane_writer_write_at(wane_writer *w, uint64_t offset, const void *data, size_t bytes,
                                 wane_err *e)
{
    const char *p = data;
    while (bytes) {
        ssize_t n = pwrite(w->fd, p, bytes < WRITE_MOST ? bytes : WRITE_MOST, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return disk_error(w->path, w->fd, bytes, e);
        sync_file_range(w->fd, (off_t)offset, (off_t)n, SYNC_FILE_RANGE_WRITE);
        p += n;
        offset += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return WANE_OK;
}

const char *wane_writer_temporary(const wane_writer *w)
{
    return w->temporary;
}

void wane_writer_discard(wane_writer *w)
{
    if (!w) return;
    if (w->fd >= 0) close(w->fd);
    unlink(w->temporary);
    free(w->path);
    free(w->temporary);
    free(w);
}

wane_status wane_writer_commit(wane_writer *w, wane_err *e)
{
    wane_status s = WANE_OK;
    if (w->failed) {
        s = writer_failed(w, &w->why, e);
        wane_writer_discard(w);
        return s;
    }
    if (fsync(w->fd)) s = disk_error(w->path, w->fd, 0, e);
    int fd = w->fd;
    w->fd = -1;
    if (close(fd) && !s && errno != EINTR) s = wane_fail_io(e, "write", w->path);
    if (!s && rename(w->temporary, w->path)) s = wane_fail_io(e, "write", w->path);
    if (s) {
        wane_writer_discard(w);
        return s;
    }
    s = sync_folder_of(w->path, e);
    free(w->path);
    free(w->temporary);
    free(w);
    return s;
}

wane_status wane_file_write_all(const char *path, const void *data, size_t bytes, wane_err *e)
{
    wane_writer *w;
    wane_status s = wane_writer_open(path, &w, e);
    if (s) return s;
    /* a failed write is told again by commit */
    (void)wane_writer_write(w, data, bytes, NULL);
    return wane_writer_commit(w, e);
}

wane_status wane_dir_sync(const char *path, wane_err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return wane_fail_io(e, "sync folder", path);
    wane_status s = WANE_OK;
    /* some file systems have nothing to sync in a folder and say so */
    if (fsync(fd) && errno != EINVAL && errno != EROFS && errno != ENOTSUP)
        s = wane_fail_io(e, "sync folder", path);
    close(fd);
    return s;
}

static bool is_dir(const char *path)
{
    struct stat about;
    return !stat(path, &about) && S_ISDIR(about.st_mode);
}

wane_status wane_dir_make(const char *path, wane_err *e)
{
    wane_status s = WANE_OK;
    if (is_dir(path)) return WANE_OK;
    char *part = strdup(path);
    if (!part) return no_memory(e, strlen(path) + 1);
    for (char *p = part + (*part == '/'); !s; p++) {
        if (*p && *p != '/') continue;
        char kept = *p;
        *p = 0;
        int made = mkdir(part, 0777), why = errno;
        if (!made) {
            s = sync_folder_of(part, e);
        } else if (!is_dir(part)) {
            errno = why;
            s = wane_fail_io(e, "make folder", part);
        }
        *p = kept;
        if (!kept) break;
    }
    free(part);
    return s;
}

/* Removes what is in the folder fd, which it closes. path is for messages. */
static wane_status empty_dir(int fd, const char *path, int depth, wane_err *e)
{
    wane_status s = WANE_OK;
    DIR *list = fdopendir(fd);
    if (!list) {
        s = wane_fail_io(e, "remove", path);
        close(fd);
        return s;
    }
    for (struct dirent *entry; !s && (errno = 0, entry = readdir(list));) {
        const char *name = entry->d_name;
        if (!strcmp(name, ".") || !strcmp(name, "..")) continue;
        if (!unlinkat(dirfd(list), name, 0)) continue;
        if (errno != EISDIR && errno != EPERM) {
            s = wane_fail_io(e, "remove what is in", path);
            break;
        }
        if (depth == TREE_DEPTH) {
            errno = ELOOP;
            s = wane_fail_io(e, "remove what is deep in", path);
            break;
        }
        int inner = openat(dirfd(list), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (inner < 0)
            s = wane_fail_io(e, "remove what is in", path);
        else
            s = empty_dir(inner, path, depth + 1, e);
        if (!s && unlinkat(dirfd(list), name, AT_REMOVEDIR))
            s = wane_fail_io(e, "remove what is in", path);
    }
    if (!s && errno) s = wane_fail_io(e, "remove what is in", path);
    closedir(list);
    return s;
}

wane_status wane_dir_remove(const char *path, wane_err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return wane_fail_io(e, "remove folder", path);
    wane_status s = empty_dir(fd, path, 0, e);
    if (!s && rmdir(path)) s = wane_fail_io(e, "remove folder", path);
    return s ? s : sync_folder_of(path, e);
}

/* rename that refuses to replace, on file systems without that flag: a file by a second link; a
 * folder by rename, which itself refuses to replace one that is not empty. */
static int rename_by_hand(const char *from, const char *to)
{
    struct stat about;
    if (!lstat(to, &about)) return errno = EEXIST, -1;
    if (errno != ENOENT || lstat(from, &about)) return -1;
    if (S_ISDIR(about.st_mode)) return rename(from, to);
    if (link(from, to)) return -1;
    return unlink(from);
}

wane_status wane_rename(const char *from, const char *to, wane_err *e)
{
    char shown[512];
    int rc = renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
    if (rc && (errno == EINVAL || errno == ENOSYS)) rc = rename_by_hand(from, to);
    if (rc && (errno == EEXIST || errno == ENOTEMPTY)) {
        wane_escape(shown, sizeof shown, to, strlen(to));
        wane_fail(e, WANE_EIO, "%s exists and is not replaced; move it away or choose another name",
                  shown);
        wane_err_at(e, "rename", NULL, to);
        return WANE_EIO;
    }
    if (rc) return wane_fail_io(e, "rename to", to);
    wane_status s = sync_folder_of(to, e);
    return s ? s : sync_folder_of(from, e);
}
