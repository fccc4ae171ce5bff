"""Bad input gets a clear error, and nothing is lost: the server answers the next request."""

import io
import json
import socket
import stat
import struct
import zipfile
import zlib

import pytest
from botocore.exceptions import ClientError

import harness

ECHO = harness.python_zip("def handler(event, context): return event")
GOOD = dict(Runtime=harness.PYTHON, Handler="app.handler", Role=harness.ROLE)


@pytest.fixture(autouse=True)
def the_server_lives(server):
    yield
    assert server.get("/thaw/v1/status")


def refused(client, zip_bytes=ECHO, name="bad-input", **changes):
    arguments = {**GOOD, "Code": {"ZipFile": zip_bytes}, **changes}
    with pytest.raises(ClientError) as caught:
        client.create_function(FunctionName=name, **arguments)
    response = caught.value.response
    with pytest.raises(ClientError):
        client.get_function(FunctionName=name[:64])  # nothing was made
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Message"]


def zip_of(entries):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return out.getvalue()


FILE, LINK = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777
APP = ("app.py", "def handler(e, c): return 1", FILE)


@pytest.mark.parametrize("zip_bytes", [
    pytest.param(b"this is not a zip", id="not-a-zip"),
    pytest.param(b"", id="empty"),
    pytest.param(ECHO[:len(ECHO) // 2], id="truncated"),
    pytest.param(zip_of([APP, ("../../escape.py", "x", FILE)]), id="zip-slip"),
    pytest.param(zip_of([APP, ("/etc/escape.py", "x", FILE)]), id="absolute"),
    pytest.param(zip_of([APP, ("link", "/etc", LINK), ("link/escape", "x", FILE)]), id="through-a-symlink"),
    pytest.param(zip_of([APP, ("link", "../../../etc/passwd", LINK)]), id="symlink-escape"),
    pytest.param(zip_of([APP, ("a/" * 3000 + "deep", "x", FILE)]), id="deep"),
])
def test_bad_zips(client, server, zip_bytes):
    code, status, message = refused(client, zip_bytes)
    assert code in ("InvalidParameterValueException", "InvalidZipFileException"), message
    assert message
    assert not [p for p in harness.files_below(server.data) if p.name.startswith("escape")]


def test_a_bomb_is_refused(client):
    bomb = zip_of([APP, ("zeros", bytes(270_000_000), FILE)])
    assert len(bomb) < 1_000_000
    code, status, message = refused(client, bomb)
    assert (code, status) == ("InvalidParameterValueException", 400)
    assert "Unzipped size must be smaller than 262144000 bytes" in message


def test_a_bomb_that_lies_about_its_size(client):
    """The header says 10 bytes; the stream holds 300 MB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = b"".join(packer.compress(bytes(1_000_000)) for _ in range(300)) + packer.flush()
    name = b"liar"
    crc, size = 0, 10
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 8, 0, 0, crc, len(packed), size, len(name), 0) + name
    central = struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, 0, 8, 0, 0, crc, len(packed), size, len(name),
                          0, 0, 0, 0, 0, 0) + name
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, len(central), len(local) + len(packed), 0)
    code, status, message = refused(client, local + packed + central + end)
    assert status == 400, message


@pytest.mark.parametrize("changes, code", [
    (dict(Runtime="cobol85"), "InvalidParameterValueException"),
    (dict(Runtime=""), None),
    (dict(Handler=""), None),
    (dict(Handler="x" * 200), None),
    (dict(Timeout=0), None),
    (dict(Timeout=901), None),
    (dict(MemorySize=127), None),
    (dict(MemorySize=10241), None),
    (dict(Timeout="soon"), None),
    (dict(Environment={"Variables": {"AWS_REGION": "mine"}}), "InvalidParameterValueException"),
    (dict(Environment={"Variables": {"1bad": "x"}}), None),
    (dict(Environment={"Variables": {"BIG": "x" * 5000}}), "InvalidParameterValueException"),
    (dict(SnapStart={"ApplyOn": "Always"}), "ValidationException"),
    (dict(Description="x" * 300), None),
    (dict(Code={}), None),
    (dict(Code={"ImageUri": "example"}), None),
    (dict(PackageType="Image"), None),
    (dict(Architectures=["sparc"]), None),
    (dict(EphemeralStorage={"Size": 100}), None),
])
def test_bad_fields(client, changes, code):
    found, status, message = refused(client, **changes)
    assert status == 400 and message
    if code:
        assert found == code


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 65, "../etc", "a:b:c:d", "ä"])
def test_bad_names(server, name):
    status, headers, body = server.request("POST", "/2015-03-31/functions", {**GOOD, "FunctionName": name, "Code": {
        "ZipFile": __import__("base64").b64encode(ECHO).decode()}})
    assert status == 400, body
    assert headers["x-amzn-ErrorType"]


@pytest.mark.parametrize("path", [
    "/2015-03-31/functions/no-such/invocations", "/2015-03-31/functions/arn%3Aaws%3Alambda/invocations",
    "/2015-03-31/functions/%00/invocations", "/2015-03-31/functions/%zz/invocations",
    "/2015-03-31/functions/..%2F..%2Fetc/invocations", "/2015-03-31/functions/x%3A99999999999999999999999/invocations",
    "/no/such/path", "/2015-03-31/functions/" + "x" * 3000 + "/invocations",
])
def test_bad_paths(server, path):
    status, headers, body = server.request("POST", path, b"{}")
    assert status in (400, 403, 404, 414), body
    # A line that even the HTTP parser refuses has no JSON.
    if headers.get("Content-Type", "").startswith("application/json"):
        assert json.loads(body)


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b"42", b'{"FunctionName": 5}', b'{"FunctionName": "x", "FunctionName": {}}',
    b"[" * 100_000, b'{"a":' * 50_000, b'{"FunctionName": "\xff\xfe"}', b'{"FunctionName": "a\\u0000b"}',
    b'{"FunctionName": "x", "Code": {"ZipFile": "!!! not base64 !!!"}}', b'{"FunctionName":"x","Timeout":1e999}',
    b'{"FunctionName": "x", "Code": "text", "Role": [], "Runtime": {}}',
])
def test_bad_json(server, body):
    status, headers, answer = server.request("POST", "/2015-03-31/functions", body)
    assert status == 400, answer
    assert headers["x-amzn-ErrorType"]
    assert "essage" in json.loads(answer).keys().__str__()


def test_bad_payloads(make_function, server):
    function = make_function("def handler(event, context): return event")
    path = f"/2015-03-31/functions/{function.name}/invocations"
    for payload in [b"{", b"not json", b"\xff", b'{"a": nan}']:
        status, headers, body = server.request("POST", path, payload)
        assert (status, headers["x-amzn-ErrorType"]) == (400, "InvalidRequestContentException"), body
    status, headers, body = server.request("POST", path, b'"' + b"x" * 6_291_600 + b'"')
    assert (status, headers["x-amzn-ErrorType"]) == (413, "RequestTooLargeException"), body
    large = "x" * 6_000_000
    assert function.call(large) == large


def test_a_large_answer_is_refused(make_function):
    function = make_function("def handler(event, context): return 'x' * event")
    error = function.fail(6_300_000)
    assert error["errorType"] == "Function.ResponseSizeTooLarge"
    assert function.call(10) == "x" * 10


def test_truncated_and_slow_clients(server):
    """Half a request, then silence or a hang-up: others are served meanwhile."""
    held = []
    for piece in [b"POST /2015-03-31/functions HT", b"POST /2015-03-31/functions HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{",
                  b"GET / HTTP/1.1\r\nHost:", b"\x16\x03\x01\x02\x00\x01", b"\0" * 100]:
        for hang_up in (False, True):
            connection = socket.create_connection(("127.0.0.1", server.port))
            connection.sendall(piece)
            if hang_up:
                connection.close()
            else:
                held.append(connection)
            assert server.get("/thaw/v1/status")
    for connection in held:
        connection.close()


def test_headers_that_make_no_sense(server, make_function):
    function = make_function("def handler(event, context): return event")
    path = f"/2015-03-31/functions/{function.name}/invocations"
    for name, value in [("X-Amz-Invocation-Type", "Sometimes"), ("X-Amz-Client-Context", "!!!")]:
        status, headers, body = server.request("POST", path, b"{}", {name: value})
        assert status == 400, body
    huge = {f"X-H{i}": "x" * 7000 for i in range(12)}
    status, _, _ = server.request("POST", path, b"{}", huge)
    assert status in (200, 400, 413, 431)


def test_qualifiers(client, make_function):
    function = make_function("def handler(event, context): return event")
    for qualifier in ["99", "no-such-alias"]:
        with pytest.raises(ClientError) as caught:
            client.invoke(FunctionName=function.name, Qualifier=qualifier)
        assert caught.value.response["Error"]["Code"] == "ResourceNotFoundException"
    with pytest.raises(ClientError) as caught:
        client.invoke(FunctionName=f"{function.name}:1", Qualifier="2")
    assert caught.value.response["Error"]["Code"] == "InvalidParameterValueException"


def test_any_other_address_is_refused(new_daemon):
    import subprocess
    for address in ["0.0.0.0:8429", "[::]:8429", "192.0.2.1:80"]:
        daemon = new_daemon()
        done = subprocess.run([harness.THAWD, "--listen", address, "--data", daemon.data], capture_output=True,
                              text=True, timeout=60)
        assert done.returncode != 0
        assert "loopback" in done.stderr


def test_names_that_are_not_ours(server):
    """A web page that a browser loaded under another name must not reach the server (DNS rebinding)."""
    status, _, body = server.request("GET", "/thaw/v1/status", headers={"Host": "evil.example"})
    assert status == 403, body
    for host in [f"localhost:{server.port}", f"127.0.0.1:{server.port}"]:
        assert server.request("GET", "/thaw/v1/status", headers={"Host": host})[0] == 200
