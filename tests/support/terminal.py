#!/usr/bin/env python3
"""terminal.py - a person at a terminal, for specs: pty.py COMMAND... reads steps from stdin, one a line:

type TEXT       characters, with Python's escapes: type 1 + 1\\r
expect REGEX    waits (10 s) until the screen's text since the last match holds it
within S REGEX  the same, in at most S seconds
wait S         does nothing for so many seconds
gone CODE       waits for the end of the program and checks its exit code (-N: by signal N)

Prints what the terminal showed. Exits 1 and says which step failed."""
import os, pty, re, select, signal, sys, time

steps = [line.rstrip("\n") for line in sys.stdin if line.strip()]
pid, master = pty.fork()
if pid == 0:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    os.execvp(sys.argv[1], sys.argv[1:])

seen, at = "", 0


def read(seconds):
    """What the terminal shows next; False at the end."""
    global seen
    if not select.select([master], [], [], max(0, seconds))[0]:
        return True
    try:
        data = os.read(master, 65536)
    except OSError:
        data = b""
    text = data.decode("utf-8", "replace")
    seen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()=>].?", "", text)
    return bool(data)


def fail(step, why):
    print(seen)
    print("FAILED:", step, "--", why, "after:", repr(seen[at:]))
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    sys.exit(1)


def expect(step, pattern, seconds):
    global at
    end = time.monotonic() + seconds
    while True:
        found = re.compile(pattern).search(seen, at)
        if found:
            at = found.end()
            return
        if time.monotonic() >= end:
            fail(step, "not within %s s" % seconds)
        if not read(end - time.monotonic()) and not re.compile(pattern).search(seen, at):
            fail(step, "the program ended")


for step in steps:
    verb, _, rest = step.partition(" ")
    if verb == "type":
        os.write(master, rest.encode().decode("unicode_escape").encode("latin-1"))
    elif verb == "expect":
        expect(step, rest, 10)
    elif verb == "within":
        seconds, _, pattern = rest.partition(" ")
        expect(step, pattern, float(seconds))
    elif verb == "wait":
        time.sleep(float(rest))
    elif verb == "gone":
        end = time.monotonic() + 10
        done, status = os.waitpid(pid, os.WNOHANG)
        while not done and time.monotonic() < end:
            read(0.05)
            done, status = os.waitpid(pid, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if done else None
        if code != int(rest):
            fail(step, "it is %s" % code)
    else:
        fail(step, "no such step")
print(seen)
