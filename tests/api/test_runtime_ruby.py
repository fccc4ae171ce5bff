"""The managed runtimes ruby3.N, through the real server."""

import concurrent.futures
import os
import re

import pytest

import harness


def host_ruby():
    assert os.path.exists("/usr/bin/ruby"), "these tests need Ruby: apt-get install ruby"
    return os.path.basename(os.path.realpath("/usr/bin/ruby"))


RUBY = host_ruby()


@pytest.fixture
def make_ruby(make_function):
    """make_ruby(source, ...): source is app.rb."""

    def make(source, handler="app.handler", files=None, **more):
        more.setdefault("MemorySize", 512)
        return make_function(files={"app.rb": source, **(files or {})}, runtime=RUBY, handler=handler, **more)

    return make


HANDLERS = {
    "method": ("def handler(event:, context:) = { got: event }", "app.handler"),
    "class": ("module Pets; class Api; def self.call(event:, context:) = { got: event }; end; end",
              "app.Pets::Api.call"),
}


@pytest.mark.parametrize("form", HANDLERS)
def test_handler_forms(make_ruby, form):
    source, handler = HANDLERS[form]
    function = make_ruby(source, handler)
    for event in [{"key": ["välue", 1.5, None]}, "text", None]:
        assert function.call(event) == {"got": event}


def test_folders_and_requires(make_ruby):
    function = make_ruby("", "src/mod.handler", files={
        "src/mod.rb": "require 'lib/more'\nrequire_relative 'near'\n"
                      "def handler(event:, context:) = [MORE, NEAR]",
        "lib/more.rb": "MORE = 1", "src/near.rb": "NEAR = 2"})
    assert function.call() == [1, 2]


def test_large_payloads(make_ruby):
    function = make_ruby("def handler(event:, context:) = { length: event.length, back: event }")
    text = "é" * 1000000
    assert function.call(text) == {"length": 1000000, "back": text}
    error = make_ruby("def handler(event:, context:) = 'x' * 7000000").fail({})
    assert "exceeded maximum allowed payload size" in error["errorMessage"]


def test_context(make_ruby):
    function = make_ruby("""
        def handler(event:, context:)
          names = %w[aws_request_id invoked_function_arn log_group_name log_stream_name function_name
                     memory_limit_in_mb function_version deadline_ms]
          names.to_h { |name| [name, context.public_send(name)] }
               .merge(left: context.get_remaining_time_in_millis, trace: ENV['_X_AMZN_TRACE_ID'], cwd: Dir.pwd)
        end""", Timeout=20)
    answer = function.call({})
    assert answer["function_name"] == function.name
    assert answer["function_version"] == "$LATEST"
    assert answer["memory_limit_in_mb"] == "512"
    assert answer["invoked_function_arn"].endswith(f":function:{function.name}")
    assert re.fullmatch(r"[0-9a-f-]{36}", answer["aws_request_id"])
    assert answer["log_group_name"] == f"/aws/lambda/{function.name}"
    assert 0 < answer["left"] <= 20000
    assert answer["trace"].startswith("Root=1-")
    assert answer["cwd"] == "/var/task"


def test_errors(make_ruby):
    function = make_ruby("""
        class Own < StandardError; end
        def handler(event:, context:)
          raise Own, 'no' if event == 'own'
          raise NotImplementedError, 'never' if event == 'script'
          exit 3 if event == 'exit'
          'fine'
        end""")
    error = function.fail("own")
    assert (error["errorType"], error["errorMessage"]) == ("Function<Own>", "no")
    assert "app.rb:4" in error["stackTrace"][0]
    error = function.fail("script")
    assert (error["errorType"], error["errorMessage"]) == ("Function<NotImplementedError>", "never")
    assert function.call("else") == "fine"
    assert "exit status 3" in function.fail("exit")["errorMessage"]
    assert function.call("else") == "fine"


INIT_ERRORS = {
    "syntax": ("def handler(", "app.handler", "Init<SyntaxError>"),
    "no file": ("", "other.handler", "Init<LoadError>"),
    "no class": ("", "app.Nothing.handler", "Init<NameError>"),
    "malformed": ("", "app", "Init<ArgumentError>"),
    "empty part": ("", "app..handler", "Init<ArgumentError>"),
    "raised": ("raise KeyError, 'no database'", "app.handler", "Init<KeyError>"),
}


@pytest.mark.parametrize("case", INIT_ERRORS)
def test_init_errors(make_ruby, case):
    source, handler, kind = INIT_ERRORS[case]
    assert make_ruby(source, handler).fail({})["errorType"] == kind


def test_output_is_logged(make_ruby):
    answer = make_ruby("def handler(event:, context:)\n  puts 'to out'\n  warn 'to err'\nend").raw({}, LogType="Tail")
    assert "to out\n" in answer["Log"] and "to err\n" in answer["Log"]


HOOKS = """
require 'thaw_snapstart'
$order = []
ThawSnapstart.before_snapshot { $order << 'before 1' }
ThawSnapstart.before_snapshot { $order << 'before 2' }
ThawSnapstart.after_restore { $order << 'after 1' }
ThawSnapstart.after_restore { $order << 'after 2' }
def handler(event:, context:) = $order
"""


def test_hooks(make_ruby):
    function = make_ruby(HOOKS, snap_start=True)
    assert function.call({}) == [], "nothing is frozen, no hook runs"
    version = function.publish()
    for _ in range(2):
        assert function.call({}, version) == ["before 2", "before 1", "after 1", "after 2"]
        function.evict(version)


def test_failing_hooks(make_ruby):
    function = make_ruby("require 'thaw_snapstart'\nThawSnapstart.after_restore { raise KeyError, 'not now' }\n"
                         "def handler(event:, context:) = 1", snap_start=True)
    error = function.fail({}, function.publish())
    assert (error["errorType"], error["errorMessage"]) == ("Runtime<KeyError>", "not now")


UNIQUE = """
require 'openssl'
require 'securerandom'
HOOK
def draw
  { rand: rand, random: Random.rand(10**12), shuffled: (0..10**4).to_a.sample(5), secure: SecureRandom.hex(16),
    uuid: SecureRandom.uuid, ssl: OpenSSL::Random.random_bytes(16).unpack1('H*'),
    key: OpenSSL::PKey::EC.generate('prime256v1').private_key.to_s }
end
3.times { draw }
$ticks = Queue.new
Thread.new { loop { sleep 0.01; $ticks << 1 if $ticks.size < 1000 } }
def handler(event:, context:)
  drawn = draw
  $ticks.clear
  $ticks.pop
  sleep 1.5
  drawn
end
"""


@pytest.mark.parametrize("hook", ["", "require 'thaw_snapstart'\nThawSnapstart.after_restore { rand }"])
def test_clones_are_unique(make_ruby, hook):
    function = make_ruby(UNIQUE.replace("HOOK", hook), snap_start=True, Timeout=30)
    version = function.publish()
    drawn = []
    for count in [3, 2]:
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            drawn += pool.map(lambda _: function.call({}, version), range(count))
        function.evict(version)
    for source in drawn[0]:
        values = [str(clone[source]) for clone in drawn]
        assert len(set(values)) == len(values), (source, values)
