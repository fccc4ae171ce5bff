"""A model as large as you like, loaded at init: MODEL_MB of it in the process's own memory, and what deploy.sh put into
model.bin mapped from the package. An event asks for a few of its weights, as an inference would touch a part of a model."""

import mmap
import os
import struct
import time

MODEL_MB = int(os.environ.get("MODEL_MB", "1024"))
MB = 1 << 20
FILE = os.path.join(os.environ.get("LAMBDA_TASK_ROOT", "."), "model.bin")


def make_anonymous(megabytes):
    """In each MB other weights, as if they had been read from somewhere and decoded."""
    memory = mmap.mmap(-1, megabytes * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block = os.urandom(MB)
    for number in range(megabytes):
        memory[number * MB:(number + 1) * MB] = block
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
    return answer
