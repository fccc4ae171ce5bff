"""thaw deploy: from a folder, a zip or a file to a frozen version."""

import json
import os
import pty
import subprocess
import zipfile

import pytest

import harness

PYTHON = """
import os
calls = 0
def handler(event, context):
    global calls
    calls += 1
    return {"event": event, "calls": calls, "stage": os.environ.get("STAGE"), "memory": context.memory_limit_in_mb}
"""


@pytest.fixture
def deploy(server, request):
    """deploy(path, ...) runs the command for a function with a name of its own, which is deleted afterwards."""
    name = "deploy-" + request.node.name[5:45].split("[")[0].replace("_", "-") + str(abs(hash(request.node.name)) % 1000)

    def run(path, *arguments, check=True):
        done = server.thaw("deploy", path, name, *arguments, check=check)
        return done

    run.name = name
    run.function = harness.Function(server, server.client(), name)
    yield run
    server.request("DELETE", f"/2015-03-31/functions/{name}")


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(0o755 if name == "bootstrap" else 0o644)
    return folder


def test_again_and_again(deploy, server, tmp_path):
    write(tmp_path, {"app.py": PYTHON, "event.json": '"sample"', ".git/config": "left out"})
    done = deploy(tmp_path, "--env", "STAGE=one", "--memory", "256")
    assert f"guessed from app.py: --runtime {harness.PYTHON} --handler app.handler\n" in done.stderr
    assert f"{deploy.name}:1 is frozen: {harness.PYTHON}, handler app.handler; 2 files" in done.stdout
    assert f"thaw invoke {deploy.name}:1 --payload @{tmp_path}/event.json" in done.stdout
    assert deploy.function.call(1, "1") == {"event": 1, "calls": 1, "stage": "one", "memory": "256"}
    again = deploy(tmp_path)
    assert "guessed" not in again.stderr and f"{deploy.name}:1 is frozen" in again.stdout, "nothing changed"
    write(tmp_path, {"app.py": PYTHON + "# changed\n"})
    third = json.loads(deploy(tmp_path, "--env", "OTHER=x", "--timeout", "7", "--json").stdout)
    assert third["version"] == "2" and third["frozen"] and not third["created"] and not third["primed"]
    now = server.client().get_function_configuration(FunctionName=deploy.name, Qualifier="2")
    assert now["Environment"]["Variables"] == {"STAGE": "one", "OTHER": "x"}
    assert (now["MemorySize"], now["Timeout"]) == (256, 7)
    plain = json.loads(deploy(tmp_path, "--no-snapstart", "--json").stdout)
    assert plain["version"] == "3" and not plain["frozen"]
    assert deploy.function.call(2, "3")["calls"] == 1


def test_priming(deploy, tmp_path):
    write(tmp_path, {"code/app.py": PYTHON, "samples.json": "[1, 2, 3]"})
    first = json.loads(deploy(tmp_path / "code", "--prime", tmp_path / "samples.json", "--json").stdout)
    assert first["primed"] and deploy.function.call("x", "1")["calls"] == 4
    second = json.loads(deploy(tmp_path / "code", "--json").stdout)
    assert not second["primed"] and deploy.function.call("x", second["version"])["calls"] == 1
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        archive.writestr("app.py", PYTHON)
    third = json.loads(deploy(tmp_path / "f.zip", "--prime", tmp_path / "samples.json", "--json").stdout)
    assert third["primed"] and deploy.function.call("x", third["version"])["calls"] == 4


@pytest.mark.parametrize("files, path, runtime, handler", [
    ({"lambda_function.py": "lambda_handler = lambda event, context: event\n"}, "", "python", "lambda_function.lambda_handler"),
    ({"shop.py": "def handler(event, context):\n    return event\n"}, "shop.py", "python", "shop.handler"),
    ({"index.mjs": "export const handler = async (event) => event;\n", "other.js": ""}, "", "nodejs", "index.handler"),
    ({"pets.js": "exports.handler = async (event) => event;\n"}, "", "nodejs", "pets.handler"),
    ({"app.rb": "def handler(event:, context:)\n  event\nend\n"}, "", "ruby", "app.handler"),
    ({"bootstrap": harness.ECHO_BOOTSTRAP}, "", "provided.al2023", "bootstrap"),
])
def test_guesses(deploy, tmp_path, files, path, runtime, handler):
    write(tmp_path, files)
    done = json.loads(deploy(tmp_path / path, "--json").stdout)
    assert done["runtime"].startswith(runtime) and done["handler"] == handler and done["frozen"]
    assert deploy.function.call({"a": [1]}, done["version"]) == {"a": [1]}


JAVA = {
    **{f"com/amazonaws/services/lambda/runtime/{name}.java":
       f"package com.amazonaws.services.lambda.runtime;\npublic interface {name} {{}}\n"
       for name in ["Context", "LambdaLogger", "ClientContext", "Client", "CognitoIdentity"]},
    "com/amazonaws/services/lambda/runtime/RequestHandler.java":
        "package com.amazonaws.services.lambda.runtime;\n"
        "public interface RequestHandler<I, O> { O handleRequest(I input, Context context); }\n",
    "shop/Pets.java":
        "package shop;\nimport com.amazonaws.services.lambda.runtime.*;\n"
        "public class Pets implements RequestHandler<String, String> {\n"
        '    public String handleRequest(String input, Context context) { return "pet " + input; }\n}\n',
}


def test_java(deploy, tmp_path):
    """A Maven project as it is after its build, and the same as a jar."""
    write(tmp_path / "src", JAVA)
    write(tmp_path, {"pom.xml": "<project/>"})
    unbuilt = deploy(tmp_path, check=False)
    assert unbuilt.returncode == 1 and "has not been built: run 'mvn package" in unbuilt.stderr
    compiler = next(path for path in sorted(map(str, harness.pathlib.Path("/usr/lib/jvm").glob("*/bin/javac"))))
    subprocess.run([compiler, "--release", "11", "-Xlint:-options", "-d", tmp_path / "target/classes",
                    *(tmp_path / "src").rglob("*.java")], check=True)
    done = json.loads(deploy(tmp_path, "--json").stdout)
    assert done["handler"] == "shop.Pets" and done["runtime"].startswith("java") and done["created"]
    assert deploy.function.call("Rex", "1") == "pet Rex"
    with zipfile.ZipFile(tmp_path / "pets.jar", "w") as jar:
        for path in sorted((tmp_path / "target/classes").rglob("*.class")):
            jar.write(path, path.relative_to(tmp_path / "target/classes"))
    again = json.loads(deploy(tmp_path / "pets.jar", "--json").stdout)
    assert again["version"] == "2" and deploy.function.call("Tom", "2") == "pet Tom"
    (tmp_path / "target/classes/shop/More.class").write_bytes((tmp_path / "target/classes/shop/Pets.class").read_bytes())
    two = deploy(tmp_path, "--runtime", done["runtime"], check=False)
    assert two.returncode == 0, "of a function that exists nothing is guessed"


def test_what_arrives(deploy, tmp_path):
    """Modes, links, empty files, folders in folders, names of any kind."""
    write(tmp_path, {"app.py": "import os, stat\ndef handler(event, context):\n"
                               "    return {os.path.relpath(os.path.join(p, n), '/var/task'):\n"
                               "            [os.readlink(os.path.join(p, n)) if os.path.islink(os.path.join(p, n)) else\n"
                               "             os.stat(os.path.join(p, n)).st_size, os.access(os.path.join(p, n), os.X_OK)]\n"
                               "            for p, _, names in os.walk('/var/task') for n in names}\n",
                     "a/b/c/empty": "", "größe ä.txt": "x" * 5, "bin/tool": "#!/bin/sh\n", "big": os.urandom(300000)})
    (tmp_path / "bin/tool").chmod(0o755)
    (tmp_path / "link").symlink_to("bin/tool")
    version = json.loads(deploy(tmp_path, "--json").stdout)["version"]
    seen = deploy.function.call(None, version)
    assert seen.pop("app.py")[0] > 100
    assert seen == {"a/b/c/empty": [0, False], "größe ä.txt": [5, False], "bin/tool": [10, True], "big": [300000, False],
                    "link": ["bin/tool", True]}


@pytest.mark.parametrize("files, arguments, code, says", [
    ({"readme": "x"}, [], 1, "name it with --runtime and --handler"),
    ({}, [], 1, "there is nothing to deploy"),
    ({"go.mod": "module x"}, [], 1, "go build -o bootstrap"),
    ({"app.py": "x = 1\n"}, [], 1, "no handler is to be seen in app.py: name it with --handler app.FUNCTION"),
    ({"Shop.runtimeconfig.json": "{}", "Shop.dll": "MZ"}, [], 1, "--handler Shop::NAMESPACE.TYPE::METHOD"),
    ({"app.py": PYTHON}, ["--runtime", "python3.9"], 1, "does not offer python3.9: install python3.9"),
    ({"app.py": PYTHON}, ["--runtime", "cobol85"], 1, "there is no runtime cobol85"),
    ({"app.py": "raise KeyError('nothing')\ndef handler(e, c): pass\n"}, [], 1, "is Failed: KeyError: 'nothing'"),
    ({"app.py": PYTHON}, ["--env", "nonsense"], 1, "--env takes NAME=VALUE"),
    ({"app.py": PYTHON, "p": "{"}, ["--prime", "p"], 1, "is not JSON"),
    ({"app.py": PYTHON}, ["--prime", "none"], 1, "No such file"),
    ({"app.py": PYTHON}, ["--memory", "1"], 2, "--memory takes a number from 128"),
    ({"app.py": PYTHON}, ["--nonsense"], 2, "usage: thaw deploy"),
    ({"app.py": PYTHON}, ["a", "b"], 2, "name a folder or a zip"),
    ({"index.js": "exports.handler = async () => require('x');", "package.json": '{"dependencies": {"x": "1"}}'},
     ["--no-snapstart"], 0, "npm install --omit=dev"),
])
def test_wrong(deploy, tmp_path, files, arguments, code, says):
    write(tmp_path, files)
    arguments = [tmp_path / a if (tmp_path / a).exists() else a for a in arguments]
    done = deploy(tmp_path, *arguments, check=False)
    assert done.returncode == code and says in done.stderr, (done.returncode, done.stderr)


def test_a_bootstrap_that_cannot_be_run(deploy, tmp_path):
    write(tmp_path, {"bootstrap": harness.ECHO_BOOTSTRAP})
    (tmp_path / "bootstrap").chmod(0o644)
    done = deploy(tmp_path, check=False)
    assert done.returncode == 1 and "chmod +x bootstrap" in done.stderr


def test_too_large(deploy, tmp_path):
    write(tmp_path, {"app.py": PYTHON})
    with open(tmp_path / "data", "wb") as file:
        file.truncate(263 << 20)
    done = deploy(tmp_path, check=False)
    assert done.returncode == 1 and "too large: data alone has more than 250 MB" in done.stderr


def test_no_server(server, tmp_path):
    write(tmp_path, {"app.py": PYTHON})
    done = server.thaw("deploy", tmp_path, "--endpoint", "http://127.0.0.1:1", check=False)
    assert done.returncode == 1 and "no server answers at http://127.0.0.1:1" in done.stderr


def test_progress_on_a_terminal(deploy, server, tmp_path):
    write(tmp_path, {"app.py": "import time; time.sleep(0.3)\n" + PYTHON})
    ours, theirs = pty.openpty()
    process = subprocess.Popen([harness.THAW, "deploy", tmp_path, deploy.name], stdout=subprocess.PIPE, stderr=theirs,
                               env=dict(os.environ, THAW_ENDPOINT=server.endpoint))
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    out = process.stdout.read().decode()
    assert process.wait() == 0
    assert f"initialising and freezing {deploy.name}:1... 0.".encode() in seen and b"\r\033[K" in seen
    assert f"{deploy.name}:1 is frozen" in out and "\033" not in out
