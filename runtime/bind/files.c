/* files.c - wane.core.files: whole files, writes that never show half a file, folders, a lock,
 * SHA-256. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/files.h"
#include "runtime/bind/bind.h"

enum { CHUNK = 1 << 20 };
static const lua_Integer READ_MOST = 1 << 30; /* bytes, unless the caller says otherwise */

static void drop_lock(void *lock)
{
    wane_lock_drop(lock);
}
static const wane_type LOCK = {"wane.lock", drop_lock, NULL, NULL};

/* a path, which may hold any byte but 0 */
static const char *check_path(lua_State *L, int arg)
{
    size_t n;
    const char *path = luaL_checklstring(L, arg, &n);
    luaL_argcheck(L, n > 0 && strlen(path) == n, arg, "a path without zero bytes");
    return path;
}

static int l_read(lua_State *L)
{
    wane_err e;
    char *text = NULL;
    size_t length;
    const char *path = check_path(L, 1);
    lua_Integer most = luaL_optinteger(L, 2, READ_MOST);
    luaL_argcheck(L, most >= 0, 2, "a number of bytes");
    wane_box *box = wane_newbox(L, &wane_text_type);
    WANE_TRY(L, e, wane_file_read_all(path, (uint64_t)most, &text, &length, &e));
    box->p = text;
    lua_pushlstring(L, text, length);
    return 1;
}

static int l_write(lua_State *L)
{
    wane_err e;
    size_t length;
    const char *path = check_path(L, 1), *text = luaL_checklstring(L, 2, &length);
    WANE_TRY(L, e, wane_file_write_all(path, text, length, &e));
    return 0;
}

/* One line at the end of a journal. What a crash left of a line before it gets its own line end, so
 * that a reader meets one bad line and no two lines run together. */
static wane_status append(const char *path, const char *text, size_t length, wane_err *e)
{
    char last = '\n';
    wane_status s = WANE_OK;
    char *line = malloc(length + 2);
    int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    if (!line) {
        s = wane_fail(e, WANE_EOOM, "host: no memory for %zu bytes", length);
        goto done;
    }
    if (size < 0 || (size > 0 && pread(fd, &last, 1, size - 1) != 1)) {
        s = wane_fail_io(e, "append to", path);
        goto done;
    }
    size_t n = last != '\n';
    line[0] = '\n';
    memcpy(line + n, text, length);
    line[n + length] = '\n';
    ssize_t wrote;
    do wrote = write(fd, line, n + length + 1);
    while (wrote < 0 && errno == EINTR);
    if (wrote >= 0 && (size_t)wrote < n + length + 1) {
        errno = ENOSPC;
        wrote = -1;
    }
    if (wrote < 0 || fdatasync(fd)) s = wane_fail_io(e, "append to", path);
done:
    free(line);
    if (fd >= 0) close(fd);
    return s;
}

static int l_append(lua_State *L)
{
    wane_err e;
    size_t length;
    const char *path = check_path(L, 1), *text = luaL_checklstring(L, 2, &length);
    luaL_argcheck(L, !memchr(text, '\n', length), 2, "one line, without its end");
    WANE_TRY(L, e, append(path, text, length, &e));
    return 0;
}

static int l_mkdir(lua_State *L)
{
    wane_err e;
    const char *path = check_path(L, 1);
    WANE_TRY(L, e, wane_dir_make(path, &e));
    return 0;
}

static int l_remove(lua_State *L)
{
    wane_err e;
    struct stat about;
    const char *path = check_path(L, 1);
    if (lstat(path, &about)) {
        if (errno == ENOENT) return lua_pushboolean(L, 0), 1;
    } else if (S_ISDIR(about.st_mode)) {
        WANE_TRY(L, e, wane_dir_remove(path, &e));
        return lua_pushboolean(L, 1), 1;
    } else if (!unlink(path)) {
        return lua_pushboolean(L, 1), 1;
    }
    wane_fail_io(&e, "remove", path);
    return wane_raise(L, &e);
}

static int l_rename(lua_State *L)
{
    wane_err e;
    const char *from = check_path(L, 1), *to = check_path(L, 2);
    WANE_TRY(L, e, wane_rename(from, to, &e));
    return 0;
}

static int l_kind(lua_State *L)
{
    size_t n;
    struct stat about;
    luaL_checklstring(L, 1, &n);
    if (!n || stat(check_path(L, 1), &about)) return 0; /* "" names nothing */
    lua_pushstring(L, S_ISREG(about.st_mode)   ? "file"
                      : S_ISDIR(about.st_mode) ? "directory"
                                               : "other");
    lua_pushinteger(L, about.st_size);
    return 2;
}

static int l_may_write(lua_State *L)
{
    if (!access(check_path(L, 1), W_OK | X_OK)) return lua_pushboolean(L, 1), 1;
    int why = errno;
    lua_pushboolean(L, 0);
    lua_pushstring(L, strerror(why));
    return 2;
}

static int l_size(lua_State *L)
{
    wane_err e;
    struct stat about;
    const char *path = check_path(L, 1);
    if (stat(path, &about)) {
        wane_fail_io(&e, "read", path);
        return wane_raise(L, &e);
    }
    lua_pushinteger(L, about.st_size);
    return 1;
}

/* A file changed within the clock's last ticks may change again under the same times. */
static int l_stamp(lua_State *L)
{
    struct stat a;
    struct timespec now;
    char text[128];
    if (stat(check_path(L, 1), &a) || !S_ISREG(a.st_mode) || clock_gettime(CLOCK_REALTIME, &now))
        return 0;
    if (a.st_ctim.tv_sec + 2 > now.tv_sec) return 0;
    snprintf(text, sizeof text, "%llx:%llx:%lld:%lld.%09ld", (unsigned long long)a.st_dev,
             (unsigned long long)a.st_ino, (long long)a.st_size, (long long)a.st_ctim.tv_sec,
             (long)a.st_ctim.tv_nsec);
    lua_pushstring(L, text);
    return 1;
}

static void close_dir(void *d)
{
    closedir(d);
}
static const wane_type DIRECTORY = {"wane.directory", close_dir, NULL, NULL};

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int l_list(lua_State *L)
{
    wane_err e;
    const char *path = check_path(L, 1);
    wane_box *box = wane_newbox(L, &DIRECTORY);
    box->p = opendir(path);
    if (!box->p) {
        wane_fail_io(&e, "list", path);
        return wane_raise(L, &e);
    }
    lua_newtable(L);
    lua_Integer n = 0;
    for (struct dirent *entry; (entry = readdir(box->p));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        lua_pushstring(L, entry->d_name);
        lua_rawseti(L, -2, ++n);
    }
    const char **names = wane_bind_scratch(L, (size_t)n * sizeof *names);
    lua_newtable(L); /* found, names, sorted */
    for (lua_Integer i = 0; i < n; i++) {
        lua_rawgeti(L, -3, i + 1);
        names[i] = lua_tostring(L, -1); /* found still holds it */
        lua_pop(L, 1);
    }
    qsort(names, (size_t)n, sizeof *names, by_name);
    for (lua_Integer i = 0; i < n; i++) {
        lua_pushstring(L, names[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int l_lock(lua_State *L)
{
    wane_err e;
    wane_lock *lock = NULL;
    const char *path = check_path(L, 1);
    wane_box *box = wane_newbox(L, &LOCK);
    WANE_TRY(L, e, wane_lock_take(path, &lock, &e));
    box->p = lock;
    return 1;
}

static int l_sha256(lua_State *L)
{
    size_t length;
    char hex[65];
    wane_sha256 h;
    const char *text = luaL_checklstring(L, 1, &length);
    wane_sha256_start(&h);
    wane_sha256_add(&h, text, length);
    wane_sha256_hex(&h, hex);
    lua_pushstring(L, hex);
    return 1;
}

static wane_status hash_file(const char *path, void *chunk, const atomic_int *interrupt,
                             char hex[65], wane_err *e)
{
    wane_status s = WANE_OK;
    wane_sha256 h;
    ssize_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    wane_sha256_start(&h);
    while (fd >= 0 && ((n = read(fd, chunk, CHUNK)) > 0 || (n < 0 && errno == EINTR))) {
        if (n > 0) wane_sha256_add(&h, chunk, (size_t)n);
        if (!atomic_load_explicit(interrupt, memory_order_relaxed)) continue;
        s = wane_fail(e, WANE_EINTERRUPTED, "interrupted");
        goto done;
    }
    if (fd < 0 || n < 0)
        s = wane_fail_io(e, "read", path);
    else
        wane_sha256_hex(&h, hex);
done:
    if (fd >= 0) close(fd);
    return s;
}

static int l_sha256_file(lua_State *L)
{
    wane_err e;
    char hex[65];
    const char *path = check_path(L, 1);
    void *chunk = wane_bind_scratch(L, CHUNK);
    WANE_TRY(L, e, hash_file(path, chunk, &wane_bind_context(L)->interrupt, hex, &e));
    lua_pushstring(L, hex);
    return 1;
}

static const wane_reg functions[] = {
    {"read", l_read,
     "read(path, most) -> the bytes of a file of at most so many (1 GiB); raises io, format"},
    {"write", l_write,
     "write(path, text): all of it or nothing, synced, in place of what was there; raises io"},
    {"append", l_append, "append(path, line): a line at the end of a journal, synced; raises io"},
    {"mkdir", l_mkdir,
     "mkdir(path): a folder and its parents; one that is there is fine; raises io"},
    {"remove", l_remove,
     "remove(path) -> whether it was there; a folder with all in it, links not followed; raises "
     "io"},
    {"rename", l_rename, "rename(from, to): refuses to replace; raises io"},
    {"kind", l_kind,
     "kind(path) -> \"file\", \"directory\" or \"other\" and its bytes, or nothing where there is "
     "none"},
    {"may_write", l_may_write,
     "may_write(folder) -> whether files can be made in it; where not, why"},
    {"size", l_size, "size(path) -> bytes of a file; raises io"},
    {"stamp", l_stamp,
     "stamp(path) -> a text that another content would change; nothing where the file is younger "
     "than two seconds, so that nobody can tell"},
    {"list", l_list, "list(path) -> the names in a folder, sorted; raises io"},
    {"lock", l_lock,
     "lock(path) -> a lock on a folder, held until it is closed; raises io naming who has it"},
    {"sha256", l_sha256, "sha256(text) -> 64 hex digits"},
    {"sha256_file", l_sha256_file, "sha256_file(path) -> 64 hex digits; raises io"},
    {NULL, NULL, NULL},
};

void wane_open_files(lua_State *L)
{
    wane_bind_type(L, &LOCK);
    wane_bind_type(L, &DIRECTORY);
    wane_bind_module(L, "files", functions);
}
