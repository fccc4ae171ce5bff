"""The function of ballast.c, which knows its own memory to the last byte, and what a store must look like."""

import json
import subprocess
import threading

import harness

SEEDS = iter(range(1, 1 << 30))
BUILDING = threading.Lock()


def bootstrap():
    """The program, built once, whole before it has its name: tests ask for it from several threads."""
    program = harness.BUILD / "tests" / "ballast"
    source = harness.ROOT / "tests" / "chaos" / "ballast.c"
    with BUILDING:
        if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
            program.parent.mkdir(exist_ok=True)
            fresh = program.with_suffix(".tmp")
            subprocess.run(["cc", "-O1", "-static", "-o", fresh, source], check=True)
            fresh.rename(program)
    return program.read_bytes()


def create(daemon, name, **more):
    """A function with a seed of its own: (Function, seed)."""
    seed = str(next(SEEDS))
    client = daemon.client()
    client.create_function(FunctionName=name, Runtime="provided.al2023", Handler="none", Role=harness.ROLE,
                           Code={"ZipFile": harness.make_zip({"bootstrap": bootstrap()})}, Timeout=30,
                           SnapStart={"ApplyOn": "PublishedVersions"}, Environment={"Variables": {"SEED": seed}}, **more)
    return harness.Function(daemon, client, name), seed


def change(function):
    """Another seed for the next version."""
    seed = str(next(SEEDS))
    function.client.update_function_configuration(FunctionName=function.name, Environment={"Variables": {"SEED": seed}})
    return seed


def answer_of(client, name, version, seed):
    """Invoke once; whatever answers must be right. Returns which start of the function it was."""
    reply = client.invoke(FunctionName=name, Qualifier=version, Payload=b"{}")
    body = reply["Payload"].read()
    assert "FunctionError" not in reply, (name, version, body)
    answer = json.loads(body)
    assert answer["right"] is True and answer["seed"] == seed, f"a wrong clone of {name}:{version}: {answer}"
    return answer["born"]


def check_store(daemon, collect=True):
    """Nothing half-written, nothing damaged, and, after a collection, nothing that nobody needs: the stats."""
    store = daemon.data / "store"

    def unfinished():
        return [*store.glob("snapshots/*.tmp"), *store.glob("tmp/*")]

    harness.wait_until(lambda: not unfinished(), "half-written files to go")
    if collect:
        daemon.thaw("store", "gc")
    daemon.thaw("store", "verify")
    stats = json.loads(daemon.thaw("store", "stats", "--json").stdout)
    if collect:
        assert stats["totals"]["unreferenced_chunks"] == 0, stats["totals"]
    strays = [line for line in stats["snapshots"] if "function" not in line]
    assert not strays and stats["totals"]["unreadable_snapshots"] == 0, stats
    return stats
