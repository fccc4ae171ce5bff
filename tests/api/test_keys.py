"""The master key: where it comes from, its rotation, what deleting a snapshot's key does; and trust domains."""

import base64
import json
import pathlib
import shutil

import botocore.exceptions
import pytest

import harness
import s3

SOURCE = "import os\nborn = os.urandom(8).hex()\ndef handler(event, context): return [event, born]"
FIRST, SECOND = bytes(range(32)), bytes(range(100, 132))


def key_files(daemon):
    return sorted((daemon.data / "store").glob("snapshots/*/key")) + sorted((daemon.data / "store/domains").iterdir())


def contents(paths):
    return {path: path.read_bytes() for path in paths}


def other_files(daemon):
    """All of the store but its wrapped keys; and not the hot sets, which are written anew now and then."""
    files = set(harness.files_below(daemon.data / "store")) - set(key_files(daemon))
    return contents(path for path in files if path.name != "hot")


def first_thaw(function, version):
    """Of a template that is built anew: the key of the snapshot is unwrapped."""
    function.evict(version, templates=True)
    return function.call(0, version)[1]


def run_to_its_end(daemon):
    """A daemon that must not start: what it says."""
    daemon.start(wait=False)
    code = daemon.process.wait(harness.PATIENCE_S)
    daemon.process = None
    assert code == 1, (code, daemon.log())
    return daemon.log()


def test_rotate(new_daemon, make_function):
    daemon = new_daemon().start()
    functions = [make_function(SOURCE, on=daemon, snap_start=True) for _ in range(2)]
    versions = [function.publish() for function in functions]
    born = [function.call(0, version)[1] for function, version in zip(functions, versions)]
    daemon.stop()  # so that nothing else is written meanwhile
    daemon.start()
    master, keys, others = (daemon.data / "thaw.key").read_bytes(), contents(key_files(daemon)), other_files(daemon)
    before = json.loads(daemon.thaw("key", "show", "--json").stdout)
    assert before["source"] == "file:thaw.key" and before["rotating"] is False, before
    after = json.loads(daemon.thaw("key", "rotate", "--json").stdout)
    assert after["rotating"] is False and after["damaged"] == 0, after
    assert after["files"] == after["done"] == len(keys) == 3, after  # two snapshots, one domain
    assert after["key_id"] != before["key_id"]
    assert (daemon.data / "thaw.key").read_bytes() != master
    assert all(path.read_bytes() != old for path, old in keys.items())
    assert other_files(daemon) == others
    for function, version, was in zip(functions, versions, born):
        assert first_thaw(function, version) == was
    version = functions[0].publish()  # in the old domain, with the new key
    born_later = functions[0].call(0, version)[1]
    assert "rotated" in daemon.thaw("key", "rotate").stdout
    daemon.stop()
    daemon.start()
    assert first_thaw(functions[1], versions[1]) == born[1]
    assert first_thaw(functions[0], version) == born_later
    assert not (daemon.data / "store/older-key").exists() and not (daemon.data / "thaw.key.next").exists()
    done = daemon.thaw("key", check=False)
    assert done.returncode == 2 and "rotate or show" in done.stderr


def test_a_rotation_that_was_cut_goes_on(new_daemon, make_function):
    """At one of its fault points; tests/chaos/test_fault_points.py tries all."""
    daemon = new_daemon(environment={"THAWD_FAULT": "rotate.begun"}).start()
    function = make_function(SOURCE, on=daemon, snap_start=True)
    version = function.publish()
    born = function.call(0, version)[1]
    assert daemon.thaw("key", "rotate", check=False).returncode == 1
    daemon.process.wait(harness.PATIENCE_S)
    daemon.process = None
    daemon.check_nothing_left()
    daemon.environment = {}
    daemon.start()
    assert first_thaw(function, version) == born
    harness.wait_until(lambda: not json.loads(daemon.thaw("key", "show", "--json").stdout)["rotating"], "the end of it")
    assert json.loads(daemon.thaw("key", "rotate", "--json").stdout)["done"] == 2
    assert first_thaw(function, version) == born


def test_a_key_from_the_environment(new_daemon, make_function):
    secret = base64.b64encode(FIRST).decode()
    daemon = new_daemon(arguments=["--master-key", "env:THAW_TEST_KEY"], environment={"THAW_TEST_KEY": secret}).start()
    function = make_function("import os\ndef handler(event, context): return 'THAW_TEST_KEY' in os.environ", on=daemon,
                             snap_start=True)
    version = function.publish()
    assert function.call(0, version) is False
    for pid in [daemon.process.pid, *harness.descendants(daemon.process.pid)]:
        try:
            environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue  # it has ended, or is nobody's
        assert secret.encode() not in environment, harness.command_line(pid)
    assert not (daemon.data / "thaw.key").exists()
    done = daemon.thaw("key", "rotate", check=False)
    assert done.returncode == 1 and "--old-master-key" in done.stderr, done.stderr
    daemon.stop()
    # Without it, with a wrong one, with none: said at the start, and nothing is touched.
    files = contents(key_files(daemon))
    for environment, says in [({}, "THAW_TEST_KEY, which is to hold the master key, is not set"),
                              ({"THAW_TEST_KEY": "short"}, "holds no master key"),
                              ({"THAW_TEST_KEY": SECOND.hex()}, "wrapped by another master key")]:
        daemon.environment = environment
        log = run_to_its_end(daemon)
        assert says in log, log
    assert contents(key_files(daemon)) == files
    # Another source takes over: all is wrapped anew at the start.
    script = daemon.data / "print-key"
    script.write_text(f"#!/bin/sh\necho {SECOND.hex()}\n")
    script.chmod(0o700)
    daemon.environment = {"THAW_TEST_KEY": FIRST.hex()}
    runtimes = daemon.arguments[2:]
    daemon.arguments = ["--master-key", f"command:{script}", "--old-master-key", "env:THAW_TEST_KEY", *runtimes]
    daemon.start()
    assert function.call(0, version) is False
    harness.wait_until(lambda: not json.loads(daemon.thaw("key", "show", "--json").stdout)["rotating"], "the rotation")
    daemon.stop()
    daemon.environment = {}
    daemon.arguments = ["--master-key", f"command:{script}", *runtimes]
    daemon.start()
    assert function.call(0, version) is False
    # A command that prints another key when it is asked again.
    done = daemon.thaw("key", "rotate", check=False)
    assert done.returncode == 1 and "is the one in use" in done.stderr, done.stderr
    script.write_text(f"#!/bin/sh\necho {FIRST.hex()}\n")
    assert json.loads(daemon.thaw("key", "rotate", "--json").stdout)["source"] == f"command:{script}"
    function.evict(version, templates=True)
    assert function.call(0, version) is False
    script.write_text("#!/bin/sh\necho broken >&2; exit 7\n")
    done = daemon.thaw("key", "rotate", check=False)
    assert done.returncode == 1 and "ended with status 7" in done.stderr, done.stderr
    daemon.stop()
    assert "ended with status 7" in run_to_its_end(daemon)


def test_wrong_sources_are_told(new_daemon):
    for source, says in [("nonsense", "file:PATH, env:NAME or command:PROGRAM"), ("command:echo x", "absolute path"),
                         ("command:/nonexistent/x", "cannot run /nonexistent/x")]:
        daemon = new_daemon(arguments=["--master-key", source])
        assert says in run_to_its_end(daemon)
    elsewhere = new_daemon().data / "elsewhere.key"
    elsewhere.write_bytes(FIRST)
    elsewhere.chmod(0o644)
    daemon = new_daemon(arguments=["--master-key", f"file:{elsewhere}"])
    assert "nobody else may read it" in run_to_its_end(daemon)
    elsewhere.chmod(0o600)
    daemon.start()
    assert not (daemon.data / "thaw.key").exists()


def test_a_deleted_key_ends_the_snapshot_at_once(new_daemon, make_function):
    """Whatever of it was kept: without the key nothing of the snapshot can be read, and the key is overwritten."""
    daemon = new_daemon().start()
    function = make_function(SOURCE, on=daemon, snap_start=True)
    version = function.publish()
    born = function.call(0, version)[1]
    (folder,) = (daemon.data / "store/snapshots").iterdir()
    kept = daemon.data / "kept"
    shutil.copytree(folder, kept)
    with open(folder / "key", "rb") as key:
        assert any(key.read())
        function.client.delete_function(FunctionName=function.name, Qualifier=version)
        harness.wait_until(lambda: not folder.exists(), "the snapshot to go")
        key.seek(0)
        assert not any(key.read())
    # Put back without its key, it belongs to nobody; with an empty one it is unreadable.
    (kept / "key").write_bytes(bytes(92))
    shutil.copytree(kept, folder)
    done = daemon.thaw("store", "verify", "--json", check=False)
    assert done.returncode == 1, done.stdout
    reasons = [line["damaged"]["reason"] for line in json.loads(done.stdout)["damaged"]]
    assert any("not a wrapped key" in reason for reason in reasons), reasons
    (folder / "key").unlink()
    daemon.stop()
    daemon.start()
    assert not folder.exists()
    again = function.publish()
    assert function.call(0, again)[1] != born


def test_trust_domains_share_no_chunk(new_daemon, make_function):
    daemon = new_daemon().start()
    chunks = []

    def publish(**more):
        before = set(harness.files_below(daemon.data / "store/chunks"))
        function = make_function(SOURCE, on=daemon, snap_start=True, **more)
        version = function.publish()
        assert function.call(1, version)[0] == 1
        chunks.append(set(harness.files_below(daemon.data / "store/chunks")) - before)
        stats = json.loads(daemon.thaw("store", "stats", "--json").stdout)
        return next(line for line in stats["snapshots"] if line["function"] == function.name)

    publish()
    same = publish(Tags={"thaw:trust-domain": "default"})
    assert same["shared_bytes"] > 0, same
    other = publish(Tags={"thaw:trust-domain": "team-7"})
    assert other["shared_bytes"] == 0 and len(chunks[2]) == other["chunks"], other
    # Chunks within one snapshot that are the same are one file, so at most as many as it has chunks.
    assert sorted(p.name for p in (daemon.data / "store/domains").iterdir()) == ["default", "team-7"]
    again = publish(Tags={"thaw:trust-domain": "team-7"})
    assert again["shared_bytes"] > 0, again
    # What is no name fails the publish, in words.
    function = make_function(SOURCE, on=daemon, snap_start=True, Tags={"thaw:trust-domain": "../default"})
    assert "thaw:trust-domain does not name a trust domain" in function.fail_to_publish()


def test_a_rotation_reaches_the_origin(new_daemon, make_function, s3_server):
    daemon = new_daemon(arguments=["--origin", f"s3://{s3.BUCKET}/rotated", "--s3-endpoint", s3_server.endpoint],
                        environment={"AWS_ACCESS_KEY_ID": s3.KEY, "AWS_SECRET_ACCESS_KEY": s3.SECRET}).start()
    function = make_function(SOURCE, on=daemon, snap_start=True)
    version = function.publish()
    born = function.call(0, version)[1]

    def objects():
        return {key: s3_server.get(key) for key in s3_server.keys("rotated/")
                if key.endswith("/key") or "/domains/" in key}

    before = objects()
    assert len(before) == 2, before
    assert json.loads(daemon.thaw("key", "rotate", "--json").stdout)["done"] == 2
    after = objects()
    assert before.keys() == after.keys() and all(after[key] != before[key] for key in before)
    # Nothing but the new master key is left here: all comes from the origin.
    daemon.stop()
    shutil.rmtree(daemon.data / "store")
    daemon.start()
    assert function.call(0, version)[1] == born
    assert function.publish()


def test_another_machine_has_rotated(new_daemon, make_function, s3_server, tmp_path):
    """What one does not know of says what to do; nothing is made anew or removed meanwhile."""
    def machine(data=None, arguments=()):
        return new_daemon(data=data, arguments=["--origin", f"s3://{s3.BUCKET}/two", "--s3-endpoint", s3_server.endpoint, *arguments],
                          environment={"AWS_ACCESS_KEY_ID": s3.KEY, "AWS_SECRET_ACCESS_KEY": s3.SECRET, "THAWD_ORIGIN_GRACE_S": "0"})

    first = machine().start()
    functions = [make_function(SOURCE, on=first, snap_start=True) for _ in range(2)]
    versions = [function.publish() for function in functions]
    born = [function.call(0, version)[1] for function, version in zip(functions, versions)]
    copy = tmp_path / "copy"
    shutil.copytree(first.data, copy, ignore=shutil.ignore_patterns("store", "lock"))
    second = machine(copy).start()
    here, there = (harness.Function(second, second.client(), function.name) for function in functions)
    assert here.call(0, versions[0])[1] == born[0]
    first.thaw("key", "rotate")
    new, old = (json.loads(daemon.thaw("key", "show", "--json").stdout)["key_id"][:8] for daemon in (first, second))
    words = f"another master key ({new}) than ours ({old})"

    def objects():
        return {key for key in s3_server.keys("two/") if not key.endswith("/hot") and "/collections/" not in key}

    before = objects()
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        there.call(0, versions[1])
    assert words in str(refused.value) and "--old-master-key" in str(refused.value), refused.value
    here.client.update_function_configuration(FunctionName=here.name, Description="another")
    here.client.get_waiter("function_updated_v2").wait(FunctionName=here.name)
    assert words in here.fail_to_publish()
    for command in ("store", "gc"), ("key", "rotate"):
        done = second.thaw(*command, check=False)
        assert done.returncode != 0 and words in done.stderr, done
    assert first_thaw(here, versions[0]) == born[0]  # what it has, it has
    assert objects() == before

    second.stop()
    shutil.copy(first.data / "thaw.key", tmp_path / "new.key")
    second.arguments += ["--master-key", f"file:{tmp_path}/new.key", "--old-master-key", "file:thaw.key"]
    second.start()
    here, there = (harness.Function(second, second.client(), function.name) for function in functions)
    assert first_thaw(here, versions[0]) == born[0] and there.call(0, versions[1])[1] == born[1]
    assert here.call(0, here.publish())
    for daemon in second, first:
        daemon.thaw("store", "gc")
    assert before - objects() == set()
