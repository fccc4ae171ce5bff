#!/usr/bin/python3
"""What one more idle clone costs in memory: the proportional set size and the page tables of all processes of the
server, with one clone alive and with many, divided by the difference.

usage: clone_memory.py WARDEN_PID FUNCTION VERSION EVENT_FILE"""

import json
import os
import pathlib
import sys
import threading
import time
import urllib.request

endpoint = os.environ["THAW_ENDPOINT"]
warden, function, version, event_file = int(sys.argv[1]), *sys.argv[2:5]
event = pathlib.Path(event_file).read_bytes()


def ask(method, path, body=None):
    request = urllib.request.Request(endpoint + path, data=body, method=method)
    with urllib.request.urlopen(request) as reply:
        return json.loads(reply.read())


def tree(pid):
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid] + [p for child in children for p in tree(int(child))]


def field_kb(path, name):
    for line in pathlib.Path(path).read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return 0


def total_kb():
    sum_kb = 0
    for pid in tree(warden):
        try:
            sum_kb += field_kb(f"/proc/{pid}/smaps_rollup", "Pss") + field_kb(f"/proc/{pid}/status", "VmPTE")
        except OSError:
            pass  # it ended meanwhile
    return sum_kb


def alive():
    return sum(e["function"] == function and e["version"] == version
               for e in ask("GET", "/thaw/v1/environments")["environments"])


def invoke(barrier):
    barrier.wait()
    ask("POST", f"/2015-03-31/functions/{function}/invocations?Qualifier={version}", event)


def state(at_once):
    barrier = threading.Barrier(at_once)
    callers = [threading.Thread(target=invoke, args=(barrier,)) for _ in range(at_once)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    time.sleep(2)  # blank sandboxes are replenished
    return alive(), total_kb()


ask("POST", f"/thaw/v1/evict?function={function}&version={version}", b"")
few, few_kb = state(1)
many, many_kb = state(50)
print(f"{few} alive: {few_kb / 1024:.1f} MB; {many} alive: {many_kb / 1024:.1f} MB")
if many > few:
    print(f"one more idle clone: {(many_kb - few_kb) / (many - few) / 1024:.2f} MB "
          "(proportional set size and page tables of all processes of the server)")
