"""The AWS CLI, as a user would type it."""

import json
import os
import sys

import pytest

import harness

SOURCE = """
import os, time
loaded = time.time()
def handler(event, context):
    print("handling", event)
    return {"hello": event.get("name"), "version": context.function_version}
"""

# Both generations of the real thing, where there are both: the one that pip brings, and the distribution's.
PROGRAMS = [program for program in [os.path.join(os.path.dirname(sys.executable), "aws"), "/usr/bin/aws"]
            if os.path.exists(program)]
assert PROGRAMS, "there is no AWS CLI: ./run test installs one"


@pytest.fixture(params=PROGRAMS)
def aws(server, request):
    return lambda *arguments, **more: server.aws(*arguments, program=request.param, **more)


def test_the_issues_commands(server, aws, tmp_path):
    (tmp_path / "pets.zip").write_bytes(harness.python_zip(SOURCE))
    (tmp_path / "event.json").write_text('{"name": "Rex"}')
    made = aws("lambda", "create-function", "--function-name", "cli-pets", "--runtime", harness.PYTHON,
               "--handler", "app.handler", "--role", harness.ROLE, "--zip-file", "fileb://pets.zip",
               "--snap-start", "ApplyOn=PublishedVersions", "--memory-size", "512", "--timeout", "30", cwd=tmp_path)
    assert made["FunctionName"] == "cli-pets" and made["SnapStart"]["ApplyOn"] == "PublishedVersions"
    aws("lambda", "wait", "function-active-v2", "--function-name", "cli-pets")
    published = aws("lambda", "publish-version", "--function-name", "cli-pets")
    assert published["Version"] == "1" and published["FunctionArn"].endswith(":function:cli-pets:1")
    aws("lambda", "wait", "published-version-active", "--function-name", "cli-pets", "--qualifier", "1")
    version = aws("lambda", "get-function-configuration", "--function-name", "cli-pets", "--qualifier", "1")
    assert version["State"] == "Active", version
    assert version["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}
    for name, executed in [("cli-pets:1", "1"), ("cli-pets", "$LATEST")]:
        answer = aws("lambda", "invoke", "--function-name", name, "--log-type", "Tail",
                     "--payload", "fileb://event.json", "out.json", cwd=tmp_path)
        assert answer["StatusCode"] == 200 and answer["ExecutedVersion"] == executed
        assert json.loads((tmp_path / "out.json").read_text()) == {"hello": "Rex", "version": executed}
        assert answer["LogResult"]
    listed = aws("lambda", "list-versions-by-function", "--function-name", "cli-pets")
    assert [v["Version"] for v in listed["Versions"]] == ["$LATEST", "1"]
    assert "cli-pets" in [f["FunctionName"] for f in aws("lambda", "list-functions")["Functions"]]
    aws("lambda", "delete-function", "--function-name", "cli-pets")
    gone = aws("lambda", "get-function", "--function-name", "cli-pets", check=False)
    assert gone.returncode != 0 and "ResourceNotFoundException" in gone.stderr


def test_update_and_wait(server, aws, tmp_path):
    (tmp_path / "a.zip").write_bytes(harness.python_zip("def handler(e, c): return 'a'"))
    (tmp_path / "b.zip").write_bytes(harness.python_zip("import os\ndef handler(e, c): return os.environ['WHAT']"))
    aws("lambda", "create-function", "--function-name", "cli-update", "--runtime", harness.PYTHON,
        "--handler", "app.handler", "--role", harness.ROLE, "--zip-file", "fileb://a.zip", cwd=tmp_path)
    aws("lambda", "update-function-code", "--function-name", "cli-update", "--zip-file", "fileb://b.zip", cwd=tmp_path)
    aws("lambda", "wait", "function-updated-v2", "--function-name", "cli-update")
    aws("lambda", "update-function-configuration", "--function-name", "cli-update",
        "--environment", "Variables={WHAT=b}", "--memory-size", "256")
    aws("lambda", "wait", "function-updated", "--function-name", "cli-update")
    aws("lambda", "invoke", "--function-name", "cli-update", "out.json", cwd=tmp_path)
    assert (tmp_path / "out.json").read_text() == '"b"'
    aws("lambda", "delete-function", "--function-name", "cli-update")
