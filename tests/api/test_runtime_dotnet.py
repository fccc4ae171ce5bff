"""The managed runtimes dotnet8 and later: handler forms, errors, hooks, uniqueness, what CoreCLR does in memory and beside it."""

import base64
import concurrent.futures
import glob
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

import harness

SOURCES = harness.ROOT / "tests/dotnet/app"
BOOTSTRAPS = harness.ROOT / "runtimes/dotnet"
ROOTS = ["/usr/lib/dotnet", "/usr/share/dotnet", "/usr/lib64/dotnet", "/usr/local/share/dotnet", "/usr/local/lib/dotnet"]


def host_runtimes():
    """{"dotnet9": (its root, the folder of its assemblies), ...} of this host."""
    found = {}
    for root in ROOTS:
        for framework in sorted(glob.glob(root + "/shared/Microsoft.NETCore.App/[0-9]*")):
            major = int(os.path.basename(framework).split(".")[0])
            if major >= 8:
                found.setdefault(f"dotnet{major}", (root, framework))
    assert found, "there is no .NET on this host: tests/dotnet/install.sh fetches one"
    return found


def compiler():
    """The command line of the host's C# compiler."""
    for root in ROOTS:
        for csc in glob.glob(root + "/sdk/*/Roslyn/bincore/csc.dll"):
            return [root + "/dotnet", "exec", csc]
    raise AssertionError("there is no C# compiler on this host: tests/dotnet/install.sh fetches one")


RUNTIMES = host_runtimes()
FIRST = min(RUNTIMES, key=lambda name: int(name[6:]))


def compile_sources(output, sources, *options):
    root, framework = RUNTIMES[FIRST]
    web = framework.replace("Microsoft.NETCore.App", "Microsoft.AspNetCore.App")
    references = [f"-reference:{path}" for path in glob.glob(framework + "/*.dll") + glob.glob(web + "/*.dll")]
    core = BOOTSTRAPS / FIRST[6:] / "core/Amazon.Lambda.Core.dll"
    subprocess.run([*compiler(), "-nologo", "-noconfig", "-nostdlib", "-optimize", "-nullable:enable", f"-out:{output}",
                    *references, f"-reference:{core}", *options, *map(str, sources)], check=True,
                   env={**os.environ, "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1", "DOTNET_ROOT": root})
    return output.read_bytes()


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """The package's files: our assembly alone, without a .deps.json."""
    subprocess.run([BOOTSTRAPS / "build.sh"], check=True)
    folder = tmp_path_factory.mktemp("dotnet")
    return {"App.dll": compile_sources(folder / "App.dll", SOURCES.glob("*.cs"), "-target:library")}


@pytest.fixture
def make(make_function, package):
    def make(handler, runtime=FIRST, files=None, **more):
        more.setdefault("MemorySize", 512)
        more.setdefault("Timeout", 60)
        handler = handler if ":" in handler or handler == "Program" else "App::App." + handler.replace(".", "::")
        return make_function(files={**package, **(files or {})}, runtime=runtime, handler=handler, **more)

    return make


# Handler forms

@pytest.mark.parametrize("runtime", RUNTIMES)
def test_event_and_context(make, runtime):
    function = make("Forms.Hello", runtime)
    event = {"text": "Grüße \U0001f600 \"\\\n\x01", "n": [1, -2.5, 12345678901, True, None, {}], "e": []}
    answer = function.call(event)
    assert len(answer.pop("id")) == 36
    assert answer == event


@pytest.mark.parametrize("handler, event, expected", [
    ("Forms.Older", {"name": "Tom", "Kind": 1, "age": 3, "unknown": 1, "friends": [{"Name": "Rex"}]},
     {"Name": "Tom", "Kind": 1, "Age": 4, "Friends": [{"Name": "Rex", "Kind": 0, "Age": 0}]}),
    ("Forms.Length", [1, 2, 39], 42),
    ("Forms.Text", "memory", "memory 512"),
    ("Forms.None", {"any": "thing"}, "none"),
    ("Forms.Later", "sooner", "sooner later"),
    ("Forms.Streams", {"a": [1]}, {"read": {"a": [1]}}),
    ("Forms.StreamsLater", {"same": ["again"]}, {"same": ["again"]}),
    ("Forms.Hidden", "one", "hidden one"),
    ("Serialized.Handle", "loud", "LOUD!"),
])
def test_forms(make, handler, event, expected):
    function = make(handler)
    assert function.call(event) == expected


def test_handlers_without_an_answer(make):
    for handler in ("Forms.Nothing", "Forms.NothingLater"):
        answer = make(handler).raw({"any": "thing"})
        assert "FunctionError" not in answer
        assert answer["Payload"] in (b"", b"null")


def test_context_and_logs(make):
    function = make("Forms.About", MemorySize=256)
    custom = base64.b64encode(json.dumps({"custom": {"a": "ä"}}).encode()).decode()
    answer = function.raw({}, ClientContext=custom, LogType="Tail")
    seen = json.loads(answer["Payload"])
    assert seen["function"] == function.name
    assert seen["version"] == "$LATEST"
    assert seen["arn"].endswith(":function:" + function.name)
    assert seen["memory"] == 256
    assert 0 < seen["remaining"] <= 60000
    assert seen["custom"] == {"a": "ä"}
    assert seen["trace"].startswith("Root=1-") and seen["environment"] == seen["trace"]
    assert seen["group"] == "/aws/lambda/" + function.name and seen["stream"]
    assert seen["heap"] == (256 << 20) // 100 * 90
    assert seen["framework"] == int(FIRST[6:])
    line = r"(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t[0-9a-f-]{36}\t%s\t%s$"
    for level, said in [("info", "said to the logger 1"), ("info", "a line"), ("info", "said to LambdaLogger"),
                        ("info", "said to the console"), ("fail", "said to its error")]:
        assert re.search(line % (level, said), answer["Log"]), (said, answer["Log"])
    assert "\nsaid without an end of line" in answer["Log"]


def test_json_logs(make):
    function = make("Forms.About", LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "INFO"})
    log = function.raw({}, LogType="Tail")["Log"]
    entries = [json.loads(line) for line in log.splitlines() if line.startswith("{") and '"level"' in line]
    said = next(entry for entry in entries if entry["message"].startswith("said to the logger"))
    assert said["level"] == "Information" and said["whom"] == "the logger" and said["count"] == 1 and len(said["requestId"]) == 36
    assert next(entry for entry in entries if entry["message"] == "said to its error")["level"] == "Error"


def test_the_packages_own_configuration(make):
    root, framework = RUNTIMES[FIRST]
    version = os.path.basename(framework)
    configuration = {"runtimeOptions": {"framework": {"name": "Microsoft.NETCore.App", "version": version},
                                        "configProperties": {"Mine": "yes"}}}
    dependencies = {"runtimeTarget": {"name": f".NETCoreApp,Version=v{FIRST[6:]}.0", "signature": ""},
                    "targets": {f".NETCoreApp,Version=v{FIRST[6:]}.0": {"App/1.0.0": {"runtime": {"App.dll": {}}}}},
                    "libraries": {"App/1.0.0": {"type": "project", "serviceable": False, "sha512": ""}}}
    function = make("Forms.About", files={"App.runtimeconfig.json": json.dumps(configuration),
                                          "App.deps.json": json.dumps(dependencies)},
                    Environment={"DOTNET_GCHeapHardLimit": "0x8000000", "DOTNET_gcServer": "0"})
    seen = function.call({})
    assert seen["mine"] == "yes"
    assert seen["heap"] == 0x8000000, "the function's own variables win"


def test_exec_wrapper(make):
    wrapper = '#!/bin/sh\nexport WRAPPED="$1 $2"\nexec "$@"\n'
    function = make("Forms.About", files={"bootstrap": wrapper},
                    Environment={"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/bootstrap"})
    assert function.call({})["wrapped"] == RUNTIMES[FIRST][0] + "/dotnet exec"


# Errors

def test_errors(make):
    function = make("Forms.Fails")
    answer = function.raw({"how": "cause"}, LogType="Tail")
    error = json.loads(answer["Payload"])
    assert (error["errorType"], error["errorMessage"]) == ("InvalidOperationException", "outer")
    assert len(error["stackTrace"]) == 1 and error["stackTrace"][0].startswith("at App.Forms.Fails(")
    assert (error["cause"]["errorType"], error["cause"]["errorMessage"]) == ("IOException", "inner")
    assert "\tfail\tSystem.InvalidOperationException: outer" in answer["Log"]
    assert "---> System.IO.IOException: inner" in answer["Log"]
    together = function.fail({"how": "all"})
    assert together["errorType"] == "AggregateException"
    assert [one["errorMessage"] for one in together["causes"]] == ["one", "two"]
    assert function.fail({"how": "memory"})["errorType"] == "OutOfMemoryException"
    assert function.fail({"how": "other"})["errorType"] == "ArgumentException"
    assert function.fail("no map")["errorType"] == "JsonException"
    assert "exit status 7" in function.fail({"how": "exit"})["errorMessage"]


@pytest.mark.parametrize("handler, message", [
    ("App::App.Forms", "Invalid lambda function handler: 'App::App.Forms'. The valid format is 'ASSEMBLY::TYPE::METHOD'."),
    ("Nowhere::App.Forms::Hello", "Could not find the specified handler assembly with the file name 'Nowhere"),
    ("App::App.Nothing::Hello", "Unable to load type 'App.Nothing' from assembly 'App'."),
    ("App::App.Forms::NothingLikeIt", "Unable to find method 'NothingLikeIt' in type 'App.Forms' from assembly 'App': "
                                      "Found no methods matching method name 'NothingLikeIt'."),
    ("App::App.Forms::Twice", "The method 'Twice' in type 'App.Forms' appears to have a number of overloads."),
])
def test_failed_starts(make, handler, message):
    error = make(handler).fail()
    assert error["errorType"] == "LambdaValidationException"
    assert error["errorMessage"].startswith(message)


def test_a_constructor_that_fails(make):
    error = make("FailsToStart.Handle").fail()
    assert (error["errorType"], error["errorMessage"]) == ("InvalidOperationException", "no database")
    assert error["stackTrace"][0].startswith("at App.FailsToStart..ctor()")


# SnapStart

def check_unique(seen):
    for place in seen[0]:
        for key in seen[0][place]:
            drawn = [json.dumps(answer[place][key]) for answer in seen]
            assert len(set(drawn)) == len(drawn), f"{key} of {place} repeats: {drawn}"
    for key in seen[0]["thread"]:
        drawn = [json.dumps(answer[place][key]) for answer in seen for place in answer]
        assert len(set(drawn)) == len(drawn), f"{key} repeats between threads: {drawn}"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_is_random_is_unique(make, runtime):
    function = make("Randoms.Handle", runtime, snap_start=True)
    version = function.publish()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(lambda _: function.call(None, version), range(4)))  # some of them alive at once
    for _ in range(2):
        function.evict(version)
        seen.append(function.call(None, version))
    check_unique(seen)  # also when one environment answered twice


def test_hooks_and_their_order(make):
    function = make("Hooks.Handle", snap_start=True)
    version = function.publish()
    for _ in range(2):
        function.evict(version)
        assert function.call(None, version) == ["before second", "before first", "after first", "after second"]
    assert function.call() == [], "no hooks without a snapshot"


def test_a_hook_that_fails_before(make):
    function = make("Hooks.Handle", snap_start=True, Environment={"FAIL": "before first"})
    reason = function.fail_to_publish()
    assert "InvalidOperationException" in reason and "the hook failed" in reason


def test_a_hook_that_fails_after(make):
    function = make("Hooks.Handle", snap_start=True, Environment={"FAIL": "after first"})
    version = function.publish()
    error = function.fail(None, version)
    assert (error["errorType"], error["errorMessage"]) == ("InvalidOperationException", "the hook failed")


@pytest.mark.parametrize("variables", [
    {},
    # What .NET does by itself: a second mapping of its code, sockets and pipes for debuggers, a collector's thread.
    {"DOTNET_EnableWriteXorExecute": "1", "DOTNET_EnableDiagnostics": "1", "DOTNET_gcConcurrent": "1",
     "DOTNET_GCHeapHardLimit": "0"},  # without a limit it reserves hundreds of gigabytes of addresses
    {"DOTNET_gcServer": "1", "DOTNET_GCHeapHardLimit": "0x10000000", "DOTNET_TieredPGO": "1"},
], ids=["default", "plain", "server"])
def test_threads_timers_collector_and_files(make, variables):
    function = make("Work.Handle", snap_start=True, Environment=variables)
    version = function.publish()
    expected = {"sum": 328350, "squares": 328350, "kept": "value 4711", "said": "child", "child": 0, "forward": True,
                "parallel": 499500}
    for templates in [False, True, False]:
        function.evict(version, templates)
        for count in (1, 2):
            assert function.call(100, version) == {**expected, "count": count, "mapped": count}


def test_errors_of_a_clone(make):
    function = make("Forms.Fails", snap_start=True)
    version = function.publish()
    assert function.fail({"how": "cause"}, version)["errorMessage"] == "outer"
    assert "exit status 7" in function.fail({"how": "exit"}, version)["errorMessage"]
    assert function.fail({"how": "other"}, version)["errorType"] == "ArgumentException"


def test_priming(make):
    function = make("Primed.Handle", files={"events.json": json.dumps([{"a": 1}, "bad", 2])}, snap_start=True,
                    Environment={"THAW_PRIME": "events.json"})
    version = function.publish()
    for _ in range(2):
        function.evict(version)
        assert function.call("real", version) == [{"a": 1}, "bad", 2, "real"]


def test_an_executable_of_the_packages_own(make, tmp_path):
    """A handler without colons: a program that speaks to the Runtime API itself, as with Amazon.Lambda.RuntimeSupport."""
    source = harness.ROOT / "tests/dotnet/program.cs"
    program = compile_sources(tmp_path / "Program.dll", [source], "-target:exe")
    configuration = {"runtimeOptions": {"framework": {"name": "Microsoft.NETCore.App", "version": FIRST[6:] + ".0.0"}}}
    function = make("Program", files={"Program.dll": program, "Program.runtimeconfig.json": json.dumps(configuration)},
                    snap_start=True)
    version = function.publish()
    seen = []
    for _ in range(3):
        function.evict(version)
        seen.append(function.call({"a": 1}, version))
    assert [answer["event"] for answer in seen] == [{"a": 1}] * 3
    for key in ("shared", "crypto"):
        assert len({answer[key] for answer in seen}) == 3, seen
    assert function.call(2)["event"] == 2


def test_a_web_server_inside(make_function, package, tmp_path):
    root, framework = RUNTIMES[FIRST]
    assembly = compile_sources(tmp_path / "Web.dll", [harness.ROOT / "tests/dotnet/web.cs"], "-target:library")
    version = os.path.basename(framework)
    frameworks = [{"name": f"Microsoft.{name}.App", "version": version} for name in ("NETCore", "AspNetCore")]
    configuration = {"runtimeOptions": {"frameworks": frameworks}}
    function = make_function(files={"Web.dll": assembly, "Web.runtimeconfig.json": json.dumps(configuration)}, runtime=FIRST,
                             handler="Web::Web.Function::Handle", MemorySize=512, Timeout=60, snap_start=True)
    version = function.publish()
    seen = []
    for _ in range(2):
        function.evict(version)
        for count in (1, 2):
            seen.append(json.loads(function.call("Tom", version)))
            assert (seen[-1]["name"], seen[-1]["asked"]) == ("Tom", count)
    assert len({answer["id"] for answer in seen}) == len(seen)


# The example

def test_the_example(server):
    """Deployed by its own script, primed; its wrapper starts .NET in Python's place."""
    name = "dotnet-pets"
    arguments = ["--prime", "--runtime", harness.PYTHON]
    aws = shutil.which("aws") or os.path.join(os.path.dirname(sys.executable), "aws")
    folder = harness.ROOT / "examples/dotnet-pets"
    done = subprocess.run([folder / "deploy.sh", *arguments, name], capture_output=True, text=True, timeout=280,
                          env={**os.environ, "THAW_AWS_CLI": aws, "THAW_ENDPOINT": f"http://127.0.0.1:{server.port}"})
    assert done.returncode == 0, done.stdout + done.stderr
    function = harness.Function(server, server.client(), name)
    try:
        event = json.loads((folder / "event.json").read_text())
        seen = []
        for _ in range(2):
            function.evict("1")
            seen.append(function.call(event, "1"))
        assert [answer["Found"] for answer in seen] == [384, 384]
        assert seen[0]["Cheapest"]["Kind"] == "parrot"
        assert seen[0]["Order"] != seen[1]["Order"]
    finally:
        function.client.delete_function(FunctionName=name)
