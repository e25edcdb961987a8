#!/usr/bin/env python3
"""The commands of kvs-client against a running server: exact outputs and exit statuses."""
import json
import os
import re
import subprocess

from harness import CLIENT, SECONDS_MAX, Server, environment, one_line, run, tap


def test_set_get_rm(directory):
    with Server(directory) as server:
        assert server.client("set", "key1", "value1") == (0, b"", b"")
        assert server.client("get", "key1") == (0, b"value1\n", b"")
        assert server.client("set", "key1", "value2") == (0, b"", b"")
        assert server.client("get", "key1") == (0, b"value2\n", b"")
        assert server.client("get", "key2") == (0, b"Key not found\n", b"")
        assert server.client("rm", "key1") == (0, b"", b"")
        assert server.client("get", "key1") == (0, b"Key not found\n", b"")
        missing = server.client("rm", "key1")
        assert missing == (1, b"", b"Key not found\n"), missing


def test_the_address_may_stand_anywhere(directory):
    with Server(directory) as server:
        assert run(CLIENT, "--addr", server.addr, "set", "a", "1") == (0, b"", b"")
        assert run(CLIENT, "get", f"--addr={server.addr}", "a") == (0, b"1\n", b"")
        assert run(CLIENT, "get", "a", "--url", f"kvs://{server.addr}") == (0, b"1\n", b"")
        assert run(CLIENT, "get", "-a", server.addr, "--", "a") == (0, b"1\n", b"")


def test_any_bytes(directory):
    with Server(directory) as server:
        server.ok("set", "-", "dash")
        assert server.ok("get", "-") == b"dash\n"
        server.ok("set", "--", "--dashes", "-1")
        assert server.ok("get", "--", "--dashes") == b"-1\n"
        server.ok("set", "-e", "zero\\x00key", "tab\\tnewline\\n\\xff")
        assert server.ok("get", "-e", "zero\\0key", "--raw") == b"tab\tnewline\n\xff"
        server.ok("set", "empty", "")
        assert server.ok("get", "empty") == b"\n"
        assert server.ok("get", "empty", "--raw") == b""
        assert server.ok("scan", "--prefix", "zero\\x00") == b""  # without -e this is text
        assert (server.ok("scan", "-e", "--prefix", "zero\\x00")
                == b"zero\\x00key\ttab\\tnewline\\n\\xff\n")


def test_limits(directory):
    with Server(directory) as server:
        longest = "k" * 8192
        server.ok("set", longest, "v")
        assert server.ok("get", longest) == b"v\n"
        assert server.ok("scan", "--prefix", "k").startswith(b"k" * 8192 + b"\tv\n")
        for bad in ("k" * 8193, ""):
            result = server.client("set", bad, "v")
            assert result.status == 1 and result.out == b"", result
            assert ("8193 bytes, the limit is 8192" if bad else "must not be empty") in one_line(result.err)
        result = server.client("set", "k", "-", stdin=b"x" * (16 * 1024 * 1024 + 1))
        assert result.status == 1, result.status
        assert "values of 16777216" in one_line(result.err), result.err
        server.ok("set", "k", "-", stdin=b"x" * (16 * 1024 * 1024))
        assert len(server.ok("get", "k", "--raw")) == 16 * 1024 * 1024


def test_values_from_elsewhere(directory):
    blob = os.urandom(300000)
    with Server(directory / "data") as server:
        server.ok("set", "piped", "-", stdin=blob)
        assert server.ok("get", "piped", "--raw") == blob
        (directory / "blob").write_bytes(blob)
        server.ok("set", "filed", "--file", str(directory / "blob"))
        assert server.ok("get", "filed", "--raw") == blob
        missing = server.client("set", "x", "--file", str(directory / "nothing"))
        assert missing.status == 1 and "cannot open" in one_line(missing.err), missing


def test_get_for_scripts(directory):
    with Server(directory) as server:
        server.ok("set", "a", 'say "hi"')
        assert server.ok("get", "a", "--json") == b'{"key":"a","value":"say \\"hi\\""}\n'
        for flag in ("--raw", "--json"):
            result = server.client("get", "missing", flag)
            assert result.status == 1 and result.out == b"", result
            assert "Key not found" in one_line(result.err)


def test_exists(directory):
    with Server(directory) as server:
        assert server.client("exists", "a") == (1, b"false\n", b"")
        server.ok("set", "a", "1")
        assert server.client("exists", "a") == (0, b"true\n", b"")


def test_time_to_live(directory):
    with Server(directory) as server:
        server.ok("set", "short", "1", "--ttl", "0.001")
        server.ok("set", "long", "1", "--ttl", "3600")
        while server.client("exists", "short").status == 0:
            pass  # bounded by the runner
        assert server.ok("get", "short") == b"Key not found\n"
        assert server.ok("get", "long") == b"1\n"


def test_compare_and_set(directory):
    with Server(directory) as server:
        absent = server.client("cas", "lock", "free", "taken")
        assert absent == (1, b"", b"kvs-client cas: not set: there is no such key\n"), absent
        assert server.ok("cas", "lock", "--absent", "free") == b""
        there = server.client("cas", "lock", "other", "--absent")
        assert there == (1, b"", b"kvs-client cas: not set: the value that is there is free\n"), there
        wrong = server.client("cas", "lock", "taken", "free")
        assert wrong == (1, b"", b"kvs-client cas: not set: the value that is there is free\n"), wrong
        assert server.ok("cas", "lock", "free", "taken") == b""
        assert server.ok("get", "lock") == b"taken\n"
        assert server.ok("cas", "lock", "taken", "") == b""
        assert server.ok("cas", "lock", "", "again") == b""


def fill(server, keys):
    server.ok("import", "--merge", stdin=b"".join(b'{"key":"%s","value":"v-%s"}\n' % (key, key)
                                       for key in keys))


def test_scan(directory):
    with Server(directory) as server:
        assert server.ok("scan") == b""
        fill(server, [b"a", b"b1", b"b2", b"b3", b"c"])
        assert server.ok("scan") == b"a\tv-a\nb1\tv-b1\nb2\tv-b2\nb3\tv-b3\nc\tv-c\n"
        assert server.ok("scan", "--prefix", "b", "-k") == b"b1\nb2\nb3\n"
        assert server.ok("scan", "--start", "b2", "--end", "c", "-k") == b"b2\nb3\n"
        assert server.ok("scan", "--start", "b2", "-k") == b"b2\nb3\nc\n"
        assert server.ok("scan", "--end", "b1", "-k") == b"a\n"
        assert server.ok("scan", "--limit", "2", "-k") == b"a\nb1\n"
        assert server.ok("scan", "--reverse", "--limit", "2", "-k") == b"c\nb3\n"
        assert server.ok("scan", "-r", "--prefix", "b", "-k") == b"b3\nb2\nb1\n"
        assert server.ok("scan", "-n1", "--json") == b'{"key":"a","value":"v-a"}\n'
        assert server.ok("scan", "-n1", "--json", "-k") == b'{"key":"a"}\n'
        assert server.ok("scan", "-n1", "-0") == b"a\x00v-a\x00"
        assert server.ok("scan", "-n1", "--raw") == b"a\tv-a\n"
        assert server.ok("scan", "-n1", "-k0") == b"a\x00"


def test_prefixes_at_the_end_of_the_order(directory):
    with Server(directory) as server:
        for key in ("a\\xff", "a\\xff\\xff", "b", "\\xff", "\\xff\\xff"):
            server.ok("set", "-e", key, "v")
        assert server.ok("scan", "-e", "-k", "--prefix", "a\\xff") == b"a\\xff\na\\xff\\xff\n"
        assert server.ok("scan", "-e", "-k", "--prefix", "\\xff") == b"\\xff\n\\xff\\xff\n"
        assert server.ok("count", "--prefix", "") == b"5\n"


def test_scan_over_many_pages(directory):
    """Pages end at one megabyte or so: these keys take several, both ways."""
    keys = [b"key-%06d" % i for i in range(4000)]
    with Server(directory) as server:
        server.ok("import", stdin=b"".join(b'{"key":"%s","value":"%s"}\n' % (key, b"x" * 1000)
                                           for key in keys))
        assert server.ok("count") == b"4000\n"
        assert server.ok("scan", "-k").split() == keys
        assert server.ok("scan", "-k", "--reverse").split() == keys[::-1]
        assert server.ok("scan", "-k", "--limit", "3500").split() == keys[:3500]
        assert len(server.ok("scan")) == 4000 * (len(keys[0]) + 1 + 1000 + 1)
        # A reader that has enough ends the program without a word.
        pipe = subprocess.Popen([CLIENT, "scan", "--addr", server.addr], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=environment())
        pipe.stdout.read(10)
        pipe.stdout.close()
        assert pipe.stderr.read() == b""
        assert pipe.wait(SECONDS_MAX) != 0
        pipe.stderr.close()


def test_mget(directory):
    with Server(directory) as server:
        fill(server, [b"a", b"b"])
        assert server.ok("mget", "b", "a", "b") == b"b\tv-b\na\tv-a\nb\tv-b\n"
        some = server.client("mget", "a", "x y", "b")
        assert some.status == 1 and some.out == b"a\tv-a\nb\tv-b\n", some
        assert some.err == b'kvs-client mget: Key not found: "x\\x20y"\n', some
        some = server.client("mget", "--json", "a", "x")
        assert some.status == 1, some
        assert some.out == b'{"key":"a","value":"v-a"}\n{"key":"x","value":null}\n', some


def test_ttl_and_checksum(directory):
    with Server(directory) as server:
        server.ok("set", "a", "1", "--ttl", "100")
        server.ok("set", "b", "2")
        assert 0 < float(server.ok("ttl", "a")) <= 100
        assert server.ok("ttl", "b") == b"never\n"
        result = server.client("ttl", "c")
        assert result.status == 1 and one_line(result.err).endswith("Key not found"), result
        server.ok("set", "1", "23456789")
        assert server.ok("checksum", "--prefix", "1") == (
            b"checksum  995dc9bbdf1939fa\nkeys      1\nbytes     9\n")
        assert server.ok("checksum", "--start", "c").startswith(b"checksum  0000000000000000\n")


def test_count_and_rm_range(directory):
    with Server(directory) as server:
        fill(server, [b"a", b"b1", b"b2", b"b3", b"c"])
        assert server.ok("count") == b"5\n"
        assert server.ok("count", "-p", "b") == b"3\n"
        assert server.ok("rm-range", "--prefix", "b", "--yes") == b"3\n"
        assert server.ok("rm-range", "--prefix", "b", "--yes") == b"0\n"
        assert server.ok("scan", "-k") == b"a\nc\n"
        assert server.ok("rm-range", "--all", "-y") == b"2\n"
        assert server.ok("count") == b"0\n"


def test_stats(directory):
    with Server(directory) as server:
        fill(server, [b"a", b"b"])
        assert isinstance(json.loads(server.ok("stats", "--json")), dict)
        table = server.ok("stats").decode()
        assert len(table.splitlines()) >= 3, table
        assert all(re.match(r"\S+ +\S", line) for line in table.splitlines()), table


def test_ping(directory):
    with Server(directory) as server:
        once = server.ok("ping").decode()
        assert re.fullmatch(rf"pong from kvs://{server.addr}: \d+\.\d{{3}} ms\n", once), once
        lines = server.ok("ping", "--count", "3", "--interval", "0").decode().splitlines()
        assert len(lines) == 4 and lines[3].startswith("3 of 3 answered, min/avg/max "), lines


def test_sync_and_compact(directory):
    with Server(directory) as server:
        fill(server, [b"a", b"b"])
        assert server.ok("sync") == b""
        assert server.ok("compact") == b""
        assert server.ok("count") == b"2\n"


def test_output_that_cannot_be_written(directory):
    with Server(directory) as server:
        server.ok("set", "a", "1")
        with open("/dev/full", "wb") as full:
            for command in (["get", "a"], ["scan"], ["export"]):
                done = subprocess.run([CLIENT, *command, "--addr", server.addr], stdout=full,
                                      stderr=subprocess.PIPE, timeout=SECONDS_MAX, env=environment())
                assert done.returncode == 1, done
                assert "cannot write to standard output" in one_line(done.stderr), done


def test_a_store_without_server(directory):
    url = f"log:{directory}/store"
    missing = run(CLIENT, "get", "a", "--url", url)
    assert missing.status == 1 and missing.out == b"", missing
    one_line(missing.err)
    assert not (directory / "store").exists()
    assert run(CLIENT, "set", "a", "1", "--url", url) == (0, b"", b"")
    assert run(CLIENT, "get", "a", "--url", url) == (0, b"1\n", b"")
    assert run(CLIENT, "rm", "a", "--url", url) == (0, b"", b"")
    assert run(CLIENT, "rm", "a", "--url", url) == (1, b"", b"Key not found\n")


tap.run(globals())
