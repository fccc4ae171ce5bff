"""The demonstration does what it says, and leaves nothing behind."""

import glob
import os
import shutil
import subprocess
import sys

import harness


def test_the_demonstration():
    aws = shutil.which("aws") or os.path.join(os.path.dirname(sys.executable), "aws")
    before = set(glob.glob("/tmp/thaw-demo-*"))
    done = subprocess.run([harness.ROOT / "scripts/demo.sh", "3"], capture_output=True, text=True, timeout=280,
                          env=dict(os.environ, THAW_AWS_CLI=aws, THAW_BUILD=str(harness.BUILD)))
    assert done.returncode == 0, done.stdout + done.stderr
    for said in ["frozen", "INIT_START", "RESTORE_REPORT", "cold start", "first thaw", "times as fast", "Stopped."]:
        assert said in done.stdout, done.stdout
    assert set(glob.glob("/tmp/thaw-demo-*")) <= before
