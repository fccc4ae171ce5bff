"""A real S3 server for tests (s3rver, from npm), and a proxy of ours before it that checks every signature and every body's hash
with Amazon's own library, as S3 does and s3rver does not, and that does what networks and servers do on bad days.

THAW_TEST_S3_ENDPOINT (http://HOST:PORT), THAW_TEST_S3_KEY and THAW_TEST_S3_SECRET name another server to test with: a bucket is
made there, and removed in the end."""

import contextlib
import hashlib
import os
import pathlib
import re
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials

import harness

S3RVER = "s3rver@3.7.1"
FOLDER = harness.BUILD.parent / "build-s3" if harness.BUILD.parent != harness.ROOT else harness.BUILD / "s3"
GIVEN = os.environ.get("THAW_TEST_S3_ENDPOINT")
# S3RVER is the only account that s3rver knows. Taken out, as a test looks for them in every process's environment.
KEY, SECRET = os.environ.pop("THAW_TEST_S3_KEY", "S3RVER"), os.environ.pop("THAW_TEST_S3_SECRET", "S3RVER")
BUCKET = f"thaw-test-{os.urandom(4).hex()}" if GIVEN else "snapshots"


def install():
    """Into the build directory, once: some ten seconds."""
    program = FOLDER / "node_modules" / "s3rver" / "bin" / "s3rver.js"
    if not program.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--prefix", str(FOLDER), "--no-audit", "--no-fund", "--ignore-scripts", "--silent", S3RVER],
                       check=True, timeout=300, stdin=subprocess.DEVNULL)
    return program


def raise_file_limit():
    """It opens three files for each entry of a list, all at once."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Server:
    """s3rver on a free port, or the server that was given, with one empty bucket."""

    def __init__(self):
        self.process = None
        address = urllib.parse.urlsplit(GIVEN or f"http://127.0.0.1:{harness.free_port()}")
        self.host, self.port = address.hostname, address.port
        self.endpoint = f"http://{self.host}:{self.port}"
        self.client = boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", aws_access_key_id=KEY,
                                   aws_secret_access_key=SECRET,
                                   config=botocore.config.Config(s3={"addressing_style": "path"}))
        if GIVEN:
            self.client.create_bucket(Bucket=BUCKET)
        else:
            self.start()

    def start(self):
        self.folder = tempfile.mkdtemp(prefix="thaw-s3-")
        self.log = open(pathlib.Path(self.folder) / "log", "wb")
        program = install()
        self.process = subprocess.Popen(
            [shutil.which("node"), "--openssl-legacy-provider", program,  # for the tokens of long lists
             "-d", str(pathlib.Path(self.folder) / "data"), "-a", "127.0.0.1", "-p", str(self.port),
             "--configure-bucket", BUCKET, "--no-vhost-buckets"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, preexec_fn=raise_file_limit)
        harness.BESIDE.append(self.process)
        harness.wait_until(self.answers, "the S3 server to answer")

    def answers(self):
        assert self.process.poll() is None, pathlib.Path(self.log.name).read_text()
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(self.endpoint, timeout=5)
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def keys(self, prefix=""):
        """{key: size} of all objects."""
        found = {}
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
            found.update({entry["Key"]: entry["Size"] for entry in page.get("Contents", [])})
        return found

    def get(self, key):
        return self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def put(self, key, body):
        self.client.put_object(Bucket=BUCKET, Key=key, Body=body)

    def stop(self):
        if self.process is None:
            for key in self.keys():
                self.client.delete_object(Bucket=BUCKET, Key=key)
            self.client.delete_bucket(Bucket=BUCKET)
            return
        self.process.kill()
        self.process.wait()
        harness.BESIDE.remove(self.process)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def sign(method, url, headers, body):
    """The headers of a request that was changed, signed anew."""
    request = botocore.awsrequest.AWSRequest(method=method, url=url, data=body,
                                             headers={n: v for n, v in headers if n.lower() not in ("authorization", "x-amz-content-sha256")})
    botocore.auth.S3SigV4Auth(botocore.credentials.Credentials(KEY, SECRET), "s3", "us-east-1").add_auth(request)
    return list(request.headers.items())


def refusal(method, url, headers, body):
    """What S3 would say against a request, or None: its signature computed anew by botocore, and the hash of its body."""
    given = {name.lower(): value for name, value in headers}
    match = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8}/([^/]+)/s3/aws4_request),SignedHeaders=([a-z0-9;-]+),Signature=([0-9a-f]{64})",
                         given.get("authorization", ""))
    if not match:
        return "AccessDenied"
    access_key, _, region, names, signature = match.groups()
    if access_key != KEY:
        return "InvalidAccessKeyId"
    if not {"host", "x-amz-date", "x-amz-content-sha256"} <= set(names.split(";")):
        return "AccessDenied"
    request = botocore.awsrequest.AWSRequest(method=method, url=url, headers={name: given[name] for name in names.split(";")})
    request.context["timestamp"] = given["x-amz-date"]
    signer = botocore.auth.S3SigV4Auth(botocore.credentials.Credentials(KEY, SECRET), "s3", region)
    expected = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    if expected != signature:
        return "SignatureDoesNotMatch"
    if given["x-amz-content-sha256"] != hashlib.sha256(body).hexdigest():
        return "XAmzContentSHA256Mismatch"
    return None


TOKEN = "a place/in +the= list "  # of an empty page; behind it, where that is


class Request:
    """What the proxy knows of a request when it decides what to do with it."""

    def __init__(self, method, path, number):
        self.method, self.path, self.number = method, path, number


class Proxy:
    """Passes HTTP on to the server, one request after the other on each connection, through `fault`: called with each Request, it
    returns what to do, by name, or None:

      ("delay", s)        wait before it is passed on         ("stall",)        take it, and never answer
      ("status", n)       answer so, without asking           ("reset",)        cut the connection
      ("truncate",)       half of the answer's body, then cut ("wrong",)        the answer's body with bytes flipped
      ("longer",)         a Content-Length beyond the body    ("shorter",)      one below it
      ("slow", s)         the answer in pieces, over s seconds
      ("wrong_request",)  the request's body with bytes flipped, on the way to here
      ("wrong_write",)    the same, behind here: the server stores other bytes
      ("encrypted",)      as a store does that encrypts: ETags are no MD5
      ("backwards",)      a list in another order
      ("empty_page",)     a list's answer without names that says there are more, behind a token
    """

    def __init__(self, server, certificate=None):
        """`certificate`: (file, key file) of a TLS server."""
        self.server_address = server.host, server.port
        self.page = None  # the most names in a page of a list
        self.etags = {}  # of what is "encrypted": what we have said, and what the server said
        self.tls = None
        if certificate:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(*certificate)
        self.fault = lambda request: None
        self.requests = []  # (method, path) of all, in order of arrival
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.closed = False
        self.accepting = threading.Thread(target=self.accept, daemon=True)
        self.accepting.start()

    @property
    def endpoint(self):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def count(self, method, part=""):
        with self.lock:
            return sum(1 for m, path in self.requests if m == method and part in path)

    def forget(self):
        with self.lock:
            self.requests.clear()

    def stop(self):
        self.closed = True
        self.listener.shutdown(socket.SHUT_RDWR)
        self.accepting.join()  # else it could accept from the next listener that gets this one's number
        self.listener.close()

    def accept(self):
        while not self.closed:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, client):
        with contextlib.suppress(OSError, ValueError, TypeError), self.secured(client) as client, client.makefile("rb") as source:
            while self.one(client, source):
                pass

    def secured(self, client):
        return self.tls.wrap_socket(client, server_side=True) if self.tls else client

    def ask(self, first, headers, body):
        """The server's answer: (first line, headers, body). On a connection of its own: it closes those that are idle."""
        with socket.create_connection(self.server_address) as server, server.makefile("rb") as answers:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            method = first.split()[0]
            server.sendall(self.write_head(first, [(n, v) for n, v in headers if n.lower() != "connection"]) + body)
            first, headers = self.read_head(answers)
            return first, headers, self.read_body(answers, headers, method != b"HEAD" and first.split()[1] not in (b"204", b"304"))

    @staticmethod
    def read_head(source):
        """(first line, [(name, value)]), or None at the end."""
        first = source.readline()
        if not first:
            return None
        headers = []
        while (line := source.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name, value.strip()))
        return first, headers

    @staticmethod
    def write_head(first, headers):
        return first + "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1") + b"\r\n"

    @staticmethod
    def value(headers, name):
        return next((value for n, value in headers if n.lower() == name), None)

    def read_body(self, source, headers, has_body=True):
        if not has_body:
            return b""
        if (self.value(headers, "transfer-encoding") or "").lower() == "chunked":
            body = b""
            while (size := int(source.readline().split(b";")[0], 16)) > 0:
                body += source.read(size)
                source.readline()
            source.readline()
            headers[:] = [(n, v) for n, v in headers if n.lower() != "transfer-encoding"] + [("Content-Length", str(len(body)))]
            return body
        return source.read(int(self.value(headers, "content-length") or 0))

    @staticmethod
    def flip(body):
        return body[:len(body) // 2] + bytes(b ^ 0x20 for b in body[len(body) // 2:len(body) // 2 + 8]) + body[len(body) // 2 + 8:]

    def one(self, client, source):
        """One request and its answer; False ends the connection."""
        head = self.read_head(source)
        if head is None:
            return False
        first, headers = head
        method, path = first.decode("latin-1").split(" ")[:2]
        body = self.read_body(source, headers)
        with self.lock:
            self.requests.append((method, path))
            number = len(self.requests)
        what, *how = self.fault(Request(method, path, number)) or ("pass",)
        if what == "delay":
            time.sleep(how[0])
        if what == "stall":
            while not self.closed:
                time.sleep(0.05)
            return False
        if what == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return False
        if what == "status":
            client.sendall(f"HTTP/1.1 {how[0]} Fault\r\nContent-Length: 0\r\n\r\n".encode())
            return True
        if what == "wrong_request":
            body = self.flip(body)
        why = refusal(method, self.endpoint + path, headers, body)
        if why:
            answer = f"<Error><Code>{why}</Code><Message>the proxy says so</Message></Error>"
            status = 400 if why.startswith("XAmz") else 403
            client.sendall(f"HTTP/1.1 {status} No\r\nContent-Length: {len(answer) if method != 'HEAD' else 0}\r\n\r\n".encode())
            if method != "HEAD":
                client.sendall(answer.encode())
            return True
        if what == "wrong_write":
            body = self.flip(body)
        if what == "empty_page":
            token = TOKEN + dict(urllib.parse.parse_qsl(path.partition("?")[2])).get("start-after", "")
            answer = f"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken></ListBucketResult>"
            client.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n\r\n{answer}".encode())
            return True
        if self.page and "list-type=2" in path:
            path = re.sub(rf"continuation-token={urllib.parse.quote(TOKEN, safe='')}([^&]*)&(.*)", r"\2&start-after=\1", path)
            path = re.sub(r"max-keys=\d+", f"max-keys={self.page}", path)
            headers = sign(method, self.endpoint + path, headers, body)
            first = f"{method} {path} HTTP/1.1\r\n".encode()
        if what == "encrypted" and method == "POST" and body:
            for ours, theirs in self.etags.items():
                body = body.replace(ours.encode(), theirs.encode())
            headers = sign(method, self.endpoint + path, headers, body)
        return self.give(client, what, how, *self.ask(first, headers, body))

    def give(self, client, what, how, first, headers, answer):
        def with_length(n):
            return [(k, v if k.lower() != "content-length" else str(n)) for k, v in headers]

        if what == "encrypted" and (etag := self.value(headers, "etag")):
            ours = hashlib.md5(etag.encode()).hexdigest()
            self.etags[ours] = etag.strip('"')
            headers = [(k, v) for k, v in headers if k.lower() != "etag"] + [("ETag", f'"{ours}"'), ("x-amz-server-side-encryption", "aws:kms")]
        if what == "backwards":
            entries = re.findall(rb"<Contents>.*?</Contents>", answer, re.S)
            answer = answer.replace(b"".join(entries), b"".join(reversed(entries)))
        if what == "wrong":
            answer = self.flip(answer)
        elif what == "longer":
            headers = with_length(len(answer) + 100)
        elif what == "shorter":
            headers = with_length(len(answer) // 2)
        client.sendall(self.write_head(first, headers))
        if what == "truncate":
            client.sendall(answer[:len(answer) // 2])
            return False
        if what == "slow":
            for at in range(0, len(answer), max(len(answer) // 20, 1)):
                client.sendall(answer[at:at + max(len(answer) // 20, 1)])
                time.sleep(how[0] / 20)
            return True
        client.sendall(answer)
        return what not in ("longer", "shorter")


if __name__ == "__main__":
    print(install())
    sys.exit(0)
