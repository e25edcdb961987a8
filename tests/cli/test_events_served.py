#!/usr/bin/env python3
"""kvs-client events on a kvs-server: what only a server has, users with passwords before all."""
import json
import os
import re
import socket
import subprocess
import time
from pathlib import Path

from harness import CLIENT, SECONDS_MAX, Server, environment, one_line, run, tap

BENCH = str(tap.BUILD_DIR / "kvs-bench")

SERVED = re.compile(r"clients on \S+:(\d+)\n.*serving HTTP on \S+:(\d+)\n", re.S)
WARNING = "still with the password that everybody knows"


class EventServer(Server):
    """With event streams on TCP and HTTP, in clear text."""

    def __init__(self, directory, *flags):
        patience = () if "--heartbeat-timeout" in flags else ("--heartbeat-timeout", "600")
        super().__init__(directory, "--eventstore=127.0.0.1:0", "--http=127.0.0.1:0", *patience, *flags)
        # The lines that name the ports come right behind the one that tells readiness.
        deadline = time.monotonic() + SECONDS_MAX
        while (found := SERVED.search(self.log())) is None:
            assert time.monotonic() < deadline, self.log()
        self.tcp, self.http = found[1], found[2]

    def url(self, user="admin:changeit", discover=False):
        user = f"{user}@" if user else ""
        if discover:
            return f"esdb+discover://{user}127.0.0.1:{self.http}"
        return f"esdb://{user}127.0.0.1:{self.tcp}?httpPort={self.http}"

    def events(self, *arguments, stdin=b"", **where):
        return run(CLIENT, "events", *arguments, "--url", self.url(**where), stdin=stdin)

    def good(self, *arguments, stdin=b"", **where):
        done = self.events(*arguments, stdin=stdin, **where)
        assert done.status == 0 and done.err == b"", done
        return done.out

    def fails(self, *arguments, stdin=b"", **where):
        done = self.events(*arguments, stdin=stdin, **where)
        assert done.status == 1 and done.out == b"", done
        return one_line(done.err)


def test_default_passwords_are_changed(directory):
    with EventServer(directory) as server:
        assert f"admin and ops {WARNING}" in server.log()
        server.good("append", "s", "--type", "t")
        server.good("users", "password", "admin", "--file", "-", stdin=b"another\n")
        assert "are wrong" in server.fails("users", "list"), "the old one is refused"
        assert b"admin" in server.good("users", "list", user="admin:another")
        server.good("users", "list", user="admin:another", discover=True)
        assert server.stop() == 0
    with EventServer(directory) as server:  # ops has it still
        assert f": ops {WARNING}" in server.log()
        server.good("users", "password", "ops", "--file", "-", stdin=b"mine\n",
                    user="admin:another")
        assert server.stop() == 0
    with EventServer(directory) as server:
        assert WARNING not in server.log()
        for user in ("admin:changeit", "ops:changeit", "ops:another"):
            assert "are wrong" in server.fails("read", "$all", user=user), user
        assert json.loads(server.good("read", "s", user="admin:another"))["type"] == "t"
        assert server.stop() == 0
    with EventServer(directory, "--insecure") as server:
        server.good("users", "list", user=None)
        assert server.stop() == 0


def test_passwords_are_a_first_line(directory):
    with EventServer(directory) as server:
        server.good("users", "create", "joe", "--file", "-", stdin=b"first\n")
        for line, password in ((b"no-end", "no-end"), (b"windows\r\n", "windows"),
                               (b"first\nsecond\n", "first"), (b"x" * 255, "x" * 255),
                               (b"y" * 255 + b"\r\n", "y" * 255)):
            server.good("users", "password", "joe", "--file", "-", stdin=line)
            server.good("append", "s", "--type", "t", user=f"joe:{password}")
        for line in (b"", b"\n", b"\r\nx\n", b"x" * 256, b"x" * 255 + b"\rx\n", b"a\0b\n"):
            said = server.fails("users", "password", "joe", "--file", "-", stdin=line)
            assert "1 to 255 bytes" in said, (line, said)
        said = server.fails("users", "password", "joe", "--file", directory / "none")
        assert "No such file" in said, said
        assert server.stop() == 0


def test_users_have_their_rights(directory):
    with EventServer(directory) as server:
        server.good("users", "create", "joe", "--file", "-", stdin=b"secret\n")
        joe = {"user": "joe:secret"}
        server.good("append", "s", "--type", "t", **joe)
        server.good("metadata", "s", '{"$acl":{"$r":"admin"}}')
        said = server.fails("read", "s", **joe)
        assert "may not" in said, said
        said = server.fails("read", "$all", **joe)
        assert "may not" in said, said
        said = server.fails("scavenge", **joe)
        assert "may not" in said, said
        said = server.fails("groups", "create", "s", "g", **joe)
        assert "may not" in said, said
        said = server.fails("users", "disable", "admin", **joe)
        assert "may not" in said, said
        server.good("read", "s")
        server.good("users", "disable", "joe")
        assert "are wrong" in server.fails("append", "s", "--type", "t", **joe)
        server.good("users", "enable", "joe")
        server.good("append", "s", "--type", "t", **joe)
        assert "no such user" in server.fails("users", "delete", "jim")
        assert server.stop() == 0


def test_parked_events_are_replayed_by_operators(directory):
    with EventServer(directory) as server:
        server.good("append", "s", "--type", "t")
        server.good("groups", "create", "s", "g", "--from", "start")
        for discover in (False, True):
            assert server.good("groups", "replay", "s", "g", discover=discover) == b""
            said = server.fails("groups", "replay", "s", "other", discover=discover)
            assert "no such" in said, said
            for user in ("admin:wrong", None):
                server.fails("groups", "replay", "s", "g", user=user, discover=discover)
        server.good("users", "create", "joe", "--file", "-", stdin=b"secret\n")
        said = server.fails("groups", "replay", "s", "g", user="joe:secret")
        assert "may not" in said, said
        assert server.stop() == 0


def test_groups_are_told_to_users(directory):
    with EventServer(directory) as server:
        server.good("append", "s", "--type", "t")
        server.good("groups", "create", "s", "g", "--from", "start", "--retries", "3")
        server.good("users", "create", "joe", "--file", "-", stdin=b"secret\n")
        member = start(server, "subscribe", "s", "g")
        assert member.stdout.readline()
        for where in ({}, {"discover": True}, {"user": "joe:secret"}):
            assert server.good("groups", "list", "other", **where) == b""
            told, = server.good("groups", "list", **where).splitlines()
            assert json.loads(told)["members"] == 1, told
            told = json.loads(server.good("groups", "info", "s", "g", **where))
            assert told["status"] in ("Live", "Behind") and told["lastKnown"] == 0, told
            assert told["settings"]["retries"] == 3, told
            connection, = told["connections"]
            assert connection["login"] == "admin" and connection["name"] == "kvs-client", told
            assert connection["from"].startswith("127.0.0.1:"), told
        said = server.fails("groups", "info", "s", "other")
        assert "no such group" in said, said
        for words, what in ((("create", "s", "g"), "the group exists"), (("delete", "s", "other"), "no such group")):
            said = server.fails("groups", *words)
            assert said.startswith(f"kvs-client events groups: {what}, at esdb://"), said  # and not twice
        assert "needs a login" in server.fails("groups", "list", user=None)
        # What is asked for by HTTP is asked for where HTTP is served.
        done = run(CLIENT, "events", "groups", "list", "--url",
                   f"esdb://admin:changeit@127.0.0.1:{server.tcp}?httpPort=1")
        said = one_line(done.err)
        assert done.status == 1 and "127.0.0.1:1" in said and "httpPort" in said, said
        done = run(CLIENT, "events", "groups", "list", "--url",
                   f"esdb://admin:changeit@127.0.0.1:{server.tcp}?httpPort={server.tcp}")
        assert done.status == 1 and "httpPort" in one_line(done.err), done
        member.terminate()
        member.wait()
        member.stdout.close()
        assert server.stop() == 0


def start(server, *arguments):
    process = subprocess.Popen([CLIENT, "events", *arguments, "--url", server.url()],
                               stdout=subprocess.PIPE, env=environment())
    tap.kill_at_exit(process)
    return process


def peak_of(process):
    """Waits for its end; the most memory it had, in MiB."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    assert process.returncode == 0, process.returncode
    return usage.ru_maxrss / 1024


def test_what_a_member_printed_is_acknowledged(directory):
    with EventServer(directory) as server:
        server.good("append", "s", stdin=b'{"type":"t"}\n' * 30)
        server.good("groups", "create", "s", "g", "--from", "start")
        for first in range(0, 30, 3):
            got = server.good("subscribe", "s", "g", "--limit", "3").splitlines()
            assert [json.loads(line)["number"] for line in got] == [first, first + 1, first + 2], got


def resident(server):
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def test_readers_that_stop_cost_little_and_lose_nothing(directory):
    """KVS_TEST_EVENTS says how many events; docs/architecture.md has what came of a million."""
    count = int(os.environ.get("KVS_TEST_EVENTS", "30000"))
    line = json.dumps({"type": "t", "bytes": "x" * 2000}).encode() + b"\n"
    with EventServer(directory) as server:
        server.good("append", "s", stdin=line)
        server.good("groups", "create", "s", "g", "--from", "start", "--message-timeout", "600000")
        follower = start(server, "follow", "s", "--from", "start", "--limit", str(count))
        member = start(server, "subscribe", "s", "g", "--in-flight", "100", "--limit", str(count))
        for process in (follower, member):  # they have begun; now nobody reads what they print
            assert json.loads(process.stdout.readline())["number"] == 0
        with subprocess.Popen([CLIENT, "events", "append", "s", "--batch", "100", "--url",
                               server.url()], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                              env=environment()) as writer:
            for _ in range(count - 1):
                writer.stdin.write(line)
            writer.stdin.close()
            assert writer.wait(10 * SECONDS_MAX) == 0
        held = resident(server)
        numbers = [json.loads(line)["number"] for line in follower.stdout]
        assert numbers == list(range(1, count)), len(numbers)
        given = {json.loads(line)["number"] for line in member.stdout}
        assert given == set(range(1, count)), len(given)
        peaks = [peak_of(process) for process in (follower, member)]
        print(f"# {count} events: server {held:.0f} MiB while nobody read, follower {peaks[0]:.0f} MiB, "
              f"member {peaks[1]:.0f} MiB", flush=True)
        if not any(name.endswith("SAN_OPTIONS") for name in os.environ):  # they keep what is freed
            assert max(peaks) < 48, peaks  # of 60 MB of events
        assert server.stop() == 0


def test_projections_are_as_asked_for(directory):
    line = b'{"type":"t","data":1,"metadata":{"$correlationId":"c"}}\n'
    wanted = {"common": 1, "none": 0, "all": 3}
    for number, (which, kept) in enumerate(wanted.items()):
        with EventServer(directory, "--insecure", "--projections", which) as server:
            server.good("append", f"x{number}-1", stdin=line)
            found = [server.events("read", name).status == 0 for name in
                     (f"$ce-x{number}", f"$category-x{number}", "$bc-c")]
            assert sum(found) == kept, (which, found)
            assert server.stop() == 0


def test_statistics_are_events_while_the_server_is_used(directory):
    with EventServer(directory, "--insecure", "--stats-interval", "0.02") as server:
        stream = f"$stats-127.0.0.1:{server.http}"
        follower = subprocess.Popen([CLIENT, "events", "follow", stream, "--from", "start", "--limit", "3", "--url",
                                     server.url()], stdout=subprocess.PIPE, env=environment())
        deadline = time.monotonic() + SECONDS_MAX
        while follower.poll() is None:
            assert time.monotonic() < deadline
            server.good("append", "s", stdin=b'{"type":"T","data":1}\n')
        events = [json.loads(line) for line in follower.communicate()[0].splitlines()]
        assert [event["type"] for event in events] == ["$statsCollected"] * 3, events
        used = [event["data"]["proc"]["tcp"]["requests"] for event in events]
        assert sorted(used) == used and used[0] < used[2], used  # somebody had asked for something
        assert events[2]["data"]["es"]["eventsAppended"] >= 3, events
        assert json.loads(server.good("metadata", stream)) == {"$maxAge": 864000, "$maxCount": 28800}
        assert server.stop() == 0


def test_statistics_leave_the_metadata_that_their_stream_has(directory):
    with EventServer(directory, "--insecure", "--stats-interval", "0.02") as server:
        stream = f"$stats-127.0.0.1:{server.http}"
        server.good("metadata", stream, '{"$maxCount":5}')
        deadline = time.monotonic() + SECONDS_MAX
        while server.events("read", stream, "--limit", "1").out == b"":
            assert time.monotonic() < deadline
        assert json.loads(server.good("metadata", stream)) == {"$maxCount": 5}
        assert server.stop() == 0


def test_silent_clients_are_asked_and_let_go(directory):
    with EventServer(directory, "--insecure", "--heartbeat-interval", "0.05", "--heartbeat-timeout", "0.05") as server:
        with socket.create_connection(("127.0.0.1", int(server.tcp)), SECONDS_MAX) as silent:
            said = b""
            while more := silent.recv(4096):
                said += more
        assert said[:6] == bytes((18, 0, 0, 0, 1, 0)), said  # a heartbeat request
        assert server.stop() == 0


def test_a_report_has_no_password(directory):
    with EventServer(directory, "--sync=never") as server:
        for form in [], ["--json"]:
            done = run(BENCH, f"esdb://admin:changeit@127.0.0.1:{server.tcp}", "--warm-up", "0", "-n", "10", *form)
            assert done.status == 0 and f"esdb://127.0.0.1:{server.tcp}".encode() in done.out, done
            assert b"changeit" not in done.out + done.err, done


def test_every_load_of_the_generator(directory):
    """What kvs-bench counts is what was appended, read and delivered."""
    with EventServer(directory, "--insecure", "--sync=never") as server:
        def load(*arguments):
            done = run(BENCH, f"esdb://127.0.0.1:{server.tcp}", "--json", "--threads", "1", "--warm-up", "0", *arguments)
            result = json.loads(done.out)
            assert done.status == 0 and result["measured"]["errors"] == 0, done
            return result["measured"]

        appended = load("-c", "1", "-P", "4", "-w", "append", "--batch", "10", "-n", "50", "--stream", "s")
        assert appended["events"] == 500 and appended["append"]["answered"] == 50, appended
        assert json.loads(server.good("read", "s", "--reverse", "--limit", "1"))["number"] == 499
        page = load("-c", "1", "-w", "read", "--page", "500", "-n", "1", "--stream", "s")
        assert page["events"] == 500 and page["page"]["answered"] == 1, page
        followed = load("-c", "2", "-w", "subscribe", "-n", "1000", "--stream", "s")
        assert followed["events"] == 1000, followed
        for subscriptions, lanes in ((1, 1), (5, 3)):
            live = load("-c", str(subscriptions), "-P", str(lanes), "-w", "live", "-n", "60", "-d", "0", "--stream", "s")
            assert live["append"]["answered"] == 60, live
            assert live["events"] == live["event"]["answered"] == 60 * subscriptions, live
        assert server.stop() == 0


tap.run(globals())
