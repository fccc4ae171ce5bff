"""Measures what the snapshot store promises, and prints it beside the goals.

usage: ./run bench store [RUNS] [--only PART,...] [--json FILE]

RUNS: first thaws of each example (default 15). The parts, in their order:
  seal       one core's rates
  first      first thaws from the local disk, with the page cache warm, of python-pets and spring-petstore
  big        big-model of 4 GiB: a first thaw that touches 20 MB of it
  publish    freezing 1 GiB that cannot be compressed, and python-pets
  republish  the chunks that a version shares with the one before it, by what was changed
  runtime    the chunks that two functions of one runtime share
  versions   200 versions of ten functions on disk
  zipf       the same versions invoked by Zipf's law, with a twentieth of the memory that their templates would take
  s3         first thaws from an S3 server with 1 ms of latency

Medians; (lowest to highest). --json writes all samples, too. Needs root, 12 GiB of memory and 8 GiB of disk."""

import argparse
import functools
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from server import ROOT, Caller, Origin, forget_local, harness, serving, spread, starts  # noqa: E402

EXAMPLES = ROOT / "examples"
PETS = (EXAMPLES / "python-pets/app.py").read_text()
PETS_EVENT = (EXAMPLES / "python-pets/event.json").read_bytes()
STORE_EVENT = (EXAMPLES / "spring-petstore/event.json").read_bytes()
BIG_MB = 4096
TOUCH_MB = 20
PUBLISH_MB = 1024
VERSIONS_EACH = 20
ZIPF_SECONDS = 40
ZIPF_EXCESS = 20


class Report:
    """Rows of the table, and what they were made of."""

    def __init__(self):
        self.rows, self.samples, self.failed = [], {}, False

    def row(self, what, goal, measured, met=None, samples=None):
        self.rows.append({"what": what, "goal": goal, "measured": measured, "met": met})
        if samples is not None:
            self.samples[what] = samples
        mark = {True: "", False: "  MISSED", None: ""}[met]
        print(f"  {what}: {measured}{mark}", file=sys.stderr, flush=True)

    def attempt(self, what, measure, *arguments):
        """One that fails is a row that says so, and the others go on."""
        try:
            measure(self, *arguments)
        except Exception as error:  # pylint: disable=broad-except
            self.failed = True
            self.row(what, "-", f"could not be measured: {str(error)[:200]}", False)

    def times(self, what, goal_ms, values, note=""):
        middle, low, high = spread(values)
        self.row(what, f"<= {goal_ms} ms" if goal_ms else "-", f"{middle:.1f} ms ({low:.1f} to {high:.1f}){note}",
                 middle <= goal_ms if goal_ms else None, values)

    def print(self):
        """An aligned Markdown table; what is missed in bold."""
        cells = [["what", "goal", "measured"]]
        for row in self.rows:
            measured = f"**{row['measured']}**" if row["met"] is False else row["measured"]
            cells.append([row["what"], row["goal"], measured])
        widths = [max(len(line[i]) for line in cells) for i in range(3)]
        cells.insert(1, ["-" * width for width in widths])
        for line in cells:
            print("| " + " | ".join(text.ljust(width) for text, width in zip(line, widths)) + " |")


# ---- seal ----


def measure_seal(report, options):
    del options
    done = subprocess.run([harness.BUILD / "store-seal-rate"], capture_output=True, text=True, check=True)
    rates = json.loads(done.stdout)
    for name, goal in (("seal", 1.5), ("open", 1.5), ("hash", None)):
        low, middle, high = rates[name]
        what = {"seal": "seal a chunk, one core", "open": "open a chunk, one core", "hash": "hash a chunk, one core"}[name]
        report.row(what, f">= {goal} GB/s" if goal else "-", f"{middle:.2f} GB/s ({low:.2f} to {high:.2f})",
                   middle >= goal if goal else None, rates[name])


# ---- first ----


def publish_pets(server, name="pets", source=PETS):
    function = server.create(name, {"app.py": source})
    return function, function.publish()


def measure_example(report, server, what, name, goal_ms, event, runs):
    starts(server, name, "1", event, 3, templates=True, settle_s=1)  # what the first request needs is recorded by then
    thaws = starts(server, name, "1", event, runs, templates=False)
    first = starts(server, name, "1", event, runs, templates=True)
    thaw = spread([account["ms"] for account in thaws])[0]
    template = spread([account.get("template", 0) for account in first])[0]
    report.times(f"first thaw, local disk: {what}", goal_ms, [account["ms"] for account in first],
                 f"; template {template / 1000:.1f} ms; a thaw {thaw:.1f} ms")


def measure_petstore(report, server, name, arguments, goal, runs):
    server.deploy("spring-petstore", *arguments, name)
    measure_example(report, server, "spring-" + name.replace("-", ", "), name, goal, STORE_EVENT, runs)


def measure_first(report, options):
    with serving(options.folder) as server:
        publish_pets(server)
        measure_example(report, server, "python-pets", "pets", 10, PETS_EVENT, options.runs)
        for name, arguments, goal in (("petstore", [], 50), ("petstore-primed", ["--prime"], 50)):
            report.attempt(name, measure_petstore, server, name, arguments, goal, min(options.runs, 10))


# ---- big ----


def measure_big(report, options):
    with serving(options.folder, "--template-budget", "10G") as server:
        server.deploy("big-model", "--mb", str(BIG_MB), "--file-mb", "1", "big")
        _, _, size, _, seconds = server.frozen("big")[0]
        report.row(f"publish: big-model, {BIG_MB >> 10} GiB", ">= 300 MB/s", f"{size / seconds / 1e6:.0f} MB/s",
                   size / seconds >= 300e6, [size / seconds])
        event = json.dumps({"touch_mb": TOUCH_MB}).encode()
        caller, took, read = Caller(server), [], []
        for number in range(6):
            time.sleep(3)  # until all of it is in, and what it touched is stored
            server.evict("big", "1", True)
            time.sleep(0.5)
            account = caller.invoke("big", "1", event)
            if number > 0:  # the first one records what the others then get at once
                took.append(account["ms"])
                read.append(server.pager_bytes() / size)
        report.times(f"big-model, {BIG_MB >> 10} GiB: first thaw that touches {TOUCH_MB} MB", 100, took)
        middle, low, high = spread(read)
        if high == 0:
            report.row("of it read before the answer", "<= 5 %", "not known: there was no pager to ask", False, read)
        else:
            report.row("of it read before the answer", "<= 5 %", f"{middle:.1%} ({low:.1%} to {high:.1%})", middle <= 0.05, read)


# ---- publish ----


def measure_publish(report, options):
    with serving(options.folder) as server:
        for number in range(3):
            server.deploy("big-model", "--mb", str(PUBLISH_MB), "--file-mb", "1", f"model-{number}")
            publish_pets(server, f"pets-{number}")
        for what, prefix, goal in ((f"big-model, {PUBLISH_MB >> 10} GiB, random bytes", "model-", 300), ("python-pets", "pets-", None)):
            frozen = [entry for entry in server.frozen() if entry[0].startswith(prefix)]
            rates = [size / seconds / 1e6 for _, _, size, _, seconds in frozen]
            middle, low, high = spread(rates)
            size, stored = frozen[-1][2], frozen[-1][3]
            report.row(f"publish: {what}", f">= {goal} MB/s" if goal else "-",
                       f"{middle:.0f} MB/s ({low:.0f} to {high:.0f}); {size / 1e6:.0f} MB became {stored / 1e6:.1f}",
                       middle >= goal if goal else None, rates)


# ---- republish and runtime ----

LESS = (
    "    event = event or {}\n",
    '    if "kind" in event:\n        answer["cheapest"] = cheapest(str(event["kind"]))\n',
    '    if "name" in event:\n        answer["found"], answer["first"] = search(str(event["name"]))\n',
)
CHANGES = {
    "a word in a string": lambda source, number: source.replace("initialised {len", f"initialise{number} {{len"),
    "a comment at the end": lambda source, number: f"{source}# version {number}\n",
    "a line more in the handler": lambda source, number: source.replace(
        "def handler(event, context):\n", "def handler(event, context):\n" + f"    print('{number}', event)\n" * number),
    "lines less in the handler": lambda source, number: functools.reduce(
        lambda text, lines: text.replace(lines, ""), LESS[:number], source),
    "a line more in a function that runs": lambda source, number: source.replace(
        "    kinds = list(KINDS)\n", "    kinds = list(KINDS)\n" + f"    assert count > {number}, 'too few pets'\n" * number),
    "a constant more": lambda source, number: source.replace("\n\nFIRST = ", f"\nLIMIT_{number} = {number}000\n\nFIRST = "),
    "a function more": lambda source, number: source.replace("def cheapest(", f"""def count_{number}(kind):
    return sum(pet["kind"] == kind for pet in pets)


def cheapest("""),
}


def count_new(server, publish):
    before = server.chunk_files()
    publish()
    return len(server.chunk_files() - before)


def shares(server, name, change, count=3):
    """Publishes, and publishes again with the change `count` times: the shares of chunks that were there already."""
    function, found = server.create(name, {"app.py": PETS}), []
    whole = count_new(server, function.publish)
    for number in range(1, count + 1):
        server.update(function, {"app.py": change(PETS, number)})
        found.append(1 - count_new(server, function.publish) / whole)
    return found


def measure_republish(report, options):
    for layout in ("fixed", "random"):
        with serving(options.folder, "--address-layout", layout) as server:
            changes = CHANGES if layout == "fixed" else {"a word in a string": CHANGES["a word in a string"]}
            for number, (what, change) in enumerate(changes.items()):
                found = shares(server, f"pets-{number}", change, 3 if layout == "fixed" else 1)
                middle, low, high = spread(found)
                counts = layout == "fixed"
                report.row(f"republished python-pets, {layout} addresses: {what}", ">= 80 % shared" if counts else "-",
                           f"{max(middle, 0):.0%} of the chunks ({max(low, 0):.0%} to {max(high, 0):.0%})",
                           middle >= 0.8 if counts else None, found)


def measure_runtime(report, options):
    with serving(options.folder) as server:
        for runtime, sources in (
                (harness.PYTHON, ({"app.py": ORDERS.format(count=40000, number=0)}, {"app.py": PETS})),
                ("nodejs", ({"index.js": NODE.format(number=0, count=20000)}, {"index.js": NODE.format(number=1, count=30000)}))):
            if runtime == "nodejs":
                runtime = node_runtime(server)
            if not runtime:
                continue
            handler = "app.handler" if runtime.startswith("python") else "index.handler"
            names = [runtime.split(".")[0] + suffix for suffix in ("-one", "-other")]
            one, other = (server.create(name, files, runtime, handler) for name, files in zip(names, sources))
            count_new(server, one.publish)
            new = count_new(server, other.publish)
            size, stored = server.frozen(names[1])[0][2:4]
            again = server.create(names[1] + "-alone", sources[1], runtime, handler)
            alone = count_new(server, again.publish)  # has its own seed, but the same number of chunks
            report.row(f"two functions of {runtime}", "report", f"{max(0, 1 - new / alone):.0%} of the chunks; {size / 1e6:.0f} MB "
                       f"became {stored / 1e6:.1f} MB", None, [new, alone])


# ---- versions and zipf ----

ORDERS = """
import json, collections
RELEASE = "release {number:03d}"
ORDERS = [{{"order": i, "total": i * 1.5, "who": "customer %d" % (i % 977)}} for i in range({count})]
BY_CUSTOMER = collections.Counter(order["who"] for order in ORDERS)
def handler(event, context):
    return {{"release": RELEASE, "count": len(ORDERS)}}
"""
NODE = """
const release = 'release {number:03d}';
const orders = Array.from({{ length: {count} }}, (_, i) => ({{ order: i, total: i * 1.5, who: `customer ${{i % 977}}` }}));
exports.handler = async () => ({{ release, count: orders.length }});
"""


def node_runtime(server):
    """The newest Node that the host has, or None."""
    names = sorted(entry["runtime"] for entry in server.get("/thaw/v1/runtimes")["runtimes"]
                   if entry["runtime"].startswith("nodejs") and entry["offered"])
    return names[-1] if names else None


def ten_functions(server):
    """[(name, runtime, handler, files of version n)]"""
    functions = [("shop", harness.PYTHON, "app.handler",
                  lambda n: {"app.py": PETS.replace("initialised {len", f"release-{n:03d} {{len")})]
    for index, count in enumerate((0, 500, 5000, 20000, 40000)):
        functions.append((f"orders-{index}", harness.PYTHON, "app.handler",
                          lambda n, count=count: {"app.py": ORDERS.format(number=n, count=count)}))
    node = node_runtime(server)
    if node:
        for index, count in enumerate((100, 20000)):
            functions.append((f"node-{index}", node, "index.handler",
                              lambda n, count=count: {"index.js": NODE.format(number=n, count=count)}))
    hello = (harness.BUILD / "examples/c-hello/bootstrap").read_bytes()
    while len(functions) < 10:
        functions.append((f"native-{len(functions)}", "provided.al2023", "none",
                          lambda n: {"bootstrap": hello, "release": f"{n:03d}"}))
    return functions


def publish_versions(server):
    """[(function, version)] of all; each version differs from the one before in a value."""
    made, pending = [], []
    functions = [(server.create(name, files(0), runtime, handler), files) for name, runtime, handler, files in ten_functions(server)]
    for number in range(VERSIONS_EACH):
        for function, files in functions:
            if number > 0:
                server.update(function, files(number))
            version = server.boto.publish_version(FunctionName=function.name)["Version"]
            pending.append((function.name, version))
            made.append((function.name, version))
        for name, version in pending:
            harness.wait_until(lambda name=name, version=version: server.boto.get_function_configuration(
                FunctionName=name, Qualifier=version)["State"] == "Active", f"{name}:{version} to be Active")
        pending.clear()
    return made


def held_by_all(server, made):
    caller = Caller(server)
    for name, version in made:
        caller.invoke(name, version)
    return server.get("/thaw/v1/status")["templates"]["bytes"]


def call_by_zipf(server, made, seconds, clients=2):
    """([accounts], [failures])"""
    until, accounts, failures = time.monotonic() + seconds, [], []
    weights = [1 / (rank + 1) for rank in range(len(made))]

    def run(chooser):
        caller = Caller(server)
        while time.monotonic() < until:
            name, version = chooser.choices(made, weights)[0]
            try:
                accounts.append(caller.invoke(name, version))
            except (OSError, AssertionError) as error:
                failures.append(str(error))
                caller = Caller(server)

    threads = [threading.Thread(target=run, args=(random.Random(4 + i),)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return accounts, failures


def percentile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else 0


def report_versions(report, server):
    frozen = server.frozen()
    total, disk = sum(entry[2] for entry in frozen), server.disk_bytes()
    report.row(f"{len(frozen)} versions of ten functions on disk", "<= 15 % of their sizes",
               f"{disk / total:.1%} ({disk / 1e6:.0f} of {total / 1e6:.0f} MB)", disk <= 0.15 * total, [disk, total])
    kinds = {"Python": ("shop", "orders"), "Node": ("node",), "C": ("native",)}
    for kind, prefixes in kinds.items():
        of_kind = [entry for entry in frozen if entry[0].startswith(prefixes)]
        if of_kind:
            size, stored = sum(entry[2] for entry in of_kind), sum(entry[3] for entry in of_kind)
            report.row(f"  of them in {kind}", "-", f"{stored / size:.1%} ({stored / 1e6:.0f} of {size / 1e6:.0f} MB), "
                       f"{len(of_kind)} versions", None, [stored, size])


def report_zipf(report, accounts, failures, told, budget):
    times = [account["ms"] for account in accounts]
    thaws = told["hits"] + told["misses"]
    report.row(f"Zipf, templates' budget exceeded {ZIPF_EXCESS}-fold: failures", "0", f"{len(failures)} of {len(accounts)} calls",
               not failures, failures[:10])
    report.row("  thaws that found their template", "report", f"{told['hits'] / max(1, thaws):.0%} of {thaws}; budget "
               f"{budget / 1e6:.0f} MB, {told['evictions']} evictions", None, told)
    for kind, title in ((None, "all calls"), ("thaw", "thaws"), ("first", "first thaws")):
        some = times if kind is None else [account["ms"] for account in accounts if account["start"] == kind]
        report.row(f"  {title}: p50, p99", "report",
                   f"{percentile(some, 0.5):.1f} ms, {percentile(some, 0.99):.1f} ms ({len(some)} calls)", None, some)


def measure_versions(report, options):
    with serving(options.folder, "--idle-seconds", "1") as server:
        made = publish_versions(server)
        report_versions(report, server)
        if "zipf" not in options.only:
            return
        budget = held_by_all(server, made) // ZIPF_EXCESS
        server.stop()
        server.arguments += ["--template-budget", str(budget), "--concurrency", "2"]
        server.start()
        random.Random(7).shuffle(made)
        accounts, failures = call_by_zipf(server, made, ZIPF_SECONDS)
        report_zipf(report, accounts, failures, server.get("/thaw/v1/status")["templates"], budget)


# ---- s3 ----


def measure_from_origin(report, server, origin, what, name, goal_ms, event, runs):
    starts(server, name, "1", event, 3, templates=True, settle_s=1)  # what the first request needs is recorded by then
    time.sleep(1)  # and stored
    chunks, caller, took, fetched = len(server.chunk_files()), Caller(server), [], []
    for _ in range(runs):
        time.sleep(1)
        server.evict(name, "1", True)
        time.sleep(0.2)
        forget_local(server)
        before = origin.chunks_fetched()
        account = caller.invoke(name, "1", event)
        fetched.append((origin.chunks_fetched() - before) / chunks)
        took.append(account["ms"])
    report.times(f"first thaw, S3 with 1 ms: {what}", goal_ms, took)
    middle, low, high = spread(fetched)
    report.row("  of its chunks fetched before the answer", "<= 50 %", f"{middle:.0%} ({low:.0%} to {high:.0%}) of {chunks}",
               middle <= 0.5, fetched)


def measure_s3(report, options):
    for what, name, goal, event in (("python-pets", "pets", 40, PETS_EVENT), ("spring-petstore, primed", "petstore", 150, STORE_EVENT)):
        origin = Origin(1)
        try:
            folder = pathlib.Path(options.folder, name)
            folder.mkdir(mode=0o755)
            with serving(folder, *origin.arguments) as server:
                if name == "pets":
                    publish_pets(server)
                else:
                    server.deploy("spring-petstore", "--prime", name)
                measure_from_origin(report, server, origin, what, name, goal, event, min(options.runs, 10))
        finally:
            origin.stop()


PARTS = {
    "seal": measure_seal,
    "first": measure_first,
    "big": measure_big,
    "publish": measure_publish,
    "republish": measure_republish,
    "runtime": measure_runtime,
    "versions": measure_versions,
    "s3": measure_s3,
    "zipf": None,  # goes on where versions ended
}


def main():
    options = argparse.ArgumentParser(usage=__doc__)
    options.add_argument("runs", nargs="?", type=int, default=15)
    options.add_argument("--only", default=",".join(PARTS))
    options.add_argument("--json")
    chosen = options.parse_args()
    chosen.only = chosen.only.split(",")
    if "zipf" in chosen.only and "versions" not in chosen.only:
        chosen.only.append("versions")
    harness.become_subreaper()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    report, began = Report(), time.monotonic()
    base = os.environ.get("THAW_BENCH_DIR", "/var/tmp")  # /tmp is memory on many machines
    for name, measure in PARTS.items():
        if name not in chosen.only or measure is None:
            continue
        print(f"{name} ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="thaw-bench-", dir=base) as folder:
            os.chmod(folder, 0o755)
            chosen.folder = folder
            report.attempt(name, measure, chosen)
    report.print()
    print(f"\nMeasured in {time.monotonic() - began:.0f} s.")
    if chosen.json:
        pathlib.Path(chosen.json).write_text(json.dumps({"rows": report.rows, "samples": report.samples}, indent=1) + "\n")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
