#!/usr/bin/env python3
"""tests/cli/test_tikv.py: kvs-server --tikv, and clients of it, from outside."""
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from harness import (ANY, CLIENT, SECONDS_MAX, SERVER, Server, one_line, pd_of,  # noqa: E402
                     run)
import tap  # noqa: E402

def regions(server):
    with urllib.request.urlopen(f"http://{pd_of(server)}/pd/api/v1/regions") as answer:
        return json.load(answer)["count"]


def lines(numbers):
    return b"".join(b'{"key":"%06d","value":"value-%d"}\n' % (i, i) for i in numbers)


def pairs(numbers):
    return b"".join(b"%06d\tvalue-%d\n" % (i, i) for i in numbers)


def test_regions_are_cut_while_clients_work(directory):
    with Server(directory, ANY, "--split-keys", "100") as server:
        url = f"tikv://{pd_of(server)}"
        before = regions(server)
        deadline = time.monotonic() + SECONDS_MAX
        count = 0
        # Until the regions have been cut under a client that is writing, and once more.
        while regions(server) < before + 20:
            assert time.monotonic() < deadline, server.log()
            done = run(CLIENT, "--url", url, "import", "--merge", stdin=lines(range(count, count + 200)))
            assert done.status == 0, done
            count += 200
        done = run(CLIENT, "--url", url, "import", "--merge", stdin=lines(range(count, count + 200)))
        assert done.status == 0, done
        count += 200
        assert run(CLIENT, "--url", url, "count").out == b"%d\n" % count
        shown = run(CLIENT, "--url", url, "scan", "--limit", str(count)).out
        assert shown == pairs(range(count)), shown[:200]
        there = regions(server)
        assert server.stop() == 0
    with Server(directory, ANY) as server:  # what was cut is cut
        assert regions(server) >= there
        assert run(CLIENT, "--url", f"tikv://{pd_of(server)}", "count").out == b"%d\n" % count


def certificates(directory):
    """ca.pem, and server.pem and client.pem that it signed."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    if shutil.which("openssl") is None:
        raise tap.Skip("no openssl here")
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(*new, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
    for name in ("server", "client"):
        openssl(*new, "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1",
                "-addext", "basicConstraints=critical,CA:FALSE", "-CA", "ca.pem",
                "-CAkey", "ca.key", "-keyout", f"{name}.key", "-out", f"{name}.pem")


def test_tls_from_the_command_line(directory):
    certificates(directory)
    files = {name: str(directory / name) for name in os.listdir(directory)}
    own = ("--tls-cert", files["client.pem"], "--tls-key", files["client.key"])
    trust = ("--tls-ca", files["ca.pem"])
    with Server(directory / "data", ANY, "--tls-cert", files["server.pem"], "--tls-key",
                files["server.key"], *trust) as server:
        kvs = ("--addr", server.addr)
        tikv = ("--url", f"tikv://{pd_of(server)}")
        assert run(CLIENT, *kvs, *trust, *own, "set", "a", "1") == (0, b"", b"")
        assert run(CLIENT, *tikv, *trust, *own, "get", "a") == (0, b"1\n", b"")
        for store in (kvs, tikv):
            for flags in ((), trust, own):  # in clear, nobody's, and with the system's trust
                done = run(CLIENT, *store, *flags, "--timeout", "3000", "get", "a")
                assert done.status == 1 and done.out == b"", done
                assert store[1].rpartition("/")[2] in one_line(done.err), done
        bench = run(str(tap.BUILD_DIR / "kvs-bench"), tikv[1], *trust, *own, "-n", "200", "-k", "10")
        assert bench.status == 0, bench
        assert server.stop() == 0


def test_pages_over_tls(directory):
    """curl and browsers offer HTTP/2 as well, in which PD's port speaks gRPC alone; gRPC's clients offer nothing else."""
    certificates(directory)
    files = {name: str(directory / name) for name in os.listdir(directory)}
    with Server(directory / "data", ANY, "--tls-cert", files["server.pem"], "--tls-key", files["server.key"]) as server:
        host, port = pd_of(server).rsplit(":", 1)
        for offered, spoken in ((["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"), (["h2"], "h2"), ([], None)):
            context = ssl.create_default_context(cafile=files["ca.pem"])
            if offered:
                context.set_alpn_protocols(offered)
            with socket.create_connection((host, int(port)), timeout=SECONDS_MAX) as plain, \
                    context.wrap_socket(plain, server_hostname=host) as peer:
                assert peer.selected_alpn_protocol() == spoken, (offered, peer.selected_alpn_protocol())
                if spoken != "h2":
                    peer.sendall(b"GET /pd/api/v1/version HTTP/1.1\r\nHost: pd\r\n\r\n")
                    assert peer.recv(100).startswith(b"HTTP/1.1 200 "), offered
        assert server.stop() == 0


def test_splitting_is_for_regions(directory):
    for flags in (("--split-keys", "10"), ("--split-size", "1m"), ("--tikv", "--split-raw")):
        done = run(SERVER, "--dir", str(directory), "--addr", "127.0.0.1:0", *flags)
        assert done.status == 2 and "--split-" in one_line(done.err), done


tap.run(globals())
