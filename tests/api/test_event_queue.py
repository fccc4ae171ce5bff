"""Event invocations: accepted means on disk; they run once they can, also after a crash."""

import json
import signal
import time

import pytest
from botocore.exceptions import ClientError

import harness

RECORD = "def handler(event, context): print('ran', event); return event"


def ran(function):
    return function.daemon.thaw("logs", function.name, "-n", "1000").stdout


def test_an_event_is_accepted_and_runs(make_function):
    function = make_function(RECORD)
    answer = function.raw("one", InvocationType="Event")
    assert answer["StatusCode"] == 202 and answer["Payload"] == b""
    harness.wait_until(lambda: "ran one" in ran(function), "the event to run")


def test_a_failing_event_is_tried_twice_more(new_daemon, make_function):
    daemon = new_daemon(arguments=["--event-retry-ms", "100"]).start()
    function = make_function("def handler(event, context):\n    print('ran', event)\n    raise ValueError('no')", on=daemon)
    function.raw("again", InvocationType="Event")
    harness.wait_until(lambda: ran(function).count("ran again") >= 3, "the second retry")
    function.raw("later", InvocationType="Event")
    harness.wait_until(lambda: ran(function).count("ran later") >= 3, "the other's second retry")
    assert ran(function).count("ran again") == 3, "three attempts, and no more"


def test_too_large_an_event(make_function):
    function = make_function(RECORD)
    with pytest.raises(ClientError) as caught:
        function.raw("x" * 1_100_000, InvocationType="Event")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_accepted_events_survive_kill_9(new_daemon, make_function):
    daemon = new_daemon().start()
    function = make_function("import time\ndef handler(event, context):\n    time.sleep(0.2)\n    print('ran', event)",
                             on=daemon)
    for i in range(20):
        assert function.raw(f"event-{i}-", InvocationType="Event")["StatusCode"] == 202
    daemon.process.send_signal(signal.SIGKILL)
    daemon.process.wait()
    daemon.process = None
    daemon.check_nothing_left()
    daemon.start()
    harness.wait_until(lambda: all(f"ran event-{i}-" in ran(function) for i in range(20)), "all events to have run")
