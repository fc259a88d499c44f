/* main.c - the program: arguments, Ctrl-C, and the exit code; all else is lua/wane/cli.lua. */
#include <signal.h>
#include <stdio.h>

#include "runtime/wane.h"

static wane *the_wane; /* for the signal handler alone */

static void on_interrupt(int signal_number)
{
    signal(signal_number, SIG_DFL); /* the second one ends the program */
    if (the_wane) wane_interrupt(the_wane);
}

int main(int argc, char **argv)
{
    wane *w;
    int code = wane_open(&w, NULL);
    if (!code) {
        the_wane = w;
        signal(SIGINT, on_interrupt);
        signal(SIGTERM, on_interrupt);
        signal(SIGPIPE, SIG_IGN);
        code = wane_main(w, "wane.cli", argc - 1, argv + 1);
        the_wane = NULL;
    }
    if (code && wane_message(w)) fprintf(stderr, "wane: %s\n", wane_message(w));
    wane_close(w);
    return code;
}
