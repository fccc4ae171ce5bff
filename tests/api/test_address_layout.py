"""--address-layout: versions of a function that are to be frozen are initialised at the same addresses and with the same
hash seed, so that most chunks of their snapshots are the same; all else stays random."""

import json
import subprocess

import harness
import pytest

APART = harness.PYTHON in ("python3.8", "python3.9", "python3.10", "python3.11")  # their code is loaded so

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
    return {"born": born, "now": look(), "seed": [os.environ.get("PYTHONHASHSEED"), os.environ.get("THAW_HASH_SEED"), os.environ.get("THAW_SPARE")],
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
        assert told["seed"] == [None] * 3, "the seed is no variable of the function's"
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
    assert told["seed"] == ["7", None, None] and told["child_hash"] == told["born"]["hash"]


PETS = {
    "app.py": """
import shop

pets = shop.make(60_000)

def handler(event, context):
    return pets[event]["name"]
""",
    "shop.py": """
KINDS = ("dog", "cat", "tortoise", "von der Hundehütte")

def make(count):
    return [{"id": i, "kind": KINDS[i % 3 if i else 3], "name": "pet %d" % i, "price": 9.5, "note": "a text of words"} for i in range(count)]

def count(pets):
    return len(pets)
""",
}
CHANGES = {
    "nothing": lambda files: files,
    "a line in the handler": lambda files: dict(files, **{"app.py": files["app.py"].replace(
        "    return pets", "    print('an event', event)\n    return pets")}),
    "a constant": lambda files: dict(files, **{"app.py": files["app.py"].replace("import shop\n", "import shop\nLIMIT = 25\n")}),
    "a line in another module": lambda files: dict(files, **{"shop.py": files["shop.py"].replace(
        "    return len", "    assert pets, 'there are no pets'\n    return len")}),
    "a function in another module": lambda files: dict(files, **{"shop.py": files["shop.py"] + """
def dearest(pets):
    return max(pets, key=lambda pet: pet["price"])
"""}),
}


def publish_shares(daemon, function, files):
    """Publishes a version with these files. Returns its number, and the share of its chunks that were there already."""
    function.client.update_function_code(FunctionName=function.name, ZipFile=harness.make_zip(files))
    before = set(harness.files_below(daemon.data / "store/chunks"))
    version = function.publish()
    chunks = json.loads(daemon.thaw("store", "stats", "--json").stdout)["snapshots"][-1]["chunks"]
    return version, 1 - len(set(harness.files_below(daemon.data / "store/chunks")) - before) / chunks


def test_a_changed_line_moves_nothing_else(new_daemon, make_function):
    daemon = new_daemon().start()
    function = make_function(PETS["app.py"], snap_start=True, on=daemon)
    shared = {}
    for what, change in CHANGES.items():
        version, shared[what] = publish_shares(daemon, function, change(PETS))
        assert function.call(59_999, version) == "pet 59999"
    assert shared.pop("nothing") < 0.5, "the first one: there was none before it"
    assert min(shared.values()) > 0.6 or not APART, shared


def test_the_tenth_version_moves_nothing_else(new_daemon, make_function):
    """Python makes an object for a number of two digits in the environment, and none for one digit."""
    daemon = new_daemon().start()
    function = make_function("", snap_start=True, on=daemon)
    shares = {}
    for number in range(1, 11):
        version, share = publish_shares(daemon, function, {"app.py": f"def handler(event, context):\n    return {1000 + number}\n"})
        shares[version] = share
    assert shares["9"] > 0.4 and shares["10"] > shares["9"] - 0.17 or not APART, shares


PLACES = """
import json, sys, types
sys.modules["thaw_region"] = types.ModuleType("thaw_region")
import thaw_layout
thaw_layout.region_end = 1 << 48  # wherever an object is
sources, words = json.load(sys.stdin)
told = []
for seed in range(200):
    thaw_layout.hash = lambda form: hash((seed, form))
    plans = [thaw_layout.plan_table(compile(source, "shop.py", "exec")) for source in sources]
    for plan, size in plans:
        ends = [0]
        for form, begin, count in sorted(plan, key=lambda item: item[1]):
            assert begin >= ends[-1] and begin % 16 == count % 16 == 0, "they are apart"
            ends.append(begin + count)
        assert ends[-1] <= size
    places = [{form: begin for form, begin, _ in plan} for plan, size in plans]
    forms = [thaw_layout.form_of(sys.intern(word)) for word in words]
    told.append([[place[form] for form in forms] for place in places])
print(json.dumps(told))
"""
SHOP_CHANGES = (
    ("cheapest = None", "cheapest, count = None, 2500.5"),
    ("'no such kind'", "'there is no such kind'"),
    ("'no such kind'", "'unlike'"),
    ("return {'found': len(of_kind)}", "return {'found': len(of_kind), 'first': of_kind[:1]}"),
    ("return {'found': len(of_kind)}", "return len(of_kind)"),
    ("def handler", "def unused():\n    return sum(pet['price'] for pet in pets)\n\ndef handler"),
)
SHOP = """
KINDS = ('dog', 'cat', 'tortoise', 'hamster', 'parrot', 'Schildkröte')
cheapest = None
pets = [{'number': i, 'kind': KINDS[i % 6], 'name': 'pet %d' % i, 'price': i * 2.25} for i in range(1000)]

def handler(event, context):
    of_kind = [pet for pet in pets if pet['kind'] == event['wanted']]
    assert of_kind, 'no such kind'
    return {'found': len(of_kind)}
"""


def test_words_that_data_refers_to_stay():
    """Wherever their hashes would have them: what is changed below them, or is no word, does not take their place."""
    sources = [SHOP] + [SHOP.replace(*change) for change in SHOP_CHANGES]
    assert len(set(sources)) == len(sources)
    words = ["dog", "cat", "tortoise", "hamster", "parrot", "Schildkröte", "number", "kind", "name", "price"]
    done = subprocess.run(["/usr/bin/" + harness.PYTHON, "-c", PLACES], input=json.dumps([sources, words]), text=True,
                          capture_output=True, check=False, cwd=harness.ROOT / "runtimes/python", env={"PYTHONHASHSEED": "1"})
    assert done.returncode == 0, done.stderr
    for first, *changed in json.loads(done.stdout):
        assert changed == [first] * len(SHOP_CHANGES)


LOOK = """
import gc, importlib.machinery, io, sys, traceback

class Lines:
    during = ("get_code" in vars(importlib.machinery.SourceFileLoader), len(gc.callbacks))
    failures = []

for name in ("broken", "raises", "absent"):
    try:
        __import__(name)
    except Exception:
        Lines.failures.append(traceback.format_exc().replace(__file__, "app.py"))

import text

def handler(event, context):
    return {"during": Lines.during, "failures": Lines.failures, "values": ascii(text.VALUES), "place": text.place.__code__.co_firstlineno,
            "file": text.place.__code__.co_filename, "documentation": text.place.__doc__,
            "after": ("get_code" in vars(importlib.machinery.SourceFileLoader), len(gc.callbacks))}
"""
LOOKED_AT = {
    "app.py": LOOK,
    "broken.py": "x = 1\ndef f(:\n    pass\n",
    "raises.py": "def f():\n    raise KeyError('inner')\nf()\n",
    "text.py": "VALUES = ['Wörter \u4e2d\U0001f600', 1.5, -0.0, 0.0, 10**30, b'\\xff', 3+4j, True, (2.5, 'a b', ('a b',))]\n"
               "def place(a='default text'):\n    'Its documentation.'\n    return a in {'x y', 1.25}\n",
}


@pytest.mark.parametrize("malloc", ["", "debug"])
def test_code_that_is_loaded_apart_is_the_same(make_function, malloc):
    """Constants, tracebacks and places are what they are without it: $LATEST is never frozen."""
    function = make_function(LOOK, snap_start=True, Environment={"PYTHONMALLOC": malloc} if malloc else {})
    function.client.update_function_code(FunctionName=function.name, ZipFile=harness.make_zip(LOOKED_AT))
    plain, frozen = function.call(), function.call(None, function.publish())
    assert plain.pop("during") == [False, 0] and frozen.pop("during") == [APART, 0]
    assert plain == frozen
    assert frozen["after"] == [False, 0]
    assert "-0.0, 0.0" in frozen["values"] and frozen["place"] == 2 and frozen["documentation"] == "Its documentation."
    assert "broken.py" in frozen["failures"][0] and frozen["failures"][1].count("File ") == 3


def test_random_layout(new_daemon, make_function):
    daemon = new_daemon(arguments=["--address-layout", "random"]).start()
    function = make_function(TELL, snap_start=True, on=daemon)
    first, second = versions(function)
    assert first["born"]["libc"] != second["born"]["libc"] and first["born"]["hash"] != second["born"]["hash"]


def test_the_option_is_checked():
    answer = subprocess.run([harness.THAWD, "--address-layout", "none"], capture_output=True, text=True, check=False)
    assert answer.returncode == 2 and "fixed or random" in answer.stderr
