"""--address-layout: versions of a function that are to be frozen are initialised at the same addresses and with the same
hash seed, so that most chunks of their snapshots are the same; all else stays random."""

import subprocess

import harness

TELL = """
import os, subprocess, sys

def look():
    with open("/proc/self/maps") as maps:
        first = next(line.split()[0] for line in maps if "libc.so" in line)
    return {"libc": first, "hash": hash("pets")}

CHILD = [sys.executable, "-c", "print(hash('pets'), open('/proc/self/personality').read())"]
born = look()

def handler(event, context):
    child = subprocess.run(CHILD, capture_output=True, text=True, check=True).stdout.split()
    return {"born": born, "now": look(), "seed": [os.environ.get("PYTHONHASHSEED"), os.environ.get("THAW_HASH_SEED")],
            "randomises": sys.flags.hash_randomization, "personality": open("/proc/self/personality").read().strip(),
            "child_hash": int(child[0]), "child_personality": child[1]}
"""


def versions(function, count=2):
    """What `count` versions tell, each thawed."""
    told = []
    for number in range(count):
        function.client.update_function_code(
            FunctionName=function.name, ZipFile=harness.python_zip(TELL + f"# version {number}\n"))
        told.append(function.call(None, function.publish()))
        assert told[-1]["now"] == told[-1]["born"], "a clone is what was frozen"
    return told


def test_versions_have_one_layout(make_function):
    first, second = versions(make_function(TELL, snap_start=True))
    assert first["born"] == second["born"]
    for told in (first, second):
        assert told["randomises"] == 1
        assert told["seed"] == [None, None], "the seed is no variable of the function's"
        assert told["personality"] == told["child_personality"] == "00000000", "what a clone starts has random addresses"
        assert told["child_hash"] != told["born"]["hash"]
    assert first["child_hash"] != second["child_hash"]


def test_functions_have_seeds_of_their_own(make_function):
    one, other = (versions(make_function(TELL, snap_start=True), 1)[0] for _ in range(2))
    assert one["born"]["hash"] != other["born"]["hash"]


def test_latest_stays_random(make_function):
    function = make_function(TELL, snap_start=True)
    one = function.call()
    function.evict()
    other = function.call()
    assert one["born"]["libc"] != other["born"]["libc"] and one["born"]["hash"] != other["born"]["hash"]


def test_a_seed_of_the_users_own_is_kept(make_function):
    function = make_function(TELL, snap_start=True, Environment={"PYTHONHASHSEED": "7"})
    told = versions(function, 1)[0]
    assert told["seed"] == ["7", None] and told["child_hash"] == told["born"]["hash"]


def test_random_layout(new_daemon, make_function):
    daemon = new_daemon(arguments=["--address-layout", "random"]).start()
    function = make_function(TELL, snap_start=True, on=daemon)
    first, second = versions(function)
    assert first["born"]["libc"] != second["born"]["libc"] and first["born"]["hash"] != second["born"]["hash"]


def test_the_option_is_checked():
    answer = subprocess.run([harness.THAWD, "--address-layout", "none"], capture_output=True, text=True, check=False)
    assert answer.returncode == 2 and "fixed or random" in answer.stderr
