"""A thawd of one's own for measurements, and what is asked of it: deployments, invocations over a connection that is open,
the server's own account of them, and what its store takes on disk."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import harness  # noqa: E402

FROZEN = re.compile(r"front: (\S+):(\d+) is frozen: (\d+) KiB of memory, (\d+) KiB more on disk, in (\d+) ms")


class Server(harness.Daemon):
    """A thawd whose data lies on a disk, where tmpfs would flatter it."""

    def __init__(self, folder, *arguments):
        data = pathlib.Path(folder, "data")
        data.mkdir(mode=0o755)
        super().__init__(data=str(data), arguments=arguments, log=str(pathlib.Path(folder, "log")))
        self.boto = None

    def start(self, wait=True):
        super().start(wait)
        self.boto = self.client()
        return self

    def end(self):
        try:
            self.stop()
        finally:
            self.kill()

    def create(self, name, files, runtime=harness.PYTHON, handler="app.handler", memory=1769, **more):
        self.boto.create_function(FunctionName=name, Runtime=runtime, Handler=handler, Role=harness.ROLE, MemorySize=memory,
                                  Timeout=30, Code={"ZipFile": harness.make_zip(files)},
                                  SnapStart={"ApplyOn": "PublishedVersions"}, **more)
        self.boto.get_waiter("function_active_v2").wait(FunctionName=name)
        return harness.Function(self, self.boto, name)

    def update(self, function, files):
        self.boto.update_function_code(FunctionName=function.name, ZipFile=harness.make_zip(files))

    def deploy(self, script, *arguments):
        """Runs an example's own deploy.sh."""
        environment = dict(os.environ, THAW_ENDPOINT=self.endpoint, THAW=str(harness.THAW))
        done = subprocess.run([ROOT / "examples" / script / "deploy.sh", *arguments], env=environment, capture_output=True,
                              text=True, stdin=subprocess.DEVNULL, check=False, timeout=300)
        if done.returncode != 0:
            raise RuntimeError(f"{script} cannot be deployed here: {(done.stderr or done.stdout).strip().splitlines()[-1]}")

    def frozen(self, name=None):
        """What the log says of every snapshot, in the order of their freezing: (function, version, bytes, stored, seconds)."""
        found = [(f, int(v), int(kib) << 10, int(stored) << 10, int(ms) / 1000)
                 for f, v, kib, stored, ms in FROZEN.findall(self.log())]
        return [entry for entry in found if name in (None, entry[0])]

    def chunk_files(self):
        return set(harness.files_below(self.data / "store/chunks"))

    def disk_bytes(self):
        """What the store's files take, in the file system's blocks."""
        return sum(os.lstat(os.path.join(path, name)).st_blocks * 512
                   for path, _, names in os.walk(self.data / "store") for name in names)

    def pager_bytes(self):
        """What the pagers that live have read so far."""
        total = 0
        for pid in harness.descendants(self.process.pid):
            with contextlib.suppress(OSError, ValueError):
                if re.search(r"^Uid:\t65534\t", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M):  # only they are nobody
                    total += int(re.search(r"rchar: (\d+)", pathlib.Path(f"/proc/{pid}/io").read_text())[1])
        return total


class Caller:
    """A connection that is kept. invoke() returns the server's account of the invocation, with our own milliseconds in it as
    "ms"; a call that fails raises."""

    def __init__(self, server):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=harness.PATIENCE_S)

    def invoke(self, name, version, payload=b"{}"):
        began = time.perf_counter()
        self.connection.request("POST", f"/2015-03-31/functions/{name}/invocations?Qualifier={version}", payload,
                                {"X-Thaw-Trace": "1", "Content-Type": "application/json"})
        reply = self.connection.getresponse()
        body = reply.read()
        took = (time.perf_counter() - began) * 1000
        if reply.status != 200 or reply.getheader("X-Amz-Function-Error"):
            raise AssertionError(f"{name}:{version}: {reply.status} {body[:300]!r}")
        return dict(json.loads(reply.getheader("X-Thaw-Trace")), ms=took)


def starts(server, name, version, payload, runs, templates, settle_s=0.3):
    """The accounts of `runs` invocations, each a first thaw (`templates`: evicted, too) or a thaw. What a first thaw touched is
    recorded right after it, and the rest of its template's pages come in: that takes a moment."""
    caller = Caller(server)
    found = []
    for _ in range(runs):
        time.sleep(settle_s)
        server.evict(name, version, templates)
        time.sleep(0.1)
        found.append(caller.invoke(name, version, payload))
        wanted = "first" if templates else "thaw"
        if found[-1]["start"] != wanted:
            raise AssertionError(f"{name}:{version}: a start of kind {found[-1]['start']}, and not {wanted}")
    return found


class Origin:
    """A real S3 server (that of the tests), behind a network of that latency."""

    def __init__(self, latency_ms):
        import s3
        self.server = s3.Server()
        os.environ.update(AWS_ACCESS_KEY_ID=s3.KEY, AWS_SECRET_ACCESS_KEY=s3.SECRET)
        self.network = subprocess.Popen([shutil.which("node"), ROOT / "bench/store/latency.mjs", str(self.server.port),
                                         str(latency_ms)], stdout=subprocess.PIPE, text=True)
        harness.BESIDE.append(self.network)
        self.port = int(self.network.stdout.readline())
        self.arguments = ["--origin", f"s3://{s3.BUCKET}/bench", "--s3-endpoint", f"http://127.0.0.1:{self.port}"]

    def chunks_fetched(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", "/-/counts")
        return json.loads(connection.getresponse().read()).get("GET chunks", 0)

    def stop(self):
        self.network.kill()
        self.network.wait()
        harness.BESIDE.remove(self.network)
        self.server.stop()


def forget_local(server):
    """Leaves nothing of the store's contents in the local folder, as on a machine that has never seen the snapshots."""
    for part in ("chunks", "snapshots"):
        for path, _, names in os.walk(server.data / "store" / part):
            for name in names:
                os.unlink(os.path.join(path, name))
    for entry in os.scandir(server.data / "store" / "snapshots"):
        os.rmdir(entry.path)


def spread(values):
    """(median, lowest, highest)"""
    return statistics.median(values), min(values), max(values)


@contextlib.contextmanager
def serving(folder, *arguments):
    """A server for this block; its data is removed afterwards."""
    server = Server(folder, *arguments)
    try:
        server.start()
        yield server
        server.end()
    except BaseException:
        sys.stderr.write(server.log()[-3000:])
        raise
    finally:
        server.kill()
        shutil.rmtree(server.data, ignore_errors=True)
        server.log_path.unlink(missing_ok=True)
