"""A data directory that is damaged, locked, full, read-only or of another key: a clear error or a new snapshot, and
never a wrong answer."""

import json
import os
import random
import shutil
import subprocess

import pytest
from botocore.exceptions import ClientError

import ballast
import harness

SOURCE = "import os\nborn = os.urandom(8).hex()\ndef handler(event, context): return [event, born]"


def snapshot_files(daemon):
    return harness.files_below(daemon.data / "store/snapshots")


def chunk_files(daemon):
    return harness.files_below(daemon.data / "store/chunks")


def damage(path, how, chooser):
    size = path.stat().st_size
    with open(path, "r+b") as file:
        if how == "flip":
            at = chooser.randrange(size)
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << chooser.randrange(8)]))
        elif how == "truncate":
            file.truncate(chooser.randrange(size))
        elif how == "grow":
            file.seek(0, 2)
            file.write(b"more")
        elif how == "zero":
            file.truncate(0)
    if how == "remove":
        path.unlink()


@pytest.mark.parametrize("how", ["flip", "truncate", "grow", "zero", "remove"])
def test_damaged_snapshots_are_made_anew(new_daemon, make_function, how):
    daemon = new_daemon().start()
    function = make_function(SOURCE, on=daemon, snap_start=True)
    version = function.publish()
    born = function.call(0, version)[1]
    chooser = random.Random(how)
    for number in range(3):  # the key, the manifest, and a chunk
        daemon.stop()
        for hot in [p for p in snapshot_files(daemon) if p.name == "hot"]:
            hot.unlink()  # it may hold all that is in a chunk, which nobody misses then
        files = snapshot_files(daemon)
        assert [p.name for p in files] == ["key", "manifest"]
        # Chunks of this snapshot were written, or found and touched, after its key was written.
        files.append(chooser.choice([p for p in chunk_files(daemon)
                                     if p.stat().st_mtime_ns >= files[0].stat().st_mtime_ns]))
        damage(files[number], how, chooser)
        daemon.start()
        # The version is initialised and frozen anew, or the call says what is wrong; it never answers nonsense.
        # Clones that do not need what is lost may run until it is met: behind the first answer all of it is read.
        def made_anew(told=f"{files[number].name} {how}", old=born):
            answer = attempt(function, version)
            assert answer is None or answer[0] == 1, told
            return answer if answer and answer[1] != old else None

        answer = harness.wait_until(made_anew, f"{files[number].name} {how}: damage went unnoticed")
        born = answer[1]
        function.evict(version, templates=True)
        assert attempt(function, version) == [1, born], "the new snapshot is used from now on"


def attempt(function, version):
    try:
        return function.call(1, version)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        assert code in ("SnapStartNotReadyException", "SnapStartRegenerationFailureException", "ResourceConflictException",
                        "ServiceException"), error
        assert error.response["Error"]["Message"]
        return None


def test_every_bit_of_the_manifest_counts(new_daemon, make_function):
    """Many single flips in one file, without a restart: templates are dropped, so each call reads the disk."""
    daemon = new_daemon().start()
    function = make_function(SOURCE, on=daemon, snap_start=True)
    version = function.publish()
    chooser = random.Random(1)
    for _ in range(12):
        born = harness.wait_until(lambda: attempt(function, version), "a whole snapshot")[1]
        function.evict(version, templates=True)
        path = chooser.choice(snapshot_files(daemon))
        damage(path, "flip", chooser)
        answer = harness.wait_until(lambda: attempt(function, version), f"an answer after a flip in {path.name}")
        assert answer[0] == 1
        # Without the recorded hot set a start is only slower.
        assert (answer[1] == born) == (path.name == "hot"), f"a flip in {path.name} went unnoticed"
        function.evict(version, templates=True)


def test_a_wrong_key_is_refused(new_daemon, make_function):
    """Every snapshot would look damaged with it, and be made anew."""
    daemon = new_daemon().start()
    function = make_function(SOURCE, on=daemon, snap_start=True)
    version = function.publish()
    born = function.call(0, version)[1]
    daemon.stop()
    key = daemon.data / "thaw.key"
    assert key.stat().st_mode & 0o777 == 0o600
    right = key.read_bytes()
    key.write_bytes(os.urandom(len(right)))
    refused_start(daemon, "another master key")
    key.write_bytes(right)
    daemon.start()
    assert function.call(1, version) == [1, born]


def test_a_key_of_the_wrong_length_is_refused(new_daemon):
    daemon = new_daemon().start()
    daemon.stop()
    key = daemon.data / "thaw.key"
    key.write_bytes(b"short")
    refused_start(daemon, "key")


def refused_start(daemon, *words):
    done = subprocess.run([harness.THAWD, "--listen", f"127.0.0.1:{daemon.port}", "--data", daemon.data],
                          capture_output=True, text=True, timeout=harness.PATIENCE_S)
    assert done.returncode != 0
    assert any(word in done.stderr for word in words), done.stderr
    daemon.check_nothing_left()


def test_a_damaged_catalog_is_refused_and_left_alone(new_daemon, make_function):
    daemon = new_daemon().start()
    make_function(SOURCE, on=daemon)
    daemon.stop()
    catalog = next(p for p in harness.files_below(daemon.data) if p.name == "catalog.sqlite")
    catalog.write_bytes(b"this is not a database" * 1000)
    before = catalog.read_bytes()
    refused_start(daemon, "catalog")
    assert catalog.read_bytes() == before


def test_two_daemons_on_one_folder(new_daemon):
    daemon = new_daemon().start()
    done = subprocess.run([harness.THAWD, "--listen", f"127.0.0.1:{harness.free_port()}", "--data", daemon.data],
                          capture_output=True, text=True, timeout=harness.PATIENCE_S)
    assert done.returncode != 0 and done.stderr
    assert daemon.get("/thaw/v1/status")


def test_a_port_that_is_taken(new_daemon):
    daemon = new_daemon().start()
    other = new_daemon()
    done = subprocess.run([harness.THAWD, "--listen", f"127.0.0.1:{daemon.port}", "--data", other.data],
                          capture_output=True, text=True, timeout=harness.PATIENCE_S)
    assert done.returncode != 0 and str(daemon.port) in done.stderr


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=755", "thaw-test", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk(new_daemon, make_function, small_disk):
    data = small_disk / "data"
    data.mkdir()
    daemon = new_daemon(data=data).start()
    function = make_function("def handler(event, context): return event", on=daemon)
    assert function.call(1) == 1
    filler = small_disk / "filler"
    with open(filler, "wb") as file:
        try:
            while file.write(bytes(1 << 16)):
                file.flush()
        except OSError:
            pass
    # What needs the disk is refused in words; what does not goes on.
    with pytest.raises(ClientError) as caught:
        daemon.client().create_function(FunctionName="no-room", Runtime=harness.PYTHON, Handler="app.handler",
                                        Role=harness.ROLE, Code={"ZipFile": harness.make_zip(
                                            {"app.py": "x = 1", "big": os.urandom(3 << 20)})})
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] >= 400
    assert caught.value.response["Error"]["Message"]
    assert function.call(2) == 2
    filler.unlink()
    answer = daemon.client().create_function(FunctionName="has-room", Runtime=harness.PYTHON, Handler="app.handler",
                                             Role=harness.ROLE, Code={"ZipFile": harness.python_zip(
                                                 "def handler(event, context): return event")})
    assert answer["FunctionName"] == "has-room"
    assert harness.Function(daemon, daemon.client(), "has-room").call(3) == 3


def test_no_room_for_a_snapshot(new_daemon, make_function, small_disk):
    """The function's memory does not fit: the version fails and says so; the server goes on."""
    data = small_disk / "data"
    data.mkdir()
    daemon = new_daemon(data=data).start()
    function = make_function("import os\nballast = os.urandom(60 << 20)\ndef handler(e, c): return len(ballast)",
                             on=daemon, snap_start=True, MemorySize=512)
    version = function.client.publish_version(FunctionName=function.name)["Version"]

    def settled():
        about = function.client.get_function_configuration(FunctionName=function.name, Qualifier=version)
        return about if about["State"] != "Pending" else None

    about = harness.wait_until(settled, "the version to fail")
    assert about["State"] == "Failed" and "No space left on device" in about["StateReason"], about
    assert function.call() == 60 << 20
    # Nothing of it is left, so that what fits can be published.
    small, seed = ballast.create(daemon, "small")
    version = small.publish()
    ballast.answer_of(small.client, "small", version, seed)
    assert ballast.check_store(daemon)["totals"]["snapshots"] == 1


def test_a_read_only_folder(new_daemon, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    daemon = new_daemon(data=folder)
    daemon.cgroups_before = harness.cgroup_folders()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "thaw-test", folder], check=True)
    try:
        done = subprocess.run([harness.THAWD, "--listen", f"127.0.0.1:{daemon.port}", "--data", folder],
                              capture_output=True, text=True, timeout=harness.PATIENCE_S)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr or "read-only" in done.stderr, done.stderr


def test_what_nobody_needs_is_removed(new_daemon, make_function):
    daemon = new_daemon().start()
    function = make_function(SOURCE, on=daemon, snap_start=True)
    function.publish()
    assert snapshot_files(daemon)
    function.client.delete_function(FunctionName=function.name)
    harness.wait_until(lambda: not snapshot_files(daemon), "the snapshot to go with its version")
    # Environments may still be at work in the unpacked code, so that goes after a while, or at the next start.
    daemon.stop()
    daemon.start()
    harness.wait_until(lambda: not [p for p in (daemon.data / "code").iterdir()], "the code to go, too")


def test_a_snapshot_of_no_version_is_removed(new_daemon, make_function):
    """What a crash between the freeze and its record leaves behind."""
    daemon = new_daemon().start()
    function = make_function(SOURCE, on=daemon, snap_start=True)
    version = function.publish()
    born = function.call(0, version)[1]
    daemon.stop()
    (snapshot,) = {p.parent for p in snapshot_files(daemon)}
    shutil.copytree(snapshot, snapshot.parent / ("0" * 32))
    daemon.start()
    harness.wait_until(lambda: {p.parent for p in snapshot_files(daemon)} == {snapshot}, "the stray to go")
    assert function.call(1, version) == [1, born], "and the version's own stays"
