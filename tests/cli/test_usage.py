#!/usr/bin/env python3
"""Command lines that make no sense, versions and help: nothing here needs a server."""
import re

from harness import CLIENT, SERVER, one_line, run, tap

VERSION = b"0.1.0"
NOWHERE = ("--addr", "127.0.0.1:1")  # a port where nothing answers: nothing may get that far


def misuse(program, *arguments, says=None, stdin=b""):
    result = run(program, *arguments, stdin=stdin)
    assert result.status == 2, (arguments, result)
    assert result.out == b"", (arguments, result)
    line = one_line(result.err)
    assert says is None or says in line, (arguments, line)
    return line


def test_client_version():
    for flag in ("-V", "--version"):
        result = run(CLIENT, flag)
        assert result == (0, b"kvs-client " + VERSION + b"\n", b""), result


def test_server_version():
    for flag in ("-V", "--version"):
        result = run(SERVER, flag)
        assert result == (0, b"kvs-server " + VERSION + b"\n", b""), result


def test_client_without_arguments():
    assert misuse(CLIENT) == ("kvs-client: no command given, such as: set KEY VALUE, get KEY, rm KEY; "
                              "see: kvs-client --help")
    misuse(CLIENT, *NOWHERE, says="no command given")


def test_missing_arguments():
    for command in ("set", "get", "rm", "exists", "cas", "mget"):
        misuse(CLIENT, command, *NOWHERE, says="an argument is missing")
    misuse(CLIENT, "set", "key", *NOWHERE, says="an argument is missing, it takes: KEY VALUE")
    misuse(CLIENT, "cas", "key", *NOWHERE)
    misuse(CLIENT, "cas", "key", "value", *NOWHERE, says="it takes: KEY EXPECTED VALUE")


def test_extra_arguments():
    misuse(CLIENT, "set", "key", "value", "extra", *NOWHERE, says="unexpected argument 'extra'")
    for command in ("get", "rm", "exists"):
        misuse(CLIENT, command, "key", "extra", *NOWHERE, says="unexpected argument 'extra'")
    for command in ("scan", "count", "stats", "ping", "sync", "compact", "shell"):
        misuse(CLIENT, command, "extra", *NOWHERE, says="unexpected argument 'extra'")
    misuse(CLIENT, "set", "key", "value", "--file", "x", *NOWHERE, says="leave one out")


def test_unknown_flags_and_commands():
    for command in (["set", "k", "v"], ["get", "k"], ["rm", "k"], ["scan"]):
        line = misuse(CLIENT, *command, "--unknown-flag", *NOWHERE)
        assert line == (f"kvs-client {command[0]}: unknown option --unknown-flag; "
                        f"see: kvs-client help {command[0]}"), line
        misuse(CLIENT, *command, "-x", *NOWHERE, says="unknown option -x")
    misuse(CLIENT, "--unknown-flag", says="unknown option --unknown-flag; see: kvs-client --help")
    misuse(CLIENT, "unknown", "key", says="unknown command 'unknown'")
    misuse(CLIENT, "gte", "key", says="did you mean 'get'?")
    for word, command in (("del", "rm"), ("keys", "scan"), ("ls", "scan"), ("incr", "cas"), ("dump", "export")):
        misuse(CLIENT, word, "key", says=f"unknown command '{word}', did you mean '{command}'?")
    misuse(CLIENT, "scan", "--prefxi", "a", says="did you mean --prefix?")
    misuse(CLIENT, "help", "unknown", says="there is no command 'unknown'")


def test_addresses_that_cannot_be_parsed():
    for addr in ("invalid-addr", "", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "1.2.3:4000",
                 "127.0.0.1:4000x", "::1:4000"):
        for command in (["set", "k", "v"], ["get", "k"], ["rm", "k"]):
            misuse(CLIENT, *command, "--addr", addr, says="is not HOST:PORT")
        misuse(CLIENT, "--addr", addr, "get", "k", says="is not HOST:PORT")
    misuse(CLIENT, "get", "k", "--addr", says="option --addr needs a value")


def test_urls_that_cannot_be_used():
    for url in ("", "nonsense", "http://127.0.0.1:4000", "kvs://", "log:"):
        misuse(CLIENT, "get", "k", "--url", url)
    misuse(CLIENT, "get", "k", "--url", "memory:", *NOWHERE, says="give one")
    misuse(CLIENT, *NOWHERE, "events", "read", "s", says="--addr is for keys and values")


def test_values_of_options():
    misuse(CLIENT, "scan", "--limit", "0", *NOWHERE, says="is not a number of at least 1")
    misuse(CLIENT, "scan", "--limit", "many", *NOWHERE, says="'many' is not a number")
    misuse(CLIENT, "get", "k", "--timeout", "0", *NOWHERE, says="is not a number from 1 to")
    misuse(CLIENT, "set", "k", "v", "--ttl", "0", *NOWHERE, says="is not a number of seconds")
    misuse(CLIENT, "export", "--format", "xml", *NOWHERE, says="is not one of json, raw")
    misuse(CLIENT, "import", "--batch", "70000", *NOWHERE, says="is not a number from 1 to 65536")


def test_options_that_contradict():
    misuse(CLIENT, "scan", "--prefix", "a", "--start", "b", *NOWHERE, says="--prefix is a range")
    misuse(CLIENT, "scan", "--json", "--raw", *NOWHERE, says="choose one")
    misuse(CLIENT, "scan", "--end", "", *NOWHERE, says="--end is empty")
    misuse(CLIENT, "get", "-e", "\\q", *NOWHERE, says="broken escape")
    misuse(CLIENT, "cas", "k", "a", "b", "--absent", *NOWHERE, says="with --absent it takes")


def test_removing_a_range_is_guarded():
    misuse(CLIENT, "rm-range", *NOWHERE, says="no range given")
    misuse(CLIENT, "rm-range", "--yes", *NOWHERE, says="no range given")
    misuse(CLIENT, "rm-range", "--all", "--prefix", "a", "--yes", *NOWHERE, says="leave the range out")
    misuse(CLIENT, "rm-range", "--all", *NOWHERE, says="add --yes")
    misuse(CLIENT, "rm-range", "--prefix", "a", *NOWHERE, says="add --yes")


def test_help_of_the_program():
    text = run(CLIENT, "--help")
    assert text.status == 0 and text.err == b""
    for command in (b"set KEY VALUE", b"get KEY", b"rm KEY", b"scan", b"shell", b"--addr HOST:PORT"):
        assert command in text.out, text.out
    assert run(CLIENT, "-h") == text == run(CLIENT, "help")


def command_names():
    listed = run(CLIENT, "help").out.decode().split("Commands:\n")[1].split("\n\n")[0]
    names = [line.split()[0] for line in listed.splitlines() if line[2] != " "]
    assert len(names) >= 17, names
    return names


def test_help_of_every_command():
    for name in command_names():
        text = run(CLIENT, "help", name)
        assert text.status == 0 and text.err == b"", text
        assert text.out.startswith(f"usage: kvs-client {name}".encode()), text
        if name != "events":  # has commands of its own: test_events.py
            assert b"\nExamples:\n  " in text.out and b"--addr HOST:PORT" in text.out, text
        assert all(len(line) <= 100 for line in text.out.splitlines()), text
        assert run(CLIENT, name, "--help") == text == run(CLIENT, name, "-h")


def test_help_of_no_command():
    assert misuse(CLIENT, "help", "sca") == "kvs-client: there is no command 'sca', did you mean 'scan'?; see: kvs-client --help"
    assert misuse(CLIENT, "events", "help", "sca") == (
        "kvs-client events: there is no command 'sca'; see: kvs-client events --help")


def test_directories_without_a_store(directory):
    """Each says what is there, not that there is no such directory."""
    (directory / "file").touch()
    deep = directory / "missing" / "deep"
    for command, path, says in ((["get", "k"], directory, "holds no store; check the path"),
                                (["set", "k", "v"], directory / "file", "is a file; name a directory"),
                                (["set", "k", "v"], deep,
                                 "cannot be made; check the path, or make the directory above it")):
        done = run(CLIENT, *command, "--url", f"log:{path}")
        assert done.status == 1 and one_line(done.err) == (
            f"kvs-client {command[0]}: {path}: {says}, at log:{path}"), done
    done = run(SERVER, "--addr", "127.0.0.1:0", "--dir", str(deep))
    assert done.status == 1 and "make the directory above it" in one_line(done.err), done


def on_read_only_disk(disk, *command):
    """Runs it where `disk` can only be read, and has a store in `made`."""
    script = ('mount -t tmpfs kvs-test "$1" && mkdir "$1/backups" && '
              '"$2" set k v --url "log:$1/made" && mount -o remount,ro "$1" || exit 77; '
              'shift 2; exec "$@"')
    alone = ["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(disk), CLIENT]
    if run("unshare", *alone, "true").status != 0:
        raise tap.Skip("no disk can be mounted here")
    return run("unshare", *alone, *command)


def test_a_read_only_file_system(directory):
    """Is said to be one, and what helps; it can be checked."""
    says = "(the file system is read-only); mount it for writing, or use another directory"
    disk = directory / "disk"
    disk.mkdir()
    made, new = disk / "made", disk / "new"
    for command, line in (
            (["get", "k"], f"kvs-client get: {made}: its lock file cannot be written {says}, at log:{made}"),
            (["set", "k", "v"], f"kvs-client set: {new}: cannot be made {says}, at log:{new}"),
            (["events", "read", "s"],
             f"kvs-client events read: {made}: its lock file cannot be written {says}, at log:{made}")):
        done = on_read_only_disk(disk, CLIENT, *command, "--url", "log:" + line.split(" log:")[1])
        assert done.status == 1 and one_line(done.err) == line, done
    done = on_read_only_disk(disk, SERVER, "--addr", "127.0.0.1:0", "--dir", str(made))
    assert done.status == 1 and says in one_line(done.err), done
    done = on_read_only_disk(disk, SERVER, "--addr", "127.0.0.1:0", "--dir", str(directory / "data"),
                             "--backup-dir", str(disk / "backups"))
    assert done.status == 1 and "(--backup-dir): the file system is read-only" in one_line(done.err), done
    done = on_read_only_disk(disk, SERVER, "--dir", str(made), "--verify")
    assert done.status == 0, done


def test_the_manual_names_every_command_and_option():
    manual = (tap.SOURCE_DIR / "docs" / "man" / "kvs-client.1").read_text()
    for name in command_names():
        assert f".It Cm {name}" in manual, name
        for option in re.findall(r"^  .{4}--([a-z-]+)", run(CLIENT, "help", name).out.decode(), re.M):
            assert re.search(rf"(Fl|,) -{option}\b", manual), (name, option)


def test_a_server_that_is_not_there():
    for command in (["set", "k", "v"], ["get", "k"], ["rm", "k"], ["scan"], ["ping"], ["shell"]):
        result = run(CLIENT, *command, *NOWHERE)
        assert result.status == 1 and result.out == b"", result
        line = one_line(result.err)
        assert line.startswith(f"kvs-client {command[0]}: ") and "127.0.0.1:1" in line, line
        assert "running" in line, line


def test_server_usage():
    misuse(SERVER, "--unknown-flag")
    misuse(SERVER, "extra")
    misuse(SERVER, "-x")
    for addr in ("invalid-addr", "127.0.0.1", "127.0.0.1:99999"):
        misuse(SERVER, "--addr", addr)
    misuse(SERVER, "--addr")
    misuse(SERVER, "--eventstore", "127.0.0.1:1113", says="'127.0.0.1:1113': a value of --eventstore is written --eventstore=HOST:PORT")
    misuse(SERVER, "--eventstore=127.0.0.1:1113", "extra", says="unexpected argument 'extra', it takes: no arguments")
    unknown = run(SERVER, "--addr", "127.0.0.1:0", "--engine", "unknown")
    assert unknown.status > 0 and "unknown" in one_line(unknown.err), unknown
    misuse(SERVER, "--sync", "sometimes")
    assert run(SERVER, "--help").status == 0


tap.run(globals())
