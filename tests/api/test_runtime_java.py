"""The managed runtimes java11 and later: handler forms, errors, org.crac hooks, uniqueness, threads and the collector."""

import base64
import concurrent.futures
import glob
import json
import os
import re
import shutil
import subprocess

import pytest

import harness

LIBRARIES = ["com.amazonaws:aws-lambda-java-core:1.2.3", "io.github.crac:org-crac:0.1.3"]
SOURCES = harness.ROOT / "tests/java"


def host_runtimes():
    """{"java17": its home, ...} of what is in /usr/lib/jvm."""
    found = {}
    for release in sorted(glob.glob("/usr/lib/jvm/*/release")):
        with open(release, encoding="utf-8") as file:
            major = re.search(r'JAVA_VERSION="(\d+)', file.read())
        home = os.path.dirname(release)
        if major and int(major[1]) >= 11 and os.path.exists(home + "/bin/javac"):
            found.setdefault("java" + major[1], home)
    assert found, "there is no JDK in /usr/lib/jvm: apt-get install default-jdk-headless"
    return found


RUNTIMES = host_runtimes()
FIRST = min(RUNTIMES)


@pytest.fixture(scope="session")
def package():
    """The package's files: our classes, and in lib/ the libraries as they come from Maven's registry."""
    subprocess.run([harness.ROOT / "runtimes/java/build.sh"], check=True)
    folder = harness.BUILD / "java-libraries"
    files = {}
    for library in LIBRARIES:
        _, artifact, version = library.split(":")
        jar = folder / f"{artifact}-{version}.jar"
        if not jar.exists():
            subprocess.run(["mvn", "-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy",
                            f"-Dartifact={library}", f"-DoutputDirectory={folder}"], check=True, timeout=300)
        files["lib/" + jar.name] = jar.read_bytes()
    classes = harness.BUILD / "java-classes"
    shutil.rmtree(classes, ignore_errors=True)
    subprocess.run([RUNTIMES[FIRST] + "/bin/javac", "-nowarn", "-Xlint:-options", "--release", "11", "-d", classes,
                    "-cp", ":".join(str(jar) for jar in folder.glob("*.jar")), *SOURCES.rglob("*.java")], check=True)
    for path in classes.rglob("*.class"):
        files[str(path.relative_to(classes))] = path.read_bytes()
    return files


@pytest.fixture
def make(make_function, package):
    def make(handler, runtime=FIRST, files=None, **more):
        more.setdefault("MemorySize", 512)
        more.setdefault("Timeout", 60)
        return make_function(files={**package, **(files or {})}, runtime=runtime, handler=handler, **more)

    return make


# Handler forms

@pytest.mark.parametrize("runtime", RUNTIMES)
def test_interface(make, runtime):
    function = make("app.Forms$Interface", runtime)
    event = {"text": "Grüße \U0001f600 \"\\\n\x01", "n": [1, -2.5, 12345678901, 10**30, True, None, {}], "e": []}
    answer = function.call(event)
    assert len(answer.pop("id")) == 36
    assert answer == event


@pytest.mark.parametrize("handler, event, expected", [
    ("app.Forms$Interface::handleRequest", {}, None),
    ("app.Forms$Stream", [1, {"a": "b"}], None),
    ("app.Forms::length", [1, 2, 39], 42),
    ("app.Forms::text", "memory", "memory 512"),
    ("app.Forms::nothing", {"any": "thing"}, None),
    ("app.Forms::not", False, True),
    ("app.Forms::stream", {"same": ["again"]}, {"same": ["again"]}),
    ("app.Forms$Beans", {"name": "Tom", "Kind": "CAT", "age": 3, "unknown": 1, "friends": [{"name": "Rex", "kind": "DOG"}]},
     {"name": "Tom", "kind": "CAT", "age": 4,
      "friends": [{"name": "REX", "kind": "DOG", "age": 0, "friends": None}]}),
])
def test_forms(make, handler, event, expected):
    function = make(handler)
    answer = function.call(event)
    if handler.startswith("app.Forms$Interface"):
        assert list(answer) == ["id"]
    elif handler == "app.Forms$Stream":
        assert answer == {"name": function.name, "event": event}
    else:
        assert answer == expected


def test_context_and_logs(make):
    function = make("app.Forms::context", MemorySize=256)
    custom = base64.b64encode(json.dumps({"custom": {"a": "b"}}).encode()).decode()
    answer = function.raw({}, ClientContext=custom, LogType="Tail")
    seen = json.loads(answer["Payload"])
    assert seen["function"] == function.name
    assert seen["version"] == "$LATEST"
    assert seen["arn"].endswith(":function:" + function.name)
    assert seen["memory"] == 256
    assert 0 < seen["remaining"] <= 60000
    assert seen["custom"] == {"a": "b"}
    assert seen["loader"] is True
    assert 180 << 20 < seen["heap"] < 256 << 20
    assert "-XX:+UseSerialGC" in seen["arguments"]
    assert "said to the logger" in answer["Log"]
    assert "said without an end of line" in answer["Log"]


def test_the_functions_own_options_win(make):
    options = "-XX:+UseParallelGC -Xmx100m -Dmine=yes"
    function = make("app.Forms::context", Environment={"JAVA_TOOL_OPTIONS": options})
    seen = function.call()
    assert "-XX:+UseSerialGC" not in seen["arguments"]
    assert "-Dmine=yes" in seen["arguments"]
    assert 80 << 20 < seen["heap"] <= 100 << 20


def test_exec_wrapper(make):
    wrapper = '#!/bin/sh\nset -e\njava=$1\nshift\nexec "$java" -Dwrapped=yes "$@"\n'
    function = make("app.Forms::context", files={"bootstrap": wrapper},
                    Environment={"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/bootstrap"})
    assert "-Dwrapped=yes" in function.call()["arguments"]


# Errors

def test_errors(make):
    function = make("app.Forms::fails")
    error = function.fail({"how": "cause"})
    assert error["errorMessage"] == "outer"
    assert error["errorType"] == "java.lang.IllegalStateException"
    assert re.fullmatch(r"app\.Forms\.fails\(Forms\.java:\d+\)", error["stackTrace"][0])
    assert len(error["stackTrace"]) == 1, "our own frames are nobody's business"
    assert (error["cause"]["errorType"], error["cause"]["errorMessage"]) == ("java.io.IOException", "inner")
    bare = function.fail({"how": "bare"})
    assert bare["errorType"] == "java.lang.NullPointerException"
    deep = function.fail({"how": "deep"})
    assert deep["errorType"] == "java.lang.StackOverflowError"
    endless = function.fail({"how": "endless"})
    assert endless["errorType"] == "java.lang.RuntimeException"
    assert endless["errorMessage"] == "An error occurred during JSON serialization of response"
    wrong = function.fail({"how": {"not": "text"}})
    assert wrong["errorMessage"] == "An error occurred during JSON parsing"
    assert wrong["cause"]["errorType"] == "java.lang.IllegalArgumentException"
    answer = function.raw({"how": "cause"}, LogType="Tail")
    assert "outer: java.lang.IllegalStateException" in answer["Log"]
    assert "Caused by: java.io.IOException: inner" in answer["Log"]


def test_an_exit_ends_the_environment(make):
    function = make("app.Forms::fails")
    assert "exit status 7" in function.fail({"how": "exit"})["errorMessage"]
    memory = function.fail({"how": "memory"})
    assert memory["errorType"] == "java.lang.OutOfMemoryError"


@pytest.mark.parametrize("handler, kind, message", [
    ("app.Nowhere", "java.lang.ClassNotFoundException", "Class not found: app.Nowhere"),
    ("app.Forms::nothingLikeIt", "java.lang.NoSuchMethodException",
     "No public method named nothingLikeIt with appropriate method signature found on class app.Forms"),
    ("app.Forms$NoConstructor", "java.lang.NoSuchMethodException",
     "Class app.Forms$NoConstructor has no public zero-argument constructor"),
    ("app.Forms$FailsToStart", "java.lang.IllegalStateException", "no database"),
])
def test_failed_starts(make, handler, kind, message):
    error = make(handler).fail()
    assert (error["errorType"], error["errorMessage"]) == (kind, message)


# SnapStart

@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_is_random_is_unique(make, runtime):
    function = make("app.Snap$Random", runtime, SnapStart={"ApplyOn": "PublishedVersions"})
    version = function.publish()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(lambda _: function.call(None, version), range(4)))  # some of them alive at once
    for _ in range(3):
        function.evict(version)
        seen.append(function.call(None, version))
    for key in seen[0]:
        assert len({json.dumps(answer[key]) for answer in seen}) == len(seen), f"{key} repeats: {seen}"


def test_the_archive_of_classes_stays_at_its_place(make):
    """Where all addresses are fixed: else its pointers are rewritten for a random place, and all of it is the process's own."""
    function = make("app.Forms::mappings", snap_start=True)
    moved, frozen = function.call("/classes.jsa"), function.call("/classes.jsa", function.publish())
    assert frozen and frozen[0] == ["800000000", "rw-p"]
    assert "r--p" in [rights for _, rights in frozen], "most of it is only read"
    assert moved and moved[0][0] != "800000000"


def test_hooks_and_their_order(make):
    function = make("app.Snap$Hooks", snap_start=True)
    version = function.publish()
    for _ in range(2):
        function.evict(version)
        assert function.call(None, version) == ["before second", "before first", "after first", "after second"]
    assert function.call() == [], "no hooks without a snapshot"


def test_a_hook_that_fails_before(make):
    function = make("app.Snap$Hooks", snap_start=True, Environment={"FAIL": "before first"})
    reason = function.fail_to_publish()
    assert "java.lang.IllegalStateException" in reason and "the hook failed" in reason


def test_a_hook_that_fails_after(make):
    function = make("app.Snap$Hooks", snap_start=True, Environment={"FAIL": "after first"})
    version = function.publish()
    error = function.fail(None, version)
    assert error["errorMessage"] == "the hook failed"
    assert error["errorType"] == "java.lang.IllegalStateException"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_threads_and_the_collector(make, runtime):
    function = make("app.Snap$Work", runtime, snap_start=True)
    version = function.publish()
    expected = {"sum": 328350, "kept": "value 4711", "forward": True, "parallel": 999000}
    for templates in [False, True, False]:
        function.evict(version, templates)
        for count in (1, 2):
            assert function.call(100, version) == {**expected, "count": count}


def test_errors_of_a_clone(make):
    function = make("app.Forms::fails", snap_start=True)
    version = function.publish()
    assert function.fail({"how": "cause"}, version)["errorMessage"] == "outer"
    assert "exit status 7" in function.fail({"how": "exit"}, version)["errorMessage"]
    assert function.fail({"how": "bare"}, version)["errorType"] == "java.lang.NullPointerException"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_classes_are_linked_before_the_snapshot_and_not_initialised(make, runtime):
    function = make("app.Snap$Linked", runtime, snap_start=True)
    version = function.publish()
    for _ in range(2):
        function.evict(version)
        assert function.call(None, version) == [True, False, True]
    assert function.call(None) == [False, False, True], "nothing is loaded ahead without a snapshot"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_priming(make, runtime):
    function = make("app.Snap$Primed", runtime, files={"events.json": json.dumps([{"a": 1}, "bad", 2])}, snap_start=True,
                    Environment={"THAW_PRIME": "events.json"})
    version = function.publish()
    for _ in range(2):
        function.evict(version)
        assert function.call("real", version) == [{"a": 1}, "bad", 2, "real"]
    assert function.call("real") == ["real"], "no priming without a snapshot"
