/* wane.h - all that a program which embeds wane includes.
 *
 *     wane *w;
 *     int failed = wane_open(&w, NULL) || wane_run_file(w, "recipes/fallback.lua", argc, argv);
 *     if (failed) fprintf(stderr, "%s\n", wane_message(w));
 *     wane_close(w);
 *
 * One wane is one Lua state with its devices, for one thread at a time; a program that wants two opens two.
 * The library never prints, exits or installs signal handlers. */
#ifndef WANE_H
#define WANE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WANE_API __attribute__((visibility("default")))

typedef struct wane wane;

typedef struct {
    const char *device;   /* "auto" where NULL, "cpu", "cuda", "cuda:1" */
    uint64_t memory;      /* bytes on the device at once; 0: no limit */
    uint64_t host_memory; /* bytes for what waits on the host; 0: no limit */
    const char *lua;      /* a folder with wane/init.lua instead of the embedded Lua; NULL: $WANE_LUA or embedded */
} wane_options;

/* 0, or not 0 with wane_message saying why. *w is set in both cases (NULL only where memory is out) and must be
 * closed. options may be NULL. */
WANE_API int wane_open(wane **w, const wane_options *options);
WANE_API void wane_close(wane *w); /* NULL is fine */

/* Runs a Lua file, or code; arg[0] is the file, arg[1].. the arguments. 0, or an exit code of README's table. */
WANE_API int wane_run_file(wane *w, const char *file, int argc, char **argv);
WANE_API int wane_eval(wane *w, const char *code, const char *name);
/* require(module).main(arguments): what the program's command line is made of. */
WANE_API int wane_main(wane *w, const char *module, int argc, char **argv);

WANE_API const char *wane_message(wane *w); /* the last failure, with its traceback; never NULL */
WANE_API void wane_interrupt(wane *w);      /* stop soon; safe in a signal handler and from any thread */
struct lua_State;
WANE_API struct lua_State *wane_lua(wane *w); /* to add modules of one's own */
WANE_API const char *wane_version(void);

#ifdef __cplusplus
}
#endif
#endif
