"""A page in a browser on the same machine must not reach a server that asks for no credentials."""

import pytest


@pytest.mark.parametrize("headers", [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1.evil.example"},
    {"Host": "evil.example"},
    {"Host": "evil.example:8429"},
    {"Host": "127.0.0.1.evil.example"},
    {"Host": "localhost.evil.example"},
])
@pytest.mark.parametrize("path", ["/2015-03-31/functions/", "/thaw/v1/status"])
def test_foreign_pages_are_refused(server, headers, path):
    status, _, body = server.request("GET", path, headers=headers)
    assert status == 403
    assert b"Message" in body


@pytest.mark.parametrize("headers", [
    {},
    {"Host": "localhost"},
    {"Host": "localhost:8429"},
    {"Host": "[::1]:8429"},
    {"Host": "000000000000.localhost:8429"},
    {"Host": "127.0.0.1:8429", "Origin": "http://127.0.0.1:8429"},
])
def test_own_names_are_answered(server, headers):
    status, _, _ = server.request("GET", "/2015-03-31/functions/", headers=headers)
    assert status == 200
