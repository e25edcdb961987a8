#!/usr/bin/env python3
"""tests/cli/test_server_life.py: how kvs-server is configured, tells that it is ready, and ends."""
import contextlib
import http.client
import os
import queue
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import tap  # noqa: E402

SERVER = str(tap.BUILD_DIR / "kvs-server")
SECONDS_MAX = 600  # of any one step; a bound, not a measure
READY = re.compile(rb"listening on (\S+):(\d+)")
HELLO = b"KVSP" + struct.pack("<HHII", 1, 1, 0, 0)


def start(*arguments, **environment):
    process = subprocess.Popen([SERVER, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE,
                               env={**os.environ, **environment})
    lines = []
    for line in process.stderr:
        lines.append(line)
        found = READY.search(line)
        if found:
            return process, (found[1].decode().strip("[]"), int(found[2])), lines
    raise AssertionError(b"".join(lines))


STARTER = """import os, sys
for place, number in enumerate(sys.argv[1].split(","), 3):
    os.dup2(int(number), place)
    os.close(int(number))
os.environ["LISTEN_PID"] = os.environ.get("LISTEN_PID", str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def start_with(sockets, *arguments, **variables):
    """As systemd does: `sockets` are (name, socket)."""
    numbers = [os.dup2(each.fileno(), 100 + at) for at, (_, each) in enumerate(sockets)]
    variables = {"LISTEN_FDS": str(len(sockets)),
                 "LISTEN_FDNAMES": ":".join(name for name, _ in sockets), **variables}
    process = subprocess.Popen(
        [sys.executable, "-c", STARTER, ",".join(map(str, numbers)), SERVER, *arguments],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=numbers,
        env={**os.environ, **variables})
    for number in numbers:
        os.close(number)
    return process


def until_ready(process):
    lines = []
    for line in process.stderr:
        lines.append(line)
        if READY.search(line):
            return lines
    raise AssertionError(b"".join(lines))


def listening(family=socket.AF_INET, host="127.0.0.1"):
    made = socket.socket(family)
    made.bind((host, 0))
    made.listen(64)
    return made


def finish(process, number=signal.SIGTERM):
    process.send_signal(number)
    _, log = process.communicate(timeout=SECONDS_MAX)
    return process.returncode, log


def run(*arguments):
    return subprocess.run([SERVER, *arguments], capture_output=True, timeout=SECONDS_MAX)


def refuses(*arguments, says, status=2):
    done = run(*arguments)
    assert done.returncode == status, done
    assert done.stdout == b"" and done.stderr.count(b"\n") == 1, done
    for word in says:
        assert word.encode() in done.stderr, (word, done.stderr)


def frame(opcode, number, body):
    return struct.pack("<IIBBHI", len(body), number, opcode, 0, 0, 0) + body


def receive(peer, size):
    data = b""
    while len(data) < size:
        got = peer.recv(size - len(data))
        assert got, "the server closed"
        data += got
    return data


def connect(address):
    peer = socket.create_connection(address, timeout=SECONDS_MAX)
    peer.sendall(HELLO)
    receive(peer, 60)
    return peer


def call(peer, opcode, body):
    peer.sendall(frame(opcode, 7, body))
    size, number, got_opcode, _, status, _ = struct.unpack("<IIBBhI", receive(peer, 16))
    assert (number, got_opcode) == (7, opcode)
    return status, receive(peer, size)


def test_version_and_help():
    assert run("-V").stdout.startswith(b"kvs-server ")
    text = run("--help").stdout.decode()
    for flag in ("addr", "engine", "dir", "threads", "pool-threads", "sync", "sync-interval",
                 "segment-size", "cache", "value-max", "connections-max", "idle-timeout",
                 "slow-timeout", "in-flight-max", "log-level", "config", "version", "help"):
        assert f"--{flag}" in text, flag


def test_wrong_command_lines():
    refuses("--no-such-flag", says=["--no-such-flag", "see: kvs-server --help"])
    refuses("operand", says=["operand"])
    refuses("--addr", "localhost", says=["localhost"])
    refuses("--sync", "sometimes", says=["sometimes"])
    refuses("--value-max", "65m", says=["--value-max"])
    refuses("--threads", "0", says=["--threads"])
    refuses("--idle-timeout", "4294967.296", says=["--idle-timeout"])  # 2^32 ms would be none
    refuses("--config", "/no/such/file", says=["/no/such/file", "--config"])


def test_more_memory_than_there_is_is_warned_of(directory):
    flags = ("--addr", "127.0.0.1:0", "--dir", str(directory))
    process, _, lines = start(*flags, "--cache", "1m", "--connections-memory", "1m")
    assert b"MiB of memory" not in b"".join(lines), lines
    assert finish(process)[0] == 0
    process, _, lines = start(*flags, "--cache", "1t", "--connections-memory", "2t")
    warnings = [line for line in lines if b"MiB of memory" in line]
    assert len(warnings) == 2, lines
    assert b"--cache is 1048576 MiB" in warnings[0] and b"--connections-memory is 2097152 MiB" in warnings[1], warnings
    assert finish(process)[0] == 0


def test_a_name_is_looked_up(directory):
    process, address, lines = start("--addr", "localhost:0", "--engine", "memory", "--tikv=localhost:0,localhost:0",
                                    "--eventstore=localhost:0", "--http=localhost:0", "--insecure")
    while b"serving HTTP on" not in lines[-1]:
        lines.append(process.stderr.readline())
    client = [str(tap.BUILD_DIR / "kvs-client"), "--addr", "localhost:%d" % address[1]]
    subprocess.run([*client, "set", "key", "value"], check=True, timeout=SECONDS_MAX)
    for place in re.findall(r"(?:PD|status|HTTP) on (\S+?:\d+)", b"".join(lines).decode()):
        asked = http.client.HTTPConnection("localhost", int(place.split(":")[-1]), timeout=SECONDS_MAX)
        asked.request("GET", "/none")
        assert asked.getresponse().status == 404
        asked.close()
    refuses("--addr", "localhost:%d" % address[1], "--engine", "memory", status=1,
            says=["localhost:%d (" % address[1], "--addr HOST:PORT"])
    assert finish(process)[0] == 0


def test_a_file_says_the_same_as_flags(directory):
    config = directory / "kvs.conf"
    config.write_text("# a comment\n\naddr = 127.0.0.1:0\nengine=memory # here, too\n"
                      "  value-max =  1k\nlog-level = info\n")
    process, address, lines = start("--config", str(config), "--value-max", "2k")
    assert any(b"engine memory" in line for line in lines)
    with connect(address) as peer:
        assert call(peer, 3, struct.pack("<I", 1) + b"k" + bytes(2048))[0] == 0
        assert call(peer, 3, struct.pack("<I", 1) + b"k" + bytes(2049))[0] == -5
    assert finish(process)[0] == 0


def test_a_sign_within_a_word_begins_no_comment(directory):
    config = directory / "kvs.conf"
    config.write_text(f"#addr = 1\naddr = 127.0.0.1:0\t# any\ndir = {directory}/data#1 # here\n")
    process, _, _ = start("--config", str(config))
    assert finish(process)[0] == 0
    assert (directory / "data#1" / "KVS").exists()


def test_what_needs_no_value_stands_alone_in_a_file(directory):
    config = directory / "kvs.conf"
    config.write_text("addr = 127.0.0.1:0\nengine = memory\neventstore = 127.0.0.1:0\n"
                      "insecure # nobody is asked\n  gossip-master  \nhttp=127.0.0.1:0\n")
    process, _, lines = start("--config", str(config))
    assert any(b"--insecure: everybody" in line for line in lines), lines
    assert finish(process)[0] == 0


def test_what_is_wrong_in_a_file_is_named_by_line(directory):
    config = directory / "kvs.conf"
    for text, says in (("\nthreads = many\n", "2: "), ("no-such = 1\n", "1: "), ("sync\n", "1: "),
                       ("config = other\n", "1: "), ("--sync = never\n", "1: "), ("verify\n", "1: "),
                       ("insecure = yes\n", "1: "), ("insecure yes\n", "1: "),
                       ("sync = " + "x" * 5000, "1: ")):
        config.write_text(text)
        refuses("--config", str(config), says=[f"{config}:{says}"])


def test_a_directory_is_verified_and_repaired(directory):
    store, saved = directory / "store", directory / "saved"
    process, address, _ = start("--addr", "127.0.0.1:0", "--dir", str(store))
    client = [str(tap.BUILD_DIR / "kvs-client"), "--addr", "%s:%d" % address]
    for number in range(20):
        subprocess.run([*client, "set", f"key{number:02}", f"value{number}"], check=True, timeout=SECONDS_MAX)
    busy = run("--dir", str(store), "--verify")
    assert busy.returncode == 1 and b"another process" in busy.stderr, busy.stderr
    assert finish(process)[0] == 0
    whole = run("--dir", str(store), "--verify")
    assert whole.returncode == 0 and whole.stdout.endswith(b"no damage\n"), whole
    assert b"20 keys" in whole.stdout
    segment = store / "0000000001.seg"
    data = bytearray(segment.read_bytes())
    data[data.index(b"value7")] ^= 1
    segment.write_bytes(data)
    damaged = run("--dir", str(store), "--verify")
    assert damaged.returncode == 1 and b"damage: 0000000001.seg, offset " in damaged.stdout, damaged
    assert b"\n1 place is damaged, " in damaged.stdout, damaged
    refused = run("--dir", str(store), "--addr", "127.0.0.1:0")
    assert refused.returncode == 1 and b"--repair NEWDIR" in refused.stderr, refused
    repaired = run("--dir", str(store), "--repair", str(saved))
    assert repaired.returncode == 1 and b"saved 19 keys" in repaired.stdout, repaired
    again = run("--dir", str(store), "--repair", str(saved))
    assert again.returncode == 1 and b"is there already" in again.stderr, again
    assert again.stdout == b"", again # before anything is read
    assert segment.read_bytes() == data
    assert run("--dir", str(saved), "--verify").returncode == 0
    listed = subprocess.run([client[0], "--url", f"log:{saved}", "count"], capture_output=True, timeout=SECONDS_MAX)
    assert listed.stdout == b"19\n", listed


def test_what_is_no_store_is_not_checked(directory):
    none, other = directory / "none", directory / "other"
    other.mkdir()
    (other / "0000000001.segment").touch()
    for flags in (["--verify"], ["--repair", str(directory / "saved")]):
        refuses("--dir", str(other), *flags, status=1, says=[str(other), "no directory of a store"])
        refuses("--dir", str(none), *flags, status=1, says=[str(none), "no such directory"])
    assert os.listdir(other) == ["0000000001.segment"], "nothing is left there"
    assert os.listdir(directory) == ["other"]


def test_backups_while_serving(directory):
    client = str(tap.BUILD_DIR / "kvs-client")
    backups = directory / "backups"
    backups.mkdir()

    def ask(*words):
        return subprocess.run([client, *words], capture_output=True, timeout=SECONDS_MAX)

    for engine in ["kvs", "rocksdb"] if os.environ.get("KVS_ROCKSDB") else ["kvs"]:
        store = directory / engine
        url = {"kvs": "log:"}.get(engine, engine + ":")
        process, address, _ = start("--addr", "127.0.0.1:0", "--dir", str(store), "--engine", engine,
                                    "--backup-dir", str(backups))
        at = "%s:%d" % address
        for number in range(10):
            assert ask("set", f"k{number}", "before", "--addr", at).returncode == 0
        first = ask("backup", f"{engine}.1", "--addr", at)
        assert first.returncode == 0 and first.stdout == b"", first
        again = ask("backup", f"{engine}.1", "--addr", at)
        assert again.returncode == 1 and b"already" in again.stderr, again
        for name in ("../out", "a/b", ".hidden", "-x", "", "x" * 65, "a b"):
            refused = ask("backup", "--addr", at, "--", name)
            assert refused.returncode != 0, name
        assert sorted(os.listdir(backups)) == sorted([f"{engine}.1"] + (["kvs.1"] if engine != "kvs" else []))
        for number in range(10):
            assert ask("set", f"k{number}", "after", "--addr", at).returncode == 0
        assert ask("compact", "--addr", at).returncode == 0
        assert ask("get", "k3", "--addr", at).stdout == b"after\n"
        assert finish(process)[0] == 0
        copy = backups / f"{engine}.1"
        assert ask("get", "k3", "--url", f"{url}{copy}").stdout == b"before\n"
        assert ask("count", "--url", f"{url}{copy}").stdout == b"10\n"
        local = ask("backup", str(directory / f"{engine}.local"), "--url", f"{url}{store}")
        assert local.returncode == 0, local
        assert ask("get", "k3", "--url", f"{url}{directory / (engine + '.local')}").stdout == b"after\n"


def test_backups_are_not_allowed_unless_told(directory):
    client = str(tap.BUILD_DIR / "kvs-client")
    process, address, _ = start("--addr", "127.0.0.1:0", "--dir", str(directory / "store"))
    at = "%s:%d" % address
    done = subprocess.run([client, "backup", "x", "--addr", at], capture_output=True, timeout=SECONDS_MAX)
    assert done.returncode == 1 and b"--backup-dir" in done.stderr, done
    assert finish(process)[0] == 0


def test_from_one_engine_to_the_other_and_back(directory):
    """As docs say it: export and import."""
    if not os.environ.get("KVS_ROCKSDB"):
        return
    client = str(tap.BUILD_DIR / "kvs-client")

    def ask(*words, **more):
        return subprocess.run([client, *words], capture_output=True, timeout=SECONDS_MAX, check=True, **more).stdout

    urls = [f"log:{directory / 'a'}", f"rocksdb:{directory / 'b'}", f"log:{directory / 'c'}"]
    for number in range(100):
        ask("set", f"key{number:03}", "value\n" * number, "--url", urls[0])
    for source, target in zip(urls, urls[1:]):
        ask("import", "--url", target, input=ask("export", "--url", source))
        assert ask("checksum", "--url", source) == ask("checksum", "--url", target)


def test_systemd_is_told(directory):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        path = str(directory / "notify")
        manager.bind(path)
        manager.settimeout(SECONDS_MAX)
        process, _, _ = start("--addr", "127.0.0.1:0", "--engine", "memory", NOTIFY_SOCKET=path)
        assert manager.recv(100) == b"READY=1"
        assert finish(process)[0] == 0
        assert manager.recv(100) == b"STOPPING=1"


def test_who_comes_between_two_servers_waits(directory):
    """The socket is the starter's: nobody is refused while the server starts anew."""
    client = [str(tap.BUILD_DIR / "kvs-client"), "--timeout", str(1000 * SECONDS_MAX)]
    flags = ("--dir", str(directory))
    with listening() as kept:
        at = "%s:%d" % kept.getsockname()
        for number in range(3):
            with socket.create_connection(kept.getsockname()) as early:
                early.sendall(HELLO)
                waiting = subprocess.Popen([*client, "set", f"key{number}", "v", "--addr", at])
                process = start_with([("kvs", kept)], *flags)
                lines = until_ready(process)
                assert any(b"listening on " + at.encode() in line for line in lines), lines
                receive(early, 60)
                assert call(early, 1, b"none")[0] != 0
            assert waiting.wait(SECONDS_MAX) == 0
            assert finish(process)[0] == 0
        done = subprocess.Popen([*client, "count", "--addr", at], stdout=subprocess.PIPE)
        process = start_with([("kvs", kept)], *flags)
        until_ready(process)
        assert done.communicate(timeout=SECONDS_MAX)[0] == b"3\n"
        assert finish(process)[0] == 0


def test_no_connection_is_refused_while_servers_follow_one_another(directory):
    greeted = queue.Queue()  # bytes of each greeting; an error ends it

    def connect_again_and_again(address):
        try:
            while True:
                with socket.create_connection(address, timeout=SECONDS_MAX) as peer:
                    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                        peer.sendall(HELLO)  # one that was just taken in when the server stopped ends
                        greeted.put(len(peer.recv(60)))
        except OSError as error:
            greeted.put(error)

    with listening() as kept:
        peer = threading.Thread(target=connect_again_and_again, args=[kept.getsockname()], daemon=True)
        peer.start()
        for _ in range(5):
            process = start_with([("kvs", kept)], "--dir", str(directory))
            until_ready(process)
            while (outcome := greeted.get(timeout=SECONDS_MAX)) != 60:
                assert outcome == 0, outcome
            assert finish(process)[0] == 0
    peer.join(SECONDS_MAX)
    outcomes = [greeted.get() for _ in range(greeted.qsize())]
    assert isinstance(outcomes.pop(), ConnectionRefusedError), outcomes  # now that nobody has it
    assert set(outcomes) <= {0, 60}, outcomes


def descriptors_of(process, inodes):
    links = {}
    for number in os.listdir(f"/proc/{process.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            links[number] = os.readlink(f"/proc/{process.pid}/fd/{number}")
    return [number for number, link in links.items() if link in inodes]


def test_each_part_has_its_sockets(directory):
    names = ["kvs", "pd", "tikv", "status", "eventstore", "http"]
    with contextlib.ExitStack() as stack:
        sockets = {name: stack.enter_context(listening()) for name in names}
        second = stack.enter_context(listening())
        passed = [*sockets.items(), ("kvs", second)]
        process = start_with(passed, "--dir", str(directory), "--tikv", "--eventstore", "--http", "--insecure")
        lines = until_ready(process)
        places = {name: "%s:%d" % each.getsockname() for name, each in sockets.items()}
        while b"serving HTTP on" not in lines[-1]:
            lines.append(process.stderr.readline())
        log = b"".join(lines).decode()
        assert f"listening on {places['kvs']}\n" in log, log
        assert f"PD on {places['pd']}, store on {places['tikv']}, status on {places['status']}\n" in log, log
        assert f"EventStoreDB's clients on {places['eventstore']}\n" in log, log
        assert f"serving HTTP on {places['http']}\n" in log, log
        for name, path in (("pd", "/pd/api/v1/members"), ("status", "/metrics"), ("http", "/info")):
            with urllib.request.urlopen(f"http://{places[name]}{path}", timeout=SECONDS_MAX) as answer:
                assert answer.status == 200
        for each in (sockets["kvs"], second):
            with connect(each.getsockname()) as peer:
                assert call(peer, 11, b"")[0] == 0
        inodes = {f"socket:[{os.fstat(each.fileno()).st_ino}]" for _, each in passed}
        held = descriptors_of(process, inodes)
        end = time.monotonic() + SECONDS_MAX
        while len(held) > len(passed) and time.monotonic() < end:  # the passed ones go once it serves
            time.sleep(0.01)
            held = descriptors_of(process, inodes)
        assert len(held) == len(passed), held  # each once, and closed on exec
        for number in held:
            flags = re.search(r"flags:\t(\d+)", Path(f"/proc/{process.pid}/fdinfo/{number}").read_text())
            assert int(flags[1], 8) & os.O_CLOEXEC, flags
        assert finish(process)[0] == 0


def test_sockets_that_nobody_can_use_are_refused(directory):
    flags = ("--engine", "memory")

    def refused(sockets, *arguments, says, **variables):
        process = start_with(sockets, *flags, *arguments, **variables)
        _, log = process.communicate(timeout=SECONDS_MAX)
        assert process.returncode == 1 and log.count(b"\n") == 1, log
        for word in says:
            assert word.encode() in log, (word, log)

    with listening() as good, socket.socket() as deaf, socket.socket(socket.AF_UNIX) as local, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        local.bind(str(directory / "local"))
        local.listen()
        refused([("other", good)], says=['"other"', "none of kvs, pd", "FileDescriptorName="])
        refused([("", good)], says=['""', "FileDescriptorName="])
        refused([("pd", good)], says=['"pd"', "add --tikv"])
        refused([("eventstore", good)], "--http=127.0.0.1:0", says=['"eventstore"', "add --eventstore"])
        refused([("kvs", good)], "--addr", "127.0.0.1:1", says=['"kvs"', "127.0.0.1:1", "--addr"])
        refused([("kvs", good), ("tikv", good)], "--tikv=127.0.0.1:0,127.0.0.1:1", says=['"tikv"', "127.0.0.1:1"])
        for bad in (deaf, local, datagrams):
            refused([("kvs", bad)], says=['"kvs"', "descriptor 3", "does not listen for TCP"])
        refused([("kvs", good)] * 9, says=["more than 8", '"kvs"'])
        refused([("kvs", good)], LISTEN_FDS="2", LISTEN_FDNAMES="kvs:kvs", says=["fewer descriptors", "2"])
        refused([("kvs", good)], LISTEN_FDS="1x", says=["LISTEN_FDS", "1x"])
        refused([("kvs", good)], LISTEN_FDNAMES="kvs:kvs", says=["more names"])
        refused([("kvs", good)] * 2, LISTEN_FDNAMES="kvs", says=["fewer names"])
        process = start_with([("other", good)], *flags, "--addr", "127.0.0.1:0", LISTEN_PID="1")
        until_ready(process)  # they are meant for another process
        assert finish(process)[0] == 0


def test_a_second_signal_ends_it_at_once(directory):
    process, address, _ = start("--addr", "127.0.0.1:0", "--dir", str(directory))
    with connect(address) as peer:
        assert call(peer, 3, struct.pack("<I", 1) + b"k" + bytes(1 << 20))[0] == 0
        peer.sendall(frame(1, 8, b"k") * 200)  # replies that nobody reads keep it from stopping
        receive(peer, 1)
        process.send_signal(signal.SIGTERM)
        for line in process.stderr:
            if b"stopping" in line:
                break
        while process.poll() is None:  # what comes with the first is the same signal
            process.send_signal(signal.SIGTERM)
            select.select([], [], [], 0.01)
        log = process.stderr.read()
        process.stdout.close()
        process.stderr.close()
    assert b"second signal" in log, log
    assert process.returncode == 128 + signal.SIGTERM, (process.returncode, log)
    process, address, _ = start("--addr", "127.0.0.1:0", "--dir", str(directory))
    with connect(address) as peer:  # what was acknowledged is there
        status, value = call(peer, 1, b"k")
        assert status == 0 and len(value) == 1 << 20
    assert finish(process, signal.SIGINT)[0] == 0


def test_a_signal_that_is_sent_twice_stops_it_as_one(directory):
    """As timeout(1) does, and npm together with a terminal."""
    process, _, _ = start("--addr", "127.0.0.1:0", "--dir", str(directory))
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT):  # both are there when it goes on
        process.send_signal(number)
    status, log = finish(process, signal.SIGCONT)
    assert status == 0 and b"stopped\n" in log and b"second signal" not in log, (status, log)


def test_few_open_files_are_no_reason_to_fail():
    import resource
    process = subprocess.Popen(
        [SERVER, "--addr", "127.0.0.1:0", "--engine", "memory", "--connections-max", "100000"],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000)))
    lines = []
    for line in process.stderr:
        lines.append(line)
        if READY.search(line):
            break
    assert READY.search(lines[-1]), lines
    assert finish(process)[0] == 0


def test_few_open_files_serve_many_connections():
    import resource

    def allow_few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))
        if os.getuid() == 0:
            os.setuid(65534)  # root may raise the limit

    process = subprocess.Popen([SERVER, "--addr", "127.0.0.1:0", "--engine", "memory"], cwd="/",
                               stderr=subprocess.PIPE, preexec_fn=allow_few)
    lines = []
    for line in process.stderr:
        lines.append(line)
        found = READY.search(line)
        if found:
            break
    assert b"allows 400 open files" in b"".join(lines), lines
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            peer = stack.enter_context(connect((found[1].decode(), int(found[2]))))
            assert call(peer, 11, b"")[0] == 0
    assert finish(process)[0] == 0


tap.run(globals())
