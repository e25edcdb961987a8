#!/usr/bin/env python3
"""Somebody mixed up ports, or TLS and clear text: each end says so in words, at once, in whatever
protocol the other one speaks; and the log tells the operator.
"""
import re
import shutil
import socket
import ssl
import struct
import subprocess
import time
import urllib.error
import urllib.request

from harness import ANY, CLIENT, SECONDS_MAX, Server, one_line, run, tap

PORTS = {"kvs": re.compile(r"listening on (\S+:\d+)"), "pd": re.compile(r"PD on (\S+),"),
         "store": re.compile(r"store on (\S+), status"), "status": re.compile(r"status on (\S+)"),
         "es": re.compile(r"EventStoreDB's clients on (\S+)"), "http": re.compile(r"serving HTTP on (\S+)")}
SPEAKS = {"kvs": "the kvs protocol", "pd": "gRPC (PD)", "store": "gRPC (TiKV)", "status": "HTTP",
          "es": "the TCP protocol of EventStoreDB", "http": "HTTP"}
HEARTBEAT = struct.pack("<IBB", 18, 1, 0) + bytes(16)
# What each protocol begins with, and what of the answer its programs show.
GREETINGS = {
    "HTTP": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 400 "),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]), bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])),
    "the protocol of Redis": (b"*1\r\n$4\r\nPING\r\n", b"-ERR this port of kvs-server speaks "),
    "the kvs protocol": (b"KVSP" + struct.pack("<HHII", 1, 1, 0, 0), b"this port of kvs-server speaks "),
    "the TCP protocol of EventStoreDB": (HEARTBEAT, b""),
}
OWN = {"kvs": {"the kvs protocol"}, "pd": {"HTTP", "HTTP/2"}, "store": {"HTTP", "HTTP/2"}, "status": {"HTTP"},
       "es": {"the TCP protocol of EventStoreDB"}, "http": {"HTTP"}}


def start(directory, *flags):
    return Server(directory, ANY, "--eventstore=127.0.0.1:0", "--http=127.0.0.1:0", *flags)


def addresses(server):
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:  # the lines come right behind the one that tells readiness
        found = {name: line.search(server.log()) for name, line in PORTS.items()}
        if all(found.values()):
            return {name: match[1] for name, match in found.items()}
    raise AssertionError(server.log())


def answer(address, greeting):
    """All that comes until the server closes."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=SECONDS_MAX) as peer:
        peer.sendall(greeting)
        got = b""
        while True:
            more = peer.recv(65536)
            if not more:
                return got
            got += more


def stops_and_told(server, lines):
    """By now the log is whole."""
    assert server.stop() == 0
    for line in lines:
        assert line in server.log(), (line, server.log())


def test_each_is_answered_in_its_words(directory):
    told = []
    with start(directory) as server:
        ports = addresses(server)
        for port, address in ports.items():
            for protocol, (greeting, begin) in GREETINGS.items():
                if protocol in OWN[port]:
                    continue
                got = answer(address, greeting)
                text = f"speaks {SPEAKS[port]}, not {protocol}".encode()
                assert got.startswith(begin) and text in got, (port, protocol, got)
                told.append(f"it speaks {protocol}, and this port {SPEAKS[port]}")
        stops_and_told(server, told)


def test_tls_meets_clear_text(directory):
    context, told = ssl.create_default_context(), []
    with start(directory) as server:
        for port, address in addresses(server).items():
            host, number = address.rsplit(":", 1)
            with socket.create_connection((host, int(number)), timeout=SECONDS_MAX) as peer:
                try:
                    context.wrap_socket(peer, server_hostname="localhost")
                    raise AssertionError("a session of TLS")
                except ssl.SSLError as error:
                    assert "WRONG_VERSION_NUMBER" in str(error), error
            told.append(f"it speaks TLS, and this port {SPEAKS[port]}")
        stops_and_told(server, told)


def test_clear_text_meets_tls(directory):
    if shutil.which("openssl") is None:
        raise tap.Skip("no openssl here")
    told, key, certificate = [], directory / "key.pem", directory / "certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-keyout", key, "-out", certificate], capture_output=True, check=True)
    with start(directory / "data", "--tls-cert", certificate, "--tls-key", key) as server:
        for address in addresses(server).values():
            for protocol, (greeting, begin) in GREETINGS.items():
                got = answer(address, greeting)
                assert got.startswith(begin) and f"speaks TLS, not {protocol}".encode() in got, (address, protocol, got)
                told.append(f"it speaks {protocol} in clear text, and this port TLS")
        stops_and_told(server, told)


def test_the_client_says_what_it_met(directory):
    """At once: not after its own time-out."""
    say = {
        ("kvs", "tikv"): ("speaks the kvs protocol", "PD"), ("es", "tikv"): ("EventStoreDB", "PD"), ("http", "tikv"): ("speaks HTTP", "PD"),
        ("store", "tikv"): ("not PD",),
        ("pd", "kvs"): ("does not speak the kvs protocol",), ("http", "kvs"): ("does not speak the kvs protocol",),
        ("es", "kvs"): ("does not speak the kvs protocol",),
        ("kvs", "esdb"): ("speaks the kvs protocol",), ("pd", "esdb"): ("speaks gRPC (PD)",), ("http", "esdb"): ("speaks HTTP",),
    }
    with start(directory) as server:
        ports = addresses(server)
        for (port, scheme), words in say.items():
            command = ("events", "read", "s") if scheme == "esdb" else ("get", "k")
            result = run(CLIENT, *command, "--url", f"{scheme}://{ports[port]}")
            assert result.status == 1 and result.out == b"", result
            line = one_line(result.err)
            for word in (ports[port], *words):
                assert word in line, (port, scheme, line)
        assert server.stop() == 0


def test_pages_that_are_not_there(directory):
    """Whoever looks around is told what there is."""
    with start(directory) as server:
        for port, page in (("pd", "/pd/api/v1/members"), ("status", "/metrics"), ("http", "/gossip")):
            address = addresses(server)[port]
            try:
                urllib.request.urlopen(f"http://{address}/", timeout=SECONDS_MAX)
                raise AssertionError("there is a page")
            except urllib.error.HTTPError as error:
                assert error.code == 404 and f"GET, HEAD {page}\n" in error.read().decode()
        assert server.stop() == 0


tap.run(globals())
