"""hub_client.py - wane and the Hub's own client in one cache: is anything fetched twice?

python3 tests/reference/hub_client.py build/wane      (needs huggingface_hub; last run with 1.33.0)

Against tests/hub_server.py, so without the network. Each row: who came first, who second, into the cache or a folder of
one's own, and how many bodies of files the second one fetched, which has to be 0. Then both read, offline, what the other
made alone, and the two caches hold the same files.
"""
import json
import os
import subprocess
import sys
import tempfile

WANE, ROOT = os.path.abspath(sys.argv[1]), os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
MODEL = "lune/lune-1m"
FILES = ["*.json", "*.jinja", "model.safetensors"]  # what wane takes of a model
CLIENT = """import sys, huggingface_hub as hub
where = {sys.argv[1]: sys.argv[2]}
print(hub.snapshot_download(%r, allow_patterns=%r, **where))""" % (MODEL, FILES)

home = tempfile.mkdtemp()
server = subprocess.Popen([sys.executable, "tests/hub_server.py", home + "/log", home], cwd=ROOT, stdout=subprocess.PIPE, text=True)
port = server.stdout.readline().split()[1]
runs = 0


def run(command, **more):
    """One program with a scenario of its own -> its output, and how many bodies of files it fetched."""
    global runs
    runs += 1
    scenario = "ok-%d" % runs
    # two names of one machine: to the client, files then come from another host, as those of the Hub do
    env = dict(os.environ, HF_ENDPOINT="http://localhost:%s/%s" % (port, scenario), HF_HUB_DISABLE_XET="1",
               HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HOME=home + "/home")
    done = subprocess.run(command, cwd=ROOT, env=dict(env, **more), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit("%s\n%s" % (" ".join(command), done.stderr))
    with open(home + "/log") as log:
        asked = [json.loads(line) for line in log]
    bodies = [a for a in asked if a["scenario"] == scenario and a["method"] == "GET" and "/api/" not in a["path"]
              and (a["server"] == "cdn" or "model.safetensors" not in a["path"])]
    return done.stdout.strip(), len(bodies)


def wane(where, path, **more):
    if where == "cache_dir":
        return run([WANE, "get", MODEL], HF_HUB_CACHE=path, **more)
    return run([WANE, "get", MODEL, "--to", path], HF_HUB_CACHE=home + "/unused", **more)


def client(where, path, **more):
    return run([sys.executable, "-c", CLIENT, where, path], **more)


def tree(path):
    return sorted(os.path.relpath(os.path.join(at, f), path) for at, _, files in os.walk(path) for f in files
                  if "/trees" not in at)  # the client's own memory of what a commit lists


good = True
try:
    for where in "cache_dir", "local_dir":
        made = []
        for first, second in (wane, client), (client, wane):
            path = "%s/%s-%s" % (home, where, first.__name__)
            one, fetched = first(where, path)
            if where == "cache_dir":
                good &= second(where, path, HF_HUB_OFFLINE="1")[0] == one
            two, again = second(where, path)
            made.append(tree(path))
            good &= one == two and again == 0 and fetched == 6
            print("%-9s  %-6s fetched %d, then %-6s %d" % (where, first.__name__, fetched, second.__name__, again))
        good &= where != "cache_dir" or made[0] == made[1]
finally:
    server.terminate()
print("as it has to be" if good else "WRONG")
raise SystemExit(not good)
