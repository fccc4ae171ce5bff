"""thaw process: any program, frozen into a folder and thawed from it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading

import pytest

import harness

PYTHON = "/usr/bin/python3"
# Answers each line with what it is after `act`; `kept` shows that it is the frozen one's memory.
SERVE = """
import os, signal, socket, sys, threading
kept = [os.getpid(), 0]
%s
print("ready", flush=True)
for line in sys.stdin:
    kept[1] += 1
    try:
        print(eval(line), flush=True)
    except SystemExit:
        raise
    except BaseException as e:
        print(repr(e), flush=True)
"""


def thaw(*arguments, check=0, **options):
    done = subprocess.run([str(harness.THAW), "process", *map(str, arguments)], text=True, capture_output=True,
                          timeout=harness.PATIENCE_S, **options)
    assert check is None or done.returncode == check, (done.returncode, done.stdout, done.stderr)
    return done


def freeze(folder, *command, options=(), check=0, **more):
    more.setdefault("stdin", subprocess.DEVNULL)
    return thaw("freeze", "--until-output", "ready", "--out", folder, *options, "--", *command, check=check, **more)


def freeze_python(folder, setup="", **more):
    return freeze(folder, PYTHON, "-c", SERVE % setup, **more)


def ask(folder, *lines, options=(), check=0):
    done = thaw("thaw", folder, "--wait", *options, input="".join(line + "\n" for line in lines), check=check)
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "frozen"
    freeze_python(folder)
    return folder


class Talker:
    """A program that SERVE makes, or a clone of it, on pipes."""

    all = []

    def __init__(self, *command, **options):
        Talker.all.append(self)
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, **options)

    def read(self):
        return self.process.stdout.readline().rstrip("\n")

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.read()

    def end(self):
        self.process.stdin.close()
        return self.process.wait(harness.PATIENCE_S)


@pytest.fixture(autouse=True)
def no_talkers_left():
    yield
    for talker in Talker.all:
        talker.process.kill()
        talker.process.wait()
        for stream in (talker.process.stdin, talker.process.stdout, talker.process.stderr):
            if stream:
                stream.close()
    Talker.all.clear()


def test_a_clone_goes_on_with_its_memory_streams_and_status(plain):
    assert ask(plain, "kept", "sys.stderr.write('x') and 1", "sys.exit(7)", check=7) == ["[2, 1]", "1"]
    assert ask(plain, "kept") == ["[2, 1]"], "and another begins where the first did"


def test_the_end_by_a_signal_is_128_and_its_number(plain):
    ask(plain, "os.kill(os.getpid(), signal.SIGKILL)", check=137)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(plain, number):
    clone = Talker(harness.THAW, "process", "thaw", plain, "--wait")
    assert clone.ask(f"[signal.signal({int(number)}, lambda *a: print('caught', flush=True) or sys.exit(9)), 1][1]") == "1"
    clone.process.send_signal(number)
    assert clone.read() == "caught"
    assert clone.end() == 9


def test_many_clones_have_numbers_of_their_own(plain, tmp_path):
    done = thaw("thaw", plain, "--count", 5, "--pid-file", tmp_path / "pids", "--json",
                stdin=subprocess.DEVNULL)
    about = json.loads(done.stdout.splitlines()[0])
    pids = [clone["pid"] for clone in about["clones"]]
    assert len(set(pids)) == 5 and about["build_ms"] > 0
    assert list(map(int, (tmp_path / "pids").read_text().split())) == pids
    harness.wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "clones read the end and end")


def test_small_programs_many_times(tmp_path):
    """Their templates are ready before anybody looks."""
    freeze(tmp_path / "frozen", "bash", "-c", 'echo ready; while read -r line; do eval "$line"; done')
    for i in range(20):
        assert ask(tmp_path / "frozen", f"echo $(({i} + 1))", f"exit {i}", check=i) == [str(i + 1)]


def test_thaw_prints_a_table(plain):
    done = thaw("thaw", plain, "--wait", "--timings", input="kept\n")
    assert done.stdout == "[2, 1]\n" and "WHOLE THAW" in done.stderr and "BUILD" in done.stderr


def test_inspect(plain):
    assert "python3" in thaw("inspect", plain).stdout
    assert "<stdin>" in thaw("inspect", plain, "--plan").stdout


def test_threads_pipes_and_files_come_along(tmp_path):
    (tmp_path / "words").write_text("one\ntwo\nthree\n")
    setup = f"""
file = open({str(tmp_path / 'words')!r}); file.readline()
r, w = os.pipe(); os.write(w, b"waiting")
lock = threading.Lock(); lock.acquire()
got = []
threading.Thread(target=lambda: (lock.acquire(), got.append(threading.get_native_id())), daemon=True).start()
"""
    freeze_python(tmp_path / "frozen", setup)
    answers = ask(tmp_path / "frozen", "file.readline()", "os.read(r, 100)",
                  "lock.release() or __import__('time').sleep(0.1) or len(got)")
    assert answers == ["two", "", "b'waiting'", "1"]


def test_a_file_that_was_changed_is_refused(tmp_path):
    (tmp_path / "words").write_text("one\n")
    freeze_python(tmp_path / "frozen", f"file = open({str(tmp_path / 'words')!r}, 'r+')")
    assert ask(tmp_path / "frozen", "file.read()") == ["one", ""]
    (tmp_path / "words").write_text("other\n")
    done = thaw("thaw", tmp_path / "frozen", "--wait", input="", check=125)
    assert "words" in done.stderr and "changed" in done.stderr


def test_a_log_may_grow(tmp_path):
    freeze_python(tmp_path / "frozen", f"log = open({str(tmp_path / 'log')!r}, 'a')")
    for _ in range(2):
        ask(tmp_path / "frozen", "log.write('line\\n') and log.flush()")
    assert (tmp_path / "log").read_text() == "line\nline\n"


def test_what_is_deleted_comes_along(tmp_path):
    path = str(tmp_path / "gone")
    freeze_python(tmp_path / "frozen", f"f = open({path!r}, 'w+'); f.write('kept'); f.flush(); os.unlink({path!r})")
    assert ask(tmp_path / "frozen", "f.seek(0) or f.read()", "f.write(' and more') and f.seek(0) or f.read()") == \
        ["kept", "kept and more"]


def test_a_private_tmp_is_part_of_the_snapshot(tmp_path):
    freeze_python(tmp_path / "frozen", "open('/tmp/mine', 'w').write('x')", options=["--private-tmp"], cwd="/")
    for _ in range(2):
        assert ask(tmp_path / "frozen", "os.listdir('/tmp')", "open('/tmp/mine', 'a').write('y')") == \
            ["['mine']", "1"]
    assert not os.path.exists("/tmp/mine")


def test_users_and_capabilities_are_kept(tmp_path):
    tell = "[l.split()[1:] for l in open('/proc/self/status') if l.startswith(('Uid', 'Gid', 'Groups', 'Cap', 'NoNew'))]"
    tmp_path.chmod(0o755)
    for number, who in enumerate([["--reuid", "1234", "--regid", "2345", "--groups", "3,4", "--bounding-set", "-all,+chown"],
                                  ["--reuid", "1234", "--clear-groups", "--inh-caps", "+net_raw", "--ambient-caps",
                                   "+net_raw"], ["--no-new-privs"], []]):
        run = ["setpriv", *who] if who else []
        folder = tmp_path / str(number)
        setup = (f"before = {tell}\nthread = threading.Thread(target=lambda: threading.Event().wait(), daemon=True)\n"
                 "thread.start()")
        freeze(folder, *run, PYTHON, "-c", SERVE % setup)
        path = "f'/proc/self/task/{thread.native_id}/status'"
        assert ask(folder, f"before == {tell} or {tell}", f"before == {tell.replace(repr('/proc/self/status'), path)}") \
            == ["True", "True"], who


def test_a_tree_of_processes_with_users_of_their_own(tmp_path):
    setup = """
down, up = os.pipe(), os.pipe()
if (child := os.fork()) == 0:
    os.setgroups([]); os.setgid(2345); os.setuid(1234)
    while os.read(down[0], 1):
        caps = [l.split()[1] for l in open('/proc/self/status') if l.startswith('CapEff')]
        os.write(up[1], repr((os.getuid(), os.getgid(), int(caps[0], 16), os.getppid())).encode())
    os._exit(4)
"""
    tmp_path.chmod(0o755)
    freeze_python(tmp_path / "frozen", setup)
    answers = ask(tmp_path / "frozen", "os.getuid()", "os.write(down[1], b'x') and os.read(up[0], 100).decode()",
                  "os.kill(child, 15) or os.waitpid(child, 0)[1]")
    assert answers == ["0", "(1234, 2345, 0, 2)", "15"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_a_server_listens_again_and_only_one_of_it(tmp_path):
    port = free_port()
    freeze_python(tmp_path / "frozen", f"server = socket.create_server(('127.0.0.1', {port}))")
    refused = thaw("thaw", tmp_path / "frozen", "--count", 2, check=125, stdin=subprocess.DEVNULL)
    assert f"listens at 127.0.0.1:{port}" in refused.stderr and "--network private" in refused.stderr
    clone = Talker(harness.THAW, "process", "thaw", tmp_path / "frozen", "--wait")
    assert clone.ask("kept[1]") == "1"
    with socket.create_connection(("127.0.0.1", port)):
        assert clone.ask("server.accept()[0].getsockname()[1]") == str(port)
    again = thaw("thaw", tmp_path / "frozen", "--wait", check=125, stdin=subprocess.DEVNULL)
    assert "in use" in again.stderr and "--network private" in again.stderr
    assert clone.end() == 0
    thaw("thaw", tmp_path / "frozen", "--count", 2, "--network", "private", stdin=subprocess.DEVNULL)


def test_a_socket_with_a_name_is_bound_again(tmp_path):
    path = str(tmp_path / "socket")
    freeze_python(tmp_path / "frozen", f"s = socket.socket(socket.AF_UNIX); s.bind({path!r}); s.listen(); "
                                       f"os.chmod({path!r}, 0o640)")
    clone = Talker(harness.THAW, "process", "thaw", tmp_path / "frozen", "--wait")
    assert clone.ask("kept[1]") == "1"
    assert os.stat(path).st_mode & 0o777 == 0o640
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"hello")
        assert clone.ask("s.accept()[0].recv(5)") == "b'hello'"
    taken = thaw("thaw", tmp_path / "frozen", "--wait", check=125, stdin=subprocess.DEVNULL)
    assert "somebody listens already" in taken.stderr and path in taken.stderr
    assert clone.end() == 0


def test_the_original_runs_on(tmp_path):
    setup = "r, w = os.pipe(); os.write(w, b'waiting'); event = threading.Event()\n" \
            "threading.Thread(target=event.wait, daemon=True).start()"
    original = Talker(harness.THAW, "process", "freeze", "--until-output", "ready", "--leave-running", "--out",
                      tmp_path / "frozen", "--", PYTHON, "-c", SERVE % setup, stderr=subprocess.PIPE)
    assert original.read() == "ready"
    assert "it runs on" in original.process.stderr.readline()
    assert original.ask("kept") == "[2, 1]"
    assert original.ask("os.read(r, 100)") == "b'waiting'"
    assert ask(tmp_path / "frozen", "kept", "os.read(r, 100)") == ["[2, 1]", "b'waiting'"]
    assert original.ask("kept") == "[2, 3]"
    assert original.ask("event.set() or threading.active_count() > 0") == "True"
    original.process.stdin.write("sys.exit(5)\n")
    assert original.end() == 5


def test_a_running_program(tmp_path):
    original = Talker(PYTHON, "-c", SERVE % "import time")
    pid = original.process.pid
    assert original.read() == "ready"
    assert original.ask("kept[0]") == str(pid)
    thaw("freeze", "--pid", pid, "--leave-running", "--out", tmp_path / "first")
    assert original.ask("kept[1]") == "2"
    assert ask(tmp_path / "first", "kept") == [f"[{pid}, 2]"], "its number is its own inside"
    thaw("freeze", "--pid", pid, "--out", tmp_path / "second")
    assert original.process.wait(harness.PATIENCE_S) == -signal.SIGKILL
    assert ask(tmp_path / "second", "kept") == [f"[{pid}, 3]"]


def test_a_running_program_sleeps_on(tmp_path):
    """The interrupted call is started again with the time that is left of it: it neither fails nor ends early."""
    original = Talker(PYTHON, "-c", SERVE % "import ctypes, time; libc = ctypes.CDLL(None)")
    assert original.read() == "ready"
    original.process.stdin.write("(began := time.monotonic(), libc.poll(None, 0, 1500), time.monotonic() - began >= 1.49)[1:]\n")
    original.process.stdin.flush()
    pid = original.process.pid
    harness.wait_until(lambda: open(f"/proc/{pid}/syscall").read().split()[0] == "7", "it polls")
    thaw("freeze", "--pid", pid, "--leave-running", "--out", tmp_path / "frozen")
    assert original.read() == "(0, True)"
    assert original.end() == 0


def test_a_refused_freeze_leaves_a_running_program_alone(tmp_path):
    original = Talker(PYTHON, "-c", SERVE % "a, b = socket.socketpair(); a.send(b'unread')")
    assert original.read() == "ready"
    refused = thaw("freeze", "--pid", original.process.pid, "--out", tmp_path / "frozen", check=125)
    assert "data waiting" in refused.stderr and "socket" in refused.stderr
    assert not (tmp_path / "frozen").exists()
    assert original.ask("b.recv(100)") == "b'unread'"
    thaw("freeze", "--pid", original.process.pid, "--leave-running", "--out", tmp_path / "frozen")
    assert original.ask("kept[1]") == "2"
    assert original.end() == 0


@pytest.mark.parametrize("option, name", [("--mount", "mnt"), ("--net", "net"), ("--pid", "pid"), ("--time", "time")])
def test_a_running_program_in_another_namespace_is_refused(tmp_path, option, name):
    original = Talker("unshare", option, "--fork", PYTHON, "-c", SERVE % "")
    assert original.read() == "ready"
    pid = harness.descendants(original.process.pid)[0]
    refused = thaw("freeze", "--pid", pid, "--out", tmp_path / "frozen", check=125)
    assert f"another {name} namespace" in refused.stderr
    assert original.ask("kept[1]") == "1"
    assert original.end() == 0


def test_what_is_unread_at_standard_input_is_refused(tmp_path):
    done = thaw("freeze", "--until-output", "ready", "--out", tmp_path / "frozen", "--", PYTHON, "-c",
                "import time; print('ready', flush=True); time.sleep(100)", input="unread", check=125)
    assert "6 bytes" in done.stderr and "not read" in done.stderr


def test_wrong_usage_and_what_cannot_be_started(tmp_path):
    for arguments, words in [((), "freeze, thaw or inspect"), (("freeze", "--", "true"), "--out"),
                             (("freeze", "--out", "x", "--", "true"), "--until-output"),
                             (("freeze", "--out", "x", "--after", "1s"), "command"),
                             (("freeze", "--out", "x", "--after", "soon", "--", "true"), "soon"), (("thaw",), "folder")]:
        assert words in thaw(*arguments, check=2).stderr
    assert "no-such-program" in freeze(tmp_path / "a", "no-such-program", check=127).stderr
    assert "cannot run /etc/passwd" in freeze(tmp_path / "b", "/etc/passwd", check=126).stderr
    assert "ended, with status 3" in freeze(tmp_path / "c", "sh", "-c", "exit 3", check=125).stderr
    assert not any(tmp_path.iterdir()), "nothing is left behind"


def test_folders(plain, tmp_path):
    assert plain.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in plain.iterdir())
    assert "not empty" in freeze_python(plain, check=125).stderr
    assert "no manifest" in thaw("thaw", tmp_path, check=125).stderr
    copy = tmp_path / "copy"
    shutil.copytree(plain, copy)
    with open(copy / "pages", "r+b") as pages:
        pages.truncate(4096)
    assert "4096 bytes" in thaw("thaw", copy, check=125).stderr
    (copy / "manifest").chmod(0o622)
    assert "not thawed" in thaw("thaw", copy, check=125).stderr


def test_others_are_told_that_it_needs_root(plain):
    done = thaw("thaw", plain, check=125, user=65534, group=65534, extra_groups=[])
    assert "root" in done.stderr and "sudo" in done.stderr


def test_nothing_is_left_behind(plain):
    harness.become_subreaper()
    before = set(harness.descendants(os.getpid()))
    clone = Talker(harness.THAW, "process", "thaw", plain, "--wait", "--count", "2")
    assert clone.ask("kept[1]") == "1"
    clone.process.kill()
    clone.process.wait()

    def gone():
        with_zombies = set(harness.descendants(os.getpid())) - before
        for pid in with_zombies:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass
        return not with_zombies
    harness.wait_until(gone, "clones end with the thaw that waits for them")


# ---- programs that nobody wrote for this ----

def test_sqlite(tmp_path):
    table = "create table t(a); with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000) " \
            "insert into t select i from n; select 'ready';"
    freeze(tmp_path / "frozen", "sqlite3", "-interactive", "-cmd", table, ":memory:")
    assert "500500" in "".join(ask(tmp_path / "frozen", "select sum(a) from t;"))


def test_perl(tmp_path):
    freeze(tmp_path / "frozen", "perl", "-e", '$| = 1; my %h = map { $_ => $_ * 2 } 1..1000; print "ready\\n"; '
                                               'while (<STDIN>) { print eval($_), "\\n" }')
    assert ask(tmp_path / "frozen", "$h{21}", "exit 4", check=4) == ["42"]


def test_node(tmp_path):
    freeze(tmp_path / "frozen", "node", "-e", "const seen = ['ready']; console.log(seen[0]); "
           "require('readline').createInterface({input: process.stdin}).on('line', l => console.log(eval(l)))")
    assert ask(tmp_path / "frozen", "seen.concat(['thawed']).join()", "crypto.randomUUID().length") == \
        ["ready,thawed", "36"]


def test_redis(tmp_path):
    port = free_port()
    thaw("freeze", "--until-output", "Ready to accept", "--out", tmp_path / "frozen", "--", "redis-server", "--port",
         port, "--save", "", stdin=subprocess.DEVNULL, cwd=tmp_path)
    clone = subprocess.Popen([str(harness.THAW), "process", "thaw", str(tmp_path / "frozen"), "--wait"],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def redis(text):
        with socket.create_connection(("127.0.0.1", port)) as s:
            s.sendall(text.encode() + b"\r\n")
            return s.recv(100).decode()
    harness.wait_until(lambda: can_connect(port), "redis listens")
    assert redis("SET name Rex") == "+OK\r\n" and redis("GET name") == "$3\r\nRex\r\n"
    clone.send_signal(signal.SIGTERM)
    assert clone.wait(harness.PATIENCE_S) == 0
    clone.stdout.close()


def test_a_busy_server_does_not_notice(tmp_path):
    port = free_port()
    with subprocess.Popen(["redis-server", "--port", str(port), "--save", ""], stdout=subprocess.DEVNULL,
                          stdin=subprocess.DEVNULL, cwd=tmp_path) as server:
        harness.wait_until(lambda: can_connect(port), "redis listens")
        stop, counts = threading.Event(), []

        def client():
            with socket.create_connection(("127.0.0.1", port)) as s, s.makefile("rb") as replies:
                count = 0
                while not stop.is_set():
                    s.sendall(b"INCR mine\r\n")
                    count += 1
                    replies.readline()
                counts.append(count)
        clients = [threading.Thread(target=client) for _ in range(3)]
        for thread in clients:
            thread.start()
        try:
            for i in range(3):
                thaw("freeze", "--pid", server.pid, "--leave-running", "--out", tmp_path / str(i))
        finally:
            stop.set()
        for thread in clients:
            thread.join(harness.PATIENCE_S)
        with socket.create_connection(("127.0.0.1", port)) as s:
            s.sendall(b"GET mine\r\n")
            assert int(s.recv(100).split(b"\r\n")[1]) == sum(counts) and len(counts) == 3, "nothing was lost or done twice"
        server.terminate()
    thaw("thaw", tmp_path / "2", "--network", "private", "--pid-file", tmp_path / "pid", stdin=subprocess.DEVNULL)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def can_connect(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    except OSError:
        return False
