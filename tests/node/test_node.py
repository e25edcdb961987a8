#!/usr/bin/env python3
"""npm test of bindings/node, each of its tests as one line of TAP. Skipped without Node or packages.

test_node.py [asan|tsan ADDON]: with an addon that is built with a sanitizer, the tests of SANITIZED.
"""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import tap  # noqa: E402

PACKAGE = tap.SOURCE_DIR / "bindings" / "node"
NODE_MAJOR_MIN = 18
SECONDS_MAX = 840  # a bound, not a measure
# All kinds of calls, each given up, too, and each once by one of its shapes; npm run asan, or tsan, runs all.
SANITIZED = ["given_up", "kvs", "raw", "transaction"]
TEST = re.compile(r"^\s+(ok|not ok) \d+ - (.*?)( # SKIP.*)?$")


def skip(reason):
    print(f"TAP version 13\n1..0 # SKIP {reason}")
    sys.exit(0)


def node_major():
    try:
        version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
        return int(version.stdout.lstrip("v").split(".")[0])
    except (OSError, ValueError, subprocess.CalledProcessError):
        return 0


def install_packages():
    done = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=PACKAGE,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        skip("npm could not fetch the packages: " + done.stderr.strip().splitlines()[-1][:200])


def main():
    if shutil.which("npm") is None or node_major() < NODE_MAJOR_MIN:
        skip(f"no Node.js {NODE_MAJOR_MIN} or later with npm here")
    if not (PACKAGE / "node_modules" / "typescript").exists():
        install_packages()
    command = ["node", "scripts/test.mjs"]
    if len(sys.argv) == 3:
        command = ["node", "scripts/sanitize.mjs", sys.argv[1], "--addon=" + sys.argv[2], *SANITIZED]
    done = subprocess.run([*command, "--test-reporter=tap"], cwd=PACKAGE, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=SECONDS_MAX,
                          env={**os.environ, "CI": ""})
    print("TAP version 13")
    count = failed = 0
    for line in done.stdout.splitlines():
        found = TEST.match(line)
        if not found:
            if failed:
                print("# " + line)
            continue
        count += 1
        failed += found[1] == "not ok"
        print(f"{found[1]} {count} - {found[2]}{found[3] or ''}")
    if done.returncode != 0 and failed == 0:
        count += 1
        failed += 1
        print(f"not ok {count} - npm test ended with status {done.returncode}")
    print(f"1..{count}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
