#!/usr/bin/env python3
"""The shell: as a script reads it, and as a person on a terminal does."""
import json

from harness import CLIENT, Server, Terminal, held_port, run, tap

PROMPT = b"kvs> "


def open_shell(server, directory):
    screen = Terminal(CLIENT, "shell", "--addr", server.addr, XDG_STATE_HOME=str(directory))
    screen.expect(b"'exit' leaves")
    screen.expect(PROMPT)
    return screen


def test_lines_of_standard_input(directory):
    script = rb"""
# a comment
set greeting "hello world"
get greeting
set multi 'one
two'
get multi
set "zero\x00key" "\xff\t"
scan --prefix zero
get missing
rm greeting
count
"""
    with Server(directory) as server:
        result = server.client("shell", stdin=script)
        assert result == (0, b"hello world\none\ntwo\nzero\\x00key\t\\xff\\t\nKey not found\n2\n",
                          b""), result
        assert server.ok("count") == b"2\n"


def test_failures_do_not_end_it(directory):
    with Server(directory) as server:
        result = server.client("shell", stdin=b"rm missing\ngte a\nget\nset a 1\nget a")
        assert result.status == 1 and result.out == b"1\n", result
        assert result.err.decode().splitlines() == [
            "Key not found", "unknown command 'gte', did you mean 'get'?; see: help",
            "an argument is missing, it takes: KEY; see: help get"], result


def test_exit_and_odd_lines(directory):
    with Server(directory) as server:
        assert server.client("shell", stdin=b"exit\nset a 1\n") == (0, b"", b"")
        assert server.client("shell", stdin=b"quit") == (0, b"", b"")
        assert server.client("shell", stdin=b"") == (0, b"", b"")
        assert server.ok("count") == b"0\n"
        for line, says in ((b'set a "open', b"ends within quotes"), (b"shell", b"the shell already"),
                           (b'get "\\q"', b"broken escape"), (b"import", b"a file must be named"),
                           (b"get a --addr 127.0.0.1:1", b"stays with the store")):
            result = server.client("shell", stdin=line)
            assert result.status == 1 and says in result.err, result


def test_options_hold_for_one_line(directory):
    with Server(directory) as server:
        result = server.client("shell", stdin=b"set a 1\nset b 2\nscan -k --limit 1\nscan -k\n")
        assert result == (0, b"a\na\nb\n", b""), result


def test_typing(directory):
    with Server(directory / "data") as server, open_shell(server, directory) as screen:
        screen.type(b"set greeting \"hello world\"\r")
        screen.expect(PROMPT)
        screen.type(b"get greeting\r")
        screen.expect(b"\r\nhello world\r\n")
        screen.expect(PROMPT)
        screen.type(b"set open 'one\r")
        screen.expect(b"...> ")
        screen.type(b"two'\r")
        screen.expect(PROMPT)
        screen.type(b"get open\r")
        screen.expect(b"\r\none\r\ntwo\r\n")
        screen.expect(PROMPT)
        screen.type(b"help scan\r")
        screen.expect(b"usage: kvs-client scan")
        screen.expect(PROMPT)
        screen.type(b"exit\r")
        assert screen.finish() == 0
        assert server.ok("get", "open") == b"one\ntwo\n"


def test_completion(directory):
    with Server(directory / "data") as server, open_shell(server, directory) as screen:
        for key in ("user:ada", "user:grace", "zebra"):
            server.ok("set", key, "v-" + key)
        server.ok("set", "-e", "odd \\x00key", "found")
        screen.type(b"exi\t")                  # two commands: exists and exit
        screen.type(b"\t")
        screen.expect(b"exists")
        screen.expect(b"exit")
        screen.type(b"\x15get z\t\r")          # ^U clears the line; one key: completed
        screen.expect(b"\r\nv-zebra\r\n")
        screen.expect(PROMPT)
        screen.type(b"get us\t\t")             # what both share, then the list
        screen.expect(b"user:ada")
        screen.expect(b"user:grace")
        screen.type(b"g\t\r")
        screen.expect(b"\r\nv-user:grace\r\n")
        screen.expect(PROMPT)
        screen.type(b"get o\t\r")              # needs quotes and escapes
        screen.expect(b"\r\nfound\r\n")
        screen.expect(PROMPT)
        screen.type(b"scan --pre\tuser: --keys\t\r")
        screen.expect(b"\r\nuser:ada\r\nuser:grace\r\n")
        screen.expect(PROMPT)
        screen.type(b"\x04")                   # ^D
        assert screen.finish() == 0


def test_interrupt_drops_the_line(directory):
    with Server(directory / "data") as server, open_shell(server, directory) as screen:
        screen.type(b"set a 1\x03")
        screen.expect(b"^C")
        screen.expect(PROMPT)
        screen.type(b"set b 'open\r")
        screen.expect(b"...> ")
        screen.type(b"\x03")
        screen.expect(PROMPT)
        screen.type(b"count\r")
        screen.expect(b"\r\n0\r\n")
        screen.expect(PROMPT)
        screen.type(b"\x04")
        assert screen.finish() == 0


def test_interrupt_ends_what_follows_a_stream(directory):
    with Server(directory / "data") as server, open_shell(server, directory) as screen:
        screen.type(b"events append s --type t --url memory:\r")
        screen.expect(b'{"first":0')
        screen.expect(PROMPT)
        screen.type(b"events follow s --url memory:\r")
        screen.expect(b'"number":0')
        screen.type(b"\x03")
        screen.expect(b"interrupted")
        screen.expect(PROMPT)
        screen.type(b"count\r")
        screen.expect(b"\r\n0\r\n")
        screen.expect(PROMPT)
        screen.type(b"\x04")
        assert screen.finish() == 0


def test_event_streams_are_where_each_line_says(directory):
    one, other = f"log:{directory}/one", f"log:{directory}/other"
    script = "".join(f"events append s --type {kind} --url {url}\n"
                     for kind, url in (("a", one), ("b", other), ("c", one)))
    result = run(CLIENT, "--url", "memory:", "shell", stdin=script.encode())
    assert result.status == 0 and result.err == b"", result
    for url, kinds in ((one, ["a", "c"]), (other, ["b"])):
        read = run(CLIENT, "events", "read", "s", "--url", url)
        assert [json.loads(line)["type"] for line in read.out.splitlines()] == kinds, read


def test_history(directory):
    with Server(directory / "data") as server:
        with open_shell(server, directory / "state") as screen:
            screen.type(b"set a 1\r")
            screen.expect(PROMPT)
            screen.type(b" set secret 2\r")    # a blank before it: not kept
            screen.expect(PROMPT)
            screen.type(b"exit\r")
            assert screen.finish() == 0
        history = directory / "state" / "kvs" / "history"
        assert b"set\\040a\\0401" in history.read_bytes() or b"set a 1" in history.read_bytes()
        assert b"secret" not in history.read_bytes()
        assert history.stat().st_mode & 0o077 == 0
        server.ok("rm", "a")
        with open_shell(server, directory / "state") as screen:
            screen.type(b"\x10\x10\r")         # ^P twice: before exit stands set a 1
            screen.expect(PROMPT)
            screen.type(b"\x04")
            assert screen.finish() == 0
        assert server.ok("get", "a") == b"1\n"


def test_the_server_goes_and_comes_back(directory):
    with held_port() as addr, Server(directory / "data", addr=addr) as first, open_shell(first, directory) as screen:
        screen.type(b"set a 1\r")
        screen.expect(PROMPT)
        assert first.stop() == 0
        with Server(directory / "data", addr=addr):
            screen.type(b"get a\r")
            screen.expect(b"\r\n1\r\n")
            screen.expect(PROMPT)
            screen.type(b"exit\r")
            assert screen.finish() == 0


def test_asking_before_a_range_is_removed(directory):
    with Server(directory / "data") as server, open_shell(server, directory) as screen:
        server.ok("set", "a1", "v")
        server.ok("set", "a2", "v")
        screen.type(b"rm-range --prefix a\r")
        screen.expect(b"Remove 2 keys")
        screen.type(b"n\r")
        screen.expect(b"nothing was removed")
        screen.expect(PROMPT)
        assert server.ok("count") == b"2\n"
        screen.type(b"rm-range --prefix a\r")
        screen.expect(b"[y/N] ")
        screen.type(b"y\r")
        screen.expect(PROMPT)
        assert server.ok("count") == b"0\n"


tap.run(globals())
