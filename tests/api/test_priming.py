"""Priming: sample events that run before the freeze, in every runtime (Java's: test_runtime_java.py)."""

import json
import re

import pytest

import harness

EVENTS = [{"a": 1, "ä": [1.5, None, True]}, "bad", 2]
PRIME = {"Environment": {"THAW_PRIME": "events.json"}}

PYTHON = """
import os, random
from snapshot_restore_py import register_before_snapshot, register_after_restore
seen, order = [], []
if HOOKS:
    register_before_snapshot(lambda: order.append(["before", len(seen)]))
    register_after_restore(lambda: order.append(["after", len(seen)]))

def handler(event, context):
    if event == "wait":
        import time
        time.sleep(30)
    if event == "exit":
        os._exit(7)
    print("saw", event)
    if event == "bad":
        raise ValueError("a bad event")
    seen.append(event)
    known = context.get_remaining_time_in_millis() > 0 and bool(context.aws_request_id)
    return {"seen": seen, "order": order, "id": context.aws_request_id, "known": known, "random": random.random(),
            "trace": os.environ.get("_X_AMZN_TRACE_ID")}
"""

NODE = """
const { registerBeforeSnapshot, registerAfterRestore } = require('thaw-snapstart');
const seen = [], order = [];
if (HOOKS) {
  registerBeforeSnapshot(() => { order.push(['before', seen.length]); });
  registerAfterRestore(() => { order.push(['after', seen.length]); });
}
exports.handler = async (event, context) => {
  console.log('saw', JSON.stringify(event));
  if (event === 'bad') throw new RangeError('a bad event');
  seen.push(event);
  return { seen, order, id: context.awsRequestId, known: context.getRemainingTimeInMillis() > 0, random: Math.random() };
};
"""

RUBY = """
require 'thaw_snapstart'
$seen, $order = [], []
if HOOKS
  ThawSnapstart.before_snapshot { $order << ['before', $seen.size] }
  ThawSnapstart.after_restore { $order << ['after', $seen.size] }
end
def handler(event:, context:)
  puts "saw #{event}"
  raise 'a bad event' if event == 'bad'
  $seen << event
  { seen: $seen, order: $order, id: context.aws_request_id, known: context.get_remaining_time_in_millis > 0, random: rand }
end
"""

# A bootstrap that knows nothing of hooks or priming, as those of Go and Rust.
PROVIDED = """#!/usr/bin/INTERPRETER
import http.client, json, os, random
seen = []
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
def ask(method, path, body=None):
    api.request(method, "/2018-06-01/runtime/" + path, body)
    reply = api.getresponse()
    return reply, reply.read()
while True:
    reply, body = ask("GET", "invocation/next")
    random.seed()
    event, id = json.loads(body), reply.headers["Lambda-Runtime-Aws-Request-Id"]
    print("saw", event, flush=True)
    if event == "bad":
        ask("POST", f"invocation/{id}/error", '{"errorType": "Bad", "errorMessage": "a bad event"}')
        continue
    seen.append(event)
    ask("POST", f"invocation/{id}/response", json.dumps({"seen": seen, "order": [], "id": id,
        "known": int(reply.headers["Lambda-Runtime-Deadline-Ms"]) > 0, "random": random.random()}))
"""


def files_of(kind, hooks):
    word = {"python": str(hooks), "node": str(hooks).lower(), "ruby": str(hooks).lower()}.get(kind, "")
    name, source = {"python": ("app.py", PYTHON), "node": ("app.js", NODE), "ruby": ("app.rb", RUBY),
                    "provided": ("bootstrap", PROVIDED.replace("INTERPRETER", harness.PYTHON))}[kind]
    return {name: source.replace("HOOKS", word), "events.json": json.dumps(EVENTS)}


def runtime_of(server, kind):
    if kind == "provided":
        return "provided.al2023"
    if kind == "python":
        return harness.PYTHON
    offered = [r["runtime"] for r in server.get("/thaw/v1/runtimes")["runtimes"] if r["offered"]]
    return next(name for name in offered if name.startswith(kind))


def lines_of(server, name):
    return server.thaw("logs", name, "-n", "200").stdout.splitlines()


@pytest.mark.parametrize("kind, hooks", [("python", False), ("python", True), ("node", False), ("node", True),
                                         ("ruby", False), ("ruby", True), ("provided", False)])
def test_priming(make_function, server, kind, hooks):
    function = make_function(files=files_of(kind, hooks), runtime=runtime_of(server, kind), handler="app.handler",
                             snap_start=True, Timeout=20, **PRIME)
    version = function.publish()
    answers = []
    for _ in range(2):
        function.evict(version)
        answers.append(function.call("real", version))
    for answer in answers:
        assert answer["seen"] == [EVENTS[0], 2, "real"] and answer["known"]
        assert answer["order"] == ([["before", 2], ["after", 2]] if hooks else []), "hooks run after the priming"
    assert answers[0]["random"] != answers[1]["random"] and answers[0]["id"] != answers[1]["id"]
    assert function.call("real")["seen"] == ["real"], "no priming without a snapshot"
    lines = lines_of(server, function.name)
    begun = [re.search(r"PRIME_START RequestId: (\S+) Event: (\d) of 3$", line) for line in lines]
    begun = [match for match in begun if match]
    ended = [re.search(r"PRIME_REPORT RequestId: (\S+)\tDuration: [0-9.]+ ms(\tStatus: error)?", line) for line in lines]
    ended = [match for match in ended if match]
    assert [match[2] for match in begun] == ["1", "2", "3"]
    assert [match[1] for match in begun] == [match[1] for match in ended]
    assert [bool(match[2]) for match in ended] == [False, True, False]
    ids = {match[1] for match in begun}
    assert len(ids) == 3 and not ids & {answer["id"] for answer in answers}
    assert not any(f"RequestId: {i}" in line for i in ids for line in lines if " START " in line or " REPORT " in line)
    assert sum("saw bad" in line or 'saw "bad"' in line for line in lines) == 1
    assert sum("INIT_REPORT" in line for line in lines) == 1


def test_a_tag_primes_too(make_function, server):
    function = make_function(files={"app.py": "n = 0\ndef handler(e, c):\n    global n\n    n += 1\n    return n\n",
                                    "samples/one.json": '{"only": "one"}'},
                             snap_start=True, Tags={"THAW_PRIME": "samples/one.json"})
    assert function.call(None, function.publish()) == 2


@pytest.mark.parametrize("text, name, says", [
    ("{", "events.json", "THAW_PRIME: events.json is not JSON"),
    (None, "events.json", "events.json, a file of the package: No such file"),
    ("[]", "../../thaw.key", "a file of the package"),
    ("[]", "/etc/passwd", "a file of the package"),
    (json.dumps([0] * 1001), "events.json", "1000 are the most"),
    ('["good", "exit"]', "events.json", "event 2 (RequestId "),
    ('["wait"]', "events.json", "Task timed out after 1.00 seconds"),
])
def test_priming_that_fails_the_version(make_function, server, text, name, says):
    files = {"app.py": PYTHON.replace("HOOKS", "False")}
    if text is not None:
        files["events.json"] = text
    function = make_function(files=files, snap_start=True, Timeout=1, Environment={"THAW_PRIME": name})
    assert says in function.fail_to_publish()


def test_a_runtime_with_hooks_of_its_own_is_not_primed(make_function, server):
    """The official clients run their hooks before they say a word: too late for priming, and said so."""
    source = PROVIDED.replace("INTERPRETER", harness.PYTHON).replace(
        "while True:", 'if os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"] == "snap-start": ask("GET", "restore/next")\n'
        "while True:")
    function = make_function(files={"bootstrap": source, "events.json": "[1, 2]"}, runtime="provided.al2023",
                             snap_start=True, Timeout=20, **PRIME)
    version = function.publish()
    assert function.call("real", version)["seen"] == ["real"]
    assert any("PRIME_REPORT Events: 2\tStatus: not run, as the runtime asked restore/next" in line
               for line in lines_of(server, function.name))
