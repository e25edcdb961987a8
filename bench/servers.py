"""The servers that bench/run compares: starting, asking, watching and stopping one.

A server runs on loopback on a port the system has chosen, with a fresh directory below one temporary
folder. Only processes started here are ever stopped.
"""
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

ANSWER_SECONDS_MAX = 60  # to the first answered request
STOP_SECONDS_MAX = 20
FOUND, MISSING = "there", "missing"  # what a server says of a key
START_TRIES = 3  # a port that was free a moment ago may be taken


class ServerError(Exception):
    pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def receive(connection, size):
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise OSError("closed")
        data += part
    return data


class Server:
    """One running server; a subclass knows its command line and its protocol."""

    name = ""

    def __init__(self, program, directory, sync, engine):
        self.program, self.directory = str(program), Path(directory)
        self.sync, self.engine = sync, engine
        self.process = None
        self.port = None
        self.log = None

    def command(self):
        raise NotImplementedError

    def ask(self, connection, key):
        """A GET: the answer is FOUND, MISSING or, when the server is not ready, None."""
        raise NotImplementedError

    def url(self):
        return f"{self.name}://127.0.0.1:{self.port}"

    def start(self, key=b"none", expected=MISSING):
        """Starts it; returns the seconds from the start of the process to the first answer, which
        must be the expected one: a server that forgot its data is not quick."""
        for _ in range(START_TRIES):
            self.port = free_port()
            self.directory.mkdir(parents=True, exist_ok=True)
            self.log = self.directory.parent / (self.directory.name + ".log")
            with open(self.log, "ab") as log:
                begin = time.monotonic()
                self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log,
                                                stderr=log, cwd=self.directory)
            answer = self.wait_for_answer(begin + ANSWER_SECONDS_MAX, key)
            if answer is not None:
                seconds = time.monotonic() - begin
                if answer != expected:
                    raise ServerError(f"{self.name}: key {key.decode()} is {answer}, not {expected}")
                return seconds
            self.stop()
        raise ServerError(f"{self.program} does not start:\n" + self.log.read_text(errors="replace")[-2000:])

    def wait_for_answer(self, deadline, key):
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    answer = self.ask(connection, key)
                    if answer is not None:
                        return answer
            except OSError:
                pass
            time.sleep(0.0005)
        return None

    def stop(self, how=signal.SIGTERM):
        """Seconds until it had ended; SIGKILL when it does not by itself."""
        begin = time.monotonic()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return time.monotonic() - begin

    def remove(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def resident_mib(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise ServerError("the server has ended")

    def cpu_seconds(self):
        """Of the process and of the children it has waited for (redis rewrites its log in one)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def directory_mib(self):
        return sum(f.stat().st_blocks * 512 for f in self.directory.rglob("*") if f.is_file()) / 2**20


class Kvs(Server):
    name = "kvs"

    def command(self):
        return [self.program, "--addr", f"127.0.0.1:{self.port}", "--dir", str(self.directory),
                f"--sync={self.sync}", "--engine", self.engine]

    def ask(self, connection, key):
        connection.sendall(b"KVSP" + struct.pack("<HHII", 1, 1, 0, 0) +
                           struct.pack("<IIBBhI", len(key), 1, 1, 0, 0, 0) + key)
        hello = receive(connection, 20)
        receive(connection, struct.unpack_from("<I", hello, 16)[0])
        status = struct.unpack_from("<h", receive(connection, 16), 10)[0]
        return {0: FOUND, -1: MISSING}.get(status)


class Redis(Server):
    name = "redis"

    def command(self):
        sync = {"interval": "everysec", "always": "always", "never": "no"}[self.sync]
        return [self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                "--appendonly", "yes", "--appendfsync", sync, "--dir", str(self.directory),
                "--maxclients", "10500", "--daemonize", "no", "--loglevel", "warning"]

    def ask(self, connection, key):
        connection.sendall(b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(key), key))
        answer = receive(connection, 2)
        if answer[:1] != b"$":
            return None  # "-LOADING ..."
        return MISSING if answer == b"$-" else FOUND
