/* files.h - reading whole files, and writing so that a final name never shows half a file.
 *
 * Writing: a temporary name in the same folder, written, synced, renamed, the folder synced. */
#ifndef WANE_FILES_H
#define WANE_FILES_H

#include <stdio.h>

#include "runtime/base/error.h"

/* The file's bytes and a 0 after them; *out is the caller's: free. EFORMAT where it is larger than
 * most. */
wane_status wane_file_read_all(const char *path, uint64_t most, char **out, size_t *length,
                               wane_err *e);

/* Fills e for a write of so many bytes to path, open as fd, that failed with errno: EIO, with what
 * was asked for and is free, and the fix, where the disk is full. */
wane_status wane_fail_disk(wane_err *e, const char *path, int fd, uint64_t bytes, const char *fix);

/* A file being written. Every write is checked; after a failure the later calls do nothing and
 * close reports it. */
typedef struct wane_writer wane_writer;

wane_status wane_writer_open(const char *path, wane_writer **out,
                             wane_err *e); /* opens PATH.partial-PID-N */
/* Asks the disk for that many bytes at once, so that a full one is known before the work; the size
 * does not change. */
wane_status wane_writer_reserve(wane_writer *, uint64_t bytes, wane_err *e);
wane_status wane_writer_write(wane_writer *, const void *data, size_t bytes, wane_err *e);
/* The same at a place of its own, from several threads at once; a failure is told here alone. */
wane_status wane_writer_write_at(wane_writer *, uint64_t offset, const void *data, size_t bytes,
                                 wane_err *e);
const char *wane_writer_temporary(
    const wane_writer *); /* its name until commit: to read back what was written */
wane_status
wane_writer_commit(wane_writer *,
                   wane_err *e); /* sync, rename, sync the folder; frees it, also on failure */
void wane_writer_discard(wane_writer *); /* removes the temporary; NULL is fine */

/* All of it in one call. */
wane_status wane_file_write_all(const char *path, const void *data, size_t bytes, wane_err *e);

wane_status wane_dir_make(const char *path,
                          wane_err *e); /* with its parents; an existing one is fine */
wane_status wane_dir_remove(const char *path,
                            wane_err *e); /* with what is in it; does not follow links */
wane_status wane_dir_sync(const char *path, wane_err *e);
wane_status wane_rename(const char *from, const char *to,
                        wane_err *e); /* refuses to replace; syncs the folder */

/* One process at a time in a folder: PATH/.lock, held by flock and naming host and pid. EIO says
 * who has it. */
typedef struct wane_lock wane_lock;
wane_status wane_lock_take(const char *dir, wane_lock **out, wane_err *e);
void wane_lock_drop(wane_lock *); /* NULL is fine */

/* SHA-256 as 64 lower-case hex digits and a 0. */
typedef struct {
    uint32_t state[8];
    uint64_t length;
    uint8_t block[64];
    bool instructions; /* the processor's own; false computes the same without them */
} wane_sha256;
void wane_sha256_start(wane_sha256 *);
void wane_sha256_add(wane_sha256 *, const void *data, size_t bytes);
void wane_sha256_hex(wane_sha256 *, char out[65]);

#endif
