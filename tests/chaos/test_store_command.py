"""thaw store: what it tells, and what it keeps to."""

import json

import pytest

import ballast
import harness
import s3

ARGUMENTS = ["--blanks", "1", "--drain", "1"]


def test_stats_and_gc(new_daemon):
    daemon = new_daemon(arguments=ARGUMENTS).start()
    function, _ = ballast.create(daemon, "pets")
    function.publish()
    ballast.change(function)
    function.publish()
    rows = [line.split() for line in daemon.thaw("store", "stats").stdout.splitlines()]
    assert [row[:2] for row in rows[1:4]] == [["pets", "1"], ["pets", "2"], ["pets", "all"]], rows
    stats = json.loads(daemon.thaw("store", "stats", "--json").stdout)
    totals = stats["totals"]
    assert totals["snapshots"] == 2 and totals["unreferenced_chunks"] == 0 and totals["absent_chunks"] == 0
    assert sum(s["logical_bytes"] for s in stats["snapshots"]) == totals["logical_bytes"] > totals["plain_bytes"]
    assert totals["dedup_ratio"] > 1.2 and totals["compression_ratio"] > 1.2, totals  # half of it is the same; half is easy
    files = [p for p in harness.files_below(daemon.data / "store") if p.parent.name != "domains"]
    assert totals["stored_bytes"] == sum(p.stat().st_size for p in files)
    done = daemon.thaw("store", "verify")
    assert "verified 2 snapshots" in done.stdout and "all is as it was written" in done.stdout
    function.client.delete_function(FunctionName="pets", Qualifier="1")
    harness.wait_until(lambda: len(list((daemon.data / "store" / "snapshots").iterdir())) == 1, "the snapshot to go")
    assert "removed " in daemon.thaw("store", "gc").stdout
    assert ballast.check_store(daemon)["totals"]["snapshots"] == 1


@pytest.mark.parametrize("arguments", [[], ["what"], ["gc", "--repair"], ["stats", "--what"], ["gc", "stats"]])
def test_what_makes_no_sense(server, arguments):
    done = server.thaw("store", *arguments, check=False)
    assert done.returncode == 2 and "usage: thaw store" in done.stderr


def test_a_budget_for_the_local_folder(new_daemon, s3_server):
    """What was used longest ago goes, and comes back when it is needed."""
    daemon = new_daemon(arguments=[*ARGUMENTS, "--origin", f"s3://{s3.BUCKET}/budget", "--s3-endpoint", s3_server.endpoint,
                                   "--store-budget", "3M"],
                        environment={"AWS_ACCESS_KEY_ID": s3.KEY, "AWS_SECRET_ACCESS_KEY": s3.SECRET}).start()
    published = []
    for name in ("first", "second", "third"):
        function, seed = ballast.create(daemon, name)
        published.append((function, function.publish(), seed))
    evicted = json.loads(daemon.thaw("store", "gc", "--json").stdout)
    assert evicted["evicted_chunks"] > 0, evicted
    stats = json.loads(daemon.thaw("store", "stats", "--json").stdout)["totals"]
    assert stats["stored_bytes"] <= 3 << 20 and stats["absent_chunks"] > 0, stats
    daemon.thaw("store", "verify")  # what is not here is in the origin
    for function, version, seed in published:
        ballast.answer_of(function.client, function.name, version, seed)
    # What the origin has no more is damage, and found; its version is made anew.
    assert json.loads(daemon.thaw("store", "gc", "--json").stdout)["evicted_chunks"] > 0
    for key in s3_server.keys("budget/chunks/"):
        s3_server.client.delete_object(Bucket=s3.BUCKET, Key=key)
    for function, version, _ in published:
        function.evict(version, templates=True)
    done = daemon.thaw("store", "verify", "--repair", check=False)
    assert done.returncode == 0 and "initialised anew" in done.stdout, (done.stdout, done.stderr)
    harness.wait_until(lambda: daemon.thaw("store", "verify", check=False).returncode == 0, "all to be whole again")
    for function, version, seed in published:
        ballast.answer_of(function.client, function.name, version, seed)


def test_a_budget_needs_an_origin(new_daemon):
    daemon = new_daemon(arguments=["--store-budget", "3M"])
    daemon.start(wait=False)
    assert daemon.process.wait(harness.PATIENCE_S) == 2 and "--origin" in daemon.log()
    daemon.process = None
