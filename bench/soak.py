#!/usr/bin/python3
"""Thaw and evict the same version again and again, and see whether anything grows: processes, descriptors and memory
of the roles, cgroups, mounts. Prints what it found; exit status 1 when something grew.

usage: soak.py WARDEN_PID FUNCTION VERSION [THAWS]   (default 20000)"""

import http.client
import os
import pathlib
import sys
import time
import urllib.parse

host = urllib.parse.urlsplit(os.environ["THAW_ENDPOINT"]).netloc
warden, function, version = int(sys.argv[1]), sys.argv[2], sys.argv[3]
thaws = int(sys.argv[4]) if len(sys.argv) > 4 else 20000
connection = http.client.HTTPConnection(host)


# A leak shows in thousands. Less may come and go: the allocator's habits, and up to 64 blank sandboxes that are kept
# ready, as demand has it, each with a process, three cgroups and eleven descriptors.
ALLOWED = {"kB": 2048, "processes": 64, "descriptors": 64 * 11, "cgroups": 64 * 3, "mounts": 4}


def ask(path, body=b"{}"):
    connection.request("POST", path, body)
    reply = connection.getresponse()
    text = reply.read()
    if reply.status != 200 or reply.getheader("X-Amz-Function-Error"):
        sys.exit(f"{path}: {reply.status} {text}")


def tree(pid):
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid] + [p for child in children for p in tree(int(child))]


def rss_kb(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def front_pid():
    for pid in tree(warden)[1:]:
        if b"front" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    sys.exit("there is no front")


def state():
    time.sleep(2)  # dying sandboxes go, blank ones are replenished
    front = front_pid()
    return {
        "processes": len(tree(warden)),
        "descriptors of the warden": len(os.listdir(f"/proc/{warden}/fd")),
        "descriptors of the front": len(os.listdir(f"/proc/{front}/fd")),
        "memory of the warden, kB": rss_kb(warden),
        "memory of the front, kB": rss_kb(front),
        "mounts": len(pathlib.Path(f"/proc/{warden}/mountinfo").read_text().splitlines()),
        "cgroups": sum("/thaw-" in path and f"-{warden}-" in path for path, _, _ in os.walk("/sys/fs/cgroup")),
    }


def thaw_and_evict(count):
    for done in range(count):
        ask(f"/2015-03-31/functions/{function}/invocations?Qualifier={version}")
        ask(f"/thaw/v1/evict?function={function}&version={version}")
        if sys.stderr.isatty() and done % 50 == 0:
            print(f"\r{done}/{count}", end="", file=sys.stderr)


thaw_and_evict(min(500, thaws))  # caches fill
before = state()
began = time.monotonic()
thaw_and_evict(thaws)
seconds = time.monotonic() - began
after = state()
grown = False
print(f"{thaws} thaws, each evicted, in {seconds:.0f} s")
for name, value in before.items():
    allowed = next(limit for word, limit in ALLOWED.items() if word in name)
    more = after[name] - value
    grown |= more > allowed
    print(f"{name:28} {value:8} -> {after[name]:8} {'GREW' if more > allowed else ''}".rstrip())
sys.exit(grown)
