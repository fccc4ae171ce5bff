"""The function of the official clients' tests, for awslambdaric: see tests/clients/README.md for what it answers."""

import logging
import os
import threading
import time
import uuid

from snapshot_restore_py import register_after_restore, register_before_snapshot

born = uuid.uuid4().hex
hooks = []
clone = None
count = 0
ticks = 0
asked, answered = threading.Semaphore(0), threading.Semaphore(0)


def tick():
    global ticks
    while True:
        time.sleep(0.001)
        ticks += 1


def serve():
    while True:
        asked.acquire()
        answered.release()


worked = 0


def work():
    """Is in the middle of something whenever it is looked at."""
    global worked
    while True:
        for _ in range(20):
            sorted([str(n) for n in range(500)])
        worked += 1
        time.sleep(0.001)


threading.Thread(target=tick, daemon=True).start()
if "BUSY" in os.environ:
    for _ in range(2):
        threading.Thread(target=work, daemon=True).start()
for _ in range(4):
    threading.Thread(target=serve, daemon=True).start()


def hook(name):
    hooks.append(name)
    if os.environ.get("FAIL") == name:
        raise RuntimeError(f"the hook {name} failed")


register_before_snapshot(hook, "before 1")
register_before_snapshot(hook, "before 2")
register_after_restore(hook, "after 1")
register_after_restore(hook, "after 2")


def threads_work():
    before, worked_before = ticks, worked
    for _ in range(16):
        asked.release()
    for _ in range(16):
        answered.acquire()
    while ticks < before + 3 or ("BUSY" in os.environ and worked < worked_before + 3):
        time.sleep(0.001)
    return True


def handler(event, context):
    global clone, count
    clone = clone or uuid.uuid4().hex
    count += 1
    if event.get("do") == "fail":
        raise ValueError("it failed")
    if event.get("do") == "exit":
        os._exit(7)
    if "log" in event:
        print(event["log"], flush=True)
        logging.getLogger().error("logged: %s", event["log"])
    time.sleep(event.get("hold_ms", 0) / 1000)
    return {"event": event, "born": born, "clone": clone, "count": count, "hooks": hooks, "threads": threads_work(),
            "request": context.aws_request_id, "arn": context.invoked_function_arn,
            "remaining": context.get_remaining_time_in_millis()}
