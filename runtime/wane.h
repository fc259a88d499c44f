/* wane.h - all that a program which embeds wane includes.
 *
 *     wane *w;
 *     int failed = wane_open(&w, NULL) || wane_run_file(w, "recipes/fallback.lua", argc, argv);
 *     if (failed) fprintf(stderr, "%s\n", wane_message(w));
 *     wane_close(w);
 *
 * One wane is one Lua state with its devices, for one thread at a time; a program that wants two
 * opens two. The library never prints, exits, installs signal handlers or changes the locale. Where
 * a function says "an exit code": 0 done, 1 an error in Lua code, 2 usage, 3 input refused, 4 out
 * of memory, 5 numeric failure, 6 file system, 7 device or driver, 8 quality gate failed, 9 partly
 * done, 10 network, 75 interrupted. */
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
    const char *lua; /* a folder with wane/init.lua instead of the embedded Lua; NULL: $WANE_LUA or
                        embedded */
} wane_options;

/* 0, or an exit code with wane_message saying why. *w is set in both cases (NULL only where memory
 * is out) and must be closed; after a failure it is good for wane_message and wane_close alone, the
 * rest refuses it. options may be NULL: then the device is opened at its first use. */
WANE_API int wane_open(wane **w, const wane_options *options);
WANE_API void wane_close(wane *w); /* frees all of it; NULL is fine; not from inside a call on w */

/* Runs a Lua file (text, no bytecode), or code; arg[0] is the file, arg[1].. the arguments. 0 or an
 * exit code. A script may return its own exit code, 0 to 255. name: what messages call the code, as
 * "=name"; NULL: its text. */
WANE_API int wane_run_file(wane *w, const char *file, int argc, char **argv);
WANE_API int wane_eval(wane *w, const char *code, const char *name);
/* require(module).main(arguments): what the program's command line is made of. 0 or an exit code;
 * where main returned one, it told its own story and wane_message is "". */
WANE_API int wane_main(wane *w, const char *module, int argc, char **argv);

/* The last failure, with its traceback; "" where there was none. Never NULL; valid until the next
 * call on w. */
WANE_API const char *wane_message(wane *w);
/* What runs on w, or else what is run next, ends soon with code 75 and cannot catch that. Safe in a
 * signal handler and from any thread, as long as w is open. */
WANE_API void wane_interrupt(wane *w);
struct lua_State;
WANE_API struct lua_State *
wane_lua(wane *w); /* to add modules of one's own; NULL where open failed */
WANE_API const char *wane_version(void);

#ifdef __cplusplus
}
#endif
#endif
