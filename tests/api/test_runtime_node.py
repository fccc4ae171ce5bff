"""The managed runtimes nodejsN.x, through the real server."""

import concurrent.futures
import json
import os
import re
import subprocess

import pytest

import harness


def host_node():
    assert os.path.exists("/usr/bin/node"), "these tests need Node: apt-get install nodejs"
    version = subprocess.run(["/usr/bin/node", "--version"], capture_output=True, text=True, check=True).stdout
    return f"nodejs{version[1:].split('.')[0]}.x"


NODE = host_node()


@pytest.fixture
def make_node(make_function):
    """make_node(source, ...): source is index.js, unless files are given."""

    def make(source=None, *, files=None, handler="index.handler", **more):
        more.setdefault("MemorySize", 512)
        return make_function(files=files or {"index.js": source}, runtime=NODE, handler=handler, **more)

    return make


def clones(function, version, count, event=None):
    """The answers of `count` clones that were alive at once: the handler must take a while."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: function.call(event, version), range(count)))


# Forms of handlers

HANDLERS = {
    "async": ({"index.js": "exports.handler = async (event) => ({ got: event })"}, "index.handler"),
    "sync promise": ({"index.js": "exports.handler = (event) => Promise.resolve({ got: event })"}, "index.handler"),
    "callback": ({"index.js": "exports.handler = (event, context, done) => setTimeout(done, 5, null, { got: event })"},
                 "index.handler"),
    "callback at once": ({"index.js": """
        exports.handler = (event, context, done) => {
          context.callbackWaitsForEmptyEventLoop = false;
          setInterval(() => {}, 1000);
          done(null, { got: event });
        };"""}, "index.handler"),
    "context.succeed": ({"index.js": "exports.handler = (event, context) => { context.succeed({ got: event }); }"},
                        "index.handler"),
    "context.done": ({"index.js": "exports.handler = (event, context) => { context.done(null, { got: event }); }"},
                     "index.handler"),
    "mjs": ({"index.mjs": "export const handler = async (event) => ({ got: event })"}, "index.handler"),
    "type module": ({"package.json": '{"type": "module"}',
                     "index.js": "const got = await Promise.resolve(1);\n"
                                 "export const handler = async (event) => ({ got: event })"}, "index.handler"),
    "cjs": ({"index.cjs": "exports.handler = async (event) => ({ got: event })"}, "index.handler"),
    "folder": ({"src/mod.js": "exports.handler = async (event) => ({ got: event })"}, "src/mod.handler"),
    "nested": ({"index.js": "exports.a = { b: { handler: async (event) => ({ got: event }) } }"},
               "index.a.b.handler"),
    "package": ({"node_modules/app/index.js": "exports.handler = async (event) => ({ got: event })"}, "app.handler"),
}


@pytest.mark.parametrize("form", HANDLERS)
def test_handler_forms(make_node, form):
    files, handler = HANDLERS[form]
    function = make_node(files=files, handler=handler)
    for event in [{"key": ["välue", 1.5, None]}, "text", None]:
        assert function.call(event) == {"got": event}


def test_an_empty_event_loop_answers_null(make_node):
    assert make_node("exports.handler = (event, context, done) => {}").call({}) is None
    assert make_node("exports.handler = async () => new Promise(() => {})").call({}) is None
    assert make_node("exports.handler = async () => {}").call({}) is None


def test_a_callback_waits_for_the_event_loop(make_node):
    function = make_node("""
        exports.handler = (event, context, done) => {
          const result = { late: false };
          setTimeout(() => { result.late = true; }, 50);
          done(null, result);
        };""")
    assert function.call({}) == {"late": True}


def test_response_stream(make_node):
    function = make_node("""
        const { pipeline } = require('stream/promises');
        exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {
          stream.setContentType('text/plain');
          await pipeline(async function* () { yield 'hello '; yield context.functionName; }, stream);
        });
        exports.http = awslambda.streamifyResponse(async (event, stream) => {
          stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201 });
          stream.write('body');
          stream.end();
        });""")
    assert function.raw({})["Payload"].decode() == f"hello {function.name}"


def test_large_payloads(make_node):
    function = make_node("exports.handler = async (event) => ({ length: event.length, back: event })")
    text = "é" * 1000000
    assert function.call(text) == {"length": 1000000, "back": text}
    error = make_node("exports.handler = async () => 'x'.repeat(7000000)").fail({})
    assert "exceeded maximum allowed payload size" in error["errorMessage"]


def test_context(make_node):
    function = make_node("""
        exports.handler = async (event, context) => ({
          ...context, left: context.getRemainingTimeInMillis(), trace: process.env._X_AMZN_TRACE_ID,
          nodePath: process.env.NODE_PATH, execution: process.env.AWS_EXECUTION_ENV, cwd: process.cwd(),
        });""", Timeout=20)
    answer = function.call({})
    assert answer["functionName"] == function.name
    assert answer["functionVersion"] == "$LATEST"
    assert answer["memoryLimitInMB"] == "512"
    assert answer["callbackWaitsForEmptyEventLoop"] is True
    assert answer["invokedFunctionArn"].endswith(f":function:{function.name}")
    assert re.fullmatch(r"[0-9a-f-]{36}", answer["awsRequestId"])
    assert answer["logGroupName"] == f"/aws/lambda/{function.name}"
    assert answer["logStreamName"]
    assert 0 < answer["left"] <= 20000
    assert answer["trace"].startswith("Root=1-")
    assert answer["execution"] == f"AWS_Lambda_{NODE}"
    assert answer["cwd"] == "/var/task"
    assert f"/opt/nodejs/node{NODE[6:-2]}/node_modules" in answer["nodePath"]


# Errors

ERRORS = {
    "thrown": ("async () => { throw new TypeError('no'); }", "TypeError", "no"),
    "thrown at once": ("() => { throw new RangeError('no'); }", "RangeError", "no"),
    "callback": ("(event, context, done) => done(new Error('no'))", "Error", "no"),
    "callback with text": ("(event, context, done) => done('no')", "string", "no"),
    "context.fail": ("(event, context) => context.fail(new Error('no'))", "Error", "no"),
    "rejected with an object": ("async () => Promise.reject({ a: 1 })", "object", "[object Object]"),
    "own class": ("async () => { class Own extends Error { name = 'Own' }; throw new Own('no'); }", "Own", "no"),
    "not JSON": ("async () => 1n", "Error", "Unable to stringify response body"),
}


@pytest.mark.parametrize("form", ERRORS)
def test_errors(make_node, form):
    handler, kind, message = ERRORS[form]
    error = make_node(f"exports.handler = {handler}").fail({})
    assert (error["errorType"], error["errorMessage"]) == (kind, message)
    assert isinstance(error["trace"], list)


def test_an_error_is_logged_and_the_environment_goes_on(make_node):
    function = make_node("""
        let count = 0;
        exports.handler = async () => { count++; if (count == 1) throw new Error('first'); return count; };""")
    answer = function.raw({}, LogType="Tail")
    line = next(line for line in answer["Log"].splitlines() if "\tERROR\t" in line)
    assert "\tERROR\tInvoke Error \t{" in line
    logged = json.loads(line.rpartition("\t")[2])
    assert (logged["errorType"], logged["errorMessage"]) == ("Error", "first")
    assert json.loads(answer["Payload"])["trace"] == logged["stack"]
    assert function.call({}) == 2


def test_rejections_and_exceptions_that_nobody_catches(make_node):
    function = make_node("""
        exports.handler = (event, context, done) => {
          if (event === 'reject') Promise.reject(new Error('lost'));
          if (event === 'throw') setTimeout(() => { throw new TypeError('late'); }, 5);
          if (event === 'fine') done(null, 'fine');
          else setTimeout(() => done(null), 5000);
        };""", Timeout=10)
    error = function.fail("reject")
    assert (error["errorType"], error["errorMessage"]) == ("Runtime.UnhandledPromiseRejection", "Error: lost")
    error = function.fail("throw")
    assert (error["errorType"], error["errorMessage"]) == ("TypeError", "late")
    assert function.call("fine") == "fine"


INIT_ERRORS = {
    "syntax": ({"index.js": "exports.handler = ("}, "index.handler", "Runtime.UserCodeSyntaxError", "SyntaxError: "),
    "syntax in a module": ({"index.mjs": "export const = 1"}, "index.handler", "Runtime.UserCodeSyntaxError",
                           "SyntaxError: "),
    "no module": ({"index.js": ""}, "other.handler", "Runtime.ImportModuleError",
                  "Error: Cannot find module 'other'\nRequire stack:"),
    "no import": ({"index.mjs": "import 'nowhere'"}, "index.handler", "Runtime.ImportModuleError",
                  "Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'nowhere'"),
    "no handler": ({"index.js": ""}, "index.handler", "Runtime.HandlerNotFound",
                   "index.handler is undefined or not exported"),
    "no function": ({"index.js": "exports.handler = 1"}, "index.handler", "Runtime.HandlerNotFound",
                    "index.handler is not a function"),
    "malformed": ({"index.js": ""}, "index", "Runtime.MalformedHandlerName", "Bad handler"),
    "thrown": ({"index.js": "throw new RangeError('no database')"}, "index.handler", "RangeError", "no database"),
    "top-level await": ({"index.mjs": "await Promise.reject(new Error('no'))"}, "index.handler", "Error", "no"),
}


@pytest.mark.parametrize("case", INIT_ERRORS)
def test_init_errors(make_node, case):
    files, handler, kind, message = INIT_ERRORS[case]
    error = make_node(files=files, handler=handler).fail({})
    assert error["errorType"] == kind
    assert error["errorMessage"].startswith(message)


# Logs

def test_console_in_text(make_node):
    function = make_node("""
        console.info('init %d', 1);
        exports.handler = async () => {
          console.log('one', { a: 1 });
          console.warn('two'); console.error('three'); console.debug('four'); console.trace('five');
        };""")
    answer = function.raw({}, LogType="Tail")
    lines = [line.split("\t") for line in answer["Log"].splitlines() if re.match(r"\d{4}-\d\d-\d\dT", line)]
    request = answer["ResponseMetadata"]["RequestId"]
    assert [line[1:] for line in lines if line[1] != "undefined"] == [
        [request, "INFO", "one { a: 1 }"], [request, "WARN", "two"], [request, "ERROR", "three"],
        [request, "DEBUG", "four"], [request, "TRACE", "five"]]


def test_console_in_json(make_node):
    function = make_node("""
        exports.handler = async () => {
          console.debug('hidden');
          console.log('one', 1);
          console.warn({ a: 1 });
          console.error('failed:', new TypeError('no'));
        };""", LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "INFO"})
    answer = function.raw({}, LogType="Tail")
    entries = [json.loads(line) for line in answer["Log"].splitlines() if line.startswith('{"timestamp"')]
    request = answer["ResponseMetadata"]["RequestId"]
    assert [(entry["level"], entry["requestId"]) for entry in entries] == [
        ("INFO", request), ("WARN", request), ("ERROR", request)]
    assert entries[0]["message"] == "one 1"
    assert entries[1]["message"] == {"a": 1}
    assert (entries[2]["errorType"], entries[2]["errorMessage"]) == ("TypeError", "no")
    assert entries[2]["stackTrace"]


def test_a_wrapper_starts_the_runtime(make_node):
    files = {"bootstrap": "#!/bin/sh\nexport WRAPPED=yes\nexec \"$@\" --trailing\n",
             "index.js": "exports.handler = async () => [process.env.WRAPPED, process.argv.at(-1),"
                         " process.env.AWS_LAMBDA_EXEC_WRAPPER ?? null]"}
    function = make_node(files=files, Environment={"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/bootstrap"})
    assert function.call({}) == ["yes", "--trailing", None]


# SnapStart

def test_initialised_once(make_node):
    function = make_node("""
        const born = Date.now(); let count = 0;
        exports.handler = async () => ({ born, count: ++count, now: Date.now(), up: performance.now() });""",
                         snap_start=True)
    version = function.publish()
    first = function.call({}, version)
    again = function.call({}, version)
    assert (first["count"], again["count"]) == (1, 2)
    assert again["born"] == first["born"]
    assert again["now"] >= first["now"] and again["up"] > first["up"]
    for templates in [False, True, False]:
        function.evict(version, templates)
        thawed = function.call({}, version)
        assert (thawed["born"], thawed["count"]) == (first["born"], 1)
        assert thawed["now"] > again["now"]


HOOKS = """
import { registerBeforeSnapshot, registerAfterRestore } from 'thaw-snapstart';
import { createRequire } from 'node:module';
const required = createRequire(import.meta.url)('thaw-snapstart');
const order = [];
registerBeforeSnapshot(async (word) => { order.push(word); }, 'before 1');
required.registerBeforeSnapshot(() => order.push('before 2'));
registerAfterRestore(() => order.push('after 1'));
required.registerAfterRestore(async () => { await null; order.push('after 2'); });
export const handler = async () => order;
"""


def test_hooks(make_node):
    function = make_node(files={"index.mjs": HOOKS}, snap_start=True)
    assert function.call({}) == [], "nothing is frozen, no hook runs"
    version = function.publish()
    assert function.call({}, version) == ["before 2", "before 1", "after 1", "after 2"]


def test_failing_hooks(make_node):
    function = make_node("""
        require('thaw-snapstart').registerBeforeSnapshot(() => { throw new TypeError('not now'); });
        exports.handler = async () => 1;""", snap_start=True)
    version = function.client.publish_version(FunctionName=function.name)["Version"]

    def settled():
        answer = function.client.get_function_configuration(FunctionName=function.name, Qualifier=version)
        return answer if answer["State"] != "Pending" else None

    answer = harness.wait_until(settled, "the version to fail")
    assert answer["State"] == "Failed"
    assert "not now" in answer["StateReason"]
    function = make_node("""
        require('thaw-snapstart').registerAfterRestore(() => { throw new TypeError('not now'); });
        exports.handler = async () => 1;""", snap_start=True)
    error = function.fail({}, function.publish())
    assert (error["errorType"], error["errorMessage"]) == ("TypeError", "not now")


UNIQUE = """
const crypto = require('crypto');
const draw = async () => ({
  math: Math.random(),
  uuid: crypto.randomUUID(),
  webUUID: globalThis.crypto?.randomUUID?.() ?? crypto.webcrypto.randomUUID(),
  bytes: crypto.randomBytes(16).toString('hex'),
  threadBytes: await new Promise((resolve, reject) =>
    crypto.randomBytes(16, (error, bytes) => error ? reject(error) : resolve(bytes.toString('hex')))),
  web: Buffer.from(crypto.webcrypto.getRandomValues(new Uint8Array(16))).toString('hex'),
  int: crypto.randomInt(2 ** 47),
  key: crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey
    .export({ type: 'spki', format: 'der' }).toString('hex'),
});
const { Worker } = require('worker_threads');
const worker = new Worker(`
  const { parentPort } = require('worker_threads');
  const crypto = require('crypto');
  crypto.randomBytes(8);
  parentPort.on('message', () => parentPort.postMessage(crypto.randomBytes(16).toString('hex')));
`, { eval: true });
const ask = () => new Promise((resolve) => { worker.once('message', resolve); worker.postMessage(0); });
let early;
const ready = (async () => {
  for (let i = 0; i < 3; i++) await draw();
  await ask();
})();
setInterval(() => { early = Math.random() + crypto.randomUUID(); }, 1);
exports.handler = async () => {
  await ready;
  early = undefined; // it may have been drawn before the snapshot
  await new Promise((resolve) => setTimeout(resolve, 50));
  const first = early;
  const drawn = { ...(await draw()), worker: await ask(), first };
  await new Promise((resolve) => setTimeout(resolve, 1500));
  return drawn;
};
"""


@pytest.mark.parametrize("timer", ["with a timer that draws", "with nothing before the event"])
def test_clones_are_unique(make_node, timer):
    source = UNIQUE if timer.startswith("with a timer") else UNIQUE.replace("setInterval(", "(() => {})(")
    function = make_node(source, snap_start=True, Timeout=30, MemorySize=1024)
    version = function.publish()
    drawn = clones(function, version, 3)
    function.evict(version)
    drawn += clones(function, version, 2)
    for source in drawn[0]:  # without the timer there is no "first"
        values = [clone[source] for clone in drawn]
        assert len(set(values)) == len(values), (source, values)


def test_what_is_drawn_is_in_range(make_node):
    function = make_node("""
        const { randomInt } = require('crypto');
        exports.handler = async () => {
          const ints = Array.from({ length: 3000 }, () => randomInt(3, 7));
          const maths = Array.from({ length: 20000 }, Math.random);
          const later = await new Promise((resolve) => randomInt(5, (error, value) => resolve(value)));
          let refused; try { randomInt(5, 5); } catch (error) { refused = error.code; }
          return { ints: [...new Set(ints)].sort(), low: Math.min(...maths), high: Math.max(...maths),
                   mean: maths.reduce((a, b) => a + b) / maths.length, later, refused };
        };""", snap_start=True)
    answer = function.call({}, function.publish())
    assert answer["ints"] == [3, 4, 5, 6]
    assert 0 <= answer["low"] < 0.01 and 0.99 < answer["high"] < 1 and 0.48 < answer["mean"] < 0.52
    assert 0 <= answer["later"] < 5
    assert answer["refused"] == "ERR_OUT_OF_RANGE"


def test_timers_servers_and_workers_go_on(make_node):
    function = make_node("""
        const http = require('http'), fs = require('fs/promises');
        const { Worker } = require('worker_threads');
        let ticks = 0, fired = false;
        setInterval(() => { ticks++; }, 10);
        let resolveFired;
        const firing = new Promise((resolve) => { resolveFired = resolve; });
        setTimeout(() => resolveFired(true), 1500);
        const server = http.createServer((request, response) => response.end(`served ${request.url}`));
        const listening = new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
        const worker = new Worker(
          "require('worker_threads').parentPort.on('message', function (n) { this.postMessage(n * 2); })",
          { eval: true });
        const double = (n) => new Promise((resolve) => { worker.once('message', resolve); worker.postMessage(n); });
        const warm = Promise.all([listening, double(1), fs.readFile(__filename)]);
        exports.handler = async (event) => {
          await warm;
          const before = ticks;
          const body = await (await fetch(`http://127.0.0.1:${server.address().port}/x`)).text();
          await fs.writeFile('/tmp/file', 'written');
          await new Promise((resolve) => setTimeout(resolve, 100));
          return { body, doubled: await double(21), file: await fs.readFile('/tmp/file', 'utf8'),
                   fired: await firing, ticked: ticks > before };
        };""", snap_start=True, Timeout=20, MemorySize=1024)
    version = function.publish()
    for answer in clones(function, version, 2):
        assert answer == {"body": "served /x", "doubled": 42, "file": "written", "fired": True, "ticked": True}
