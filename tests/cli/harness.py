"""tests/cli/harness.py: the built programs, driven from outside as a person or a script does.

Server starts kvs-server on a port of the system's choice and waits for its readiness line;
client() runs kvs-client to its end; Terminal gives a program a terminal of its own.
"""
import contextlib
import fcntl
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections import namedtuple
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import tap  # noqa: E402

CLIENT = str(tap.BUILD_DIR / "kvs-client")
SERVER = str(tap.BUILD_DIR / "kvs-server")
SECONDS_MAX = 600  # of any one step; a bound, not a measure
READY = re.compile(rb"listening on (?:kvs://)?(\S+:\d+)")

Result = namedtuple("Result", "status out err")


def environment(**more):
    """Without what the tester's own settings could change."""
    kept = {name: value for name, value in os.environ.items()
            if name in ("PATH", "TMPDIR") or name.endswith("SAN_OPTIONS")}
    return {**kept, "LC_ALL": "C.UTF-8", "TERM": "xterm", **more}


def run(program, *arguments, stdin=b"", **more):
    done = subprocess.run([program, *arguments], input=stdin, capture_output=True,
                          timeout=SECONDS_MAX, env=environment(), **more)
    return Result(done.returncode, done.stdout, done.stderr)


def one_line(text):
    """Errors are exactly one line."""
    assert text.endswith(b"\n") and text.count(b"\n") == 1 and len(text) > 1, text
    return text[:-1].decode()


class Server:
    """A running kvs-server; use it in a with statement."""

    def __init__(self, directory, *flags, addr="127.0.0.1:0"):
        arguments = [SERVER, "--addr", addr, "--dir", str(directory), *flags]
        self.lines = []
        self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        env=environment())
        tap.kill_at_exit(self.process)
        self.ready = threading.Event()
        self.addr = None
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        if not self.ready.wait(SECONDS_MAX) or self.addr is None:
            self.kill()
            raise AssertionError(f"the server did not get ready: {self.log()}")

    def read(self):
        for line in self.process.stderr:
            self.lines.append(line)
            found = READY.search(line)
            if found and self.addr is None:
                self.addr = found[1].decode()
                self.ready.set()
        self.ready.set()

    def log(self):
        return b"".join(self.lines).decode(errors="replace")

    def client(self, *arguments, stdin=b""):
        return run(CLIENT, "--addr", self.addr, *arguments, stdin=stdin)

    def ok(self, *arguments, stdin=b""):
        """A command that must succeed without a word on standard error; gives its output."""
        result = self.client(*arguments, stdin=stdin)
        assert result.status == 0 and result.err == b"", (arguments, result)
        return result.out

    def stop(self):
        """As an operator does; gives the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(SECONDS_MAX)
        self.reader.join(SECONDS_MAX)
        self.process.stderr.close()
        return status

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(SECONDS_MAX)
        self.reader.join(SECONDS_MAX)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()


@contextlib.contextmanager
def held_port():
    """An address that nobody else is given while no server listens on it: tests/held_port.h."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield "127.0.0.1:%d" % holder.getsockname()[1]


ANY = "--tikv=127.0.0.1:0,127.0.0.1:0,127.0.0.1:0"
PD = re.compile(r"PD on (\S+), store")


def pd_of(server):
    """The address of PD of a server that was started with ANY."""
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:  # the line comes right behind the one that tells readiness
        found = PD.search(server.log())
        if found:
            return found[1]
    raise AssertionError(server.log())


class Terminal:
    """A program on a pseudo terminal: type into it, wait for what it shows."""

    def __init__(self, *arguments, stdout=None, **more):
        self.fd, inner = tap.open_terminal()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

        def own_terminal():
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(arguments, stdin=inner, stdout=stdout or inner,
                                        stderr=inner, start_new_session=True,
                                        preexec_fn=own_terminal, env=environment(**more))
        tap.kill_at_exit(self.process)
        os.close(inner)
        self.seen = b""
        self.all = b""

    def type(self, text):
        os.write(self.fd, text)

    def expect(self, text):
        """Waits until the text was shown; gives all that came before it, and forgets both."""
        deadline = time.monotonic() + SECONDS_MAX
        while text not in self.seen:
            if not self.read(deadline - time.monotonic()):
                raise AssertionError(f"{text!r} did not come, but {self.seen!r}")
        before, _, self.seen = self.seen.partition(text)
        return before

    def read(self, seconds):
        if seconds <= 0 or not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            got = os.read(self.fd, 65536)
        except OSError:  # the program closed its end
            return False
        self.seen += got
        self.all += got
        return got != b""

    def finish(self):
        """Reads to the end; gives the exit status."""
        deadline = time.monotonic() + SECONDS_MAX
        while self.read(deadline - time.monotonic()):
            pass
        return self.process.wait(SECONDS_MAX)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.fd)
