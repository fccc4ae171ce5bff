"""Manifests that are sealed rightly and hold what no freeze makes: refused in words, and the version is initialised anew."""

import os
import subprocess

import pytest

import harness

SOURCE = "import os\nborn = os.urandom(8).hex()\ndef handler(event, context): return [event, born]"
FORGE = harness.BUILD / "tests" / "store_forge"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """(data, function name, version, what it was born as): made once, copied for each test."""
    data = tmp_path_factory.mktemp("forged") / "data"
    data.mkdir()
    daemon = harness.make_daemon(data=data, arguments=["--blanks", "1"])
    try:
        daemon.start()
        client = daemon.client()
        client.create_function(FunctionName="forged", Runtime=harness.PYTHON, Handler="app.handler", Role=harness.ROLE,
                               Code={"ZipFile": harness.python_zip(SOURCE)}, SnapStart={"ApplyOn": "PublishedVersions"})
        function = harness.Function(daemon, client, "forged")
        version = function.publish()
        born = function.call(0, version)[1]
    finally:
        harness.end_daemon(daemon)
    return data, "forged", version, born


@pytest.mark.parametrize("how, says", [
    ("overlap", "damaged near byte"),
    ("call", "system call 59): it is not one that this plan may have"),
    ("elsewhere", "(munmap): it is not one that this plan may have"),
    ("length", "damaged near byte"),
    ("rights", "would keep rights that no function has"),
    ("unsettled", "does not end with settling the thread's rights"),
])
def test_a_forged_manifest_is_refused(published, new_daemon, tmp_path, how, says):
    data, name, version, born = published
    copy = tmp_path / "data"
    subprocess.run(["cp", "-a", data, copy], check=True)
    (snapshot,) = os.listdir(copy / "store" / "snapshots")
    subprocess.run([FORGE, copy, snapshot, how], check=True, timeout=60)
    daemon = new_daemon(data=copy, arguments=["--blanks", "1"]).start()
    function = harness.Function(daemon, daemon.client(), name)
    event, anew = function.call(7, version)
    assert event == 7 and anew != born
    assert says in daemon.log(), daemon.log()[-3000:]
    assert os.listdir(copy / "store" / "snapshots") != [snapshot]
