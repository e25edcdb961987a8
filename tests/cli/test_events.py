#!/usr/bin/env python3
"""kvs-client events, on event streams in a directory: exact outputs and exit statuses."""
import json
import re
import signal
import socket
import subprocess

from harness import CLIENT, SECONDS_MAX, environment, one_line, run, tap

ID = "00112233-4455-6677-8899-aabbccddeeff"


class Streams:
    def __init__(self, directory):
        self.url = f"log:{directory}/streams"

    def run(self, *arguments, stdin=b""):
        return run(CLIENT, "events", *arguments, "--url", self.url, stdin=stdin)

    def ok(self, *arguments, stdin=b""):
        done = self.run(*arguments, stdin=stdin)
        assert done.status == 0 and done.err == b"", done
        return done.out

    def lines(self, *arguments, stdin=b""):
        return [json.loads(line) for line in self.ok(*arguments, stdin=stdin).splitlines()]

    def fails(self, *arguments, status=1, stdin=b""):
        done = self.run(*arguments, stdin=stdin)
        assert done.status == status and done.out == b"", done
        return one_line(done.err)


def numbered(count, first=0):
    return "".join(json.dumps({"type": "counted", "data": i}) + "\n"
                   for i in range(first, first + count)).encode()


def test_append_and_read(directory):
    streams = Streams(directory)
    lines = (f'{{"type":"placed","data":{{"id":7}},"id":"{ID}"}}\n\n'
             '{"type":"paid","data":[1,2],"metadata":{"m":1}}\n'
             '{"type":"text","bytes":"plain"}\n{"type":"raw","bytes64":"AAH/"}\n').encode()
    appended, = streams.lines("append", "order-7", stdin=lines)
    assert (appended["first"], appended["last"]) == (0, 3), appended
    events = streams.lines("read", "order-7")
    assert [event["number"] for event in events] == [0, 1, 2, 3]
    assert [event["type"] for event in events] == ["placed", "paid", "text", "raw"]
    assert events[0]["id"] == ID and events[0]["data"] == {"id": 7}
    assert events[1]["data"] == [1, 2] and events[1]["metadata"] == {"m": 1}
    assert events[2]["bytes"] == "plain" and events[3]["bytes64"] == "AAH/"
    assert all(event["stream"] == "order-7" and event["created"] > 1600000000000
               for event in events)
    # What was printed can be appended, and is known again by its ids.
    again, = streams.lines("append", "order-7", stdin=streams.ok("read", "order-7"))
    assert again["last"] == 3, again


def test_a_directory_that_is_not_there(directory):
    """Whatever only reads or keeps order does not make one; what writes does."""
    streams = Streams(directory)
    for command in (["read", "s"], ["read", "$all"], ["follow", "s"], ["subscribe", "s", "g"],
                    ["delete", "s"], ["metadata", "s"], ["groups", "list"],
                    ["groups", "info", "s", "g"], ["groups", "update", "s", "g"],
                    ["groups", "delete", "s", "g"], ["groups", "replay", "s", "g"],
                    ["users", "list"], ["users", "disable", "joe"], ["users", "enable", "joe"],
                    ["users", "delete", "joe"], ["users", "update", "joe", "--groups", "x"],
                    ["users", "password", "joe", "--file", "-"], ["scavenge"], ["ping"]):
        said = streams.fails(*command, stdin=b"secret\n")
        assert f"{directory}/streams: " in said and "no such directory" in said, said
        assert "check the path" in said, said
        assert not (directory / "streams").exists(), command
    for number, command in enumerate((["append", "s", "--type", "one"], ["metadata", "s", "{}"],
                                      ["groups", "create", "s", "g"],
                                      ["users", "create", "joe", "--file", "-"])):
        streams.url = f"log:{directory}/{number}"
        streams.ok(*command, stdin=b"secret\n")
        assert (directory / str(number)).exists(), command


def test_a_directory_is_shown_whole(directory):
    for url in (f"log:/{directory}/a@b", f"log:{directory}//a@b"):
        done = run(CLIENT, "events", "append", "s", "--type", "T", "--url", url)
        assert done.status == 0, done
        done = run(CLIENT, "events", "ping", "--url", url)
        assert done.status == 0 and done.out.startswith(url.encode() + b": "), done


def test_expectations(directory):
    streams = Streams(directory)
    streams.ok("append", "s", "--type", "one", "--expect", "none")
    streams.ok("append", "s", "--type", "two", "--data", '{"a":"b"}', "--expect", "0")
    said = streams.fails("append", "s", "--type", "three", "--expect", "0")
    assert "expected version: its last event has the number 1" in said, said
    said = streams.fails("delete", "missing", "--expect", "3")
    assert "expected version: it has no events" in said, said
    said = streams.fails("delete", "missing")  # who expects nothing is not told that it is not so
    assert "no such stream, at" in said, said
    assert "no such stream" in streams.fails("read", "missing")
    # Each append of several expects what the one before it wrote.
    results = streams.lines("append", "s", "--expect", "1", "--batch", "2", stdin=numbered(5))
    assert [result["first"] for result in results] == [2, 4, 6], results


def test_reading_forwards_and_backwards(directory):
    streams = Streams(directory)
    streams.ok("append", "s", stdin=numbered(1200))
    numbers = [event["number"] for event in streams.lines("read", "s")]
    assert numbers == list(range(1200))
    numbers = [event["number"] for event in streams.lines("read", "s", "--from", "1190")]
    assert numbers == list(range(1190, 1200))
    numbers = [event["number"] for event in streams.lines("read", "s", "--reverse", "-n", "3")]
    assert numbers == [1199, 1198, 1197]
    some = streams.lines("read", "$all", "--type-prefix", "count", "--limit", "5")
    assert [event["data"] for event in some] == [0, 1, 2, 3, 4]
    assert some[0]["commit"] < some[1]["commit"]
    behind = f'{some[4]["commit"]}/{some[4]["prepare"]}'
    on = streams.lines("read", "$all", "--from", behind, "--stream-regex", "^s$", "--limit", "2")
    assert [event["data"] for event in on] == [4, 5], on


def test_json_stays_as_it_is(directory):
    streams = Streams(directory)
    data = '{"price": 0.1,"big":12345678901234567890123,"c":1E3,"s":"\\u00e9\\u0000/","a":[ ]}'
    streams.ok("append", "s", stdin=f'{{"type":"t","data":{data},"metadata":[0.10]}}\n'.encode())
    streams.ok("append", "s", "--type", "t", "--data", data.replace(",", ",\n"))
    first, second = streams.ok("read", "s").decode().splitlines()
    assert f'"data":{data},"metadata":[0.10]' in first, first
    assert '"data":' + data.replace(",", ", ") in second, second
    # What was read can be appended elsewhere.
    streams.ok("append", "t", stdin=(first + "\n" + second + "\n").encode())
    assert f'"data":{data}' in streams.ok("read", "t").decode()


def test_following_ends_with_its_reader(directory):
    streams = Streams(directory)
    streams.ok("append", "s", stdin=numbered(3))
    process = subprocess.Popen([CLIENT, "events", "follow", "s", "--url", streams.url],
                               stdout=subprocess.PIPE, env=environment())
    tap.kill_at_exit(process)
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(SECONDS_MAX) == -signal.SIGPIPE
    ours, its = socket.socketpair()  # as Node.js gives its children
    process = subprocess.Popen([CLIENT, "events", "follow", "s", "--url", streams.url],
                               stdout=its, env=environment())
    tap.kill_at_exit(process)
    its.close()
    assert ours.recv(1)
    ours.close()
    assert process.wait(SECONDS_MAX) == -signal.SIGPIPE


def test_follow(directory):
    streams = Streams(directory)
    streams.ok("append", "s", stdin=numbered(20))
    numbers = [event["number"] for event in streams.lines("follow", "s", "--limit", "10")]
    assert numbers == list(range(10, 20))
    numbers = [event["number"] for event in streams.lines("follow", "s", "-f", "start", "-n", "20")]
    assert numbers == list(range(20))
    numbers = [event["number"] for event in streams.lines("follow", "s", "-f", "5", "-n", "15")]
    assert numbers == list(range(5, 20))


def test_following_begins_with_the_last_ones(directory):
    streams = Streams(directory)
    streams.ok("append", "s", stdin=numbered(12))
    streams.ok("append", "other", "--batch", "5000", stdin=b'{"type":"miss"}\n' * 5000)

    def last(stream, count, *arguments):
        options = ("--last", str(count), "--limit", str(count), *arguments)
        return [event["number"] for event in streams.lines("follow", stream, *options)]

    # A filter's last ones may be far from the end, and there may be less of them.
    assert last("$all", 3, "--type-prefix", "count") == [9, 10, 11]
    assert last("$all", 12, "--type-regex", "^counted$") == list(range(12))
    some = streams.lines("follow", "$all", "--stream-prefix", "s", "--last", "20", "--limit", "12")
    assert [event["data"] for event in some] == list(range(12))
    assert last("other", 4096) == list(range(904, 5000))
    # A page ends early when its events are large.
    line = json.dumps({"type": "large", "bytes": "x" * 1500000}).encode() + b"\n"
    streams.ok("append", "large", stdin=line * 6)
    assert last("large", 5) == last("$all", 5) == [1, 2, 3, 4, 5]
    # Two places to begin at are none: also where one is what it would be anyway.
    for count in ("0", "10"):
        told = streams.fails("follow", "s", "--from", "start", "--last", count, "--limit", "1",
                             status=2)
        assert "--last" in told, told


def test_groups(directory):
    streams = Streams(directory)
    streams.ok("append", "s", stdin=numbered(6))
    assert streams.ok("groups", "create", "s", "g", "--from", "start") == b""
    assert "exists" in streams.fails("groups", "create", "s", "g")
    got = streams.lines("subscribe", "s", "g", "--limit", "3", "--in-flight", "2")
    assert sorted(event["number"] for event in got) == [0, 1, 2], got
    # What was printed is acknowledged, and nothing else of what was given with it.
    for number in (3, 4):
        got, = streams.lines("subscribe", "s", "g", "--limit", "1")
        assert got["number"] == number, got
    assert streams.ok("groups", "replay", "s", "g") == b""
    told, = streams.lines("groups", "list")
    assert told == {"stream": "s", "group": "g", "status": told["status"], "lastKnown": 5,
                    "lastCheckpoint": 4, "inFlight": 0, "members": 0, "total": 0,
                    "perSecond": 0}, told
    assert [told["group"] for told in streams.lines("groups", "list", "s")] == ["g"]
    assert streams.lines("groups", "list", "other") == []
    told, = streams.lines("groups", "info", "s", "g")
    assert (told["parked"], told["outstanding"], told["connections"]) == (0, 0, []), told
    assert told["settings"]["startFrom"] == 0 and told["settings"]["retries"] == 10, told
    assert "no such group" in streams.fails("groups", "info", "s", "other")
    assert streams.ok("groups", "delete", "s", "g") == b""
    assert streams.lines("groups", "list") == []
    assert "no such group" in streams.fails("subscribe", "s", "g")
    assert "no such group" in streams.fails("groups", "delete", "s", "g")


def test_metadata_and_deleting(directory):
    streams = Streams(directory)
    streams.ok("append", "s", stdin=numbered(6))
    assert streams.ok("metadata", "s") == b"{}\n"
    assert streams.ok("metadata", "s", '{"$maxCount": 2}') == b""
    assert streams.ok("metadata", "s") == b'{"$maxCount":2}\n'
    assert [event["number"] for event in streams.lines("read", "s")] == [4, 5]
    assert "JSON object" in streams.fails("metadata", "s", "[]")
    assert streams.ok("delete", "s", "--expect", "5") == b""
    assert "no such stream" in streams.fails("read", "s")
    assert streams.ok("delete", "s", "--hard") == b""
    assert "deleted" in streams.fails("append", "s", "--type", "t")
    assert "deleted" in streams.fails("metadata", "s")
    # There are no users here, so no other name would help.
    assert streams.fails("append", "$all", "--type", "t").endswith(f": nobody may do this, at {streams.url}")


def test_users(directory):
    streams = Streams(directory)
    create = ["users", "create", "joe", "--full-name", "Joe", "--groups", "$ops,others"]
    assert "--file" in streams.fails(*create, status=2)
    assert streams.ok(*create, "--file", "-", stdin=b"secret\n") == b""
    joe, = streams.lines("users", "list", "joe")
    assert joe == {"login": "joe", "fullName": "Joe", "groups": ["$ops", "others"],
                   "disabled": False}, joe
    # What is not named stays.
    assert "--full-name" in streams.fails("users", "update", "joe", status=2)
    assert streams.ok("users", "update", "joe", "--full-name", "Joe B.") == b""
    assert streams.lines("users", "list", "joe") == [joe | {"fullName": "Joe B."}]
    assert streams.ok("users", "update", "joe", "--groups", "others") == b""
    assert streams.lines("users", "list", "joe") == [joe | {"fullName": "Joe B.",
                                                            "groups": ["others"]}]
    assert streams.ok("users", "update", "joe", "--groups", "") == b""
    assert streams.lines("users", "list", "joe") == [joe | {"fullName": "Joe B.", "groups": []}]
    assert "no such user" in streams.fails("users", "update", "jim", "--groups", "others")
    assert streams.ok("users", "disable", "joe") == b""
    assert joe["login"] in [user["login"] for user in streams.lines("users", "list")]
    assert streams.lines("users", "list", "joe")[0]["disabled"]
    assert streams.ok("users", "delete", "joe") == b""
    assert "no such user" in streams.fails("users", "list", "joe")


def test_lines_that_make_no_sense(directory):
    streams = Streams(directory)
    for line, said in ((b"{", "line 1"), (b"[]", "\"type\""), (b'{"type":""}', "\"type\""),
                       (b'{"type":"t","id":"x"}', "UUID"),
                       (b'{"type":"t","data":1,"bytes":"x"}', "two ways"),
                       (b'{"type":"t","bytes64":"?"}', "base64")):
        assert said in streams.fails("append", "s", stdin=line), line
    # What stands before such a line is appended, nothing behind it is, however they arrive.
    done = run(CLIENT, "events", "append", "t", "--url", streams.url,
               stdin=b'{"type":"a"}\n{"type":"b"}\n{"type":}\n{"type":"c"}\n')
    assert done.status == 1 and "line 3" in one_line(done.err), done
    assert json.loads(done.out)["last"] == 1, done
    assert [event["type"] for event in streams.lines("read", "t")] == ["a", "b"]
    assert '"Data"' in streams.fails("append", "s", stdin=b'{"type":"t","Data":1}')
    for arguments in (["append"], ["reed", "s"], ["read", "s", "--from", "x"],
                      ["append", "s", "--expect", "x"], ["append", "s", "--data", "1"],
                      ["append", "s", "--type", "t", "--data", "x"], ["groups", "make", "s", "g"],
                      ["groups", "info", "s"], ["groups", "create", "s"],
                      ["groups", "list", "s", "g"], ["groups"],
                      ["users", "create"], ["read", "s", "--type-prefix", "t"],
                      ["read", "s", "--from", "end"], []):
        said = streams.fails(*arguments, status=2)
        assert "see: kvs-client events" in said, said


def test_nobody_is_there():
    done = run(CLIENT, "events", "ping", "--url", "esdb://admin:secret@127.0.0.1:1")
    assert done.status == 1 and done.out == b"", done
    assert "cannot connect" in one_line(done.err) and b"secret" not in done.err, done


def test_help_and_the_manual():
    text = run(CLIENT, "events", "--help")
    assert text.status == 0 and text.err == b"", text
    assert text == run(CLIENT, "help", "events") == run(CLIENT, "events", "help"), text
    manual = (tap.SOURCE_DIR / "docs" / "man" / "kvs-client.1").read_text()
    listed = text.out.decode().split("Commands:\n")[1].split("\n\n")[0]
    names = [line.split()[0] for line in listed.splitlines() if line[2] != " "]
    assert len(names) == 10, names
    for name in names:
        help_text = run(CLIENT, "events", name, "--help").out.decode()
        assert run(CLIENT, "events", "help", name).out.decode() == help_text, name
        assert help_text.startswith(f"usage: kvs-client events {name}"), help_text
        assert "\nExamples:\n  " in help_text, help_text
        assert re.search(rf"Cm {name}\b", manual), name
        for option in re.findall(r"^  .{4}--([a-z-]+)", help_text, re.M):
            assert re.search(rf"Fl -{option}\b", manual), (name, option)


def test_a_reader_that_goes_away(directory):
    streams = Streams(directory)
    streams.ok("append", "s", stdin=numbered(5000))
    with subprocess.Popen([CLIENT, "events", "read", "s", "--url", streams.url],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=environment()) as reader:
        assert reader.stdout.readline().startswith(b'{"stream":"s"')
        reader.stdout.close()
        assert reader.stderr.read() == b""
        reader.wait(SECONDS_MAX)


tap.run(globals())
