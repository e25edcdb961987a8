#!/usr/bin/env python3
"""Peers of a kvs-server who ask for much and take nothing, or who flood: memory stays bounded, and
others are served. Frames are written by hand, since no client library misbehaves like this.
"""
import os
import re
import socket
import struct
import threading
import time
import urllib.request

from harness import ANY, SECONDS_MAX, Server, pd_of, run, CLIENT, tap

MIB = 1024 * 1024
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
PATIENT = "--timeout", "600000"  # however little of a machine there is
STORE = re.compile(r"store on (\S+), status")


def connect(address):
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=SECONDS_MAX)


def memory_mib(server):
    """Resident now; 0 where a sanitizer keeps what is freed, and the figure says nothing."""
    if any(name.endswith("SAN_OPTIONS") for name in os.environ) or is_sanitized(server):
        return 0
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as status:
        return int(re.search(r"VmRSS:\s+(\d+) kB", status.read())[1]) // 1024


def assert_memory_settles(server, writer, bound):
    """It grows no more while others are served, and stays below so many MiB until then."""
    most, steady = 0, 0
    while steady < 20:
        writer.send(append(b"small", 100))
        writer.take(0x83)
        steady = steady + 1 if memory_mib(server) <= most else 0
        most = max(most, memory_mib(server))
        assert most < bound, (bound, most)


def is_sanitized(server):
    with open(f"/proc/{server.process.pid}/maps", encoding="ascii") as maps:
        return "san" in "".join(line for line in maps if "lib" in line and "san.so" in line)


# --- HTTP/2 --------------------------------------------------------------------------------------


def frame(kind, flags, stream, body=b""):
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def varint(number):
    out = b""
    while number >= 128:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number, body):
    return varint(number << 3 | 2) + varint(len(body)) + body


def head(path):
    """An HPACK block without any table."""
    out = b""
    for name, value in ((b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x"),
                        (b"content-type", b"application/grpc"), (b"te", b"trailers")):
        out += b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
    return out


def call(stream, method, request):
    message = b"\0" + struct.pack(">I", len(request)) + request
    return (frame(HEADERS, END_HEADERS, stream, head(b"/tikvpb.Tikv/" + method))
            + frame(DATA, END_STREAM, stream, message))


def frames_of(connection):
    """Until the peer closes."""
    got = b""
    while True:
        while len(got) < 9 or len(got) < 9 + int.from_bytes(got[:3], "big"):
            more = connection.recv(MIB)
            if not more:
                return
            got += more
        size = int.from_bytes(got[:3], "big")
        yield got[3], got[4], int.from_bytes(got[5:9], "big"), got[9:9 + size]
        got = got[9 + size:]


def get_of_first_region(pd, key):
    """A RawGet as a client sends it that knows the cluster: its context names region and epoch."""
    with urllib.request.urlopen(f"http://{pd}/pd/api/v1/regions", timeout=SECONDS_MAX) as page:
        region = re.search(rb'"id":(\d+),"start_key":"".*?"conf_ver":(\d+),"version":(\d+)\},'
                           rb'"peers":\[\{"id":(\d+),"store_id":(\d+)', page.read())
    number, conf_version, version, peer, store = (varint(int(text)) for text in region.groups())
    context = (b"\x08" + number + field(2, b"\x08" + conf_version + b"\x10" + version)
               + field(3, b"\x08" + peer + b"\x10" + store))
    return field(1, context) + field(2, key)


def store_of(server):
    pd_of(server)
    return STORE.search(server.log())[1]


def serves(server, pd):
    """Others are served."""
    result = run(CLIENT, "--url", f"tikv://{pd}", *PATIENT, "get", "nothing")
    assert result.status == 0, (result, server.log())
    server.ok("get", "nothing", *PATIENT)


def test_answers_for_which_no_window_opens(directory):
    """Answers of unary calls wait in the server; more calls are begun as they are taken, and all
    are answered in the end."""
    calls, size = tap.times(200, 100, 100), 2 * MIB
    with Server(directory, ANY, "--slow-timeout", "600") as server:
        pd = pd_of(server)
        line = b'{"key":"k","value":"%s"}\n' % (b"v" * size)
        assert run(CLIENT, "--url", f"tikv://{pd}", "import", "--merge", stdin=line).status == 0
        request = get_of_first_region(pd, b"k")
        before = memory_mib(server)
        with connect(store_of(server)) as peer:
            peer.sendall(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)) + frame(SETTINGS, ACK, 0)
                         + b"".join(call(1 + 2 * i, b"RawGet", request) for i in range(calls))
                         + frame(PING, 0, 0, b"all sent"))
            frames = frames_of(peer)
            for kind, flags, _, body in frames:  # behind all calls
                if kind == PING and flags == ACK and body == b"all sent":
                    break
            serves(server, pd)
            assert memory_mib(server) - before < 200, (before, memory_mib(server))
            peer.sendall(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31 - 1))
                         + frame(WINDOW, 0, 0, struct.pack(">I", 2**31 - 1 - 65535)))
            ended, got = 0, 0
            for kind, flags, _, body in frames:
                got += len(body) if kind == DATA else 0
                ended += kind == HEADERS and flags & END_STREAM
                if ended == calls:
                    break
            assert ended == calls and got > calls * size, (ended, got, server.log())
        assert server.stop() == 0


def test_long_answers_that_nobody_takes(directory):
    """Scans of 60 MiB, many at once: all that is made of them has its bound, and who takes what he asked for gets it."""
    pairs, peers, calls = 60, tap.times(12, 8, 6), 10
    with Server(directory, ANY, "--connections-memory", "256m") as server:
        pd = pd_of(server)
        lines = b"".join(b'{"key":"k%02d","value":"%s"}\n' % (i, b"v" * MIB) for i in range(pairs))
        assert run(CLIENT, "--url", f"tikv://{pd}", "import", "--merge", stdin=lines).status == 0
        request = get_of_first_region(pd, b"k") + number(3, pairs)
        before, most = memory_mib(server), 0
        hostile = [connect(store_of(server)) for _ in range(peers)]
        for peer in hostile:
            peer.sendall(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)) + frame(SETTINGS, ACK, 0)
                         + b"".join(call(1 + 2 * i, b"RawScan", request) for i in range(calls)))
        for _ in range(20):
            serves(server, pd)
            most = max(most, memory_mib(server))
        assert most - before < 450, (before, most)  # a quarter more than 256, and what is being read
        for peer in hostile:
            peer.close()
        assert run(CLIENT, "--url", f"tikv://{pd}", *PATIENT, "scan").status == 0
        assert server.stop() == 0


def flood(address, first, more):
    """Writes for as long as the server takes it; reads nothing."""
    sent, bytes_max = 0, tap.times(8, 4, 2) * MIB
    with connect(address) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.settimeout(0.3)  # it may stop reading: that is fine
        try:
            peer.sendall(PREFACE + frame(SETTINGS, 0, 0) + first)
            while sent < bytes_max:
                sent += peer.send(more(sent))
        except OSError:
            pass
    return sent


def test_floods_of_http2(directory):
    """Frames that cost the sender little: resets, settings, pings, headers without an end."""
    block = head(b"/tikvpb.Tikv/RawGet")

    def resets(sent):
        first = 1 + 2 * (sent // 100)  # numbers only grow; a gap is no matter
        return b"".join(frame(HEADERS, END_HEADERS, n, block) + frame(RESET, 0, n, struct.pack(">I", 8))
                        for n in range(first, first + 200, 2))

    with Server(directory, ANY) as server:
        pd = pd_of(server)
        before = memory_mib(server)
        for address in (store_of(server), pd):
            flood(address, b"", resets)
            flood(address, b"", lambda _: frame(SETTINGS, 0, 0) * 1000)
            flood(address, b"", lambda _: frame(PING, 0, 0, b"12345678") * 1000)
            flood(address, frame(HEADERS, 0, 1, block), lambda _: frame(CONTINUATION, 0, 1) * 1000)
            flood(address, frame(HEADERS, END_HEADERS, 1, block), lambda _: frame(DATA, 0, 1) * 1000)
            serves(server, pd)
        assert memory_mib(server) - before < 64, (before, memory_mib(server))
        assert server.stop() == 0


# --- the kvs protocol ----------------------------------------------------------------------------


def let_go(address, begin):
    """Sends one byte after the other until the server has enough of it."""
    with connect(address) as peer:
        peer.sendall(begin)
        peer.settimeout(0.02)
        deadline = time.monotonic() + SECONDS_MAX
        while time.monotonic() < deadline:
            try:
                peer.sendall(b"x")
                if peer.recv(1) == b"":
                    return True
            except socket.timeout:
                continue
            except OSError:  # closed before our last byte came
                return True
    return False


def test_heads_of_http_that_come_byte_by_byte(directory):
    with Server(directory, ANY, "--tikv=127.0.0.1:0,127.0.0.1:0,127.0.0.1:0", "--eventstore=127.0.0.1:0",
                "--http=127.0.0.1:0", "--slow-timeout", "0.2", "--log-level", "info") as server:
        for line in (r"serving HTTP on (\S+)", r"status on (\S+)"):
            deadline = time.monotonic() + SECONDS_MAX
            while not (found := re.search(line, server.log())):
                assert time.monotonic() < deadline, server.log()
            assert let_go(found[1], b"GET / HTTP/1.1\r\nX: "), server.log()
        assert "it asked nothing for too long" in server.log()
        assert server.stop() == 0


def test_large_values_that_nobody_takes(directory):
    """A compare-and-set that fails is answered with the value, as late as a get of what is on the
    disk: so few of them are under way that all of their answers have room."""
    size = 8 * MIB
    body = struct.pack("<II", 1, 1) + b"k" + b"x" + b"y"
    with Server(directory, "--in-flight-max", "4m", "--value-max", "8m", "--sync", "never") as server:
        server.ok("import", "--merge", stdin=b'{"key":"k","value":"%s"}\n' % (b"v" * (size - 100)))
        before = memory_mib(server)
        with connect(server.addr) as peer:
            peer.sendall(b"KVSP" + struct.pack("<HHII", 1, 1, 0, 0)
                         + b"".join(struct.pack("<IIBBBBI", len(body), i, 5, 0, 0, 0, 0) + body
                                    for i in range(1000)))
            most, steady = 0, 0
            while steady < 20:  # until others are served, and nothing grows
                server.ok("get", "nothing")
                steady = steady + 1 if memory_mib(server) <= most else 0
                most = max(most, memory_mib(server))
                assert most - before < 512, (before, most)
        assert server.stop() == 0


# --- event streams -------------------------------------------------------------------------------


def number(field_number, value):
    return varint(field_number << 3) + varint(value)


def package(command, body=b"", correlation=bytes(16)):
    return struct.pack("<I", 18 + len(body)) + bytes([command, 0]) + correlation + body


def append(stream, size):
    """WriteEvents with one event."""
    event = (field(1, os.urandom(16)) + field(2, b"T") + number(3, 0) + number(4, 0) + field(5, bytes(size)) + field(6, b""))
    return package(0x82, field(1, stream) + number(2, 2**64 - 2) + field(3, event) + number(4, 1))


class EventPeer:
    def __init__(self, server):
        deadline = time.monotonic() + SECONDS_MAX
        while not (found := re.search(r"EventStoreDB's clients on (\S+)", server.log())):
            assert time.monotonic() < deadline, server.log()
        self.peer = connect(found[1])
        self.got = b""

    def send(self, *packages):
        self.peer.sendall(b"".join(packages))

    def take(self, command):
        """The next package of this kind: its correlation id and body."""
        while True:
            while len(self.got) < 4 or len(self.got) < 4 + int.from_bytes(self.got[:4], "little"):
                more = self.peer.recv(MIB)
                assert more, "the server closed"
                self.got += more
            size = 4 + int.from_bytes(self.got[:4], "little")
            found, self.got = self.got[:size], self.got[size:]
            if found[4] == 1:
                self.send(package(2, correlation=found[6:22]))
            if found[4] == command:
                return found[6:22], found[22:]


def start_events(directory):
    return Server(directory, ANY, "--eventstore=127.0.0.1:0", "--insecure", "--heartbeat-timeout", "600", "--sync",
                  "never")


def test_pages_of_events_that_nobody_takes(directory):
    """Many ask for many pages of 4 MiB each and take none: few are read, and others are served."""
    with start_events(directory) as server:
        writer = EventPeer(server)
        for _ in range(20):
            writer.send(append(b"big", 220000))
            writer.take(0x83)
        before = memory_mib(server)
        page = package(0xb2, field(1, b"big") + number(2, 0) + number(3, 4096) + number(4, 0) + number(5, 1))
        hostile = [EventPeer(server) for _ in range(60)]
        for peer in hostile:
            peer.send(page * 100)
        assert_memory_settles(server, writer, before + 1024)  # 64 MiB of each would be 3840
        for _ in range(30):  # who goes on reading gets all that it asked for
            hostile[0].take(0xb3)
        for peer in hostile:
            peer.peer.close()
        assert server.stop() == 0


def test_subscriptions_that_nobody_takes(directory):
    """A connection's many subscriptions do not keep an event each, and lose none."""
    count, events = tap.times(300, 100, 50), 3
    with start_events(directory) as server:
        peer, writer = EventPeer(server), EventPeer(server)
        ids = [struct.pack("<QQ", 7, i) for i in range(count)]
        peer.send(*(package(0xc0, field(1, b"big") + number(2, 0), one) for one in ids))
        for _ in ids:
            peer.take(0xc1)
        before = memory_mib(server)
        for _ in range(events):
            writer.send(append(b"big", MIB))
            writer.take(0x83)
        assert_memory_settles(server, writer, before + 150)
        got = dict.fromkeys(ids, 0)
        for _ in range(count * events):
            got[peer.take(0xc2)[0]] += 1
        assert set(got.values()) == {events}, got
        assert server.stop() == 0


def group_settings(stream, group):
    """CreatePersistentSubscription: all events from the first on, to consumers in turn."""
    numbers = {3: 0, 4: 0, 5: 600000, 6: 0, 7: 10000, 8: 500, 9: 10000, 10: 10, 11: 1, 12: 2000, 13: 1000, 14: 10, 15: 0}
    return package(0xc8, field(1, group) + field(2, stream) + b"".join(number(*one) for one in numbers.items()))


def test_acknowledgements_of_nothing(directory):
    """Consumers that have many events and acknowledge others, without end: looking for these holds nobody up, and what
    the group has not come to does not pile up."""
    consumers, events, packages = 4, 4000, 100
    ids = b"".join(field(2, struct.pack("<QQ", 9, i)) for i in range(16384))
    acks = package(0xcc, field(1, b"s::g") + ids, struct.pack("<QQ", 9, 9))
    with start_events(directory) as server:
        writer = EventPeer(server)
        writer.send(group_settings(b"s", b"g"))
        writer.take(0xc9)
        hostile = [EventPeer(server) for _ in range(consumers)]  # on all loops of the server
        for peer in hostile:
            peer.send(package(0xc5, field(1, b"g") + field(2, b"s") + number(3, 10000)))
        assert {peer.take(0xc6)[0] for peer in hostile} == {bytes(16)}
        writer.send(*(append(b"s", 1) for _ in range(events)))
        for _ in range(events):
            writer.take(0x83)
        for peer in hostile:
            for _ in range(events // consumers):
                peer.take(0xc7)
        before = memory_mib(server)
        floods = [threading.Thread(target=lambda peer=peer: peer.send(*[acks] * packages)) for peer in hostile]
        for thread in floods:
            thread.start()
        while any(thread.is_alive() for thread in floods):
            writer.send(append(b"small", 100))
            writer.take(0x83)
            assert memory_mib(server) - before < 64, (before, memory_mib(server))
        for peer in hostile:
            peer.peer.close()
        assert server.stop() == 0


def test_memory_of_all_connections(directory):
    """Each connection is within its own bounds, all together are not: --connections-memory, on each port."""
    told = "which is more than --connections-memory"
    flags = ("--connections-memory", "32m", "--eventstore=127.0.0.1:0", "--insecure", "--heartbeat-timeout", "600")

    def ended(server, hostile):
        """Some of them are closed, and the log says why."""
        deadline = time.monotonic() + SECONDS_MAX
        while told not in server.log():
            assert time.monotonic() < deadline, server.log()
            time.sleep(0.05)
        for peer in hostile:
            peer.close()

    with Server(directory / "events", *flags) as server:
        hostile = [EventPeer(server).peer for _ in range(20)]
        for peer in hostile:  # the begin of a frame
            peer.sendall(struct.pack("<I", 40 * MIB) + bytes([0x82, 0]) + bytes(3 * MIB))
        ended(server, hostile)
        writer = EventPeer(server)
        writer.send(append(b"small", 100))
        writer.take(0x83)
        assert server.stop() == 0
    with Server(directory / "tikv", ANY, *flags) as server:
        pd = pd_of(server)
        assert run(CLIENT, "--url", f"tikv://{pd}", "import", "--merge", stdin=b'{"key":"k","value":"%s"}\n' % (b"v" * MIB)).status == 0
        request = get_of_first_region(pd, b"k")
        hostile = [connect(store_of(server)) for _ in range(20)]
        for peer in hostile:  # answers for which no window opens
            peer.sendall(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)) + frame(SETTINGS, ACK, 0)
                         + b"".join(call(1 + 2 * i, b"RawGet", request) for i in range(10)))
        ended(server, hostile)
        serves(server, pd)
        assert server.stop() == 0


tap.run(globals())
