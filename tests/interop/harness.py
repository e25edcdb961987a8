"""What every family of clients needs: TAP, the builds of the clients' programs, their runs, and a
kvs-server of our own that can end and start anew at the same addresses."""
import base64
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = ROOT / "tests" / "interop"
BUILD = ROOT / "build-interop"
PROGRAMS = Path(os.environ.get("KVS_BUILD_DIR", ROOT / "build"))
BUILD_SECONDS_MAX = 1800  # of one language's program; the Rust client alone is 200 crates
PROGRAM_SECONDS_MAX = 1200  # a bound on what hangs: on a busy machine a list takes minutes
SERVER_SECONDS_MAX = 300


class Failure(Exception):
    pass


class Results:
    """TAP on standard output, and the sums for the last line."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def line(self, name, line):
        """A line of a program's own output, its name before each result's."""
        found = re.match(r"(not ok|ok) - (.*)", line)
        if not found:
            return False
        number = self.passed + self.failed + self.skipped + 1
        if "# SKIP" in line:
            self.skipped += 1
        elif found[1] == "ok":
            self.passed += 1
        else:
            self.failed += 1
        print(f"{found[1]} {number} - {name}: {found[2]}", flush=True)
        return True

    def result(self, name, wrong=None):
        self.line(name, f"not ok - {wrong}" if wrong else "ok - done")

    def skip(self, name, why):
        self.line(name, f"ok - skipped # SKIP {why}")


# --- the clients' programs ---------------------------------------------------------------------


def command(*arguments, cwd, name, **env):
    """A step of a build; its output goes to a log."""
    log = BUILD / f"{name}.log"
    with log.open("ab") as out:
        try:
            done = subprocess.run(arguments, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                  env={**os.environ, **env}, timeout=BUILD_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise Failure(f"not built within {BUILD_SECONDS_MAX} s, see {log}") from None
    if done.returncode != 0:
        raise Failure(f"the build failed, see {log}")


def copy_sources(folder, name):
    """Lock files and classes appear beside the copy, not in the source tree."""
    shutil.copytree(folder, BUILD / name, dirs_exist_ok=True)
    return BUILD / name


def build_rust(folder, name, features="", manifest="Cargo.toml", **env):
    copy = copy_sources(folder, name)
    shutil.copy(folder / manifest, copy / "Cargo.toml")
    command("cargo", "build", "--release", f"--features={features}", cwd=copy, name=name,
            CARGO_TARGET_DIR=str(BUILD / f"{name}-target"), **env)
    return [str(BUILD / f"{name}-target" / "release" / "interop")]


def build_go(folder, name, package=".", modules="go.mod", tags=""):
    program = BUILD / f"{name}-program"
    command("go", "build", f"-modfile={modules}", "-mod=readonly", f"-tags={tags}", "-o", str(program), package,
            cwd=folder, name=name)
    return [str(program)]


def build_python(folder, name):
    venv = BUILD / f"{name}-venv"
    python = venv / "bin" / "python"
    if not python.exists():
        command(sys.executable, "-m", "venv", str(venv), cwd=ROOT, name=name)
    command(str(python), "-m", "pip", "install", "--quiet", "-r", str(folder / "requirements.txt"), cwd=ROOT,
            name=name)
    return [str(python), str(folder / "client.py")]


def build_java(folder, name):
    copy = copy_sources(folder, name)
    command("mvn", "--quiet", "--batch-mode", "compile", "dependency:build-classpath",
            "-Dmdep.outputFile=classpath", cwd=copy, name=name)
    return ["java", "-cp", f"{copy}/target/classes:{(copy / 'classpath').read_text().strip()}", "Interop"]


def build_kvs(folder, name):
    """Against the library as it is built, with its public headers."""
    program, library = BUILD / f"{name}-program", PROGRAMS / "src"
    command("cc", "-std=c17", "-D_GNU_SOURCE", "-O2", "-g", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'include'}",
            *(source.name for source in sorted(folder.glob("*.c"))), f"-L{library}", "-lkvs", f"-Wl,-rpath,{library}", "-pthread", "-o", str(program), cwd=folder,
            name=name)
    return [str(program)]


TOOLS = {build_kvs: ["cc"], build_rust: ["cargo"], build_go: ["go"], build_python: ["python3"], build_java: ["java", "mvn"]}


def build_program(results, name, build, folder, **options):
    """A Program; None: said why not."""
    missing = [tool for tool in TOOLS[build] if shutil.which(tool) is None]
    if missing:
        results.skip(name, f"{' and '.join(missing)} not installed")
        return None
    print(f"# building {name}", flush=True)
    try:
        return Program(name, build(folder, f"{folder.parent.name}-{name}", **options))
    except Failure as failure:
        results.result(name, str(failure))
        return None


class Program:
    """One client's program; every run is a process of its own."""

    def __init__(self, name, arguments):
        self.name = name
        self.arguments = arguments
        self.errors = BUILD / f"{name}.err"

    def start(self, *arguments, out=subprocess.PIPE):
        return subprocess.Popen([*self.arguments, *map(str, arguments)], stdin=subprocess.DEVNULL,
                                stdout=out, stderr=self.errors.open("ab"), text=True,
                                errors="replace", start_new_session=True)

    def run(self, results, what, *arguments):
        """To its end; gives the lines that are no results."""
        process = self.start(*arguments)
        return self.finish(results, what, process)

    def finish(self, results, what, process):
        name = f"{self.name}, {what}"
        ender = threading.Timer(PROGRAM_SECONDS_MAX, os.killpg, (process.pid, signal.SIGKILL))
        ender.start()
        counted = False
        rest = []
        for line in process.stdout:
            if results.line(name, line.rstrip()):
                counted = True
            else:
                rest.append(line.rstrip())
                if line.startswith("#"):
                    print(line.rstrip(), flush=True)
        process.stdout.close()
        status = process.wait()
        ender.cancel()
        if not counted or status < 0:
            results.result(name, f"ended with status {status}, see {self.errors}")
        return rest


class OurClient:
    """kvs-client with a target: it sees what API V1 keeps in the default column family."""

    def __init__(self, name, *target):
        self.name = name
        self.target = target

    def client(self, *arguments, text=""):
        done = subprocess.run([str(PROGRAMS / "kvs-client"), *self.target, *arguments],
                              input=text, capture_output=True, text=True, timeout=PROGRAM_SECONDS_MAX)
        if done.returncode != 0:
            raise Failure(done.stderr.strip())
        return done.stdout

    def put_all(self, pairs):
        records = [{"key64": base64.b64encode(key).decode(), "value64": base64.b64encode(value).decode()}
                   for key, value in pairs]
        self.client("import", "--merge", text="".join(json.dumps(record) + "\n" for record in records))

    def all(self, prefix):
        def field(record, name):
            return (base64.b64decode(record[name + "64"]) if name + "64" in record
                    else record[name].encode())

        lines = self.client("export", "--prefix", prefix, "--format", "json").splitlines()
        return [(field(record, "key"), field(record, "value")) for record in map(json.loads, lines)]


# --- the server --------------------------------------------------------------------------------


def free_ports(count):
    """Ports that nobody has now; a restart needs them again, so the system cannot choose each time."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def answers(address):
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 1).close()
        return True
    except OSError:
        return False


def make_certificates(folder):
    """Of an authority, ca.pem, and what it signs for localhost, certificate.pem with key.pem. Not of one that signs
    itself: Rust's TLS takes nobody for an authority and a server at once."""
    def make(name, key, subject, *more):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", subject,
                        "-keyout", key, "-out", name, *more], cwd=folder, check=True, capture_output=True)

    make("ca.pem", "ca-key.pem", "/CN=kvs interop")
    make("certificate.pem", "key.pem", "/CN=localhost", "-CA", "ca.pem", "-CAkey", "ca-key.pem",
         "-addext", "basicConstraints=CA:FALSE", "-addext", "subjectAltName=DNS:localhost")


class Server:
    """kvs-server on a directory, with a PD and a store unless told not to; `more` are further options."""

    def __init__(self, directory, *more, tikv=True):
        self.directory = directory
        self.addr, self.pd, self.store, self.status = (f"127.0.0.1:{port}" for port in free_ports(4))
        self.ports = [self.addr, *([self.pd, self.store] if tikv else [])]
        self.more = [*more, *([f"--tikv={self.pd},{self.store},{self.status}"] if tikv else [])]
        self.process = None

    def start(self):
        log = (BUILD / "server.log").open("ab")
        self.process = subprocess.Popen(
            [str(PROGRAMS / "kvs-server"), "--addr", self.addr, "--dir", str(self.directory), *self.more],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        log.close()
        started = time.monotonic()
        for address in self.ports:
            while not answers(address):
                if self.process.poll() is not None or time.monotonic() - started > SERVER_SECONDS_MAX:
                    raise Failure(f"kvs-server does not listen on {address}, see {BUILD / 'server.log'}")
                time.sleep(0.01)

    def stop(self, number=signal.SIGTERM):
        """Gives the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(SERVER_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return "none within its time"

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()
