"""AWS_LAMBDA_EXEC_WRAPPER: a program of the package that starts the runtime in our place, for each managed runtime (Java's:
test_runtime_java.py)."""

import json
import os
import subprocess

import pytest

import harness

# A file called bootstrap is executable in a zip of harness.make_zip.
WRAPPER = """#!/bin/sh
echo "wrapped: $*"
export SEEN="$#" OF_WRAPPER=yes
exec "$@"
"""
SOURCES = {
    "python": ("app.py", "import os\ndef handler(event, context):\n    return [os.environ['SEEN'], os.environ['OF_WRAPPER'],"
                         " os.environ.get('AWS_LAMBDA_EXEC_WRAPPER'), event]\n"),
    "nodejs": ("app.js", "const e = process.env;\nexports.handler = async (event) =>"
                         " [e.SEEN, e.OF_WRAPPER, e.AWS_LAMBDA_EXEC_WRAPPER ?? null, event];\n"),
    "ruby": ("app.rb", "def handler(event:, context:)\n"
                       "  [ENV['SEEN'], ENV['OF_WRAPPER'], ENV['AWS_LAMBDA_EXEC_WRAPPER'], event]\nend\n"),
}


@pytest.fixture
def make(make_function, server):
    def make(family, wrapper="/var/task/bootstrap", **more):
        offered = [r["runtime"] for r in server.get("/thaw/v1/runtimes")["runtimes"] if r["offered"]]
        runtime = harness.PYTHON if family == "python" else next(r for r in offered if r.startswith(family))
        name, source = SOURCES[family]
        return make_function(files={name: source, "bootstrap": WRAPPER, "plain": WRAPPER}, runtime=runtime,
                             Environment={"AWS_LAMBDA_EXEC_WRAPPER": wrapper}, **more)

    return make


@pytest.mark.parametrize("family", SOURCES)
def test_it_stands_in_front(make, server, family):
    function = make(family, snap_start=True, Timeout=20)
    version = function.publish()
    for qualifier in ["$LATEST", version]:
        seen, of_wrapper, variable, event = function.call({"a": 1}, qualifier)
        assert int(seen) >= 2 and (of_wrapper, variable, event) == ("yes", None, {"a": 1})
    function.evict(version)
    assert function.call("again", version)[3] == "again"
    lines = [line for line in server.thaw("logs", function.name).stdout.splitlines() if "wrapped: /usr/" in line]
    assert len(lines) == 2 and all("/var/runtime/" in line for line in lines), "once for $LATEST, once for the snapshot"


@pytest.mark.parametrize("family", SOURCES)
@pytest.mark.parametrize("wrapper, code", [("/var/task/none", 127), ("/var/task/plain", 126)])
def test_one_that_cannot_be_run(make, family, wrapper, code):
    error = make(family, wrapper).fail()
    assert error["errorType"] == "Runtime.ExitError" and f"exit status {code}" in error["errorMessage"]


def test_it_is_not_for_provided_runtimes(make_function):
    function = make_function(files={"bootstrap": harness.ECHO_BOOTSTRAP}, runtime="provided.al2023",
                             Environment={"AWS_LAMBDA_EXEC_WRAPPER": "/no/such/wrapper"})
    assert function.call([1, 2]) == [1, 2]


def test_the_example(server):
    """examples/exec-wrapper, deployed with its one command."""
    folder = harness.ROOT / "examples/exec-wrapper"
    name = "exec-wrapper-example"
    done = subprocess.run([folder / "deploy.sh", name], capture_output=True, text=True, check=False, timeout=120,
                          env=dict(os.environ, THAW=str(harness.THAW), THAW_ENDPOINT=server.endpoint))
    try:
        assert done.returncode == 0, done.stderr
        function = harness.Function(server, server.client(), name)
        first = function.call({"read": "/etc/passwd"}, "1")
        assert first["greeting"] == f"Good day, {name}" and first["utf8_mode"] and first["files_opened_at_init"] > 0
        assert first["files_opened_now"] == ["/etc/passwd"]
        function.evict("1")
        again = function.call(None, "1")
        assert again["wrapper_ran_at"] == first["wrapper_ran_at"] and again["files_opened_now"] == []
        assert "front: in place of: /usr/bin/python" in server.thaw("logs", name).stdout
        assert json.loads(done.stdout.splitlines()[-1])["greeting"] == first["greeting"]
    finally:
        server.request("DELETE", f"/2015-03-31/functions/{name}")
