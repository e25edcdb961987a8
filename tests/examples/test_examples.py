#!/usr/bin/env python3
"""The example programs: each does its task on each kind of store, and says what fails."""
import socket
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import tap  # noqa: E402

sys.path.insert(0, str(tap.SOURCE_DIR / "bench"))
from servers import Kvs  # noqa: E402

NAMES = ["blocking", "callbacks", "composed", "operations", "uv_loop"]
SERVER = tap.BUILD_DIR / "kvs-server"
SECONDS_MAX = 600  # a bound, not a measure


def example(name, *arguments):
    program = tap.BUILD_DIR / "examples" / f"example_{name}"
    return subprocess.run([program, *arguments], capture_output=True, text=True,
                          timeout=SECONDS_MAX)


def assert_does_its_task(url_of):
    for name in NAMES:
        result = example(name, url_of(name))
        assert result.stdout == f"{name}: stored 1000, sum 499500, removed 1000\n", result
        assert result.returncode == 0 and result.stderr == "", result


def test_in_memory():
    assert_does_its_task(lambda name: "memory:")


def test_in_a_directory(directory):
    assert_does_its_task(lambda name: f"log:{directory / name}")
    assert_does_its_task(lambda name: f"log:{directory / 'shared'}")


def test_on_a_server(directory):
    if not SERVER.exists():
        raise tap.Skip("no kvs-server in this build")
    server = Kvs(str(SERVER), directory / "data", "never", "kvs")
    server.start()
    try:
        assert_does_its_task(lambda name: f"kvs://127.0.0.1:{server.port}")
    finally:
        server.remove()


def test_transactions(directory):
    for url in ("memory:", f"log:{directory / 'data'}"):
        result = example("transactions", url)
        assert result.stdout == "transactions: 100 transfers, 1000 in 10 accounts\n", result
        assert result.returncode == 0 and result.stderr == "", result
    result = example("transactions", "kvs://127.0.0.1")
    assert result.returncode == 1 and "tikv://" in result.stderr, result
    assert example("transactions").returncode == 2


def assert_events_are_seen(url):
    result = example("events", url)
    assert result.stdout == "events: appended 1000, seen 1000, sum 499500\n", result
    assert result.returncode == 0 and result.stderr == "", result


def test_event_streams(directory):
    assert_events_are_seen("memory:")
    assert_events_are_seen(f"log:{directory}/streams")
    result = example("events", "esdb://127.0.0.1:1")
    assert result.returncode == 1 and "cannot connect" in result.stderr, result


def test_failures_are_told():
    with socket.socket() as unused:  # bound, but nobody listens
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        for name in NAMES:
            result = example(name, f"kvs://127.0.0.1:{port}")
            assert result.returncode == 1 and result.stdout == "", result
            assert f"127.0.0.1:{port}: cannot connect" in result.stderr, result
            result = example(name, "redis://x")
            assert result.returncode == 1 and "no known kind of store" in result.stderr, result
            result = example(name)
            assert result.returncode == 2 and f"usage: {name} URL, such as memory:" in result.stderr, result


tap.run(globals())
