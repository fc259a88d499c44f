/* sums.c - SHA256SUMS of a folder that was just written, in the lines of sha256sum: what wane check
 * --verify, or sha256sum -c, compares with later. A thread hashes the files while the others read
 * them back, several files at once, as a hash goes through one byte after byte. */
#include "runtime/save/sums.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/files.h"

enum { CHUNK = 1 << 20, PATH = 4096 + 300, READERS = 4 };

struct wane_sums {
    char *dir;
    const wane_device *device;
    pthread_t thread;
    bool threaded;
    atomic_bool stop;
    char *text; /* the lines */
    wane_status status;
    wane_err why;
};

static wane_status hash_file(const wane_sums *s, const char *path, char *chunk, char hex[65],
                             wane_err *e)
{
    wane_status status = WANE_OK;
    wane_sha256 h;
    ssize_t n = 1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return wane_fail_io(e, "read", path);
    wane_sha256_start(&h);
    while (!status && n > 0 && !atomic_load(&s->stop)) {
        do n = read(fd, chunk, CHUNK);
        while (n < 0 && errno == EINTR);
        if (n > 0) wane_sha256_add(&h, chunk, (size_t)n);
        status = n < 0 ? wane_fail_io(e, "read", path) : wane_device_poll(s->device, e);
    }
    close(fd);
    wane_sha256_hex(&h, hex);
    return status;
}

static int is_name(const struct dirent *f)
{
    return strcmp(f->d_name, ".") && strcmp(f->d_name, "..");
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

typedef struct {
    char hex[65];
} hash;

static wane_status hash_files(wane_sums *s, struct dirent **files, int count, hash *hashes)
{
    wane_status status = WANE_OK;
#pragma omp parallel for schedule(dynamic) num_threads(READERS)
    for (int i = 0; i < count; i++) {
        char path[PATH], *chunk = malloc(CHUNK);
        wane_err why;
        snprintf(path, sizeof path, "%s/%s", s->dir, files[i]->d_name);
        wane_status here = chunk ? hash_file(s, path, chunk, hashes[i].hex, &why)
                                 : wane_fail(&why, WANE_EOOM, "host: no memory to read %s", path);
        free(chunk);
        if (!here) continue;
#pragma omp critical
        {
            status = here;
            s->why = why;
        }
    }
    return status;
}

static void *work(void *self)
{
    wane_sums *s = self;
    struct dirent **files = NULL;
    size_t length = 0;
    FILE *lines = open_memstream(&s->text, &length);
    int count = scandir(s->dir, &files, is_name, by_name);
    hash *hashes = calloc(count > 0 ? (size_t)count : 1, sizeof *hashes);
    if (!hashes || !lines)
        s->status = wane_fail(&s->why, WANE_EOOM, "host: no memory for %s", "SHA256SUMS");
    else if (count < 0)
        s->status = wane_fail_io(&s->why, "list", s->dir);
    else
        s->status = hash_files(s, files, count, hashes);
    for (int i = 0; i < count && !s->status; i++)
        fprintf(lines, "%s  %s\n", hashes[i].hex, files[i]->d_name);
    if (lines && fclose(lines) && !s->status)
        s->status = wane_fail(&s->why, WANE_EOOM, "host: no memory for %s", "SHA256SUMS");
    for (int i = 0; i < count; i++) free(files[i]);
    free(files);
    free(hashes);
    return NULL;
}

wane_status wane_sums_start(const char *dir, const wane_device *device, wane_sums **out,
                            wane_err *e)
{
    wane_sums *s = calloc(1, sizeof *s);
    *out = NULL;
    if (s) s->dir = strdup(dir);
    if (!s || !s->dir) {
        free(s);
        return wane_fail(e, WANE_EOOM, "host: no memory for the hashes of %s", dir);
    }
    s->device = device;
    s->threaded = !pthread_create(&s->thread, NULL, work, s); /* without one, at the end */
    *out = s;
    return WANE_OK;
}

wane_status wane_sums_finish(wane_sums *s, bool write, wane_err *e)
{
    char path[PATH];
    if (!write) atomic_store(&s->stop, true);
    if (s->threaded)
        pthread_join(s->thread, NULL);
    else if (write)
        work(s);
    wane_status status = write ? s->status : WANE_OK;
    if (status && e) *e = s->why;
    snprintf(path, sizeof path, "%s/SHA256SUMS", s->dir);
    if (write && !status) status = wane_file_write_all(path, s->text, strlen(s->text), e);
    free(s->text);
    free(s->dir);
    free(s);
    return status;
}
