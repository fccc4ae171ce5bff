"""The life of functions and versions, through boto3."""

import base64
import hashlib

import pytest
from botocore.exceptions import ClientError

import harness

ECHO = "def handler(event, context): return event"


def error_of(call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Code"], caught.value.response["ResponseMetadata"]["HTTPStatusCode"]


def test_what_was_created_is_described(client, make_function):
    function = make_function(ECHO, Description="an echo", Timeout=7, MemorySize=256, Environment={"AA": "1"})
    answer = client.get_function(FunctionName=function.name)
    about = answer["Configuration"]
    assert about["Runtime"] == harness.PYTHON and about["Handler"] == "app.handler"
    assert (about["Timeout"], about["MemorySize"], about["Description"]) == (7, 256, "an echo")
    assert about["Environment"] == {"Variables": {"AA": "1"}}
    assert about["State"] == "Active" and about["LastUpdateStatus"] == "Successful"
    assert about["Version"] == "$LATEST" and about["PackageType"] == "Zip"
    assert about["FunctionArn"] == f"arn:aws:lambda:us-east-1:000000000000:function:{function.name}"
    zip_bytes = harness.python_zip(ECHO)
    assert about["CodeSha256"] == base64.b64encode(hashlib.sha256(zip_bytes).digest()).decode()
    assert about["CodeSize"] == len(zip_bytes)
    assert about["EphemeralStorage"] == {"Size": 512} and about["Architectures"] == ["x86_64"]
    assert answer["Code"]["RepositoryType"] == "S3"


def test_create_answers_pending_and_twice_is_a_conflict(client, make_function):
    function = make_function(ECHO)
    assert error_of(client.create_function, FunctionName=function.name, Runtime=harness.PYTHON, Handler="app.handler",
                    Role=harness.ROLE, Code={"ZipFile": harness.python_zip(ECHO)}) == ("ResourceConflictException", 409)


def test_versions_are_immutable(make_function):
    function = make_function("def handler(e, c): return 'one'")
    one = function.publish()
    assert function.publish() == one, "nothing changed, so no new version"
    function.client.update_function_code(FunctionName=function.name,
                                         ZipFile=harness.python_zip("def handler(e, c): return 'two'"))
    function.client.get_waiter("function_updated_v2").wait(FunctionName=function.name)
    two = function.publish()
    assert (one, two) == ("1", "2")
    assert [function.call(None, v) for v in [one, two, None]] == ["one", "two", "two"]
    listed = function.client.list_versions_by_function(FunctionName=function.name)["Versions"]
    assert [v["Version"] for v in listed] == ["$LATEST", "1", "2"]


def test_update_of_code_replaces_warm_environments(make_function):
    function = make_function("def handler(e, c): return 'old'")
    assert function.call() == "old"
    function.client.update_function_code(FunctionName=function.name,
                                         ZipFile=harness.python_zip("def handler(e, c): return 'new'"))
    function.client.get_waiter("function_updated_v2").wait(FunctionName=function.name)
    assert function.call() == "new"


def test_update_of_configuration(make_function):
    function = make_function("import os\ndef handler(e, c): return [os.environ.get('AA'), c.memory_limit_in_mb]",
                             Environment={"AA": "1"})
    assert function.call() == ["1", "128"]
    function.client.update_function_configuration(FunctionName=function.name, MemorySize=256,
                                                  Environment={"Variables": {"AA": "2"}})
    function.client.get_waiter("function_updated_v2").wait(FunctionName=function.name)
    assert function.call() == ["2", "256"]


def test_delete_of_a_version_and_of_all(make_function):
    function = make_function(ECHO)
    version = function.publish()
    function.client.delete_function(FunctionName=function.name, Qualifier=version)
    assert error_of(function.client.invoke, FunctionName=function.name, Qualifier=version)[0] == \
        "ResourceNotFoundException"
    assert function.call(1) == 1
    function.client.delete_function(FunctionName=function.name)
    assert error_of(function.client.invoke, FunctionName=function.name) == ("ResourceNotFoundException", 404)
    assert error_of(function.client.get_function, FunctionName=function.name)[1] == 404
    assert error_of(function.client.delete_function, FunctionName=function.name)[1] == 404


def test_names_of_every_form(client, make_function):
    function = make_function("def handler(e, c): return c.invoked_function_arn")
    version = function.publish()
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{function.name}"
    for name in [function.name, arn, f"000000000000:function:{function.name}"]:
        assert client.invoke(FunctionName=name)["ExecutedVersion"] == "$LATEST"
        assert client.invoke(FunctionName=f"{name}:{version}")["ExecutedVersion"] == version
        assert client.invoke(FunctionName=name, Qualifier=version)["ExecutedVersion"] == version


def test_listing_comes_in_pages(client, make_function):
    made = {make_function(ECHO).name for _ in range(5)}
    seen, marker = [], None
    while True:
        page = client.list_functions(MaxItems=2, **({"Marker": marker} if marker else {}))
        assert len(page["Functions"]) <= 2
        seen += [f["FunctionName"] for f in page["Functions"]]
        marker = page.get("NextMarker")
        if not marker:
            break
    assert made <= set(seen) and len(seen) == len(set(seen))


def test_dry_run_runs_nothing(make_function):
    function = make_function("raise RuntimeError('must not be loaded')")
    answer = function.client.invoke(FunctionName=function.name, InvocationType="DryRun")
    assert answer["StatusCode"] == 204
