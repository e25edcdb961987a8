#!/usr/bin/env python3
"""kvs-bench against a real kvs-server: output, exit status, the live line; and bench/run itself."""
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import tap  # noqa: E402

sys.path.insert(0, str(tap.SOURCE_DIR / "bench"))
from servers import Kvs  # noqa: E402

BENCH, SERVER = str(tap.BUILD_DIR / "kvs-bench"), str(tap.BUILD_DIR / "kvs-server")
SECONDS_MAX = 600  # a bound, not a measure


def bench(*arguments, **more):
    return subprocess.run([BENCH, *arguments], capture_output=True, text=True, timeout=SECONDS_MAX,
                          stdin=subprocess.DEVNULL, **more)


@contextlib.contextmanager
def server(directory):
    one = Kvs(SERVER, directory / "data", "interval", "kvs")
    one.start()
    try:
        yield one
    finally:
        one.remove()


def test_help_and_version():
    shown = bench("--help")
    assert shown.returncode == 0 and "--idle-connections" in shown.stdout and shown.stderr == ""
    assert bench("-V").stdout.startswith("kvs-bench ")


def test_misuse():
    for arguments in (["--nothing"], ["--keys", "0"], ["a", "b"], ["--read-ratio", "2"],
                      ["memory:", "--rate", "10"], ["esdb://127.0.0.1:1", "--rate", "10"],
                      ["http://127.0.0.1:1"], ["kvs://127.0.0.1:99999"], ["--workload", "txn"],
                      ["--tls-ca", "file"], ["memory:", "--tls-ca", "file"], ["esdb://127.0.0.1:99999"],
                      ["tikv://127.0.0.1:99999"]):
        result = bench(*arguments)
        assert result.returncode == 2 and result.stdout == "", result
        assert result.stderr.startswith("kvs-bench: ") and result.stderr.count("\n") == 1, result


def test_addresses_that_do_not_work():
    for url in ("kvs://127.0.0.1:1", "redis://127.0.0.1:1", "log:" + "x" * 1000):
        result = bench(url, "--timeout", "5")
        assert result.returncode == 1 and result.stdout == "", result
        assert result.stderr.startswith("kvs-bench: ") and result.stderr.count("\n") == 1, result


def test_the_wrong_protocol(directory):
    with server(directory) as one:
        result = bench(f"redis://127.0.0.1:{one.port}", "--timeout", "20")
        assert result.returncode == 1 and result.stderr.startswith("kvs-bench: "), result


def test_every_key_is_set_and_found(directory):
    with server(directory) as one:
        result = bench(one.url(), "--load", "--keys", "5000", "--workload", "get", "--requests", "20000",
                       "--pipeline", "16", "--idle-connections", "100", "--warm-up", "0", "--json")
        assert result.returncode == 0 and result.stderr == "", result
        report = json.loads(result.stdout)
        assert report["fill"]["set"]["answered"] == 5000
        assert report["measured"]["get"]["answered"] == 20000
        assert report["measured"]["missing_keys"] == 0 and report["measured"]["errors"] == 0


def test_transactions_tell_how_many_keys_they_filled(directory):
    result = bench(f"log:{directory}/data", "--load", "--keys", "100", "--workload", "bank", "--requests", "10",
                   "--warm-up", "0")
    assert result.returncode == 0 and "filled with 100 keys in " in result.stdout, result


def test_a_directory_is_shown_whole(directory):
    for url in (f"log:/{directory}/a@b", f"log:{directory}//a@b"):
        result = bench(url, "--load", "--keys", "10", "--requests", "10", "--warm-up", "0")
        assert result.returncode == 0 and result.stdout.startswith(url + "\n"), result


def test_what_was_not_counted_is_not_told(directory):
    told = "MB/s", "system calls a request"
    result = bench("memory:", "--requests", "1000", "--warm-up", "0")
    assert result.returncode == 0 and not any(words in result.stdout for words in told), result
    with server(directory) as one:
        result = bench(one.url(), "--requests", "1000", "--warm-up", "0")
        assert result.returncode == 0 and all(words in result.stdout for words in told), result


def test_missing_keys_are_no_errors(directory):
    with server(directory) as one:
        result = bench(one.url(), "--workload", "get", "--requests", "1000", "--warm-up", "0")
        assert result.returncode == 0 and "missing keys 1000\n" in result.stdout, result


def test_a_value_over_the_limit_is_said_before(directory):
    with server(directory) as one:
        result = bench(one.url(), "--value-size", "17m")
        assert result.returncode == 1 and "values up to" in result.stderr, result


def test_a_server_that_goes_away(directory):
    with server(directory) as one:
        process = subprocess.Popen([BENCH, one.url(), "--duration", "60", "--json"], text=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        one.stop(signal.SIGKILL)  # at any moment: connecting, warming up or measuring
        out, err = process.communicate(timeout=SECONDS_MAX)
        assert process.returncode == 1, (out, err)
        assert not out or json.loads(out)["measured"]["answered"] >= 0


def test_the_live_line_is_for_terminals(directory):
    with server(directory) as one:
        arguments = [BENCH, one.url(), "--duration", "1.5", "--warm-up", "0"]
        ours, theirs = tap.open_terminal()
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs)
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # a terminal whose other end has closed gives EIO
            while part := os.read(ours, 4096):
                seen += part
        os.close(ours)
        out = process.communicate(timeout=SECONDS_MAX)[0]
        assert b"measuring 1 s" in seen and b"per second" in out, (seen, out)


def test_an_interrupt_prints_what_was_measured(directory):
    with server(directory) as one:
        process = subprocess.Popen([BENCH, one.url(), "--duration", "60", "--warm-up", "0", "--json"], text=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        # A server that has worked so much is under load: the handlers are there.
        while one.cpu_seconds() < 0.1 and process.poll() is None:
            pass
        process.send_signal(signal.SIGINT)
        out = process.communicate(timeout=SECONDS_MAX)[0]
        assert process.returncode == 0 and json.loads(out)["measured"]["answered"] > 0, out


def test_the_bars_are_measured_by_one_command(directory):
    command = [str(tap.SOURCE_DIR / "bench/run"), "--build", str(tap.BUILD_DIR), "--servers", "kvs", "--quick",
               "--only", "start", "--scratch", str(directory), "--results", str(directory / "results"),
               "--markdown", str(directory / "table.md")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX)
    assert result.returncode == 0 and "start to first answer" in result.stdout, result
    assert "| resident after start |" in (directory / "table.md").read_text()
    samples = json.loads(next((directory / "results").iterdir()).read_text())["samples"]
    assert {sample["row"] for sample in samples} == {"start", "resident"}
    assert [path.name for path in directory.iterdir() if path.name.startswith("bench-")] == []


if __name__ == "__main__":
    tap.run(globals())
