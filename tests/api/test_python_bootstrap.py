"""The Python runtime's program against a Runtime API of this test's own, on loopback, without a daemon."""

import http.server
import json
import os
import queue
import re
import subprocess
import threading
import time

import pytest

import harness

BOOTSTRAP = harness.ROOT / "runtimes/python/bootstrap.py"
API = "/2018-06-01/runtime/"
ARN = "arn:aws:lambda:us-east-1:000000000000:function:pets:1"


class Api(http.server.ThreadingHTTPServer):
    """Gives out the events that a test puts in, and keeps what it is told."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.events = queue.Queue()  # (id, body, extra headers), or None: hang up
        self.told = queue.Queue()  # (what, headers, body)
        self.restored = threading.Event()
        self.status = 202
        self.chunked = self.lower = False
        self.connections = 0
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.connections += 1

    def log_message(self, *args):
        pass

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name.lower() if self.server.lower else name, value)
        if self.server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for i in range(0, len(body), 3):
                self.wfile.write(b"%x;ext=1\r\n%s\r\n" % (len(body[i : i + 3]), body[i : i + 3]))
            self.wfile.write(b"0\r\nTrailer: x\r\n\r\n")
        else:
            self.send_header("content-length" if self.server.lower else "Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def do_GET(self):
        if self.path.endswith("/ping"):
            self.answer(200, b"pong")
        elif self.path == API + "restore/next":
            self.server.told.put(("restore/next", dict(self.headers), b""))
            self.server.restored.wait()
            self.answer(200, b"")
        elif self.path == API + "invocation/next":
            self.server.told.put(("next", dict(self.headers), b""))
            event = self.server.events.get()
            if event is None:
                self.close_connection = True
                return
            invoke_id, body, extra = event
            self.answer(200, body, [
                ("Lambda-Runtime-Aws-Request-Id", invoke_id),
                ("Lambda-Runtime-Deadline-Ms", str(int(time.time() * 1000) + 30000)),
                ("Lambda-Runtime-Invoked-Function-Arn", ARN),
                ("Content-Type", "application/json"),
                *extra,
            ])
        else:
            self.answer(404, b"{}")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.put((self.path[len(API):], dict(self.headers), body))
        self.answer(self.server.status, b'{"status":"OK"}')


class Function:
    """A started bootstrap with the given files as its code."""

    def __init__(self, folder, files, handler, variables):
        self.api = Api()
        task = folder / "task"
        for name, text in files.items():
            path = task / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        env = {
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "LAMBDA_TASK_ROOT": str(task),
            "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:%d" % self.api.server_port,
            "AWS_LAMBDA_FUNCTION_NAME": "pets",
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/pets",
            "AWS_LAMBDA_LOG_STREAM_NAME": "2026/01/01/[1]abc",
            "_HANDLER": handler,
            **variables,
        }
        self.process = subprocess.Popen(
            ["/usr/bin/" + harness.PYTHON, str(BOOTSTRAP)], env=env, cwd=task, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def hear(self, what):
        told = self.api.told.get(timeout=harness.PATIENCE_S)
        assert told[0] == what, told
        return told

    def invoke_raw(self, body, extra=(), invoke_id="11111111-2222-3333-4444-555555555555"):
        self.hear("next")
        self.api.events.put((invoke_id, body, extra))
        return self.api.told.get(timeout=harness.PATIENCE_S)

    def invoke(self, event=None, extra=()):
        what, headers, body = self.invoke_raw(json.dumps(event).encode(), extra)
        assert what.endswith("/response"), body
        assert headers["Content-Type"] == "application/json"
        return json.loads(body)

    def fail(self, event=None, body=None):
        what, headers, body = self.invoke_raw(json.dumps(event).encode() if body is None else body)
        assert what.endswith("/error"), body
        return json.loads(body)

    def end(self):
        """Everything that the function printed, after its Runtime API has gone."""
        self.api.events.put(None)
        return self.process.communicate(timeout=harness.PATIENCE_S)[0]

    def exit(self):
        """The exit status and output of a function that ends by itself."""
        output = self.process.communicate(timeout=harness.PATIENCE_S)[0]
        return self.process.returncode, output


@pytest.fixture
def start(tmp_path):
    started = []

    def start_function(code, handler="app.handler", files=None, **variables):
        function = Function(tmp_path / str(len(started)), files or {"app.py": code}, handler, variables)
        started.append(function)
        return function

    yield start_function
    for function in started:
        function.api.restored.set()
        function.api.events.put(None)
        function.process.kill()
        function.process.communicate()
        function.api.shutdown()
        function.api.server_close()


ECHO = "def handler(event, context):\n    return event\n"


def test_events_go_round_on_one_connection(start):
    function = start(ECHO)
    for event in ({"a": [1, 2.5, None, True]}, "text", 7, None, {"snow": "\u2603"}):
        assert function.invoke(event) == event
    assert function.api.connections == 1


@pytest.mark.parametrize("chunked,lower", [(True, False), (False, True), (True, True)])
def test_other_servers_answers_are_understood(start, chunked, lower):
    function = start(ECHO)
    function.api.chunked, function.api.lower = chunked, lower
    assert function.invoke({"x": "y" * 300}) == {"x": "y" * 300}
    assert function.invoke(1) == 1


def test_large_payloads_go_both_ways(start):
    function = start(ECHO)
    event = "x" * 5_900_000
    assert function.invoke(event) == event


def test_the_context_object(start):
    function = start("""
def handler(event, c):
    assert 0 < c.get_remaining_time_in_millis() <= 30000
    c.log("logged\\n")
    cc = c.client_context
    return [c.aws_request_id, c.function_name, c.function_version, c.invoked_function_arn, c.memory_limit_in_mb,
            c.log_group_name, c.log_stream_name, cc and [cc.custom, cc.env, cc.client.app_title],
            c.identity.cognito_identity_id, c.identity.cognito_identity_pool_id, repr(c)[:13]]
""")
    plain = ["11111111-2222-3333-4444-555555555555", "pets", "1", ARN, "512", "/aws/lambda/pets", "2026/01/01/[1]abc"]
    assert function.invoke() == plain + [None, None, None, "LambdaContext"]
    client = {"custom": {"a": "b"}, "env": {"c": "d"}, "client": {"app_title": "shop"}}
    extra = [("Lambda-Runtime-Client-Context", json.dumps(client)),
             ("Lambda-Runtime-Cognito-Identity", '{"cognitoIdentityId": "i", "cognitoIdentityPoolId": "p"}')]
    assert function.invoke(extra=extra) == plain + [[{"a": "b"}, {"c": "d"}, "shop"], "i", "p", "LambdaContext"]
    assert "logged\n" in function.end()


def test_the_trace_id_is_in_the_environment_of_its_event_only(start):
    function = start("import os\ndef handler(e, c):\n    return os.environ.get('_X_AMZN_TRACE_ID')\n")
    assert function.invoke(extra=[("Lambda-Runtime-Trace-Id", "Root=1-2")]) == "Root=1-2"
    assert function.invoke() is None


def test_results_are_marshalled(start):
    function = start("""
import decimal
def handler(event, context):
    return {"bytes": b"raw", "set": {1}, "decimal": [decimal.Decimal("1.5"), decimal.Decimal(3)],
            "text": "\\u2603", "none": None}[event]
""")
    what, headers, body = function.invoke_raw(b'"bytes"')
    assert (headers["Content-Type"], body) == ("application/unknown", b"raw")
    assert function.fail("set") == {
        "errorMessage": "Unable to marshal response: Object of type set is not JSON serializable",
        "errorType": "Runtime.MarshalError", "requestId": "11111111-2222-3333-4444-555555555555", "stackTrace": []}
    assert function.invoke("decimal") == [1.5, 3]
    assert function.invoke("text") == "\u2603"
    assert function.invoke("none") is None


def test_what_is_no_json_is_refused(start):
    function = start(ECHO)
    error = function.fail(body=b"{nonsense")
    assert error["errorType"] == "Runtime.UnmarshalError"
    assert error["errorMessage"].startswith("Unable to unmarshal input: Expecting property name")
    assert function.invoke("still there") == "still there"


def test_an_exception_becomes_an_error(start):
    function = start("class PetLost(Exception):\n    pass\n\n\ndef handler(event, context):\n    raise PetLost('no Rex')\n")
    error = function.fail({})
    assert (error["errorMessage"], error["errorType"]) == ("no Rex", "PetLost")
    assert error["requestId"] == "11111111-2222-3333-4444-555555555555"
    assert len(error["stackTrace"]) == 1
    assert re.fullmatch(r'  File ".*/task/app\.py", line 6, in handler\n    raise PetLost\(\'no Rex\'\)\n',
                        error["stackTrace"][0])
    output = function.end()
    assert "[ERROR] PetLost: no Rex\nTraceback (most recent call last):\n  File " in output


def test_an_exit_ends_the_process(start):
    function = start("import sys\ndef handler(event, context):\n    sys.exit(3)\n")
    function.hear("next")
    function.api.events.put(("i", b"{}", []))
    assert function.exit()[0] == 3


@pytest.mark.parametrize("code,handler,kind,message", [
    ("import nothere\n", "app.handler", "Runtime.ImportModuleError",
     "Unable to import module 'app': No module named 'nothere'"),
    ("x = 1\n", "app.handler", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
    ("x = 1\n", "other.handler", "Runtime.ImportModuleError",
     "Unable to import module 'other': No module named 'other'"),
    ("x = 1\n", "handler", "Runtime.MalformedHandlerName",
     "Bad handler 'handler': not enough values to unpack (expected 2, got 1)"),
    ("x = (\n", "app.handler", "Runtime.UserCodeSyntaxError",
     "Syntax error in module 'app': '(' was never closed (app.py, line 1)"),
    ("x = 1\n", "sys.exit", "Runtime.BuiltInModuleConflict", "Cannot use built-in module sys as a handler module"),
    ("raise KeyError('k')\n", "app.handler", "KeyError", "'k'"),
])
def test_a_failed_start_is_reported(start, code, handler, kind, message):
    function = start(code, handler)
    _, headers, body = function.hear("init/error")
    error = json.loads(body)
    assert (error["errorType"], error["errorMessage"], error["requestId"]) == (kind, message, "")
    assert headers["Lambda-Runtime-Function-Error-Type"] == kind
    status, output = function.exit()
    assert status == 1
    assert "[ERROR] %s: %s\n" % (kind, message) in output
    if kind == "Runtime.UserCodeSyntaxError":
        assert error["stackTrace"][0].endswith("app.py\" Line 1\n    x = (\n")
    if kind == "KeyError":
        assert len(error["stackTrace"]) == 1 and "app.py" in error["stackTrace"][0]


@pytest.mark.parametrize("handler", ["pkg/sub/mod.fn", "pkg.sub.mod.fn"])
def test_handlers_in_packages(start, handler):
    function = start("", handler, files={"pkg/sub/mod.py": "def fn(event, context):\n    return __name__\n"})
    assert function.invoke() == "pkg.sub.mod"


def test_the_path_is_lambdas(start):
    function = start("import sys\ndef handler(e, c):\n    return sys.path\n")
    path = function.invoke()
    assert path[0].endswith("/task")
    assert path[1:3] == ["/opt/python/lib/%s/site-packages" % harness.PYTHON, "/opt/python"]


def test_logging_has_lambdas_format(start):
    function = start("""
import logging, sys
logging.getLogger().setLevel("INFO")
logging.info("at init")
def handler(event, context):
    logging.getLogger("pets").warning("two\\nlines")
    logging.debug("unseen")
    print("printed")
    print("partly", end="")
    sys.stdout.flush()
    print(" to stderr", file=sys.stderr)
""")
    function.invoke()
    lines = function.end().split("\n")
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.fullmatch(r"\[INFO\]\t%s\t\tat init" % stamp, lines[0])
    assert re.fullmatch(r"\[WARNING\]\t%s\t11111111-2222-3333-4444-555555555555\ttwo" % stamp, lines[1])
    assert lines[2:5] == ["lines", "printed", "partly to stderr"]


def test_logging_can_be_json(start):
    function = start("""
import logging
def handler(event, context):
    try:
        1 / 0
    except ZeroDivisionError:
        logging.exception("failed")
    logging.info("more")
    raise ValueError("bad")
""", AWS_LAMBDA_LOG_FORMAT="JSON", AWS_LAMBDA_LOG_LEVEL="INFO")
    function.fail()
    entries = [json.loads(line) for line in function.end().splitlines()[:3]]
    assert (entries[0]["level"], entries[0]["message"], entries[0]["errorType"]) == (
        "ERROR", "failed", "ZeroDivisionError")
    assert entries[0]["requestId"] == "11111111-2222-3333-4444-555555555555"
    assert (entries[1]["level"], entries[1]["message"]) == ("INFO", "more")
    assert (entries[2]["log_level"], entries[2]["errorType"]) == ("ERROR", "ValueError")


def test_a_refused_answer_does_not_end_the_function(start):
    function = start(ECHO)
    function.api.status = 413
    assert function.invoke(1) == 1
    function.api.status = 202
    assert function.invoke(2) == 2
    assert "[ERROR] The answer was refused with status 413" in function.end()


def test_a_wrapper_starts_the_runtime(start, tmp_path):
    wrapper = tmp_path / "wrapper"
    wrapper.write_text("#!/bin/sh\necho wrapping \"$#\" arguments\nexport WRAPPED=yes\nexec \"$@\"\n")
    wrapper.chmod(0o755)
    function = start("import os\ndef handler(e, c):\n    return os.environ['WRAPPED']\n",
                     AWS_LAMBDA_EXEC_WRAPPER=str(wrapper))
    assert function.invoke() == "yes"
    assert function.end().startswith("wrapping 2 arguments\n")
    wrapper.chmod(0o644)
    assert start(ECHO, AWS_LAMBDA_EXEC_WRAPPER=str(wrapper)).exit() == (126, f"{wrapper}: is not an executable\n")
    missing = start(ECHO, AWS_LAMBDA_EXEC_WRAPPER="/nowhere")
    assert missing.exit() == (127, "/nowhere: does not exist\n")


HOOKS = """
from snapshot_restore_py import register_after_restore, register_before_snapshot
calls = []

@register_before_snapshot
def first():
    calls.append("before 1")

register_before_snapshot(lambda *a, **k: calls.append(f"before 2 {a} {k}"), 1, x=2)

@register_after_restore
def after():
    calls.append("after 1")

register_after_restore(calls.append, "after 2")

def handler(event, context):
    return calls
"""


def test_hooks_run_in_lambdas_order(start):
    function = start(HOOKS, AWS_LAMBDA_INITIALIZATION_TYPE="snap-start")
    function.hear("restore/next")
    function.api.restored.set()
    assert function.invoke() == ["before 2 (1,) {'x': 2}", "before 1", "after 1", "after 2"]


def test_hooks_do_not_run_without_snapstart(start):
    assert start(HOOKS).invoke() == []


def test_a_failed_hook_before_the_snapshot(start):
    function = start("""
import snapshot_restore_py
@snapshot_restore_py.register_before_snapshot
def hook():
    raise OSError("not now")
def handler(e, c):
    pass
""", AWS_LAMBDA_INITIALIZATION_TYPE="snap-start")
    _, headers, body = function.hear("init/error")
    assert headers["Lambda-Runtime-Function-Error-Type"] == "Runtime.BeforeSnapshotError"
    assert json.loads(body)["errorMessage"] == "not now"
    status, output = function.exit()
    assert status == 64
    assert "[ERROR] OSError: not now\nTraceback (most recent call last):\n" in output


def test_a_failed_hook_after_the_restore(start):
    function = start("""
import snapshot_restore_py
@snapshot_restore_py.register_after_restore
def hook():
    raise OSError("not now")
def handler(e, c):
    pass
""", AWS_LAMBDA_INITIALIZATION_TYPE="snap-start")
    function.hear("restore/next")
    function.api.restored.set()
    _, headers, body = function.hear("restore/error")
    assert headers["Lambda-Runtime-Function-Error-Type"] == "Runtime.AfterRestoreError"
    assert json.loads(body)["errorType"] == "OSError"
    assert function.exit()[0] == 65


@pytest.mark.parametrize("hook", ["", "from snapshot_restore_py import register_after_restore\n"
                                      "register_after_restore(len, '')\n"])
def test_random_numbers_differ_after_a_restore(start, hook):
    code = hook + "import random\nrandom.seed(1)\ndef handler(e, c):\n    return random.random()\n"
    function = start(code, AWS_LAMBDA_INITIALIZATION_TYPE="snap-start")
    if hook:
        function.hear("restore/next")
        function.api.restored.set()
    # without a hook there is nothing to wait for: the snapshot is taken at the first invocation/next
    first, second = function.invoke(), function.invoke()
    assert first != second and 0.13436424411240122 not in (first, second)
    # and only then: who seeds on purpose gets what he asked for
    assert start(code).invoke() == 0.13436424411240122
