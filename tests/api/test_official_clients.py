"""The official runtime clients, unmodified, as functions of the runtime `provided.al2023`: each frozen where it waits, and
thawed into several clones at once. What the functions do is in tests/clients/README.md."""

import concurrent.futures
import json
import re

import pytest

import harness
import official_clients

CLIENTS = list(official_clients.BUILDERS)
HOOKED = ["python", "java", "rust"]  # they ask restore/next; the others are frozen in their first invocation/next
ALL_HOOKS = ["before 2", "before 1", "after 1", "after 2"]


@pytest.fixture(scope="module", autouse=True)
def builds(request):
    """The packages of all clients that the selected tests are about, before the first test: what runs when a server is
    stopped would be taken for a process of the server's."""
    selected = {item.callspec.params["client"] for item in request.session.items if item.module is request.module}
    official_clients.build_all(sorted(selected))


@pytest.fixture
def make(make_function):
    def make(client, **more):
        more.setdefault("MemorySize", 512)
        more.setdefault("Timeout", 30)
        handler = {"python": "app.handler", "node": "index.handler", "java": "app.Handler"}.get(client, "none")
        return make_function(package=official_clients.package(client), runtime="provided.al2023", handler=handler, **more)

    return make


def hooks_of(client):
    return ALL_HOOKS if client in HOOKED else []


def at_once(function, version, count):
    """The answers of `count` clones that are alive at the same time."""
    event = {"hold_ms": 1500}
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: function.call(event, version), range(count)))


# Without a snapshot

@pytest.mark.parametrize("client", CLIENTS)
def test_events_and_context(make, client):
    function = make(client)
    event = {"text": "Grüße \U0001f600 \"\\\n\x01"}
    raw = function.raw(event)
    answer = json.loads(raw["Payload"])
    assert answer["event"] == event
    assert answer["request"] == raw["ResponseMetadata"]["RequestId"]
    assert answer["arn"].endswith(":function:" + function.name)
    assert 0 < answer["remaining"] <= 30000
    assert answer["threads"] is True
    assert answer["hooks"] == [], "no hooks without a snapshot"
    again = function.call({})
    assert (again["clone"], again["count"]) == (answer["clone"], 2)


# What each client says about a handler that failed: the error's type, and a line in the log.
BOXED = "&alloc::boxed::Box<dyn core::error::Error + core::marker::Send + core::marker::Sync>"
ERRORS = {
    "python": ("ValueError", "[ERROR] ValueError: it failed"),
    "node": ("TypeError", "ERROR\tInvoke Error \t{"),
    "java": ("java.lang.IllegalArgumentException", ""),
    "rust": (BOXED, ""),
    "go": ("errorString", '{"errorMessage":"it failed","errorType":"errorString"}'),
}


@pytest.mark.parametrize("snap_start", [False, True])
@pytest.mark.parametrize("client", CLIENTS)
def test_errors(make, client, snap_start):
    function = make(client, snap_start=snap_start)
    version = function.publish()
    kind, line = ERRORS[client]
    answer = function.raw({"do": "fail"}, version, LogType="Tail")
    assert answer["FunctionError"] == "Unhandled"
    error = json.loads(answer["Payload"])
    assert error["errorMessage"] == "it failed"
    assert error["errorType"] == kind
    assert line in answer["Log"]
    request = answer["ResponseMetadata"]["RequestId"]
    lines = answer["Log"].splitlines()
    assert f"START RequestId: {request} Version: {version}" in lines
    assert f"END RequestId: {request}" in lines
    assert lines[-1].startswith(f"REPORT RequestId: {request}\tDuration: "), lines[-1]
    again = function.call({}, version)
    assert again["count"] == 2, "a handler that failed is called again"
    gone = function.fail({"do": "exit"}, version)
    assert gone["errorType"] == "Runtime.ExitError"
    assert gone["errorMessage"].endswith("Error: Runtime exited with error: exit status 7")
    assert function.call({}, version)["count"] == 1


@pytest.mark.parametrize("client", ["rust", "go"])
def test_panics(make, client):
    function = make(client, snap_start=True)
    version = function.publish()
    error = function.fail({"do": "panic"}, version)
    assert "it panicked" in error["errorMessage"]
    assert function.call({}, version)["threads"] is True


@pytest.mark.parametrize("client", CLIENTS)
def test_what_it_logs(make, client):
    function = make(client, snap_start=True)
    version = function.publish()
    answer = function.raw({"log": "a word"}, version, LogType="Tail")
    assert "FunctionError" not in answer, answer["Payload"]
    assert "logged: a word" in answer["Log"]
    assert re.search(r"^REPORT .*\tRestore Duration: [0-9.]+ ms\t", answer["Log"], re.M)


# SnapStart

@pytest.mark.parametrize("client", CLIENTS)
def test_several_clones_at_once(make, client):
    function = make(client, snap_start=True)
    version = function.publish()
    seen = at_once(function, version, 4)
    assert len({answer["clone"] for answer in seen}) == 4, "each is a clone of its own"
    assert len({answer["born"] for answer in seen}) == 1, "of one process"
    for answer in seen:
        assert answer["count"] == 1
        assert answer["threads"] is True
        assert answer["hooks"] == hooks_of(client)
    for templates in [False, True, False]:
        function.evict(version, templates)
        for count in (1, 2):
            answer = function.call({"text": "again"}, version)
            assert (answer["born"], answer["count"], answer["threads"]) == (seen[0]["born"], count, True)
            assert answer["event"] == {"text": "again"}
            assert answer["hooks"] == hooks_of(client)
    assert function.call({})["born"] != seen[0]["born"], "$LATEST is never frozen"


# What each client reports of a hook that failed, the message and the error's type: (before, after). The Java client
# reports an exception of its own, and writes the hook's into the log.
CRAC = "com.amazonaws.services.lambda.crac."
HOOK_ERRORS = {
    "python": [("the hook before 1 failed", "RuntimeError"), ("the hook after 2 failed", "RuntimeError")],
    "java": [(CRAC + "CheckpointException",) * 2, (CRAC + "RestoreException",) * 2],
    "rust": [("the hook before 1 failed", BOXED), ("the hook after 2 failed", BOXED)],
}


@pytest.mark.parametrize("client", CLIENTS)
def test_frozen_in_the_midst_of_work(make, client):
    """Threads that run, allocate, collect garbage, and are interrupted by their runtime's own signals."""
    function = make(client, snap_start=True, MemorySize=1024, Environment={"BUSY": "yes"})
    for _ in range(3):
        version = function.publish()
        for _ in range(3):
            function.evict(version)
            assert function.call({}, version)["threads"] is True
        function.evict(version, templates=True)
        function.client.update_function_configuration(FunctionName=function.name, Description=f"after {version}")
        function.client.get_waiter("function_updated_v2").wait(FunctionName=function.name)


@pytest.mark.parametrize("client", HOOKED)
def test_a_hook_that_fails_before(make, client):
    function = make(client, snap_start=True, Environment={"FAIL": "before 1"})
    error = json.loads(function.fail_to_publish())
    assert (error["errorMessage"], error["errorType"]) == HOOK_ERRORS[client][0]


@pytest.mark.parametrize("client", HOOKED)
def test_a_hook_that_fails_after(make, client):
    function = make(client, snap_start=True, Environment={"FAIL": "after 2"})
    version = function.publish()
    for _ in range(2):
        answer = function.raw({}, version, LogType="Tail")
        error = json.loads(answer["Payload"])
        assert answer["FunctionError"] == "Unhandled"
        assert (error["errorMessage"], error["errorType"]) == HOOK_ERRORS[client][1]
        assert re.search(r"^RESTORE_REPORT .*\tStatus: error\tError Type: Runtime.AfterRestoreError", answer["Log"], re.M)
        assert client == "rust" or "the hook after 2 failed" in answer["Log"]
        assert "failed to report" not in answer["Log"], "the report itself was accepted"


@pytest.mark.parametrize("client", CLIENTS)
def test_large_events(make, client):
    function = make(client, snap_start=True)
    version = function.publish()
    event = {"text": "ä" * 1_000_000}
    for _ in range(2):
        assert function.call(event, version)["event"] == event


@pytest.mark.parametrize("client", CLIENTS)
def test_priming(server, tmp_path, client):
    """Who asks for events at once is primed; who has run its hooks by then is not, and its log says so."""
    (tmp_path / "package.zip").write_bytes(official_clients.package(client))
    (tmp_path / "events.json").write_text('[{"text": "one"}, {"text": "two"}]')
    name = f"primed-official-{client}"
    handler = {"python": "app.handler", "node": "index.handler", "java": "app.Handler"}.get(client, "none")
    try:
        server.thaw("deploy", tmp_path / "package.zip", name, "--runtime", "provided.al2023", "--handler", handler,
                    "--prime", tmp_path / "events.json")
        answer = harness.Function(server, server.client(), name).call({"text": "real"}, "1")
        assert answer["event"]["text"] == "real" and answer["count"] == (1 if client in HOOKED else 3)
        log = server.thaw("logs", name).stdout
        assert ("Events: 2\tStatus: not run" in log) == (client in HOOKED)
        assert log.count("PRIME_START") == (0 if client in HOOKED else 2)
    finally:
        server.request("DELETE", f"/2015-03-31/functions/{name}")
