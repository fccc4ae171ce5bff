"""The origin's client and the courier, driven directly (tests/origin/tool.c), against a real S3 server through a proxy with faults."""

import concurrent.futures
import os
import subprocess

import pytest

import harness
import s3

TOOL = harness.BUILD / "tests" / "origin_tool"


def run(endpoint, *commands, origin=f"s3://{s3.BUCKET}/tool", key=s3.KEY, secret=s3.SECRET):
    """The lines it prints."""
    done = subprocess.run([TOOL, endpoint, origin, key, secret, *[str(c) for c in commands]], capture_output=True, text=True,
                          timeout=harness.PATIENCE_S * 2)
    assert done.returncode in (0, 1) and not done.stderr, done
    return done.stdout.splitlines()


@pytest.fixture
def file(tmp_path):
    """file(bytes): the path of a file with that many."""
    def make(size):
        path = tmp_path / f"file-{size}"
        path.write_bytes(os.urandom(size))
        return path
    return make


def test_objects_come_back_as_they_went(s3_server, s3_proxy, file, tmp_path):
    for size in (0, 1, 70000, 20 << 20):  # the last one goes in parts
        path, out = file(size), tmp_path / "out"
        lines = run(s3_proxy.endpoint, "store", "chunks/ab/one", path, "look", "chunks/ab/one", "fetch", "chunks/ab/one", out)
        assert lines == ["ok ", f"ok {size} 1", "ok "], lines
        assert out.read_bytes() == path.read_bytes()
    assert s3_proxy.count("PUT", "partNumber=") == 3 and s3_proxy.count("POST", "uploads") == 1
    assert s3_server.keys("tool/") == {"tool/chunks/ab/one": 20 << 20}


def test_a_store_that_encrypts(s3_proxy, file, tmp_path):
    s3_proxy.fault = lambda request: ("encrypted",)
    for size in 70000, 20 << 20:
        path, out = file(size), tmp_path / "out"
        lines = run(s3_proxy.endpoint, "store", "chunks/ab/two", path, "look", "chunks/ab/two", "fetch", "chunks/ab/two", out)
        assert lines == ["ok ", f"ok {size} 1", "ok "], lines
        assert out.read_bytes() == path.read_bytes()


def test_a_long_list_and_what_is_not_ours(s3_server, s3_proxy):
    s3_server.put("tool/many/ what is this?", b"x")
    s3_server.put("toolbox/many/1", b"x")
    lines = run(s3_proxy.endpoint, "many", "450", "list", "many/", "list", "none/", "remove", "many/00000", "remove", "many/00000",
                "look", "many/00000", "list", "many/")
    assert lines[0] == "ok "
    assert lines[1:451] == [f"many/{i:05} 3 1" for i in range(450)]
    assert lines[451:455] == ["ok 450", "ok 0", "ok ", "ok "]
    assert lines[455].startswith("not-found many/00000: ")
    assert lines[-1] == "ok 449"


def test_pages_of_a_list(s3_server, s3_proxy):
    """Short ones, some that have only names which are not ours, and empty ones, behind which there are more."""
    for i in range(12):
        s3_server.put(f"pages/many/ what is {i}?", b"x")
    s3_proxy.page = 5
    given = set()

    def empty_once(request):
        if request.method == "GET" and "start-after" in request.path and request.path not in given:
            given.add(request.path)
            return ("empty_page",) if len(given) % 2 else None

    s3_proxy.fault = empty_once
    lines = run(s3_proxy.endpoint, "many", "33", "list", "many/", origin=f"s3://{s3.BUCKET}/pages")
    assert lines == ["ok ", *[f"many/{i:05} 3 1" for i in range(33)], "ok 33"], lines
    assert s3_proxy.count("GET", "continuation-token=") >= 3 and s3_proxy.count("GET", "start-after") >= 8

    # Nothing is missed when an answer was damaged in its middle, though its begin could be read.
    seen = set()

    def wrong_once(request):
        if request.path not in seen and "many" in request.path:
            seen.add(request.path)
            return ("wrong",)

    for s3_proxy.page, s3_proxy.fault in (5, wrong_once), (1000, wrong_once):
        seen.clear()
        lines = run(s3_proxy.endpoint, "list", "many/", origin=f"s3://{s3.BUCKET}/pages")
        assert lines == [*[f"many/{i:05} 3 1" for i in range(33)], "ok 33"], lines
    s3_proxy.fault = lambda request: ("backwards",)
    line, = run(s3_proxy.endpoint, "list", "many/", origin=f"s3://{s3.BUCKET}/pages")
    assert line.startswith("busy ") and "order of its names" in line, line
    s3_proxy.fault = lambda request: ("empty_page",)
    line, = run(s3_proxy.endpoint, "list", "many/", origin=f"s3://{s3.BUCKET}/pages")
    assert line.startswith("busy ") and "no end" in line, line


def test_refusals_are_told_in_words(s3_server, s3_proxy, file):
    def tell(*arguments, **options):
        before = len(s3_proxy.requests)
        line, = run(s3_proxy.endpoint, *arguments, **options)
        return line, len(s3_proxy.requests) - before

    # One request is the courier's greeting: what is refused is not tried again.
    for options, code in ({"secret": "wrong"}, "SignatureDoesNotMatch"), ({"key": "wrong"}, "InvalidAccessKeyId"):
        for verb in "store", "fetch":
            line, requests = tell(verb, "snapshots/1/key", file(9), **options)
            assert line == f"invalid snapshots/1/key: the origin answers 403 {code}: the proxy says so" and requests <= 2, line
    assert tell("store", "snapshots/1/key", file(9), origin="s3://no-such-bucket/x")[0] == "invalid snapshots/1/key: there is no bucket no-such-bucket"
    assert tell("fetch", "snapshots/1/key", "/dev/null")[0] == "not-found snapshots/1/key: the origin has no such object"
    for bad in ("../thaw.key", "/etc/passwd", "a//b", ".a", "a/", "x" * 200):
        assert tell("fetch", bad, "/dev/null")[0].startswith("invalid "), bad
    for bad in ("s3:/x", "s3://", "s3://UPPER/x", "http://bucket", "s3://bucket/a b"):
        assert tell("look", "a", origin=bad)[0].startswith("invalid "), bad
    s3_proxy.fault = lambda request: ("status", 412) if request.method == "PUT" else None
    assert tell("store-if-absent", "domains/default", file(9))[0].startswith("conflict ")
    s3_proxy.fault = lambda request: ("status", 301)
    assert "is elsewhere" in tell("fetch", "domains/default", "/dev/null")[0]


ONCE = [("delay", 0.001), ("status", 500), ("status", 503), ("reset",), ("truncate",), ("wrong",), ("longer",), ("slow", 0.5),
        ("shorter",), ("wrong_request",), ("wrong_write",)]


@pytest.mark.parametrize("size", [100000, 17 << 20])
def test_what_fails_once_is_tried_again(s3_proxy, file, tmp_path, size):
    """Every kind of fault, at the first try of each request."""
    path = file(size)
    content = path.read_bytes()
    seen = set()

    def first_time(request):
        name = request.path.split("/tool/")[-1]
        kind = ONCE[int(name[0])] if name[0].isdigit() else None
        which = (request.method, request.path)
        if kind is None or which in seen or request.method == "HEAD":
            return None
        seen.add(which)
        return kind

    s3_proxy.fault = first_time

    def there_and_back(i):
        out = tmp_path / f"out-{size}-{i}"
        lines = run(s3_proxy.endpoint, "store", f"{i}/x", path, "fetch", f"{i}/x", out)
        # What came in parts has no hash of the whole: there the contents' own seals tell, and the reader asks again.
        if size > 16 << 20 and ONCE[i][0] in ("wrong", "shorter"):
            return
        assert lines == ["ok ", "ok "] and out.read_bytes() == content, (ONCE[i], lines)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(there_and_back, range(len(ONCE))))


ALWAYS = {("status", 500): "busy", ("status", 503): "busy", ("reset",): "busy", ("truncate",): "busy", ("longer",): "busy",
          ("wrong",): "corrupt", ("shorter",): "corrupt", ("status", 403): "invalid"}


def test_what_keeps_failing_ends_with_a_reason(s3_proxy, file, tmp_path):
    names = {f"{i}/x": fault for i, fault in enumerate(ALWAYS)}
    assert run(s3_proxy.endpoint, *[word for name in names for word in ("store", name, file(50000))]) == ["ok "] * len(names)
    s3_proxy.fault = lambda request: names.get(request.path.split("/tool/")[-1])

    def fetch(name):
        out = tmp_path / name.replace("/", "-")
        line, = run(s3_proxy.endpoint, "fetch", name, out)
        kind, _, text = line.partition(" ")
        tries = 1 if kind == "invalid" else 7
        # A connection that was open before and breaks at once is opened again, without that being a try; and a try may end with
        # what the last answer left on the connection.
        asked = s3_proxy.count("GET", f"/tool/{name}")
        assert kind == ALWAYS[names[name]] and text.startswith(f"{name}: "), (names[name], line)
        assert abs(asked - tries) <= 3 * (tries > 1) and (tries == 1 or "after 7 tries" in text), (names[name], line)
        assert not out.exists()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(fetch, names))


def test_an_origin_that_is_not_there(file):
    line, = run(f"http://127.0.0.1:{harness.free_port()}", "store", "chunks/ab/one", file(100))
    assert line.startswith("busy chunks/ab/one: after ") and "onnect" in line, line


def test_a_stalled_request_is_given_up_and_repeated(s3_proxy, file):
    stalled = []

    def stall_once(request):
        if request.method == "PUT" and not stalled:
            stalled.append(request)
            return ("stall",)

    s3_proxy.fault = stall_once
    assert run(s3_proxy.endpoint, "store", "chunks/ab/stalled", file(1000)) == ["ok "]
    assert s3_proxy.count("PUT", "stalled") == 2


def test_no_try_after_its_time(s3_proxy, file):
    """However often it went wrong, and whatever became of the courier."""
    over = "busy chunks/ab/one: the time for it is over"
    assert run(s3_proxy.endpoint, "store", "chunks/ab/one", file(10), "remove-within", "chunks/ab/one", "0", "look", "chunks/ab/one") == [
        "ok ", over, "ok 10 1"]
    s3_proxy.fault = lambda request: ("status", 500) if request.method == "DELETE" else None
    assert run(s3_proxy.endpoint, "remove-within", "chunks/ab/one", "400", "kill-courier", "remove-within", "chunks/ab/one", "0") == [over, "ok ", over]
    assert 0 < s3_proxy.count("DELETE") < 7
    s3_proxy.fault = lambda request: None
    assert run(s3_proxy.endpoint, "remove-within", "chunks/ab/one", "60000") == ["ok "]


def test_a_courier_that_dies_is_replaced(s3_proxy, file, tmp_path):
    lines = run(s3_proxy.endpoint, "store", "chunks/ab/one", file(1000), "kill-courier", "fetch", "chunks/ab/one", tmp_path / "out",
                "kill-courier", "many", "60")
    assert lines == ["ok "] * 5, lines
    assert (tmp_path / "out").read_bytes() == (tmp_path / "file-1000").read_bytes()
