#!/usr/bin/env python3
"""tests/cli/test_tikv.py: kvs-server --tikv, and clients of it, from outside."""
import json
import re
import sys
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from harness import CLIENT, SECONDS_MAX, SERVER, Server, one_line, run  # noqa: E402
import tap  # noqa: E402

ANY = "--tikv=127.0.0.1:0,127.0.0.1:0,127.0.0.1:0"
PD = re.compile(r"PD on (\S+), store")


def pd_of(server):
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:  # the line comes right behind the one that tells readiness
        found = PD.search(server.log())
        if found:
            return found[1]
    raise AssertionError(server.log())


def regions(server):
    with urllib.request.urlopen(f"http://{pd_of(server)}/pd/api/v1/regions") as answer:
        return json.load(answer)["count"]


def lines(numbers):
    return b"".join(b'{"key":"%06d","value":"value-%d"}\n' % (i, i) for i in numbers)


def pairs(numbers):
    return b"".join(b"%06d\tvalue-%d\n" % (i, i) for i in numbers)


def test_regions_are_cut_while_clients_work(directory):
    with Server(directory, ANY, "--split-keys", "100") as server:
        url = f"tikv://{pd_of(server)}"
        before = regions(server)
        deadline = time.monotonic() + SECONDS_MAX
        count = 0
        # Until the regions have been cut under a client that is writing, and once more.
        while regions(server) < before + 20:
            assert time.monotonic() < deadline, server.log()
            done = run(CLIENT, "--url", url, "import", stdin=lines(range(count, count + 200)))
            assert done.status == 0, done
            count += 200
        done = run(CLIENT, "--url", url, "import", stdin=lines(range(count, count + 200)))
        assert done.status == 0, done
        count += 200
        assert run(CLIENT, "--url", url, "count").out == b"%d\n" % count
        shown = run(CLIENT, "--url", url, "scan", "--limit", str(count)).out
        assert shown == pairs(range(count)), shown[:200]
        there = regions(server)
        assert server.stop() == 0
    with Server(directory, ANY) as server:  # what was cut is cut
        assert regions(server) >= there
        assert run(CLIENT, "--url", f"tikv://{pd_of(server)}", "count").out == b"%d\n" % count


def test_splitting_is_for_regions(directory):
    for flags in (("--split-keys", "10"), ("--split-size", "1m"), ("--tikv", "--split-raw")):
        done = run(SERVER, "--dir", str(directory), "--addr", "127.0.0.1:0", *flags)
        assert done.status == 1 and "--split-" in one_line(done.err), done


tap.run(globals())
