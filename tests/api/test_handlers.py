"""What handlers do, good and bad: the caller learns it, and the next call is served."""

import json

import pytest

import harness

WHAT_IT_SEES = """
import os, sys, socket
def handler(event, context):
    return {
        "env": dict(os.environ), "cwd": os.getcwd(), "uid": os.getuid(), "pid": os.getpid(),
        "task": sorted(os.listdir("/var/task")), "tmp": sorted(os.listdir("/tmp")),
        "arn": context.invoked_function_arn, "request": context.aws_request_id,
        "remaining": context.get_remaining_time_in_millis(), "name": context.function_name,
        "memory": context.memory_limit_in_mb, "version": context.function_version,
        "group": context.log_group_name, "stream": context.log_stream_name,
    }
"""


def test_what_a_handler_sees(make_function):
    function = make_function(WHAT_IT_SEES, Environment={"MINE": "yes"}, Timeout=20)
    answer = function.raw()
    sees = json.loads(answer["Payload"])
    env = sees["env"]
    assert env["MINE"] == "yes" and env["_HANDLER"] == "app.handler" and env["LAMBDA_TASK_ROOT"] == "/var/task"
    assert env["AWS_LAMBDA_FUNCTION_NAME"] == function.name and env["AWS_LAMBDA_FUNCTION_VERSION"] == "$LATEST"
    assert env["AWS_REGION"] == env["AWS_DEFAULT_REGION"] == "us-east-1"
    assert env["AWS_EXECUTION_ENV"] == f"AWS_Lambda_{harness.PYTHON}"
    assert env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "128" and env["TZ"] == ":UTC"
    assert "/opt/bin" in env["PATH"]
    assert sees["cwd"] == "/var/task" and sees["task"] == ["app.py"] and sees["uid"] != 0
    assert sees["arn"].endswith(f":function:{function.name}")
    assert sees["request"] == answer["ResponseMetadata"]["RequestId"]
    assert 0 < sees["remaining"] <= 20000
    assert (sees["name"], sees["memory"], sees["version"]) == (function.name, "128", "$LATEST")


def test_the_sandbox_holds(make_function, server):
    function = make_function("""
import os, socket, ctypes
def attempt(action):
    try:
        return repr(action())
    except Exception as error:
        return type(error).__name__
def handler(event, context):
    libc = ctypes.CDLL(None, use_errno=True)
    return {
        "write /": attempt(lambda: open("/x", "w")),
        "write task": attempt(lambda: open("/var/task/x", "w")),
        "write usr": attempt(lambda: open("/usr/x", "w")),
        "shadow": attempt(lambda: open("/etc/shadow").read()),
        "hidden": [os.listdir(p) for p in ("/home", "/root", "/sys", "/var/lib", "/srv", "/mnt") if os.access(p, os.R_OK)],
        "processes": [p for p in os.listdir("/proc") if p.isdigit()],
        "outside": attempt(lambda: socket.create_connection(("192.0.2.1", 80), 2)),
        "host": attempt(lambda: socket.create_connection(("127.0.0.1", event["port"]), 2)),
        "mount": libc.mount(b"none", b"/tmp", b"tmpfs", 0, None),
        "unshare": libc.unshare(0x10000000),
        "ptrace": libc.ptrace(0, 0, 0, 0) if False else 0,
        "capabilities": [l for l in open("/proc/self/status") if l.startswith(("CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp:"))],
    }
""")
    sees = function.call({"port": server.port})
    for denied in ["write /", "write task", "write usr"]:
        assert sees[denied] in ("PermissionError", "OSError"), sees
    assert sees["shadow"] in ("PermissionError", "FileNotFoundError", "OSError")
    assert sees["outside"] in ("OSError", "ConnectionRefusedError", "TimeoutError")
    assert sees["host"] == "ConnectionRefusedError", "the sandbox's loopback is its own"
    assert len(sees["processes"]) <= 3, sees["processes"]
    assert sees["mount"] == -1 and sees["unshare"] == -1
    assert not any(sees["hidden"]), "nothing of the host's"
    values = dict(line.split() for line in sees["capabilities"])
    assert int(values["CapEff:"], 16) == int(values["CapPrm:"], 16) == 0
    assert values["NoNewPrivs:"] == "1" and values["Seccomp:"] == "2"


@pytest.mark.parametrize("source, error_type", [
    ("def handler(e, c):\n    raise ValueError('no such pet')", "ValueError"),
    ("def handler(e, c):\n    return object()", "Runtime.MarshalError"),
    ("import no_such_module", "Runtime.ImportModuleError"),
    ("def handler(e, c)\n    return", "Runtime.UserCodeSyntaxError"),
    ("def other(e, c):\n    return", "Runtime.HandlerNotFound"),
    ("raise KeyError('at import')", "KeyError"),
])
def test_errors_of_the_handler(make_function, source, error_type):
    function = make_function(source)
    for _ in range(2):
        error = function.fail({})
        assert error["errorType"] == error_type, error
        assert error["errorMessage"]


def test_an_error_brings_its_trace(make_function):
    function = make_function("def deep():\n    raise ValueError('no such pet')\ndef handler(e, c):\n    deep()")
    error = function.fail({})
    assert error["errorMessage"] == "no such pet"
    assert any("deep" in line for line in error["stackTrace"])


def test_module_of_the_handler_in_a_folder(make_function):
    function = make_function(files={"pets/app.py": "def handler(e, c): return 'found'"}, handler="pets.app.handler")
    assert function.call() == "found"
    function = make_function(files={"pets/app.py": "def handler(e, c): return 'found'"}, handler="pets/app.handler")
    assert function.call() == "found"


@pytest.mark.parametrize("action, message", [
    ("os._exit(0)", "Runtime exited without providing a reason"),
    ("os._exit(7)", "Runtime exited with error: exit status 7"),
    ("os.kill(os.getpid(), 9)", "Runtime exited with error: signal: killed"),
    ("os.kill(os.getpid(), 11)", "Runtime exited with error: signal: segmentation fault"),
])
@pytest.mark.parametrize("snap_start", [False, True])
def test_handlers_that_end(make_function, action, message, snap_start):
    function = make_function(f"import os\ndef handler(e, c):\n    if e == 'die': {action}\n    return e",
                             snap_start=snap_start)
    version = function.publish() if snap_start else None
    assert function.call(1, version) == 1
    error = function.fail("die", version)
    assert error["errorType"] == "Runtime.ExitError"
    assert message in error["errorMessage"], error
    assert function.call(2, version) == 2


@pytest.mark.parametrize("snap_start", [False, True])
def test_a_handler_that_never_returns(make_function, snap_start):
    function = make_function("import time\ndef handler(e, c):\n    while e == 'hang': time.sleep(1)\n    return e",
                             Timeout=1, snap_start=snap_start)
    version = function.publish() if snap_start else None
    answer = function.raw("hang", version, LogType="Tail")
    error = json.loads(answer["Payload"])
    assert answer["FunctionError"] == "Unhandled"
    assert "Task timed out after 1.00 seconds" in error["errorMessage"]
    assert "Task timed out after 1.00 seconds" in answer["Log"]
    assert "Status: timeout" in answer["Log"]
    assert function.call(2, version) == 2


def test_a_busy_loop_that_never_returns(make_function):
    function = make_function("def handler(e, c):\n    while e == 'hang': pass\n    return e", Timeout=1)
    assert "timed out" in function.fail("hang")["errorMessage"]
    assert function.call(1) == 1


def test_a_handler_that_closes_its_sockets(make_function):
    function = make_function("""
import os
def handler(event, context):
    if event == "close":
        for fd in range(3, 100):
            try:
                os.close(fd)
            except OSError:
                pass
    return event
""", Timeout=5)
    assert function.call(1) == 1
    # Its answer may come over a new connection, or not at all; the caller hears of it either way.
    function.raw("close")
    assert function.call(2) == 2


def test_a_fork_bomb(make_function):
    function = make_function("""
import os, time
def handler(event, context):
    if event == "bomb":
        forks = 0
        try:
            while True:
                if os.fork() == 0:
                    time.sleep(1000)
                forks += 1
        except OSError:
            return forks
    return event
""", Timeout=30, MemorySize=3008)
    forks = function.call("bomb")
    assert forks <= 1024
    function.evict()
    assert function.call(1) == 1


def test_a_real_fork_bomb(make_function, server):
    function = make_function("""
import os
def handler(event, context):
    while event == "bomb":
        try:
            os.fork()
        except OSError:
            pass
    return event
""", Timeout=3)
    function.fail("bomb")
    assert function.call(1) == 1
    # However busy they are, they die at once, and do not fight for minutes over their share of a processor.
    harness.wait_until(lambda: len(harness.descendants(server.process.pid)) < 300, "the end of the bomb's processes")


def test_tmp_is_limited_and_private(make_function):
    function = make_function("""
import os
def handler(event, context):
    if event == "fill":
        with open("/tmp/fill", "wb") as out:
            try:
                while True:
                    out.write(bytes(1 << 20))
            except OSError as error:
                name, written = type(error).__name__, out.tell() >> 20
        os.remove("/tmp/fill")
        return [error.errno if False else name, written]
    return sorted(os.listdir("/tmp"))
""", Timeout=60, MemorySize=1024)
    name, written = function.call("fill")
    assert name == "OSError" and 500 <= written <= 512
    assert function.call("list") == []


def test_too_much_memory(make_function):
    function = make_function("""
def handler(event, context):
    hold = []
    while event == "eat":
        hold.append(bytearray(b"x" * (8 << 20)))
    return event
""", Timeout=60)
    assert function.call(1) == 1
    error = function.fail("eat")
    assert error["errorType"] in ("Runtime.OutOfMemory", "Runtime.ExitError")
    assert "signal: killed" in error["errorMessage"] or "memory" in error["errorMessage"].lower()
    assert function.call(2) == 2


def test_children_do_not_outlive_the_environment(make_function, server):
    function = make_function("""
import subprocess
def handler(event, context):
    subprocess.Popen(["/bin/sleep", "98765"])
    return event
""")
    function.call(1)
    assert any("98765" in harness.command_line(pid) for pid in harness.descendants(server.process.pid))
    function.evict()
    harness.wait_until(lambda: not any("98765" in harness.command_line(pid)
                                       for pid in harness.descendants(server.process.pid)), "the sleep to be gone")


def test_state_stays_in_a_warm_environment(make_function):
    function = make_function("count = 0\ndef handler(e, c):\n    global count\n    count += 1\n    return count")
    assert [function.call() for _ in range(3)] == [1, 2, 3]
    function.evict()
    assert function.call() == 1


def test_a_provided_runtime(make_function):
    function = make_function(runtime="provided.al2023", handler="mine", files={"bootstrap": """#!/bin/bash
api=127.0.0.1/9001
request() {
    exec 3<>/dev/tcp/${AWS_LAMBDA_RUNTIME_API/:/\\/}
    printf '%s %s HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n%s' "$1" "$2" "${#3}" "$3" >&3
    cat <&3
    exec 3>&-
}
while true; do
    event=$(request GET /2018-06-01/runtime/invocation/next "" | tr -d '\\r')
    id=$(sed -n 's/^lambda-runtime-aws-request-id: //Ip' <<<"$event")
    request POST "/2018-06-01/runtime/invocation/$id/response" "{\\"handler\\": \\"$_HANDLER\\"}" >/dev/null
done
"""})
    assert function.call() == {"handler": "mine"}
    assert function.call() == {"handler": "mine"}


@pytest.mark.parametrize("files", [{"nothing": ""}, {"bootstrap": "#!/no/such/interpreter\n"},
                                   {"bootstrap": b"\x7fELF broken"}])
def test_a_bootstrap_that_cannot_start(make_function, files):
    function = make_function(runtime="provided.al2023", handler="x", files=files)
    assert function.fail()["errorType"] == "Runtime.InvalidEntrypoint"


def test_init_that_never_ends(make_function):
    function = make_function("import time\ntime.sleep(1000)", Timeout=2)
    assert "timed out" in function.fail()["errorMessage"]
