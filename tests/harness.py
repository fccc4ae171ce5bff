"""A thawd of one's own for a test: started on a free port with a new data directory, stopped with SIGTERM, and
checked to have left nothing behind: no process, no mount, no cgroup."""

import base64
import contextlib
import ctypes
import io
import json
import os
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import zipfile

import boto3
import botocore.config

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("THAW_BUILD", ROOT / "build"))
THAWD = BUILD / "thawd"
THAW = BUILD / "thaw"
ROLE = "arn:aws:iam::000000000000:role/any"
PATIENCE_S = 60  # how long anything may take before a test gives up on it

PR_SET_CHILD_SUBREAPER = 36


def host_python():
    """The runtime that this machine's own interpreter is: python3.11 on Debian 12, python3.12 on Ubuntu 24.04."""
    real = os.path.realpath("/usr/bin/python3")
    return os.path.basename(real)


PYTHON = host_python()

# A whole function for the provided runtimes, which answers what it gets.
ECHO_BOOTSTRAP = f"""#!/usr/bin/{PYTHON}
import http.client, os
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    reply = api.getresponse()
    body, id = reply.read(), reply.headers["Lambda-Runtime-Aws-Request-Id"]
    api.request("POST", f"/2018-06-01/runtime/invocation/{{id}}/response", body)
    api.getresponse().read()
"""


def become_subreaper():
    """Whatever a daemon orphans becomes our child, so that nothing can hide."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


def wait_until(condition, what, patience_s=PATIENCE_S):
    """Poll until the condition gives something true, and return that."""
    deadline = time.monotonic() + patience_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {patience_s} s in vain: {what}"
        time.sleep(0.02)


def parents():
    """{pid: (parent, state)} of every process."""
    table = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                text = pathlib.Path("/proc", entry, "stat").read_text(errors="replace")
                fields = text.rpartition(")")[2].split()
                table[int(entry)] = (int(fields[1]), fields[0])
    return table


def descendants(pid):
    table = parents()
    found, front = [], [pid]
    while front:
        front = [child for child, (parent, _) in table.items() if parent in front]
        found += front
    return found


def command_line(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return "?"


def cgroup_folders():
    """Every cgroup folder of thaw's, in whatever hierarchy."""
    return {
        path
        for path, folders, _ in os.walk("/sys/fs/cgroup")
        if "thaw" in os.path.basename(path)
    }


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def where_they_hang(pid):
    """A line for each process below `pid`: its state, what its threads wait for in the kernel, and in which call."""
    lines = []
    for process in [pid, *descendants(pid)]:
        for task in pathlib.Path(f"/proc/{process}/task").glob("*"):
            told = []
            for name in ("comm", "wchan", "syscall", "stack"):
                with contextlib.suppress(OSError):
                    told.append(task.joinpath(name).read_text(errors="replace").strip().replace("\n", " < "))
            state = parents().get(int(task.name), (0, "?"))
            lines.append(f"{process}/{task.name} (parent {state[0]}, {state[1]}): {' | '.join(told)}")
    return "\n".join(lines)


class Daemon:
    """One running thawd."""

    def __init__(self, data=None, arguments=(), log=None, environment=None):
        self.own_data = data is None
        self.data = pathlib.Path(data or tempfile.mkdtemp(prefix="thaw-test-"))
        os.chmod(self.data, 0o755)
        self.arguments = [str(a) for a in arguments]
        if BUILD.parent != ROOT:  # else thawd finds them beside itself
            self.arguments += ["--runtimes", str(ROOT / "runtimes")]
        self.log_path = pathlib.Path(log or tempfile.mkstemp(prefix="thawd-", suffix=".log")[1])
        self.process = None
        self.port = free_port()
        self.environment = dict(environment or {})  # beside the test's own

    # Life

    def start(self, wait=True):
        assert self.process is None
        self.cgroups_before = cgroup_folders()
        log = open(self.log_path, "ab")
        self.process = subprocess.Popen(
            [THAWD, "--listen", f"127.0.0.1:{self.port}", "--data", self.data, *self.arguments],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, **self.environment})
        log.close()
        if wait:
            wait_until(self.answers, f"thawd to answer; its log: {self.log()}")
        return self

    def answers(self):
        assert self.process.poll() is None, f"thawd ended with {self.process.returncode}: {self.log()}"
        try:
            return self.get("/thaw/v1/status")
        except (OSError, urllib.error.URLError):
            return None

    def log(self):
        return self.log_path.read_text(errors="replace")

    def stop(self, expect=0):
        """SIGTERM, a clean end, nothing left."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            hanging = where_they_hang(self.process.pid)
            self.kill()
            raise AssertionError(
                f"thawd does not end after SIGTERM: {self.log()[-4000:]}\nwhere it hangs:\n{hanging}") from None
        self.process = None
        assert code == expect, f"thawd ended with {code}: {self.log()[-4000:]}"
        self.check_nothing_left()

    def kill(self):
        """The end of the road for a daemon that a test has given up on."""
        if self.process is not None:
            for pid in [self.process.pid, *descendants(self.process.pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def roles(self):
        """{"warden": pid, "front": pid}"""
        warden = self.process.pid
        table = parents()
        children = [pid for pid, (parent, _) in table.items() if parent == warden]
        fronts = [pid for pid in children if "--role=front" in command_line(pid)]
        assert len(fronts) == 1, f"no front among {[(p, command_line(p)) for p in children]}"
        return {"warden": warden, "front": fronts[0]}

    def left_behind(self):
        """What outlived this daemon: (processes, mounts, cgroups)."""
        others = {pid for process in [*BESIDE, *(d.process for d in RUNNING if d.process)]
                  for pid in [process.pid, *descendants(process.pid)]}
        table = parents()
        alive = []
        for pid in descendants(os.getpid()):
            if pid in others or pid not in table:
                continue
            parent, state = table[pid]
            if state != "Z":
                alive.append((pid, command_line(pid)))
            elif parent == os.getpid():
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
        mounts = [line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
                  if str(self.data) in line]
        groups = sorted(path for path in cgroup_folders() - self.cgroups_before if not foreign_cgroup(path))
        return alive, mounts, groups

    def check_nothing_left(self):
        left = None

        def nothing():
            nonlocal left
            left = self.left_behind()
            return not any(left)

        try:
            wait_until(nothing, "nothing to be left")
        except AssertionError:
            raise AssertionError(f"left behind: processes {left[0]}, mounts {left[1]}, cgroups {left[2]}") from None

    # Requests

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def request(self, method, path, body=None, headers=None, timeout=PATIENCE_S):
        """(status, headers, body) of a plain HTTP request; an error status is an answer, too."""
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        request = urllib.request.Request(self.endpoint + path, data=body, method=method, headers=headers or {})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=timeout) as reply:
                return reply.status, reply.headers, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def get(self, path):
        status, _, body = self.request("GET", path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def client(self, **config):
        settings = dict(retries={"total_max_attempts": 1}, read_timeout=300, max_pool_connections=100,
                        parameter_validation=False)
        settings.update(config)
        return boto3.client("lambda", endpoint_url=self.endpoint, region_name="us-east-1",
                            aws_access_key_id="test", aws_secret_access_key="test",
                            config=botocore.config.Config(**settings))

    def aws(self, *arguments, program="aws", check=True, cwd=None):
        """A run of the real AWS CLI; returns its JSON, or its text when it printed none."""
        command = [program, "--endpoint-url", self.endpoint, *[str(a) for a in arguments]]
        environment = dict(os.environ, AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test",
                           AWS_DEFAULT_REGION="us-east-1", AWS_PAGER="", AWS_EC2_METADATA_DISABLED="true")
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, timeout=PATIENCE_S * 4)
        if check:
            assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}{done.stdout}"
        else:
            return done
        with contextlib.suppress(ValueError):
            return json.loads(done.stdout)
        return done.stdout

    def thaw(self, *arguments, check=True, environment=None, input=None):
        """A run of the thaw command."""
        done = subprocess.run([THAW, *[str(a) for a in arguments]], capture_output=True, text=True, input=input,
                              env=dict(os.environ, THAW_ENDPOINT=self.endpoint, **(environment or {})),
                              timeout=PATIENCE_S * 4)
        if check:
            assert done.returncode == 0, f"thaw {arguments}: {done.stderr}{done.stdout}"
        return done

    def environments(self):
        return self.get("/thaw/v1/environments")["environments"]

    def evict(self, name, version=None, templates=False):
        path = f"/thaw/v1/evict?function={name}"
        if version:
            path += f"&version={version.replace('$', '%24')}"
        if templates:
            path += "&templates=1"
        status, _, body = self.request("POST", path)
        assert status == 200, body
        return json.loads(body)


RUNNING = []
BESIDE = []  # processes (subprocess.Popen) of a test's own that may outlive a daemon


def make_daemon(**options):
    """A daemon that counts as one of ours until end_daemon."""
    daemon = Daemon(**options)
    RUNNING.append(daemon)
    return daemon


def end_daemon(daemon):
    """It must stop as it should, and leaves nothing either way."""
    RUNNING.remove(daemon)
    try:
        daemon.stop()
    finally:
        daemon.kill()
        if daemon.own_data:
            shutil.rmtree(daemon.data, ignore_errors=True)
        daemon.log_path.unlink(missing_ok=True)


def foreign_cgroup(path):
    """Another daemon on this machine (another test run, say) has cgroups of its own: those are no business of ours,
    as long as the pid in the name is alive and not our daemon's."""
    for part in path.split("/"):
        for piece in part.replace("_", "-").split("-"):
            if piece.isdigit() and os.path.exists(f"/proc/{piece}"):
                return True
    return False


# Functions

def files_below(folder):
    """Every file in a folder and those below it, sorted. Unlike glob it does not mind what vanishes while it looks."""
    return sorted(pathlib.Path(path) / name for path, _, names in os.walk(folder) for name in names)


def make_zip(files):
    """A zip of {name: text or bytes}; a bootstrap is executable."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | (0o755 if name == "bootstrap" else 0o644)) << 16
            archive.writestr(info, content)
    return out.getvalue()


def python_zip(source):
    return make_zip({"app.py": source})


class Function:
    """One function on a server, with short words for what tests do most."""

    def __init__(self, daemon, client, name):
        self.daemon, self.client, self.name = daemon, client, name

    def _publish(self):
        """Publish a version and wait until it is no longer Pending: its configuration."""
        version = self.client.publish_version(FunctionName=self.name)["Version"]

        def settled():
            answer = self.client.get_function_configuration(FunctionName=self.name, Qualifier=version)
            return answer if answer["State"] != "Pending" else None

        return wait_until(settled, f"{self.name}:{version} to be no longer Pending")

    def publish(self):
        """Publish a version, wait until it is usable, return its number."""
        answer = self._publish()
        assert answer["State"] == "Active", answer
        if answer["SnapStart"]["ApplyOn"] == "PublishedVersions":
            assert answer["SnapStart"]["OptimizationStatus"] == "On", answer
        return answer["Version"]

    def fail_to_publish(self):
        """Publish a version that must become Failed; return why."""
        answer = self._publish()
        assert answer["State"] == "Failed", answer
        return answer["StateReason"]

    def raw(self, event=None, version=None, **more):
        """The whole answer of Invoke, its payload read and its log decoded."""
        if version:
            more["Qualifier"] = version
        answer = self.client.invoke(FunctionName=self.name, Payload=json.dumps(event).encode(), **more)
        answer["Payload"] = answer["Payload"].read()
        if "LogResult" in answer:
            answer["Log"] = base64.b64decode(answer["LogResult"]).decode(errors="replace")
        return answer

    def call(self, event=None, version=None):
        """What the handler returned; it must not have failed."""
        answer = self.raw(event, version)
        assert "FunctionError" not in answer, answer["Payload"]
        return json.loads(answer["Payload"])

    def fail(self, event=None, version=None, **more):
        """The error that the function answered with; it must have failed."""
        answer = self.raw(event, version, **more)
        assert answer.get("FunctionError") == "Unhandled", answer
        return json.loads(answer["Payload"])

    def evict(self, version=None, templates=False):
        return self.daemon.evict(self.name, version, templates)
