#!/usr/bin/env python3
"""Import and export: random bytes there and back, broken input, pipes and terminals."""
import base64
import json
import os
import random
import signal
import struct
import subprocess

from harness import ANY, CLIENT, SECONDS_MAX, Server, Terminal, environment, one_line, pd_of, run, tap

SEED = int(os.environ.get("KVS_TEST_SEED", random.SystemRandom().randrange(2 ** 32)))


def random_pairs(seed, count):
    print(f"# seed {SEED}: repeat with KVS_TEST_SEED={SEED}")
    rand = random.Random(seed)
    pairs = {}
    while len(pairs) < count:
        key = rand.randbytes(rand.choice((1, 2, 8, 30, 8192 if rand.random() < 0.02 else 16)))
        if rand.random() < 0.5:
            key = base64.b64encode(key)[:8192]
        pairs[key] = rand.randbytes(rand.choice((0, 1, 10, 100, 5000)))
    pairs[b"large"] = rand.randbytes(3_000_000)
    pairs[b"text"] = 'übergröße "\\\x00\n\t'.encode()
    return pairs


def json_lines(pairs):
    """As another program may write them: any order, base64 for all."""
    return b"".join(json.dumps({"key64": base64.b64encode(key).decode(),
                                "value64": base64.b64encode(value).decode()}).encode() + b"\n"
                    for key, value in pairs.items())


def read_json_lines(text):
    def field(line, name):
        return line[name].encode() if name in line else base64.b64decode(line[name + "64"])
    lines = [json.loads(line) for line in text.splitlines()]
    return [(field(line, "key"), field(line, "value")) for line in lines]


def raw_records(pairs):
    body = b"".join(struct.pack("<IIIQ", len(key), len(value), 0, 0) + key + value
                    for key, value in pairs)
    return b"kvs-export 2\n" + body + struct.pack("<IIQ", 0, 0, len(pairs))


def old_raw_records(pairs):
    body = b"".join(struct.pack("<II", len(key), len(value)) + key + value
                    for key, value in pairs)
    return b"kvs-export 1\n" + body + struct.pack("<IIQ", 0, 0, len(pairs))


def test_random_bytes_there_and_back(directory):
    pairs = random_pairs(SEED, tap.times(3000, 1500, 600))
    ordered = sorted(pairs.items())
    with Server(directory / "one") as server:
        assert server.ok("import", "--batch", "100", stdin=json_lines(pairs)) == b""
        assert int(server.ok("count")) == len(pairs)
        text = server.ok("export")
        assert read_json_lines(text) == ordered
        raw = server.ok("export", "--format", "raw")
        assert raw == raw_records(ordered)
        assert server.ok("rm-range", "--all", "--yes") == b"%d\n" % len(pairs)
        assert server.ok("import", stdin=raw) == b""
        assert server.ok("export") == text
        assert server.ok("rm-range", "--all", "--yes") == b"%d\n" % len(pairs)
        assert server.ok("import", stdin=old_raw_records(ordered)) == b""
        assert server.ok("export") == text
    with Server(directory / "two") as server:
        assert server.ok("import", stdin=text) == b""
        assert server.ok("export", "--format", "raw") == raw


def test_files(directory):
    pairs = random_pairs(SEED + 1, 50)
    target = directory / "out.raw"
    with Server(directory / "data") as server:
        server.ok("import", stdin=json_lines(pairs))
        target.write_bytes(b"what was there before")
        assert server.ok("export", "--format", "raw", str(target)) == b""
        assert target.read_bytes() == raw_records(sorted(pairs.items()))
        assert [path.name for path in directory.iterdir() if path.is_file()] == ["out.raw"]
        server.ok("rm-range", "--all", "-y")
        assert server.ok("import", str(target)) == b""
        assert int(server.ok("count")) == len(pairs)
        assert server.ok("export", "-") == server.ok("export")
        server.ok("rm-range", "--all", "-y")
        server.ok("import", "-", stdin=target.read_bytes())
        assert int(server.ok("count")) == len(pairs)
        missing = server.client("import", str(directory / "nothing"))
        assert missing.status == 1 and "cannot open" in one_line(missing.err), missing
        nowhere = server.client("export", str(directory / "no" / "where"))
        assert nowhere.status == 1 and "cannot make" in one_line(nowhere.err), nowhere


def test_a_failed_export_leaves_the_old_file(directory):
    target = directory / "out"
    target.write_bytes(b"old")
    with Server(directory / "data") as server:
        addr = server.addr
    result = run(CLIENT, "export", str(target), "--addr", addr)
    assert result.status == 1, result
    assert target.read_bytes() == b"old"
    assert [path.name for path in directory.iterdir() if path.is_file()] == ["out"]


def local(url, *arguments, stdin=b""):
    result = run(CLIENT, *arguments, "--url", url, stdin=stdin)
    assert result.status == 0, (arguments, result)
    return result.out


def without_ends(text):
    """Records, and when they end, apart: a store tells what is left, so ends move by milliseconds."""
    records = [json.loads(line) for line in text.splitlines()]
    ends = {record["key"]: record.pop("expires") for record in records if "expires" in record}
    return records, ends


def test_a_directory_moves_to_the_other_engine_and_back(directory):
    """Keys with and without an end, families, transactions and event streams; both formats."""
    other = "rocksdb" if os.environ.get("KVS_ROCKSDB") else "log"
    one, two, three = (f"{engine}:{directory}/{number}"
                       for number, engine in enumerate(("log", other, "log")))
    local(one, "import", stdin=json_lines(random_pairs(SEED, 500)))
    local(one, "import", "--merge", stdin=b'{"key":"ended","value":"1","expires":1000}\n'
          b'{"key":"k","value":"write","family":1}\n{"key":"k","value":"lock","family":2}\n')
    local(one, "set", "ends", "soon", "--ttl", "5000")
    local(one, "txn", "put account 5", "put other 7")
    local(one, "events", "append", "s-1", stdin=b'{"type":"T","data":{"x":1}}\n' * 300)
    text = local(one, "export")
    records, ends = without_ends(text)
    assert {record.get("family", 0) for record in records} >= {0, 1, 2, 4}, records
    assert list(ends) == ["ends"] and not any(record.get("key") == "ended" for record in records)
    local(two, "import", stdin=local(one, "export", "--format", "raw"))
    there, there_ends = without_ends(local(two, "export"))
    assert there == records
    assert abs(there_ends["ends"] - ends["ends"]) < 60_000, (ends, there_ends)
    assert local(two, "txn", "get account", "get other") == b"5\n7\n"
    assert local(two, "events", "read", "s-1") == local(one, "events", "read", "s-1")
    assert len(local(two, "events", "read", "$ce-s", "--resolve").splitlines()) == 300
    local(two, "events", "append", "s-1", stdin=b'{"type":"T","data":{"x":2}}\n')
    text = local(two, "export")
    local(three, "import", stdin=text)
    assert without_ends(local(three, "export"))[0] == without_ends(text)[0]
    assert len(local(three, "events", "read", "s-1").splitlines()) == 301
    assert local(three, "txn", "get account") == b"5\n"


def refused(server, *flags, stdin, says):
    """Not a byte is written, and the line says what is there and what to do."""
    before = server.ok("export")
    result = server.client("import", *flags, stdin=stdin)
    assert result.status == 1 and result.out == b"", result
    line = one_line(result.err)
    for word in says:
        assert word in line, (word, line)
    assert server.ok("export") == before


def test_a_store_with_data_is_not_mixed(directory):
    line = b'{"key":"a","value":"new"}\n{"key":"b","value":"new"}\n'
    url = f"log:{directory / 'streams'}"
    local(url, "set", "a", "old")
    local(url, "events", "append", "s-1", stdin=b'{"type":"T","data":{"x":1}}\n')
    local(url, "txn", "put account 5")
    dump = local(url, "export")
    with Server(directory / "keys") as server:
        server.ok("set", "a", "old")
        refused(server, stdin=line, says=(server.addr, "not empty", "it has: keys;", "nothing was written", "--merge"))
        refused(server, stdin=dump, says=("it has: keys;",))
        server.ok("import", "--merge", stdin=line)
        assert server.ok("scan") == b"a\tnew\nb\tnew\n"
        assert server.ok("rm-range", "--all", "--yes") == b"2\n"
        server.ok("import", stdin=dump)  # empty again
        refused(server, stdin=line, says=("it has: keys, transactions, event streams, the state of a cluster;",))
        result = server.client("import", "--merge", stdin=line + dump)
        assert result.status == 1, result
        text = one_line(result.err)
        assert "line 4 of standard input: belongs to transactions, which --merge does not take" in text, text
        assert text.endswith("what stands before it is stored"), text
        assert server.ok("scan") == b"a\told\nb\tnew\n"  # the dump's is the last
    with Server(directory / "users", "--eventstore=127.0.0.1:0") as server:
        refused(server, stdin=line, says=("it has: event streams;",))  # its users
        server.ok("import", "--merge", stdin=line)
        assert server.ok("count") == b"2\n"
        assert json.loads(server.ok("stats", "--json"))["keys"] == 2
        assert json.loads(server.ok("stats", "--json"))["all_keys"] > 2
    result = run(CLIENT, "import", "--url", url, stdin=line)
    assert result.status == 1 and f"{url} is not empty" in one_line(result.err), result
    assert local(url, "get", "a") == b"old\n" and local(url, "export") == dump
    # With --dry-run nothing is asked of the store, and what cannot be merged is found.
    assert run(CLIENT, "import", "--dry-run", "--url", url, stdin=line).status == 0
    result = run(CLIENT, "import", "--dry-run", "--merge", "--url", url, stdin=dump)
    assert result.status == 1 and "line 2" in one_line(result.err), result


def test_ranges_of_an_export(directory):
    with Server(directory) as server:
        for key in ("a", "b1", "b2", "c"):
            server.ok("set", key, "v")
        def keys(*flags):
            return [key for key, _ in read_json_lines(server.ok("export", *flags))]
        assert keys("--prefix", "b") == [b"b1", b"b2"]
        assert keys("--start", "b2") == [b"b2", b"c"]
        assert keys("--limit", "3") == [b"a", b"b1", b"b2"]


def test_keys_and_values_alone_go_to_a_cluster(directory):
    lines = b"".join(b'{"key":"%06d","value":"%d"}\n' % (i, i) for i in range(2500))
    local(f"log:{directory}/one", "txn", "put account 5")
    local(f"log:{directory}/one", "events", "append", "s-1", stdin=b'{"type":"T","data":{"x":1}}\n')
    flags = (ANY, "--eventstore=127.0.0.1:0")
    with Server(directory / "one", *flags) as one, Server(directory / "two", *flags) as two:
        one.ok("import", "--merge", stdin=lines)
        families = {json.loads(line).get("family", 0) for line in one.ok("export").splitlines()}
        assert families >= {0, 4, 6, 15}, families
        for bound in ("--prefix", "--start"):
            assert one.ok("export", bound, "") == lines
        assert one.ok("export", "--prefix", "", "--format", "raw") == raw_records(read_json_lines(lines))
        local(f"tikv://{pd_of(two)}", "import", stdin=one.ok("export", "--prefix", ""))
        assert two.ok("export", "--prefix", "") == lines
        for server in (one, two):
            assert local(f"tikv://{pd_of(server)}", "export") == lines


def test_a_cluster_refuses_exported_transactions(directory):
    local(f"log:{directory}/one", "txn", "put account 5")
    lines = b'{"key":"a","value":"1"}\n' + local(f"log:{directory}/one", "export")
    assert {json.loads(line).get("family", 0) for line in lines.splitlines()} == {0, 4, 15}
    with Server(directory / "two", ANY) as server:
        url = f"tikv://{pd_of(server)}"
        result = run(CLIENT, "import", "--url", url, stdin=lines)
        assert result.status == 1 and result.out == b"", result
        what, why = result.err.decode().splitlines()
        assert what == "kvs-client import: lines 1 to 3 of standard input were not stored", result
        assert why == ("kvs-client import: TiKV has the column families 0 (default), 1 (write) and "
                       f"2 (lock), at {url}"), result
        assert local(url, "export") == b""


def test_broken_lines(directory):
    good = b'{"key":"a","value":"1"}\n'
    with Server(directory) as server:
        result = server.client("import", stdin=good + b"\n" + b"nonsense\n" + good)
        assert result.status == 1 and result.out == b"", result
        line = one_line(result.err)
        assert line.startswith("kvs-client import: line 3 of standard input: no JSON"), line
        assert line.endswith("; what stands before it is stored"), line
        assert server.ok("get", "a") == b"1\n"
        result = server.client("import", "--dry-run", stdin=b'{"key":"b","value":"1"}\n{"key":"b"}')
        assert result.status == 1, result
        assert one_line(result.err).endswith('line 2 of standard input: there is no "value"'), result
        assert server.ok("import", "--dry-run", stdin=b'{"key":"b","value":"1"}') == b""
        assert server.ok("exists", "a") == b"true\n"
        assert server.client("exists", "b").status == 1


def test_broken_records(directory):
    raw = raw_records([(b"a", b"1"), (b"b", b"2")])
    with Server(directory) as server:
        result = server.client("import", stdin=raw[:-1])
        assert result.status == 1, result
        assert "record 3 of standard input: the input ends in the middle" in one_line(result.err)
        assert server.ok("count") == b"2\n"


def test_what_the_store_refuses(directory):
    with Server(directory) as server:
        lines = b'{"key":"a","value":"%s"}\n' % (b"x" * (17 * 1024 * 1024))
        result = server.client("import", stdin=b'{"key":"b","value":"1"}\n' + lines)
        assert result.status == 1 and result.out == b"", result[:1]
        first, second = result.err.decode().splitlines()
        assert first == "kvs-client import: lines 2 to 2 of standard input were not stored", first
        assert server.ok("scan", "-k") == b"b\n"


def test_time_to_live(directory):
    with Server(directory) as server:
        server.ok("import", stdin=b'{"key":"a","value":"1","ttl":0.001}\n{"key":"b","value":"1"}')
        while server.client("exists", "a").status == 0:
            pass  # bounded by the runner
        assert server.ok("get", "b") == b"1\n"
        server.ok("import", "--merge", "--ttl", "0.001", stdin=b'{"key":"b","value":"1"}')
        while server.client("exists", "b").status == 0:
            pass


def test_pipes_hear_nothing_of_the_progress(directory):
    """Standard error stays empty where it is no terminal; ok() looks at it."""
    lines = b"".join(b'{"key":"%06d","value":"%s"}\n' % (i, b"x" * 100) for i in range(tap.times(20000, 10000, 4000)))
    with Server(directory) as server:
        (directory / "in.jsonl").write_bytes(lines)
        server.ok("import", str(directory / "in.jsonl"))
        assert server.ok("export") == lines


def test_a_terminal_sees_the_progress(directory):
    with Server(directory / "data") as server:
        (directory / "in.jsonl").write_bytes(b'{"key":"a","value":"1"}\n' * 5000)
        with Terminal(CLIENT, "import", str(directory / "in.jsonl"), "--addr", server.addr) as screen:
            assert screen.finish() == 0
            assert b"import: 5000 keys" in screen.all, screen.all
            assert screen.all.endswith(b" s\r\n"), screen.all
        with open(directory / "out.jsonl", "wb") as out, \
                Terminal(CLIENT, "export", "--addr", server.addr, stdout=out) as screen:
            assert screen.finish() == 0
            assert b"export: 1 keys" in screen.all, screen.all
        # Records on the terminal itself: no bar among them.
        with Terminal(CLIENT, "export", "--addr", server.addr) as screen:
            assert screen.finish() == 0
            assert screen.all == b'{"key":"a","value":"1"}\r\n', screen.all


def test_interrupting(directory):
    """Ctrl-C ends an import with what was sent, and an export without leaving half a file."""
    with Server(directory / "data") as server:
        lines = b"".join(b'{"key":"%06d","value":"%s"}\n' % (i, b"x" * 100) for i in range(5000))
        process = subprocess.Popen([CLIENT, "import", "--addr", server.addr], stdin=subprocess.PIPE,
                                   stderr=subprocess.PIPE, env=environment())
        process.stdin.write(lines)
        process.stdin.flush()  # and no end: it waits for more
        while int(server.ok("count")) < 2000:
            pass  # bounded by the runner
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS_MAX) == 130
        assert process.stderr.read() == b"kvs-client import: interrupted\n"
        process.stdin.close()
        process.stderr.close()
        assert int(server.ok("count")) % 1000 == 0

        server.ok("import", "--merge", stdin=b"".join(b'{"key":"%06d","value":"%s"}\n' % (i, b"x" * 10000)
                                                      for i in range(5000)))
        os.mkfifo(directory / "pipe")
        process = subprocess.Popen([CLIENT, "export", "--addr", server.addr, str(directory / "pipe")],
                                   stderr=subprocess.PIPE, env=environment())
        with open(directory / "pipe", "rb") as pipe:
            pipe.read(10)
            process.send_signal(signal.SIGINT)
            while pipe.read(1 << 20):
                pass
        assert process.wait(SECONDS_MAX) == 130
        assert process.stderr.read() == b"kvs-client export: interrupted\n"
        process.stderr.close()


def test_from_one_server_to_another(directory):
    with Server(directory / "one") as one, Server(directory / "two") as two:
        one.ok("import", stdin=json_lines(random_pairs(SEED + 2, 500)))
        export = subprocess.Popen([CLIENT, "export", "--addr", one.addr], env=environment(),
                                  stdout=subprocess.PIPE)
        imported = subprocess.run([CLIENT, "import", "--addr", two.addr], stdin=export.stdout,
                                  capture_output=True, env=environment(), timeout=SECONDS_MAX)
        export.stdout.close()
        assert export.wait(SECONDS_MAX) == 0 and imported.returncode == 0 and imported.stderr == b""
        assert one.ok("export") == two.ok("export")


tap.run(globals())
