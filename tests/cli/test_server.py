#!/usr/bin/env python3
"""kvs-server from outside: start, what stops it from starting, stop, and what is left after it."""
import os
import re
import resource
import signal
import socket
import subprocess
from pathlib import Path

from harness import CLIENT, SECONDS_MAX, SERVER, Server, environment, run, tap


def refuses(*arguments, says):
    """A server that must not start: one clear last line, a status that tells."""
    result = run(SERVER, "--addr", "127.0.0.1:0", *arguments)
    assert result.status not in (0, None) and result.status > 0, result
    assert result.out == b"", result
    last = result.err.decode().splitlines()[-1]
    for word in says:
        assert word in last, (word, result.err)
    return result


def test_the_start_is_told(directory):
    with Server(directory) as server:
        text = server.log()
        for word in ("0.1.0", "kvs", server.addr):
            assert word in text, text
        assert server.stop() == 0


def test_event_streams_are_told_and_warned_of(directory):
    ports = ("--eventstore=127.0.0.1:0", "--http=127.0.0.1:0")
    with Server(directory, *ports) as server:
        assert server.stop() == 0
        text = server.log()
        for word in ("serving EventStoreDB's clients on 127.0.0.1:", "serving HTTP on 127.0.0.1:", "changeit"):
            assert word in text, text
    with Server(directory, *ports, "--insecure") as server:
        assert server.stop() == 0
        text = server.log()
        assert "--insecure" in text and "changeit" not in text, text
    refuses("--dir", directory, "--eventstore=nonsense", says=("nonsense",))
    refuses("--engine", "tikv", "--pd", "127.0.0.1:1", "--eventstore", says=("--eventstore", "tikv"))


def test_values_survive_a_restart(directory):
    with Server(directory) as server:
        server.ok("set", "key1", "value1")
        server.ok("set", "key2", "value2")
        server.ok("rm", "key1")
        assert server.stop() == 0
    with Server(directory) as server:
        assert server.ok("get", "key1") == b"Key not found\n"
        assert server.ok("get", "key2") == b"value2\n"
        server.kill()
    with Server(directory) as server:
        assert server.ok("get", "key2") == b"value2\n"


def test_the_rocksdb_engine(directory):
    if not os.environ.get("KVS_ROCKSDB"):
        refuses("--dir", str(directory), "--engine", "rocksdb", says=("built without",))
        return
    with Server(directory, "--engine", "rocksdb") as server:
        server.ok("set", "key1", "value1")
        server.ok("set", "key2", "value2")
        server.ok("rm", "key1")
        server.kill()
    refuses("--dir", str(directory), "--engine", "kvs", says=("another engine", "rocksdb"))
    with Server(directory) as server:  # what the directory was made with
        assert server.ok("get", "key1") == b"Key not found\n"
        assert server.ok("get", "key2") == b"value2\n"
        assert server.stop() == 0


def test_reads_by_io_uring(directory):
    """Where the kernel or the build has none, the start fails and says so."""
    with Server(directory, "--file-io", "pool") as server:
        server.ok("set", "k", "v")
    try:
        with Server(directory, "--file-io", "uring") as server:
            assert server.ok("get", "k") == b"v\n"
            assert "io_uring" in server.log(), server.log()
    except AssertionError as error:
        assert "io_uring is not to be had here" in str(error), error
    unknown = run(SERVER, "--file-io", "threads", "--dir", str(directory))
    assert unknown.status != 0 and b"--file-io" in unknown.err, unknown


def test_memory_for_the_cache_at_the_start(directory):
    with Server(directory, "--cache", "128m", "--cache-prefault") as server:
        server.ok("set", "k", "v")
        resident = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{server.process.pid}/status").read_text()).group(1))
        assert resident >= 60 * 1024, resident  # KiB: two segments, of which the newest is young
        assert "made it in" in server.log(), server.log()
        assert server.stop() == 0
    with Server(directory, "--cache", "128m") as server:
        assert server.ok("get", "k") == b"v\n"
        assert "made it in" not in server.log(), server.log()
    refused = run(SERVER, "--dir", str(directory), "--addr", "127.0.0.1:0", "--cache", "900000g", "--cache-prefault")
    assert refused.status == 1 and b"no memory for a cache of" in refused.err, refused
    other = run(SERVER, "--engine", "memory", "--addr", "127.0.0.1:0", "--cache-prefault")
    assert other.status != 0 and b"only the engine kvs" in other.err, other


def test_acknowledged_values_survive_a_kill(directory):
    for round_number in range(3):
        with Server(directory) as server:
            for number in range(round_number):
                assert server.ok("get", f"key{number}") == b"%d\n" % number
            server.ok("set", f"key{round_number}", str(round_number))
            server.kill()


def test_stopping(directory):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where these tests run under nohup
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with Server(directory) as server:
            server.ok("set", "a", "1")
            server.process.send_signal(number)
            assert server.process.wait(SECONDS_MAX) == 0, server.log()


def test_a_hangup_that_is_ignored(directory):
    """As nohup does it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Server(directory) as server:
            server.process.send_signal(signal.SIGHUP)
            server.ok("set", "a", "1")
            assert server.stop() == 0 and "SIGTERM" in server.log(), server.log()
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_started_without_standard_files(directory):
    """What it says must not go into the store's files, which would take the free numbers."""
    shell = 'exec "$0" --dir "$1" --addr 127.0.0.1:0 --log-level debug <&- >&- 2>&-'
    process = subprocess.Popen(["sh", "-c", shell, SERVER, directory / "data"], env=environment())
    tap.kill_at_exit(process)
    while not os.path.exists(directory / "data" / "0000000001.seg"):
        assert process.poll() is None, process.returncode
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS_MAX) == 0
    with Server(directory / "data") as server:
        server.ok("set", "a", "1")
        assert server.stop() == 0
    assert run(SERVER, "--dir", str(directory / "data"), "--verify").status == 0
    for closed in ("<&-", ">&-", "<&- >&-"):
        done = subprocess.run(["sh", "-c", f'exec "$0" "$@" {closed}', CLIENT, "set", "k", "v", "--url", f"log:{directory}/data"],
                              stderr=subprocess.PIPE, env=environment(), check=False)
        assert done.returncode == 0 and done.stderr == b"", (closed, done)
    done = subprocess.run(["sh", "-c", 'exec "$0" "$@" >&-', CLIENT, "get", "k", "--url", f"log:{directory}/data"],
                          stderr=subprocess.PIPE, env=environment(), check=False)
    assert done.returncode == 1 and b"standard output" in done.stderr, done


def test_a_file_that_must_not_grow(directory):
    """As a full disk: writes are refused, the log says so once, and all goes on."""
    with Server(directory) as server:
        server.ok("set", "before", "1")
        soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        size = os.stat(directory / "0000000001.seg").st_size
        for more in (0, 1001, 4096): # whole blocks, and none
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size + more, hard))
            result = server.client("import", "--merge", stdin=b'{"key":"k","value":"%s"}\n' % (b"v" * 4000000))
            assert result.status == 1 and b"no space" in result.err, result
        assert server.ok("get", "before") == b"1\n"
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (soft, hard))
        server.ok("set", "k", "v")
        assert server.stop() == 0
        assert server.log().count("storage: no space") == 1, server.log()


def test_few_open_files(directory):
    """However few: what is wrong is said, and no program is aborted. (Looking for leaks needs files.)"""
    no_leaks = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
    for program, few in [(f"{SERVER} --addr 127.0.0.1:0 --dir {directory}", range(4, 15)),
                         (f"{CLIENT} get a --url memory:", range(4, 9))]:
        for files in few:
            done = subprocess.run(["sh", "-c", f"ulimit -n {files}; exec {program}"], capture_output=True,
                                  timeout=SECONDS_MAX, env=environment(**no_leaks), check=False)
            assert done.returncode >= 0, (files, done)
            assert done.returncode == 0 or re.search(b"(?i)too many open files|Error 24", done.stderr), (files, done)


NEEDS = (  # the option, its value, and what it needs
    ("sync-interval", "2", "--sync interval"), ("tls-cert", "a.pem", "--tls-key"), ("tls-key", "a.pem", "--tls-cert"),
    ("tls-ca", "a.pem", "--tls-cert"), ("keyspaces", "a", "--tikv"), ("split-keys", "10", "--tikv"),
    ("split-size", "1m", "--tikv"), ("split-raw", None, "--split-keys or --split-size"),
    ("insecure", None, "--eventstore or --http"), ("projections", "common", "--eventstore or --http"),
    ("stats-interval", "30", "--eventstore or --http"), ("heartbeat-interval", "2", "--eventstore or --http"),
    ("heartbeat-timeout", "1", "--eventstore or --http"), ("advertise", "localhost", "--http or --tikv"),
    ("gossip-master", None, "--http"), ("pd", "127.0.0.1:1", "--engine tikv"), ("pd-ca", "a.pem", "--pd"),
    ("pd-cert", "a.pem", "--pd"), ("pd-key", "a.pem", "--pd-cert"))


def test_options_that_go_with_others(directory):
    """They would be of no use without: then they are mistakes, also as the defaults."""
    config = directory / "config"
    for name, value, needed in NEEDS:
        words = (f"--{name}",) if value is None else (f"--{name}", value)
        done = refuses("--dir", str(directory / "data"), *words, says=(f"--{name} is of no use without {needed}: ",))
        assert done.status == 2 and not (directory / "data").exists(), done
        config.write_text(name if value is None else f"{name} = {value}")
        done = refuses("--config", str(config), says=(f"--{name} is of no use without {needed}: ", str(config)))
        assert done.status == 2, done
    refuses("--tikv", "--split-raw", says=("--split-keys or --split-size",))
    refuses("--sync", "always", "--sync-interval", "2", says=("--sync interval",))
    refuses("--engine", "rocksdb", "--pd", "127.0.0.1:1", says=("--engine tikv",))
    # What the file has together, the command line may change a part of; and each may have a part.
    config.write_text("sync = interval\nsync-interval = 2\nheartbeat-interval = 9\n")
    events = ("--eventstore=127.0.0.1:0", "--sync", "always")
    with Server(directory / "data", "--config", str(config), *events) as server:
        assert server.stop() == 0
    config.write_text("sync = interval\n")
    refuses("--config", str(config), "--sync", "never", "--sync-interval", "2", says=("--sync interval",))
    with Server(directory / "data", "--config", str(config), "--sync-interval", "2") as server:
        assert server.stop() == 0
    refuses("--dir", str(directory), "--backup-dir", str(directory / "missing"), says=("missing", "--backup-dir", "no such directory"))


def test_files_that_are_others(directory):
    """A file for a directory, a text for a certificate."""
    text = directory / "text"
    text.write_text("nothing in PEM\n")
    refuses("--dir", str(text), says=(str(text), "is none"))
    refuses("--dir", str(directory), "--tls-cert", str(text), "--tls-key", str(text), says=(str(text), "none in PEM"))


def test_the_directory_is_not_for_everybody(directory):
    with Server(directory / "data"):
        assert os.stat(directory / "data").st_mode & 0o007 == 0


def test_a_directory_in_use(directory):
    with Server(directory):
        refuses("--dir", str(directory), says=("in use by another process",))


def test_a_port_in_use(directory):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        addr = "127.0.0.1:%d" % taken.getsockname()[1]
        result = run(SERVER, "--addr", addr, "--dir", str(directory))
        assert result.status > 0, result
        last = result.err.decode().splitlines()[-1]
        assert addr in last and "in use" in last and "--addr" in last, result
        others = {"--tikv": f"127.0.0.1:0,{addr},127.0.0.1:0", "--eventstore": addr, "--http": addr}
        for option, value in others.items():
            result = run(SERVER, "--addr", "127.0.0.1:0", "--dir", str(directory), f"{option}={value}")
            assert result.status > 0, result
            last = result.err.decode().splitlines()[-1]
            assert addr in last and f"with {option}=" in last, result


def test_directories_that_cannot_be_used(directory):
    (directory / "file").write_bytes(b"not a directory")
    refuses("--dir", str(directory / "file"), says=(str(directory / "file"),))
    (directory / "closed").mkdir(mode=0o500)
    if os.geteuid() == 0:  # root may write anywhere but in a place that is no place for files
        refuses("--dir", "/proc/kvs", says=("/proc/kvs",))
    else:
        refuses("--dir", str(directory / "closed"), says=("permission",))


def test_a_directory_of_another_engine(directory):
    with Server(directory) as server:
        server.ok("set", "a", "1")
        server.stop()
    refuses("--dir", str(directory), "--engine", "memory", says=("another engine",))
    with Server(directory) as server:
        assert server.ok("get", "a") == b"1\n"


def test_the_current_directory_is_the_default(directory):
    process = subprocess.Popen([SERVER, "--addr", "127.0.0.1:0"], cwd=directory,
                               stderr=subprocess.PIPE, env=environment())
    for line in process.stderr:
        if b"listening on" in line:
            break
    process.terminate()
    assert process.wait(SECONDS_MAX) == 0
    process.stderr.close()
    assert any(directory.iterdir())


def test_a_config_file_equals_the_flags(directory):
    data = directory / "data"
    (directory / "kvs.conf").write_text(f"addr = 127.0.0.1:0\ndir = {data}\nsync = never\n")
    process = subprocess.Popen([SERVER, "--config", str(directory / "kvs.conf")],
                               stderr=subprocess.PIPE, env=environment())
    for line in process.stderr:
        if b"listening on" in line:
            break
    process.terminate()
    assert process.wait(SECONDS_MAX) == 0
    process.stderr.close()
    assert any(data.iterdir())


def test_the_memory_engine(directory):
    with Server(directory, "--engine", "memory") as server:
        server.ok("set", "a", "1")
        assert server.ok("get", "a") == b"1\n"


tap.run(globals())
