"""examples/big-model: a snapshot that is mostly one large stretch of memory, and a file that it maps."""

import json
import os
import subprocess

import harness


def test_every_clone_has_the_whole_model(server):
    environment = dict(os.environ, THAW_ENDPOINT=server.endpoint, THAW=str(harness.BUILD / "thaw"))
    script = harness.ROOT / "examples/big-model/deploy.sh"
    subprocess.run([script, "--mb", "96", "--file-mb", "8", "big-model"], check=True, env=environment, timeout=120,
                   stdout=subprocess.DEVNULL)
    seen = []
    for place, what in (0, []), (0.25, ["--templates"]), (0.99, []):
        subprocess.run([harness.BUILD / "thaw", "evict", "big-model:1", *what], check=True, env=environment,
                       stdout=subprocess.DEVNULL)
        answer = subprocess.run([harness.BUILD / "thaw", "invoke", "big-model:1", "--payload",
                                 json.dumps({"place": place, "touch_mb": 20})], check=True, env=environment, capture_output=True)
        seen.append(json.loads(answer.stdout))
    assert [answer["anonymous"] for answer in seen] == [[0, 1, 2, 3], [24, 25, 26, 27], [92, 93, 94, 95]]
    assert [answer["file"] for answer in seen] == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]
    assert len({answer["init_seconds"] for answer in seen}) == 1, "the model was loaded once"
    assert len({answer["touched"] for answer in seen}) == 1, "and is the same in every clone"
