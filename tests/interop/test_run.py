#!/usr/bin/env python3
"""Two runs would write the same logs and build in the same folders: the second one is refused."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import tap  # noqa: E402

SECONDS_MAX = 60


def test_a_second_run_is_refused(directory):
    """In a copy, with a compiler that takes its time."""
    shutil.copytree(tap.SOURCE_DIR / "tests" / "interop", directory / "tests" / "interop",
                    ignore=shutil.ignore_patterns("__pycache__"))
    fifo, compiler = directory / "fifo", directory / "cc"
    os.mkfifo(fifo)
    compiler.write_text(f"#!/bin/sh\nread line <{fifo}\nexit 1\n")
    compiler.chmod(0o755)
    command = [sys.executable, "-B", str(directory / "tests" / "interop" / "run")]
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True,
               "env": {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}", "TMPDIR": str(directory)}}
    first = subprocess.Popen([*command, "tikv", "--clients", "kvs"], **options)
    tap.kill_at_exit(first)
    with fifo.open("w"):  # the first one's compiler has begun to read
        second = subprocess.run([*command, "tikv", "--clients", "kvs"], timeout=SECONDS_MAX, **options)
        assert second.returncode == 1 and second.stdout == "", second
        assert "another run is under way in " in second.stderr and second.stderr.count("\n") == 1, second
        first.kill()
        first.communicate()
    third = subprocess.run([*command, "own", "--clients", ""], timeout=SECONDS_MAX, **options)
    assert third.stdout.endswith("0 passed, 0 failed, 0 skipped\n") and third.stderr == "", third


if __name__ == "__main__":
    tap.run(globals())
