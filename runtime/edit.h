/* edit.h - the line editor of the prompt: part of the program, not of the library. */
#ifndef WANE_EDIT_H
#define WANE_EDIT_H

#include <stdbool.h>

#include "runtime/wane.h"

/* Lets Lua code require "wane.edit"; false without memory. */
bool edit_open(wane *w);
/* A signal came: the line that is being read notices. Safe in a signal handler. */
void edit_wake(int number);
/* main.c: Ctrl-C stops what runs again, after a first one did. */
void main_arm(void);

#endif
