/* main.c - the program: signals, standard streams, exit code; the rest is lua/wane/cli.lua. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <lua.h>

#include "runtime/edit.h"
#include "runtime/wane.h"

static wane *the_wane; /* for the signal handlers alone */

static volatile sig_atomic_t stopping; /* one came */
static double first_stop;              /* when, in monotonic seconds */
static const double SAME = 0.2; /* seconds: timeout(1) and batch systems send each signal twice */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The first one asks to stop: work ends at the next step and can be resumed. The second one ends
 * the program. */
static void on_stop(int number)
{
    if (stopping && now() - first_stop > SAME) {
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    if (!stopping) first_stop = now();
    stopping = 1;
    wane_interrupt(the_wane);
    edit_wake(number);
}

static void on_wake(int number)
{
    edit_wake(number);
}

/* Whoever read our output has enough of it (wane ... | head): end quietly. A socket is another
 * matter. */
static void on_pipe(int number)
{
    struct pollfd streams[] = {{.fd = 1, .events = POLLOUT}, {.fd = 2, .events = POLLOUT}};
    (void)number;
    if (poll(streams, 2, 0) > 0 && ((streams[0].revents | streams[1].revents) & POLLERR))
        _exit(128 + SIGPIPE);
}

/* Without SA_RESTART: a script that waits for input is woken. What the caller ignores (nohup) stays
 * so. */
static void handle(int number, void (*f)(int))
{
    struct sigaction old, new = {.sa_handler = f};
    sigfillset(&new.sa_mask);
    if (!sigaction(number, NULL, &old) && old.sa_handler != SIG_IGN) sigaction(number, &new, NULL);
}

void main_arm(void)
{
    static const int stops[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
    stopping = 0;
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) handle(stops[i], on_stop);
}

/* A closed stream would be the next file that is opened: data would go where messages go. */
static void open_streams(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0) open("/dev/null", fd ? O_WRONLY : O_RDONLY);
}

/* Idle OpenMP threads sleep instead of spinning: beside other work, or where one call has little to
 * share out, spinning costs several times what it saves. The OpenMP runtime reads its settings
 * before main, so the program starts itself once more with them. */
static void settle_threads(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") || setenv("OMP_WAIT_POLICY", "passive", 1)) return;
    execv("/proc/self/exe", argv); /* where that cannot be, threads spin */
}

typedef struct {
    bool on, within; /* within: more of the text is to come */
} warnings;

/* A line on stderr for each: errors in __gc, no GPU where one could be expected, a script's own
 * warn(). As in Lua's own, a text of one piece that begins with @ is a switch. */
static void on_warning(void *state, const char *text, int more)
{
    warnings *w = state;
    if (!w->within && !more && *text == '@') {
        if (!strcmp(text, "@on")) w->on = true;
        if (!strcmp(text, "@off")) w->on = false;
        return;
    }
    if (w->on) fprintf(stderr, "%s%s%s", w->within ? "" : "wane: ", text, more ? "" : "\n");
    w->within = more;
}

int main(int argc, char **argv)
{
    open_streams();
    settle_threads(argv);
    wane *w;
    warnings shown = {.on = true};
    int code = wane_open(&w, NULL);
    if (!code) {
        the_wane = w;
        main_arm();
        handle(SIGWINCH, on_wake);
        handle(SIGCONT, on_wake);
        signal(SIGPIPE, on_pipe);
        signal(SIGXFSZ, SIG_IGN); /* past ulimit -f a write fails, as on a full disk */
        lua_setwarnf(wane_lua(w), on_warning, &shown);
        code = edit_open(w) ? wane_main(w, "wane.cli", argc - 1, argv + 1) : 4;
        the_wane = NULL;
    }
    if (code && *wane_message(w)) fprintf(stderr, "wane: %s\n", wane_message(w));
    wane_close(w);
    if ((fflush(stdout) || ferror(stdout)) && !code) { /* a full disk: Lua's print does not tell */
        fputs("wane: cannot write to stdout\n", stderr);
        code = 6;
    }
    return code;
}
