#!/usr/bin/env python3
"""Many more versions than there is memory for their templates, invoked by Zipf's law. Prints, as Markdown, how many thaws found
their template in memory, and how long calls took end to end. Exit status 1 when any call failed.

usage: zipf.py [--versions N] [--excess X] [--seconds S] [--clients N] [--environments N]
               [--exponent E]

Publishes the versions (of ten C functions) on a thawd of its own, starts it once with memory for all templates to measure what
they hold together, and then with a budget of one X-th of that. Environments end after a second without a call, so that a call is
a thaw unless its version was called just before. Needs root, and the build in THAW_BUILD (default: build)."""

import argparse
import http.client
import json
import pathlib
import random
import shutil
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
import harness  # noqa: E402

FUNCTIONS = 10


def publish(daemon, versions):
    """[(function, version)] in the order of their popularity, which is no order of functions."""
    client = daemon.client()
    package = harness.make_zip({"bootstrap": (harness.BUILD / "examples/c-hello/bootstrap").read_bytes()})
    names = [f"zipf-{i}" for i in range(FUNCTIONS)]
    for name in names:
        client.create_function(FunctionName=name, Runtime="provided.al2023", Handler="bootstrap", Role=harness.ROLE,
                               Code={"ZipFile": package}, SnapStart={"ApplyOn": "PublishedVersions"})
    made = []
    for number in range(versions):
        name = names[number % FUNCTIONS]
        client.update_function_configuration(FunctionName=name, Description=f"number {number}")
        made.append((name, client.publish_version(FunctionName=name)["Version"]))
    for name, version in made:
        def settled(name=name, version=version):
            return client.get_function_configuration(FunctionName=name, Qualifier=version)["State"] != "Pending"
        harness.wait_until(settled, f"{name}:{version} to be frozen")
    return made


class Caller:
    """A connection that is kept; invoke() returns (how the call was served, milliseconds)."""

    def __init__(self, daemon):
        self.connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=harness.PATIENCE_S)

    def invoke(self, name, version):
        path = f"/2015-03-31/functions/{name}/invocations?Qualifier={version}"
        began = time.perf_counter()
        self.connection.request("POST", path, b'{"name": "zipf"}', {"X-Thaw-Trace": "1"})
        reply = self.connection.getresponse()
        body = reply.read()
        took_ms = (time.perf_counter() - began) * 1000
        if reply.status != 200 or reply.getheader("X-Amz-Function-Error"):
            raise AssertionError(f"{name}:{version}: {reply.status} {body[:300]}")
        return json.loads(reply.getheader("X-Thaw-Trace"))["start"], took_ms


def held_by_all(daemon, made):
    """Bytes that the templates of all versions hold together."""
    caller = Caller(daemon)
    for name, version in made:
        caller.invoke(name, version)
    told = daemon.get("/thaw/v1/status")["templates"]
    assert told["count"] == len(made) and told["evictions"] == 0, told
    return told["bytes"]


class Load:
    """Clients that call versions by Zipf's law, each without a pause, until the time is over or `calls` were made."""

    def __init__(self, daemon, made, exponent, clients, seconds, calls=None, seed=4):
        self.daemon, self.made, self.until = daemon, made, time.monotonic() + seconds
        self.weights = [1 / (rank + 1) ** exponent for rank in range(len(made))]
        self.served, self.failures, self.calls = [], [], calls
        self.threads = [threading.Thread(target=self.run, args=(random.Random(seed + i),)) for i in range(clients)]

    def run(self, chooser):
        caller = Caller(self.daemon)
        while time.monotonic() < self.until and not self.failures:
            if self.calls is not None and len(self.served) >= self.calls:
                return
            name, version = chooser.choices(self.made, self.weights)[0]
            try:
                self.served.append(caller.invoke(name, version))
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.failures.append(error)

    def finish(self):
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join()
        return self


def percentile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def report(load, told, budget, made):
    print(f"{len(made)} versions; a budget of {budget / 1e6:.2f} MB for templates; {len(load.served)} calls, "
          f"{len(load.failures)} failures\n")
    found = told["hits"] / max(1, told["hits"] + told["misses"])
    print(f"Of {told['hits'] + told['misses']} thaws, {100 * found:.1f} % found their template in memory; "
          f"{told['builds']} templates were built and {told['evictions']} evicted; {told['count']} hold "
          f"{told['bytes'] / 1e6:.2f} MB now.\n")
    print("| call | count | p50, ms | p99, ms | max, ms |\n| --- | --- | --- | --- | --- |")
    kinds = {"all": None, "warm": "warm", "thaw, template in memory": "thaw", "first thaw": "first"}
    for title, kind in kinds.items():
        times = [ms for how, ms in load.served if kind in (None, how)]
        if times:
            print(f"| {title} | {len(times)} | {percentile(times, .5):.2f} | {percentile(times, .99):.2f} | {max(times):.2f} |")


def main():
    options = argparse.ArgumentParser(usage=__doc__)
    options.add_argument("--versions", type=int, default=200)
    options.add_argument("--excess", type=float, default=20)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--clients", type=int, default=2)
    options.add_argument("--environments", type=int)
    options.add_argument("--exponent", type=float, default=1)
    chosen = options.parse_args()
    harness.become_subreaper()
    daemon = harness.Daemon(arguments=["--log-level", "warning"])
    try:
        daemon.start()
        made = publish(daemon, chosen.versions)
        budget = int(held_by_all(daemon, made) / chosen.excess)
        daemon.stop()
        daemon.arguments += ["--template-budget", str(budget), "--concurrency", str(chosen.environments or chosen.clients)]
        daemon.start()
        load = Load(daemon, made, chosen.exponent, chosen.clients, chosen.seconds).finish()
        report(load, daemon.get("/thaw/v1/status")["templates"], budget, made)
        daemon.stop()
        for failure in load.failures:
            print(failure, file=sys.stderr)
        return 1 if load.failures else 0
    finally:
        daemon.kill()
        shutil.rmtree(daemon.data, ignore_errors=True)
        daemon.log_path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
