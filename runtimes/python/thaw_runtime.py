"""Runs a Python function: the Runtime API's client for the managed runtimes python3.8 and later.

Start-up is part of every cold start, so what costs milliseconds to import (logging, traceback, socket) is imported
when it is first needed. What lies between the snapshot and the first event is part of every thaw: there each page written to
costs a copy, so it is short, allocates next to nothing, and has run before.
"""

import _socket
import gc
import os
import sys
from time import time

API = b"/2018-06-01/runtime/"
RECV_BYTES = 8192  # at once; bodies that are longer are read to their length
WARM_UP_ROUNDS = 40  # the interpreter has then rewritten the warm path's instructions for the last time
JOIN_BYTES = 65536  # shorter bodies leave in one call with their head

JSON_LOGS = os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"

request_id = ""  # of the running event, for log lines


class Fault(Exception):
    """A failure with a type of the platform's own."""

    def __init__(self, kind, message, trace=None):
        Exception.__init__(self, message)
        self.kind = kind
        self.message = message
        self.trace = trace or []


# ---- the Runtime API's client ----


class Head:
    """An answer's header fields. Only what is asked for becomes an object: each costs a clone memory of its own."""

    __slots__ = ("text", "lower")

    def __init__(self, text):
        self.text = text
        self.lower = text.lower()

    def get(self, name):
        """The value of a field, None when it is absent. `name` is written b"\\r\\nname:", in lower case."""
        begin = self.lower.find(name)
        if begin < 0:
            return None
        begin += len(name)
        return self.text[begin : self.text.find(b"\r\n", begin)].strip()


class Client:
    """One connection, one request at a time. Answers come with a length, or chunked."""

    __slots__ = ("address", "host", "socket", "next_request", "prime_request", "restore_request", "ping_request")

    def __init__(self, api):
        name, _, port = api.rpartition(":")
        self.address = (name or api, int(port or 80))
        self.host = b" HTTP/1.1\r\nHost: " + api.encode() + b"\r\n"
        self.next_request = b"GET " + API + b"invocation/next" + self.host + b"\r\n"
        self.prime_request = b"GET " + API + b"prime/next" + self.host + b"\r\n"
        self.restore_request = b"GET " + API + b"restore/next" + self.host + b"\r\n"
        self.ping_request = b"GET /2018-06-01/ping" + self.host + b"\r\n"
        self.socket = None
        self.connect()

    def connect(self):
        self.close()
        self.socket = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self.socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self.socket.connect(self.address)

    def close(self):
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def receive(self):
        """The answer to the request that was sent: status, Head, body."""
        recv = self.socket.recv
        data = recv(RECV_BYTES)
        end = data.find(b"\r\n\r\n")
        while end < 0:
            more = recv(RECV_BYTES)
            if not more:
                raise ConnectionError("the Runtime API closed the connection")
            data += more
            end = data.find(b"\r\n\r\n")
        head = Head(data[: end + 2])
        body = data[end + 4 :]
        length = head.get(b"\r\ncontent-length:")
        if length is not None:
            length = int(length)
            if len(body) < length:
                body = self.receive_rest(body, length)
        elif head.get(b"\r\ntransfer-encoding:") is not None:
            body = self.receive_chunks(body)
        if head.get(b"\r\nconnection:") == b"close":
            self.close()
        return int(head.text[9:12]), head, body

    def receive_rest(self, begin, length):
        body = bytearray(length)
        body[: len(begin)] = begin
        at = len(begin)
        view = memoryview(body)
        while at < length:
            n = self.socket.recv_into(view[at:])
            if n == 0:
                raise ConnectionError("the Runtime API closed the connection")
            at += n
        return body

    def receive_chunks(self, data):
        def more():
            got = self.socket.recv(RECV_BYTES)
            if not got:
                raise ConnectionError("the Runtime API closed the connection")
            return got

        body = bytearray()
        while True:
            while b"\r\n" not in data:
                data += more()
            line, _, data = data.partition(b"\r\n")
            size = int(line.split(b";")[0], 16)
            if size == 0:
                break
            while len(data) < size + 2:
                data += more()
            body += data[:size]
            data = data[size + 2 :]
        while not (data.startswith(b"\r\n") or b"\r\n\r\n" in data):  # trailers
            data += more()
        return body

    def get(self, request):
        if self.socket is None:
            self.connect()
        self.socket.sendall(request)
        return self.receive()

    def post(self, path, body, content_type=b"application/json", fields=b""):
        if self.socket is None:
            self.connect()
        head = b"POST %s%s%sContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n" % (
            API,
            path,
            self.host,
            content_type,
            len(body),
            fields,
        )
        try:
            if len(body) <= JOIN_BYTES:
                self.socket.sendall(head + body)
            else:
                self.socket.sendall(head)
                self.socket.sendall(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all of it was sent: the answer says why
        return self.receive()

    def post_error(self, path, error, kind):
        """Reports a failure. `kind` is sent when it is a type that the platform accepts."""
        fields = b""
        if kind:
            fields = b"Lambda-Runtime-Function-Error-Type: " + kind.encode("ascii", "replace") + b"\r\n"
        return self.post(path, to_json(error).encode("utf-8", "replace"), fields=fields)


# ---- JSON ----


def json_default(value):
    if type(value).__name__ == "Decimal" and type(value).__module__ == "decimal":
        if value.is_nan():
            return float("nan")
        return int(value) if value == value.to_integral_value() and value.as_tuple().exponent >= 0 else float(value)
    raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


def make_json():
    """json.loads and json.dumps, without the layers of Python that they go through: less runs, less is touched."""
    import json
    from json.encoder import encode_basestring, encode_basestring_ascii

    # As the managed runtimes do: from 3.12 on, text goes out as it is.
    ascii_only = sys.version_info < (3, 12)
    encode = json.JSONEncoder(ensure_ascii=ascii_only, default=json_default).encode
    scan = json.JSONDecoder().scan_once
    make_encoder = getattr(json.encoder, "c_make_encoder", None)
    quote = encode_basestring_ascii if ascii_only else encode_basestring

    def from_json(text):
        try:
            decoded = str(text, "utf-8")
            value, end = scan(decoded, 0)
            if end == len(decoded):
                return value
        except (StopIteration, ValueError, UnicodeError):
            pass
        return json.loads(text)  # white space around, another encoding, or an error to be described

    def to_json(value):
        return encode(value)

    def to_json_quickly(value):
        return "".join(make_encoder({}, json_default, quote, None, ": ", ", ", False, False, True)(value, 0))

    try:
        quick = to_json_quickly({"a": [1, "b", None, 0.5]}) == encode({"a": [1, "b", None, 0.5]})
    except Exception:
        quick = False
    return from_json, to_json_quickly if quick else to_json


from_json, to_json = make_json()


# ---- errors ----


def own_frames_removed(tb):
    """What a traceback says below this file's own frames, as lists of text."""
    import traceback

    frames = traceback.extract_tb(tb)
    begin = 0
    while begin < len(frames) and frames[begin].filename == __file__:
        begin += 1
    return traceback.format_list(frames[begin:] if begin < len(frames) else frames)


def describe_error(error, invoke_id=""):
    """The JSON object that callers see."""
    if isinstance(error, Fault):
        kind, message, trace = error.kind, error.message, error.trace
    else:
        kind, message, trace = type(error).__name__, str(error), own_frames_removed(error.__traceback__)
    return {"errorMessage": message, "errorType": kind, "requestId": invoke_id, "stackTrace": trace}


def time_stamp(seconds):
    from time import gmtime, strftime

    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(seconds))


def log_error(error):
    if JSON_LOGS:
        text = to_json(dict({"timestamp": time_stamp(time()), "log_level": "ERROR"}, **error))
    else:
        lines = ["[ERROR] %s: %s" % (error["errorType"], error["errorMessage"])]
        if error["stackTrace"]:
            lines.append("Traceback (most recent call last):")
            for part in error["stackTrace"]:
                lines.extend(part.splitlines())
        text = "\n".join(lines)
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except (OSError, ValueError):
        pass  # the function closed its output: that is its own affair


# ---- the context object ----


class CognitoIdentity:
    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    def __init__(self, values):
        self.cognito_identity_id = values.get("cognitoIdentityId")
        self.cognito_identity_pool_id = values.get("cognitoIdentityPoolId")


class Client_:
    __slots__ = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")

    def __init__(self, values):
        for name in self.__slots__:
            setattr(self, name, values.get(name))


class ClientContext:
    __slots__ = ("custom", "env", "client")

    def __init__(self, values):
        self.custom = values.get("custom")
        self.env = values.get("env")
        client = values.get("client")
        self.client = Client_(client) if client is not None else None


Client_.__name__ = Client_.__qualname__ = "Client"


# Read once: each look into the environment touches pages that a clone would have to copy.
LOG_GROUP_NAME = os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME")
LOG_STREAM_NAME = os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME")
FUNCTION_NAME = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
MEMORY_LIMIT_IN_MB = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
FUNCTION_VERSION = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION")
SPARE = [os.environ.get("THAW_SPARE")]  # see drop_hash_seed()


class LambdaContext:
    def __init__(self, invoke_id, arn, deadline_ms, client_context, identity):
        self.aws_request_id = invoke_id
        self.log_group_name = LOG_GROUP_NAME
        self.log_stream_name = LOG_STREAM_NAME
        self.function_name = FUNCTION_NAME
        self.memory_limit_in_mb = MEMORY_LIMIT_IN_MB
        self.function_version = FUNCTION_VERSION
        self.invoked_function_arn = arn
        self.client_context = client_context
        self.identity = identity
        self._epoch_deadline_time_in_ms = deadline_ms

    def get_remaining_time_in_millis(self):
        return max(0, self._epoch_deadline_time_in_ms - int(time() * 1000))

    def log(self, message):
        sys.stdout.write(str(message))

    def __repr__(self):
        return "LambdaContext([%s])" % ",".join(
            "%s=%s" % item for item in self.__dict__.items() if not item[0].startswith("_")
        )


def parse_field(text, what):
    try:
        return from_json(text)
    except ValueError as e:
        raise Fault("Runtime.LambdaContextUnmarshalError", "Unable to parse %s JSON: %s" % (what, e))


def make_context(head):
    client_context = head.get(b"\r\nlambda-runtime-client-context:")
    identity = head.get(b"\r\nlambda-runtime-cognito-identity:")
    return LambdaContext(
        request_id,
        str(head.get(b"\r\nlambda-runtime-invoked-function-arn:") or b"", "utf-8", "replace"),
        int(head.get(b"\r\nlambda-runtime-deadline-ms:") or 0),
        ClientContext(parse_field(client_context, "Client Context")) if client_context else None,
        CognitoIdentity(parse_field(identity, "Cognito Identity") if identity else {}),
    )


# ---- logging ----


def set_up_logging(logging):
    """Gives the root logger Lambda's handler and format."""
    from time import gmtime

    class Handler(logging.Handler):
        def emit(self, record):
            record.aws_request_id = request_id
            sys.stdout.write(self.format(record))
            sys.stdout.flush()

    class JsonFormatter(logging.Formatter):
        def format(self, record):
            entry = {
                "timestamp": time_stamp(record.created),
                "level": record.levelname,
                "message": record.getMessage(),
                "logger": record.name,
                "requestId": request_id,
            }
            if record.exc_info and record.exc_info[0] is not None:
                entry["errorType"] = record.exc_info[0].__name__
                entry["errorMessage"] = str(record.exc_info[1])
                entry["stackTrace"] = own_frames_removed(record.exc_info[2])
            return to_json({k: v for k, v in entry.items() if v != ""}) + "\n"

    logging.Formatter.converter = gmtime
    handler = Handler()
    text = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
    handler.setFormatter(JsonFormatter() if JSON_LOGS else logging.Formatter(text, "%Y-%m-%dT%H:%M:%S"))
    root = logging.getLogger()
    root.addHandler(handler)
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
    level = {"TRACE": "DEBUG", "FATAL": "CRITICAL"}.get(level, level)
    if level in ("DEBUG", "INFO", "WARN", "WARNING", "ERROR", "CRITICAL"):
        root.setLevel(level)


class LoggingHook:
    """Sets logging up when something imports it, as many functions never do."""

    def find_spec(self, name, path=None, target=None):
        if name != "logging":
            return None
        sys.meta_path.remove(self)
        spec = None
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                break
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            set_up_logging(module)

        spec.loader.exec_module = exec_module
        return spec


# ---- start-up ----


def run_wrapper():
    """AWS_LAMBDA_EXEC_WRAPPER is a program that starts the runtime in our place, with our command line."""
    wrapper = os.environ.pop("AWS_LAMBDA_EXEC_WRAPPER", "")
    if not wrapper:
        return
    if not os.path.isfile(wrapper):
        sys.stderr.write("%s: does not exist\n" % wrapper)
        sys.exit(127)
    if not os.access(wrapper, os.X_OK):
        sys.stderr.write("%s: is not an executable\n" % wrapper)
        sys.exit(126)
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bootstrap.py")
    try:
        os.execv(wrapper, [wrapper, sys.executable, program])
    except OSError as e:
        sys.stderr.write("%s: %s\n" % (wrapper, e.strerror))
        sys.exit(126)


def drop_hash_seed():
    """The server chose it, so that versions of the function have the same. Programs that it starts draw their own. Says whether
    it has: then the version's layout is to be that of other versions. The spare text is an object where the version's number
    is none, and the other way round; it is kept as long."""
    chosen = os.environ.pop("THAW_HASH_SEED", None)
    SPARE.append(os.environb.pop(b"THAW_SPARE", None))
    if chosen and os.environ.get("PYTHONHASHSEED") == chosen:
        del os.environ["PYTHONHASHSEED"]
    return chosen is not None


def load_modules_apart():
    """See thaw_layout. False where its native part is missing, or of no use."""
    try:
        import thaw_layout
    except ImportError:
        return False
    try:
        return thaw_layout.start(os.environ.get("LAMBDA_TASK_ROOT", "/var/task"), "/opt")
    except OSError:
        return False


def set_up_path():
    version = "python%d.%d" % sys.version_info[:2]
    own = os.path.dirname(os.path.abspath(__file__))
    first = [
        os.environ.get("LAMBDA_TASK_ROOT", "/var/task"),
        "/opt/python/lib/%s/site-packages" % version,
        "/opt/python",
        own,
    ]
    sys.path[:] = first + [entry for entry in sys.path if entry not in first]


def set_up_output():
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(line_buffering=True, errors="backslashreplace")


def load_handler(name):
    """The function that _HANDLER names: "module.function", "folder/module.function", "package.module.function"."""
    try:
        module_name, function_name = name.rsplit(".", 1)
    except ValueError as e:
        raise Fault("Runtime.MalformedHandlerName", "Bad handler '%s': %s" % (name, e))
    if module_name.split(".")[0] in sys.builtin_module_names:
        raise Fault(
            "Runtime.BuiltInModuleConflict", "Cannot use built-in module %s as a handler module" % module_name
        )
    dotted = module_name.replace("/", ".")
    try:
        __import__(dotted)
    except ImportError as e:
        raise Fault("Runtime.ImportModuleError", "Unable to import module '%s': %s" % (module_name, e))
    except SyntaxError as e:
        trace = ['  File "%s" Line %s\n    %s' % (e.filename, e.lineno, e.text)]
        raise Fault("Runtime.UserCodeSyntaxError", "Syntax error in module '%s': %s" % (module_name, e), trace)
    except ValueError as e:  # an empty or a relative name
        raise Fault("Runtime.ImportModuleError", "Unable to import module '%s': %s" % (module_name, e))
    try:
        return getattr(sys.modules[dotted], function_name)
    except AttributeError:
        raise Fault(
            "Runtime.HandlerNotFound", "Handler '%s' missing on module '%s'" % (function_name, module_name)
        )


def initialise(client):
    try:
        return load_handler(os.environ.get("_HANDLER", ""))
    except Exception as e:
        error = describe_error(e)
        log_error(error)
        client.post_error(b"init/error", error, error["errorType"])
        sys.exit(1)


# ---- SnapStart ----


WARM_UP_HEAD = b"\r\n".join((
    b"HTTP/1.1 200 OK",
    b"Lambda-Runtime-Aws-Request-Id: 00000000-0000-0000-0000-000000000000",
    b"Lambda-Runtime-Deadline-Ms: 0",
    b"Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:warm-up",
    b"Lambda-Runtime-Trace-Id: Root=1-00000000-000000000000000000000000;Sampled=0",
    b"Content-Type: application/json",
    b"",
))


def warm_up(client):
    """Runs what a thawed clone will run first, until nothing about it changes any more."""
    head = Head(WARM_UP_HEAD)
    for _ in range(WARM_UP_ROUNDS):
        client.get(client.ping_request)
        answer_of(warm_up_handler, head, b'{"key": ["value", 1, 1.5, true, null]}')
    os.environb.pop(b"_X_AMZN_TRACE_ID", None)


def warm_up_handler(event, context):
    return event


def prime(client, handler):
    """Handles the sample events that the function is to be primed with, if any, as it will handle all others."""
    global request_id
    while True:
        status, head, body = client.get(client.prime_request)
        if status != 200:
            break
        handle(client, handler, head, body)
    request_id = ""


def make_unique():
    """Clones of one snapshot hold the same random state: give this one its own."""
    modules = sys.modules
    random = modules.get("random")
    if random is not None:
        random.seed()
    ssl = modules.get("_ssl")
    if ssl is not None:  # OpenSSL tells processes apart by their id, which clones share
        ssl.RAND_add(os.urandom(32), 32.0)
    numpy_random = modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def prepare_snapshot(client, hooks):
    try:
        before = hooks.get_before_snapshot() if hooks is not None else []
        while before:
            function, args, kwargs = before.pop()
            function(*args, **kwargs)
    except BaseException as e:
        error = describe_error(e)
        log_error(error)
        client.post_error(b"init/error", error, "Runtime.BeforeSnapshotError")
        sys.exit(64)
    warm_up(client)
    sys.stdout.flush()
    gc.collect()
    gc.freeze()  # the collector will not look at, and so not write to, what is shared


def freeze_and_restore(client, handler):
    """Primes, and prepares for the snapshot, which is taken here, or at the first invocation/next when no hook is to run after a
    restore: that saves every clone a round trip. Says whether the process is a unique clone already."""
    prime(client, handler)
    layout = sys.modules.get("thaw_layout")
    if layout is not None:
        layout.stop()
    hooks = sys.modules.get("snapshot_restore_py")
    prepare_snapshot(client, hooks)
    after = hooks.get_after_restore() if hooks is not None else []
    if not after:
        return False
    client.socket.sendall(client.restore_request)
    answer = client.socket.recv(RECV_BYTES)
    if not answer.startswith(b"HTTP/1.1 200"):
        sys.exit("restore/next: %r" % answer)
    make_unique()
    run_after_restore(client, after)
    return True


def run_after_restore(client, after):
    try:
        for function, args, kwargs in after:
            function(*args, **kwargs)
    except BaseException as e:
        error = describe_error(e)
        log_error(error)
        client.post_error(b"restore/error", error, "Runtime.AfterRestoreError")
        sys.exit(65)


# ---- events ----


def set_trace_id(head):
    trace_id = head.get(b"\r\nlambda-runtime-trace-id:")
    if trace_id is not None:
        if trace_id != os.environb.get(b"_X_AMZN_TRACE_ID"):
            os.environb[b"_X_AMZN_TRACE_ID"] = trace_id
    elif b"_X_AMZN_TRACE_ID" in os.environb:
        del os.environb[b"_X_AMZN_TRACE_ID"]


def parse_event(head, body):
    if head.get(b"\r\ncontent-type:") not in (b"application/json", None):
        return bytes(body)
    try:
        return from_json(body)
    except ValueError as e:
        raise Fault("Runtime.UnmarshalError", "Unable to unmarshal input: %s" % e)


def marshal(result):
    if isinstance(result, bytes):
        return result, b"application/unknown"
    try:
        return to_json(result).encode(), b"application/json"
    except Exception as e:
        raise Fault("Runtime.MarshalError", "Unable to marshal response: %s" % e)


def answer_of(handler, head, body):
    set_trace_id(head)
    context = make_context(head)
    return marshal(handler(parse_event(head, body), context))


def handle(client, handler, head, body):
    global request_id
    invoke_id = head.get(b"\r\nlambda-runtime-aws-request-id:") or b""
    request_id = str(invoke_id, "ascii", "replace")
    try:
        result, content_type = answer_of(handler, head, body)
    except Exception as e:
        error = describe_error(e, request_id)
        log_error(error)
        kind = e.kind if isinstance(e, Fault) else None
        status, _, text = client.post_error(b"invocation/" + invoke_id + b"/error", error, kind)
    else:
        status, _, text = client.post(b"invocation/" + invoke_id + b"/response", result, content_type)
    sys.stdout.flush()
    if status != 202:
        reason = bytes(text).decode("utf-8", "replace")
        sys.stdout.write("[ERROR] The answer was refused with status %d: %s\n" % (status, reason))


def serve(client, handler, unique):
    client.socket.sendall(client.next_request)
    while True:
        status, head, body = client.receive()
        if not unique:
            make_unique()
            unique = True
        if status != 200:
            sys.exit("invocation/next: status %d: %s" % (status, bytes(body).decode("utf-8", "replace")))
        handle(client, handler, head, body)
        if client.socket is None:
            client.connect()
        client.socket.sendall(client.next_request)


def main():
    run_wrapper()
    fixed = drop_hash_seed()
    set_up_path()
    set_up_output()
    sys.meta_path.insert(0, LoggingHook())
    if fixed:
        load_modules_apart()
    client = Client(os.environ["AWS_LAMBDA_RUNTIME_API"])
    handler = initialise(client)
    unique = True
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        unique = freeze_and_restore(client, handler)
    serve(client, handler, unique)
