# conformance: whole programs | CPython with threads, asyncio, SQLite, local HTTP | kept |
"""A Python program with what Python programs have: an event loop, thread pools, SQLite in WAL mode, temporary files,
memory maps, a local HTTP server with a kept connection, a memory-mapped file, a signal wake-up descriptor."""
import asyncio, concurrent.futures, http.client, http.server, mmap, os, queue, random, select, signal, socket, sqlite3
import sys, tempfile, threading, time, multiprocessing.pool, subprocess

sys.setrecursionlimit(3000)
pool = concurrent.futures.ThreadPoolExecutor(8)
assert list(pool.map(lambda n: n * n, range(50)))[7] == 49
results = queue.Queue()
ticking = threading.Event()


def tick():
    while True:
        time.sleep(0.005)
        ticking.set()


threading.Thread(target=tick, daemon=True).start()

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()


async def answer(reader, writer):
    while line := await reader.readline():
        writer.write(b"echo " + line)
        await writer.drain()


server = asyncio.run_coroutine_threadsafe(asyncio.start_server(answer, "127.0.0.1", 8500), loop).result()
unix_server = asyncio.run_coroutine_threadsafe(asyncio.start_unix_server(answer, "/tmp/echo.sock"), loop).result()
connection = socket.create_connection(("127.0.0.1", 8500))
lines = connection.makefile("rwb")
lines.write(b"before\n")
lines.flush()
assert lines.readline() == b"echo before\n"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *unused):
        pass


web = http.server.ThreadingHTTPServer(("127.0.0.1", 8501), Handler)
threading.Thread(target=web.serve_forever, daemon=True).start()
client = http.client.HTTPConnection("127.0.0.1", 8501)
client.request("GET", "/")
assert client.getresponse().read() == b"ok"

database = sqlite3.connect("/tmp/data.sqlite", check_same_thread=False)
database.execute("pragma journal_mode=wal")
database.execute("create table numbers (n integer)")
database.executemany("insert into numbers values (?)", [(n,) for n in range(1000)])
database.commit()
database.execute("insert into numbers values (-1)")  # in a transaction that is open across the freeze

temporary = tempfile.TemporaryFile()
temporary.write(b"temporary")
temporary.flush()
named = tempfile.NamedTemporaryFile(mode="w+")
named.write("named")
named.flush()
mapped = mmap.mmap(-1, 1 << 16)
mapped[:5] = b"share"
of_file = open("/tmp/mapped", "w+b")
of_file.truncate(8192)
file_map = mmap.mmap(of_file.fileno(), 8192)
file_map[4096:4100] = b"page"
assert subprocess.run(["/usr/bin/env", "true"]).returncode == 0
r, w = socket.socketpair()
w.setblocking(False)
signal.signal(signal.SIGUSR1, lambda *unused: None)
signal.set_wakeup_fd(w.fileno())
poll = select.epoll()
poll.register(r, select.EPOLLIN)

api = socket.create_connection(("127.0.0.1", 9001))
api.sendall(b"GET /2018-06-01/runtime/restore/next HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n\r\n")
head = api.recv(4096).decode()
index = int(head.split("Clone-Index: ")[1].split("\r")[0])

lines.write(b"after\n")
lines.flush()
assert lines.readline() == b"echo after\n"
client.request("GET", "/")
assert client.getresponse().read() == b"ok"
with socket.socket(socket.AF_UNIX) as fresh:
    fresh.connect("/tmp/echo.sock")
    fresh.sendall(b"unix\n")
    assert fresh.recv(100) == b"echo unix\n"
ticking.clear()
assert ticking.wait(30)
assert list(pool.map(lambda n: n + index, range(100)))[99] == 99 + index
database.execute("insert into numbers values (?)", (index,))
database.commit()
assert database.execute("select count(*), min(n) from numbers").fetchone() == (1002, -1)
other = sqlite3.connect("/tmp/data.sqlite")
assert other.execute("select count(*) from numbers").fetchone() == (1002,)
assert other.execute("pragma integrity_check").fetchone() == ("ok",)
temporary.seek(0)
assert temporary.read() == b"temporary"
assert open(named.name).read() == "named"
assert mapped[:5] == b"share" and file_map[4096:4100] == b"page"
of_file.seek(4096)
assert of_file.read(4) == b"page"
os.kill(os.getpid(), signal.SIGUSR1)
assert poll.poll(30) == [(r.fileno(), select.EPOLLIN)]
assert r.recv(1) == bytes([signal.SIGUSR1])
assert subprocess.run(["/usr/bin/env", "true"]).returncode == 0
child = os.fork()
if child == 0:
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01, "slept"), loop).result() == "slept"
print("python clone", index, "is well", flush=True)
os._exit(0)
