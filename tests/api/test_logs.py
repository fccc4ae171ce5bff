"""Log lines: in the tail of an answer, on disk, and through `thaw logs`."""

import re
import subprocess
import os

import harness

UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def test_the_tail_of_a_cold_start_and_a_warm_one(make_function):
    function = make_function("import sys\nprint('loading')\ndef handler(e, c):\n"
                             "    print('to stdout'); print('to stderr', file=sys.stderr); return 1")
    cold = function.raw(LogType="Tail")
    lines = cold["Log"].splitlines()
    request = cold["ResponseMetadata"]["RequestId"]
    assert any(line.startswith("INIT_START Runtime Version: ") for line in lines)
    assert f"START RequestId: {request} Version: $LATEST" in lines
    assert {"loading", "to stdout", "to stderr"} <= set(lines)
    assert f"END RequestId: {request}" in lines
    report = re.fullmatch(
        rf"REPORT RequestId: {request}\tDuration: ([\d.]+) ms\tBilled Duration: (\d+) ms\tMemory Size: 128 MB\t"
        rf"Max Memory Used: (\d+) MB\tInit Duration: ([\d.]+) ms\t", lines[-1])
    assert report, lines[-1]
    assert 1 <= int(report[3]) <= 128
    warm = function.raw(LogType="Tail")["Log"]
    assert "INIT_START" not in warm and "Init Duration" not in warm and "loading" not in warm
    assert "to stdout" in warm
    assert "LogResult" not in function.raw()


def test_standard_output_can_be_opened_by_its_name(make_function):
    function = make_function("def handler(e, c):\n    print('by name', file=open('/dev/stdout', 'w'))\n"
                             "    print('also', file=open('/dev/stderr', 'w')); return 1", snap_start=True)
    function.publish()
    for version in (None, "1"):
        log = function.raw(version=version, LogType="Tail")["Log"]
        assert "by name" in log and "also" in log


def test_the_tail_is_the_last_4_kb(make_function):
    function = make_function("def handler(e, c):\n    for i in range(2000): print('line', i)\n    return 1")
    log = function.raw(LogType="Tail")["Log"]
    assert len(log.encode()) <= 4096
    assert "line 1999" in log and "line 10\n" not in log and "REPORT" in log


def test_the_thaw_command_shows_them(make_function, server):
    function = make_function("def handler(e, c): print('saw', e); return 1")
    for i in range(3):
        function.call(f"event-{i}")
    # Newlines may still be on their way through the pipe.
    text = harness.wait_until(lambda: (lambda t: t if "event-2" in t else None)(
        server.thaw("logs", function.name).stdout), "the lines")
    assert text.index("event-0") < text.index("event-1") < text.index("event-2")
    last = server.thaw("logs", function.name, "-n", "1").stdout
    assert len(last.splitlines()) == 1
    missing = server.thaw("logs", "no-such-function", check=False)
    assert missing.returncode == 1 and "Function not found" in missing.stderr


def test_following(make_function, server):
    function = make_function("def handler(e, c): print('saw', e); return 1")
    function.call("before")
    follower = subprocess.Popen([harness.THAW, "logs", function.name, "-f", "-n", "0"], stdout=subprocess.PIPE,
                                text=True, env=dict(os.environ, THAW_ENDPOINT=server.endpoint))
    try:
        seen = []
        # It may take a moment until it follows: so go on calling until a line comes.
        import threading
        reader = threading.Thread(target=lambda: seen.extend(iter(follower.stdout.readline, "")), daemon=True)
        reader.start()
        harness.wait_until(lambda: function.call("later") and any("saw later" in line for line in seen), "a line")
        assert not any("saw before" in line for line in seen)
    finally:
        follower.terminate()  # not SIGINT, which who started us in the background has ignored
        follower.wait(harness.PATIENCE_S)


def test_a_flood_is_bounded(make_function, server):
    function = make_function("""
import sys
def handler(event, context):
    line = "x" * 1000 + "\\n"
    for _ in range(event):
        sys.stdout.write(line)
    return event
""", Timeout=120)
    assert function.call(200_000) == 200_000
    assert function.call(1) == 1
    size = sum(f.stat().st_size for f in harness.files_below(server.data / "logs" / function.name))
    assert 0 < size < 100_000_000, "200 MB were printed; the rest was dropped, and said so"
    # The note comes when there is room again, or with the next line.
    harness.wait_until(lambda: function.call(1) and "dropped" in server.thaw("logs", function.name, "-n", "10000").stdout,
                       "the note about what was dropped")


def test_binary_and_endless_lines(make_function):
    function = make_function("""
import os
def handler(event, context):
    os.write(1, bytes(range(256)) + b"\\n")
    os.write(1, b"y" * 100000 + b"\\n")
    return 1
""")
    function.call()
    answer = function.raw(LogType="Tail")
    assert "REPORT" in answer["Log"]


def test_logs_go_with_their_function(make_function, server):
    function = make_function("def handler(e, c): print('hello'); return 1")
    function.call()
    assert harness.files_below(server.data / "logs" / function.name)
    function.client.delete_function(FunctionName=function.name)
    harness.wait_until(lambda: not harness.files_below(server.data / "logs" / function.name), "the logs to go")
