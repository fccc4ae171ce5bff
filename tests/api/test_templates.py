"""Templates in memory: what the budget keeps, what is told about it, and what happens when far more are wanted than fit."""

import json
import re
import subprocess
import sys

import harness

sys.path.insert(0, str(harness.ROOT / "bench"))
import zipf  # noqa: E402

SOURCE = "def handler(event, context): return event"


def test_status_tells_of_templates(new_daemon, make_function):
    daemon = new_daemon(arguments=["--template-budget", "3G"]).start()
    function = make_function(SOURCE, on=daemon, snap_start=True)
    version = function.publish()
    before = daemon.get("/thaw/v1/status")["templates"]
    assert before == dict(count=0, bytes=0, budget_bytes=3 << 30, hits=0, misses=0, builds=0, evictions=0)
    for _ in range(3):
        assert function.call(1, version) == 1
        function.evict(version)
    told = daemon.get("/thaw/v1/status")["templates"]
    assert (told["count"], told["hits"], told["misses"], told["builds"], told["evictions"]) == (1, 2, 1, 1, 0)
    assert 1 << 20 < told["bytes"] < 64 << 20, "an interpreter's memory"
    printed = daemon.thaw("status").stdout
    assert "1 in memory" in printed and "2 thaws found theirs ready, 1 waited" in printed, printed
    assert json.loads(daemon.thaw("status", "--json").stdout)["templates"]["hits"] == 2
    function.evict(version, templates=True)
    told = daemon.get("/thaw/v1/status")["templates"]
    assert (told["count"], told["bytes"], told["evictions"]) == (0, 0, 0), "what somebody drops is not evicted"


def test_a_working_set_is_recorded_once(new_daemon, make_function):
    daemon = new_daemon(arguments=["--log-level", "debug"]).start()
    function = make_function(SOURCE, on=daemon, snap_start=True)
    version = function.publish()
    assert function.call(1, version) == 1
    hot = harness.wait_until(lambda: list((daemon.data / "store/snapshots").glob("*/hot")), "the hot set to be stored")
    recorded = hot[0].read_bytes()
    for number in range(2, 5):
        function.evict(version, templates=True)
        assert function.call(1, version) == 1
        harness.wait_until(lambda number=number: daemon.log().count("has served") == number, "the pager to tell what was missing")
    served = re.findall(r"has served: (\d+) pages were missing", daemon.log())
    assert int(served[0]) > 20, served
    assert max(map(int, served[1:])) < int(served[0]) / 4, f"with a hot set hardly a page is missing: {served}"
    assert max(map(int, served[1:])) > 8 or hot[0].read_bytes() == recorded, "no start lacked enough to record more"


TOUCH = """
import mmap, os

PAGES = 64 * 32  # each 32nd is read, so that no two are in one chunk
memory = mmap.mmap(-1, PAGES * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(0, len(memory), 4096):
    memory[at:at + 64] = os.urandom(64)

def handler(event, context):
    return sum(memory[at * 32 * 4096] > 255 for at in range(event))
"""


def test_what_a_hot_set_lacks_is_added(new_daemon, make_function):
    """A start that misses some pages has the next one record them, beside what there is."""
    daemon = new_daemon(arguments=["--log-level", "debug"]).start()
    function = make_function(TOUCH, on=daemon, snap_start=True)
    version = function.publish()

    def missed(event):
        """By a first thaw."""
        before = daemon.log().count("has served")
        function.evict(version, templates=True)
        assert function.call(event, version) == 0
        harness.wait_until(lambda: daemon.log().count("has served") > before, "the pager to tell what was missing")
        return int(re.findall(r"has served: (\d+) pages were missing", daemon.log())[-1])

    missed(0)
    hot = harness.wait_until(lambda: list((daemon.data / "store/snapshots").glob("*/hot")), "the hot set to be stored")
    recorded = hot[0].read_bytes()
    assert missed(25) >= 25
    assert hot[0].read_bytes() == recorded, "nothing was recorded while whole chunks came"
    assert missed(25) >= 25
    harness.wait_until(lambda: hot[0].read_bytes() != recorded, "what was lacking to be stored")
    assert missed(25) < 25
    assert missed(0) < 25, "what was there before is there still"


def test_the_budget_is_a_size(new_daemon):
    daemon = new_daemon()
    for wrong in ("0", "-1", "1X", "1MB", "M", "", "99999999T"):
        done = subprocess.run([harness.THAWD, "--data", daemon.data, "--template-budget", wrong], capture_output=True,
                              text=True, timeout=harness.PATIENCE_S)
        assert done.returncode == 2 and "must be a size" in done.stderr, (wrong, done)


def test_twenty_times_more_templates_than_fit(new_daemon):
    """Forty versions called by Zipf's law, with memory for the templates of two of them: every call is answered."""
    daemon = new_daemon().start()
    made = zipf.publish(daemon, 40)
    budget = int(zipf.held_by_all(daemon, made) / 20)
    daemon.stop()
    daemon.arguments += ["--template-budget", str(budget), "--concurrency", "4"]
    daemon.start()
    load = zipf.Load(daemon, made, exponent=1, clients=4, seconds=3 * harness.PATIENCE_S, calls=200).finish()
    assert not load.failures, load.failures
    assert len(load.served) >= 200
    told = daemon.get("/thaw/v1/status")["templates"]
    assert told["hits"] > 0 and told["evictions"] > 20, told
    harness.wait_until(lambda: daemon.get("/thaw/v1/status")["templates"]["bytes"] <= budget, "the budget to be kept")
