"""Examples, each deployed by its own script, as its reader would."""

import os
import re
import subprocess

import pytest

import harness
import official_clients

@pytest.fixture
def deploy(server, client, request):
    """Deploys an example, and returns its Function and what its script printed."""
    name = re.sub("[^a-z]+", "-", request.node.name).strip("-") + "-example"

    def run(example, **variables):
        done = subprocess.run([harness.ROOT / f"examples/{example}/deploy.sh", name], capture_output=True, text=True,
                              timeout=600, env={**os.environ, "THAW_ENDPOINT": server.endpoint, "THAW": str(harness.THAW),
                                                **official_clients.CARGO, **variables})
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"deployed {name}:1" in done.stdout
        return harness.Function(server, client, name), done.stdout

    yield run
    client.delete_function(FunctionName=name)


def test_c_hello(deploy):
    function, printed = deploy("c-hello")
    assert "null" in printed
    for _ in range(2):
        function.evict("1")
        assert function.call({}, "1") is None


@pytest.mark.parametrize("example", ["go-hello", "rust-hello"])
def test_hello(deploy, example):
    function, printed = deploy(example)
    assert "Hello, thaw!" in printed
    seen = []
    for _ in range(3):
        function.evict("1")
        seen.append(function.call({"name": "you"}, "1"))
    assert {answer["greeting"] for answer in seen} == {"Hello, you!"}
    assert len({answer["started"] for answer in seen}) == 1
    assert len({answer["instance"] for answer in seen}) == 3


def test_python_data(deploy):
    function, printed = deploy("python-data", DATA_MB="12")
    assert '"orders"' in printed
    whole = function.call({"product": 7}, "1")
    assert whole["of"] == 500_000 and whole["megabytes"] == 12
    assert len(whole["months"]) == 12 and len(whole["best"]) == 3
    function.evict("1")
    assert function.call({"product": 7}, "1") == whole
