"""A model as large as you like, loaded at init: MODEL_MB of it in the process's own memory, and what deploy.sh put into
model.bin mapped from the package. An event asks for a few of its weights, and with "touch_mb" for a checksum of so many MB
that are spread over the model, as an inference would touch a part of it."""

import mmap
import os
import struct
import time

MODEL_MB = int(os.environ.get("MODEL_MB", "1024"))
MB = 1 << 20
PAGE = 4096
FILE = os.path.join(os.environ.get("LAMBDA_TASK_ROOT", "."), "model.bin")


def make_anonymous(megabytes):
    """In each MB other weights, as if they had been read from somewhere and decoded: no page of it is like another."""
    memory = mmap.mmap(-1, megabytes * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block = memoryview(os.urandom(MB) * 2)
    for number in range(megabytes):
        shift = number * 4099 % MB
        memory[number * MB:(number + 1) * MB] = block[shift:shift + MB]
        struct.pack_into("<Q", memory, number * MB, number)
    return memory


def map_file():
    if not os.path.exists(FILE):
        return None
    with open(FILE, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


started = time.monotonic()
anonymous = make_anonymous(MODEL_MB)
from_file = map_file()
init_seconds = time.monotonic() - started


def touch(model, megabytes):
    """The sum of a byte of each page of that many MBs, which are equally far from each other."""
    count = len(model) // MB
    total = 0
    for number in range(min(megabytes, count)):
        start = number * count // megabytes * MB
        total += sum(model[start + 8:start + MB:PAGE])
    return total


def handler(event, context):
    """The numbers of the MBs around `place` (0 to 1), of both models."""
    place = float(event.get("place", 0.5))
    answer = {"model_mb": MODEL_MB, "init_seconds": round(init_seconds, 3)}
    for name, model in (("anonymous", anonymous), ("file", from_file)):
        if model is None:
            continue
        count = len(model) // MB
        first = max(0, min(count - 4, int(place * count)))
        answer[name] = [struct.unpack_from("<Q", model, number * MB)[0] for number in range(first, min(count, first + 4))]
    if event.get("touch_mb"):
        answer["touched"] = touch(anonymous, int(event["touch_mb"]))
    return answer
