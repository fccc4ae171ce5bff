"""The thaw command against a real server."""

import json
import subprocess

import pytest

import harness


@pytest.fixture(scope="module")
def pets(server):
    client = server.client()
    client.create_function(FunctionName="cmd-pets", Runtime=harness.PYTHON, Handler="app.handler", Role=harness.ROLE,
                           SnapStart={"ApplyOn": "PublishedVersions"}, Code={"ZipFile": harness.python_zip("""
def handler(event, context):
    if event == "fail":
        raise ValueError("no such pet")
    print("looking for", event)
    return {"pet": event}
""")})
    function = harness.Function(server, client, "cmd-pets")
    function.publish()
    yield function
    client.delete_function(FunctionName="cmd-pets")


def test_doctor(server):
    done = server.thaw("doctor")
    assert "can run on this machine" in done.stdout
    report = json.loads(server.thaw("doctor", "--json").stdout)
    assert report["usable"] and len(report["results"]) > 5


def test_runtimes(server):
    text = server.thaw("runtimes").stdout
    rows = {line.split()[0]: line for line in text.splitlines() if line}
    assert " yes " in rows[harness.PYTHON] and f"/usr/bin/{harness.PYTHON}" in rows[harness.PYTHON]
    assert " yes " in rows["provided.al2023"] and "no" in rows["python3.9"].split() and "deadsnakes" in rows["python3.9"]
    listed = {r["runtime"]: r for r in json.loads(server.thaw("runtimes", "--json").stdout)}
    version = subprocess.run(["/usr/bin/" + harness.PYTHON, "-c", "import platform; print(platform.python_version())"],
                             capture_output=True, text=True, check=True).stdout.strip()
    assert listed[harness.PYTHON] == {"runtime": harness.PYTHON, "offered": True, "version": version, "install": None,
                                      "program": f"/usr/bin/{harness.PYTHON}", "hooks": "snapshot_restore_py"}
    assert all(r["install"] for r in listed.values() if not r["offered"])
    for family in ["nodejs", "java", "ruby", "dotnet"]:  # what ./run test installs
        offered = [r for r in listed.values() if r["offered"] and r["runtime"].startswith(family)]
        assert offered and all(r["version"].startswith(r["runtime"][len(family):].removesuffix(".x")) for r in offered)
    assert server.thaw("runtimes", harness.PYTHON).returncode == 0
    assert server.thaw("runtimes", "python3.9", check=False).returncode == 1
    nothing = server.thaw("runtimes", "cobol85", check=False)
    assert nothing.returncode == 1 and "there is no runtime cobol85" in nothing.stderr


def test_functions(pets, server):
    text = server.thaw("functions").stdout
    lines = [line.split() for line in text.splitlines() if line.startswith("cmd-pets")]
    assert [line[1:3] for line in lines] == [["$LATEST", "Active"], ["1", "Active"]]
    assert "frozen" in lines[1]
    listed = json.loads(server.thaw("functions", "cmd-pets", "--json").stdout)
    assert [v["Version"] for v in listed] == ["$LATEST", "1"]
    assert "\033" not in text


def test_invoke(pets, server, tmp_path):
    assert json.loads(server.thaw("invoke", "cmd-pets:1", "--payload", '"Rex"').stdout) == {"pet": "Rex"}
    (tmp_path / "event.json").write_text('"Tom"')
    done = server.thaw("invoke", "cmd-pets", "--payload", f"@{tmp_path}/event.json", "--tail")
    assert json.loads(done.stdout) == {"pet": "Tom"}
    assert "looking for Tom" in done.stderr and "REPORT RequestId" in done.stderr
    assert json.loads(server.thaw("invoke", "cmd-pets", "-p", "@-", input='"Ada"').stdout) == {"pet": "Ada"}
    whole = json.loads(server.thaw("invoke", "cmd-pets:1", "--json", "-p", '"Rex"').stdout)
    assert whole["payload"] == {"pet": "Rex"} and whole["executed_version"] == "1" and whole["trace"]
    failed = server.thaw("invoke", "cmd-pets:1", "--payload", '"fail"', check=False)
    assert failed.returncode == 3 and "no such pet" in failed.stdout


def test_evict_makes_the_next_call_a_thaw(pets, server):
    server.thaw("invoke", "cmd-pets:1")
    assert "evicted 1 environments" in server.thaw("evict", "cmd-pets:1").stdout
    assert "evicted 0 environments" in server.thaw("evict", "cmd-pets:1").stdout
    assert "RESTORE_START" in server.thaw("invoke", "cmd-pets:1", "--tail").stderr
    counts = json.loads(server.thaw("evict", "cmd-pets", "--templates", "--json").stdout)
    assert counts["environments"] >= 1 and counts["templates"] == 1


def test_inspect(pets, server):
    text = server.thaw("inspect", "cmd-pets:1").stdout
    for word in ["thread", "mapping", "descriptor"]:
        assert word in text.lower()
    plan = server.thaw("inspect", "cmd-pets:1", "--plan").stdout
    assert "mmap(" in plan and len(plan) > len(text)
    assert json.loads(server.thaw("inspect", "cmd-pets:1", "--json").stdout)
    missing = server.thaw("inspect", "cmd-pets:99", check=False)
    assert missing.returncode == 1 and missing.stderr.startswith("thaw: ")


def test_bench(pets, server):
    done = server.thaw("bench", "cmd-pets:1", "-n", "5", "-c", "4")
    for row in ["cold start", "first thaw", "thaw", "warm invocation", "4 thaws at once", "times as fast"]:
        assert row in done.stdout, done.stdout
    figures = json.loads(server.thaw("bench", "cmd-pets:1", "-n", "3", "--json").stdout)
    assert figures["thaw"]["total_us"]["runs"] == 3
    assert figures["thaw"]["total_us"]["min"] <= figures["thaw"]["total_us"]["median"] <= \
        figures["thaw"]["total_us"]["max"]
    assert figures["thaw"]["started_otherwise"] == 0 and figures["thaw"]["phases_us"]
    assert figures["thaw"]["page_faults"]["median"] > 10 and "faults" not in figures["thaw"]["phases_us"]
    assert figures["cold_over_thaw"] > 1
    unfrozen = server.thaw("bench", "cmd-pets:$LATEST", check=False)
    assert unfrozen.returncode == 1 and "has no snapshot" in unfrozen.stderr


@pytest.mark.parametrize("arguments, code, says", [
    ([], 2, "usage: thaw"), (["no-such"], 2, "no command"), (["invoke"], 2, "name one function"),
    (["invoke", "a", "b"], 2, "name one function"), (["bench", "x"], 2, "x:1"), (["bench", "x:1", "-n", "0"], 2, "-n"),
    (["logs", "x", "--nonsense"], 2, "usage: thaw logs"), (["invoke", "x", "-p", "{"], 1, "not JSON"),
    (["invoke", "x", "-p", "@/no/such/file"], 1, "/no/such/file"), (["invoke", "no-such"], 1, "Function not found"),
    (["evict", "x:"], 2, "NAME:VERSION"), (["--endpoint"], 2, "--endpoint"),
])
def test_wrong_usage(server, arguments, code, says):
    done = server.thaw(*arguments, check=False)
    assert done.returncode == code and says in done.stderr, (done.returncode, done.stderr)


def test_help(server):
    assert "commands:" in server.thaw("--help").stdout
    for command in ["doctor", "functions", "invoke", "logs", "evict", "inspect", "bench", "runtimes", "deploy"]:
        text = server.thaw(command, "--help").stdout
        assert text.startswith(f"usage: thaw {command}") and "example" in text
    assert server.thaw("--version").stdout.startswith("thaw ")


def test_no_server(server):
    done = server.thaw("functions", "--endpoint", "http://127.0.0.1:1", check=False)
    assert done.returncode == 1
    assert "no server answers at http://127.0.0.1:1" in done.stderr and "sudo thawd" in done.stderr
