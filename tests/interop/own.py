"""The test suites that clients' makers publish with them, unmodified, against our server."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading

from harness import (BUILD, PROGRAM_SECONDS_MAX, PROGRAMS, SOURCES, Failure, Server, command, copy_sources, free_ports,
                     make_certificates)

TIKV_REGION_KEYS = 10  # as their continuous integration has it: the suite waits for 40 regions
TEST_MS_MAX = 60000  # of one test of mocha's, which has 2 s unless told otherwise
EVENTSTORE_PORT, EVENTSTORE_OFF_PORT = 1113, 1114  # fixed in the suite: a server is at the one, nobody at the other
RESULT = re.compile(r"test (\S+)(?: - [a-z ]+)? \.\.\. .*?\b(ok|FAILED|ignored)\b")
RESULTS = {"ok": "ok - {}", "FAILED": "not ok - {}", "ignored": "ok - {} # SKIP its makers leave it out"}
MOCHA_RESULT, MOCHA_COUNT = re.compile(r"(ok|not ok) \d+ (.*)"), re.compile(r"1\.\.(\d+)")
STATS = "$stats-0.0.0.0:2113"  # the suite reads what a server that listens there would write
SUMMARY = re.compile(r"test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored")


def kill_group(process):
    os.killpg(process.pid, signal.SIGKILL)


class Suite:
    """The integration tests of a crate that the program in `folder` is built with: a copy of what cargo fetched."""

    def __init__(self, name, folder, crate, tests, *options, update=(), **env):
        self.name, self.tests, self.options = name, tests, options
        program = copy_sources(folder, f"own-{name}-program")
        command("cargo", "fetch", cwd=program, name=f"own-{name}")
        done = subprocess.run(["cargo", "metadata", "--format-version=1", "--offline"], cwd=program, check=True,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        source = next(package["manifest_path"] for package in json.loads(done.stdout)["packages"]
                      if package["name"] == crate)
        self.copy = BUILD / f"own-{name}"
        shutil.copytree(os.path.dirname(source), self.copy, dirs_exist_ok=True)
        (self.copy / "rust-toolchain.toml").unlink(missing_ok=True)  # it would fetch another compiler
        self.env = {**os.environ, "CARGO_TARGET_DIR": str(BUILD / f"own-{name}-target"), "CARGO_PROFILE_DEV_DEBUG": "0",
                    **env}
        for package, version in update:
            command("cargo", "update", package, "--precise", version, cwd=self.copy, name=f"own-{name}")
        command("cargo", "test", *options, "--no-run", *(f"--test={one}" for one in tests), cwd=self.copy,
                name=f"own-{name}", **self.env)

    def run(self, results, **env):
        for tests in self.tests:
            self.run_one(results, tests, **env)

    def run_one(self, results, tests, **env):
        """The tests of one file, one after the other."""
        name, log = f"{self.name}, its own {tests}", BUILD / f"own-{self.name}-{tests}.err"
        with log.open("w") as out, subprocess.Popen(
                ["cargo", "test", *self.options, f"--test={tests}", "--", "--test-threads=1"], cwd=self.copy,
                env={**self.env, **env}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=out, text=True,
                errors="replace", start_new_session=True) as process:
            ender = threading.Timer(PROGRAM_SECONDS_MAX, kill_group, (process,))
            ender.start()
            told = self.follow(results, name, process.stdout, out)
            status = process.wait()
            ender.cancel()
        if not told or (status != 0 and told["FAILED"] == 0):
            results.result(name, f"ended with status {status}, see {log}")

    @staticmethod
    def follow(results, name, lines, out):
        """Gives the counts of results; None: they are not what the suite says they are, or nothing passed."""
        counts, said = dict.fromkeys(RESULTS, 0), None
        for line in lines:
            out.write(line)
            one, summary = RESULT.match(line), SUMMARY.match(line)
            if one:
                counts[one[2]] += 1
                results.line(name, RESULTS[one[2]].format(one[1]))
            elif summary:
                said = [int(number) for number in summary.groups()]
        return counts if said == list(counts.values()) and counts["ok"] > 0 else None


def with_server(results, name, server, run):
    try:
        server.start()
        run()
        status = server.stop()
        results.result(f"{name}, its own tests: server, ends", None if status == 0 else f"exit status {status}")
    finally:
        if server.process is not None:
            server.stop(signal.SIGKILL)


def run_tikv(results, name, directory):
    suite = Suite(name, SOURCES / "tikv" / "rust", "tikv-client", ("integration_tests", "failpoint_tests"), "--locked",
                  "--features=integration-tests")
    server = Server(directory, f"--split-keys={TIKV_REGION_KEYS}")
    with_server(results, name, server, lambda: suite.run(results, PD_ADDRS=server.pd, MULTI_REGION="1"))


def is_free(host, port):
    with socket.socket() as one:
        try:
            one.bind((host, port))
            return True
        except OSError:
            return False


def run_eventstore(results, name, directory):
    host = next((host for host in (f"127.0.0.{number}" for number in range(1, 100))
                 if is_free(host, EVENTSTORE_PORT) and is_free(host, EVENTSTORE_OFF_PORT)), None)
    if host is None:
        results.skip(f"{name}, its own tests", f"port {EVENTSTORE_PORT} is taken")
        return
    suite = Suite(name, SOURCES / "eventstore" / "rust", "eventstore", ("integration",), update=[("protoc-rust", "2.18.2")],
                  RUSTC_BOOTSTRAP="1", RUSTFLAGS="-Zcrate-attr=feature(custom_inner_attributes)")
    server = Server(directory, f"--eventstore={host}:{EVENTSTORE_PORT}", f"--http={host}:{free_ports(1)[0]}", tikv=False)
    server.ports.append(f"{host}:{EVENTSTORE_PORT}")
    with_server(results, name, server, lambda: suite.run(results, EVENTSTORE_HOST=host))


def follow_mocha(results, name, lines, out):
    """Is it all that the suite said there would be, and more than nothing?"""
    count, told = 0, None
    for line in lines:
        out.write(line)
        one, said = MOCHA_RESULT.match(line), MOCHA_COUNT.match(line)
        if one:
            count += 1
            results.line(name, f"{one[1]} - {one[2]}")
        elif said:
            told = int(said[1])
    return told == count and count > 0


def run_mocha(results, name, package, copy, **env):
    name, log = f"{name}, its own tests", BUILD / f"own-{name}.err"
    tests = sorted(str(path.relative_to(package)) for folder in ("", "metadata")
                   for path in (package / "test" / folder).glob("*.js"))
    with log.open("w") as out, subprocess.Popen(
            [str(copy / "node_modules" / ".bin" / "mocha"), "--exit", "--reporter=tap", "--opts=/dev/null",
             f"--timeout={TEST_MS_MAX}", f"--require={copy / 'where.js'}", *tests], cwd=package,
            env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=out, text=True,
            errors="replace", start_new_session=True) as process:
        ender = threading.Timer(PROGRAM_SECONDS_MAX, kill_group, (process,))
        ender.start()
        complete = follow_mocha(results, name, process.stdout, out)
        process.wait()
        ender.cancel()
    if not complete:
        results.result(name, f"ended before its end, see {log}")


def write_stats(url):
    subprocess.run([str(PROGRAMS / "kvs-client"), "--url", url, "events", "append", STATS, "--type", "$statsCollected",
                    "--data", "{}"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)


def run_node(results, name, directory):
    """The one connection of the suite is plain, the other over TLS, where it takes any certificate."""
    copy = copy_sources(SOURCES / "eventstore" / "node-own", f"own-{name}")
    command("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", cwd=copy, name=f"own-{name}")
    directory.mkdir()
    make_certificates(directory)
    ports = free_ports(2)
    plain, tls = (f"--eventstore=127.0.0.1:{port}" for port in ports)
    servers = [Server(directory / "plain", plain, tikv=False),
               Server(directory / "tls", tls, "--tls-cert", str(directory / "certificate.pem"), "--tls-key",
                      str(directory / "key.pem"), tikv=False)]
    for server, port in zip(servers, ports):
        server.ports.append(f"127.0.0.1:{port}")

    def run_suite():
        write_stats(f"esdb://admin:changeit@127.0.0.1:{ports[0]}")
        write_stats(f"esdb://admin:changeit@127.0.0.1:{ports[1]}?tls=true&tlsVerifyCert=false")
        run_mocha(results, name, copy / "node_modules" / "event-store-client", copy, EVENTSTORE_PORT=str(ports[0]),
                  EVENTSTORE_TLS_PORT=str(ports[1]))

    with_server(results, name, servers[0], lambda: with_server(results, f"{name}, TLS", servers[1], run_suite))


CARGO, NODE = ("cargo",), ("node", "npm", "openssl")
CLIENTS = {"rust": (run_tikv, CARGO), "rust-eventstore": (run_eventstore, CARGO), "event-store-client": (run_node, NODE)}


def run(results, arguments, directory):
    for name, (run_suite, tools) in CLIENTS.items():
        if name not in arguments.clients:
            continue
        missing = [tool for tool in tools if shutil.which(tool) is None]
        if missing:
            results.skip(f"{name}, its own tests", f"{' and '.join(missing)} not installed")
            continue
        print(f"# building {name}, its own tests", flush=True)
        try:
            run_suite(results, name, directory / f"own-{name}")
        except (Failure, subprocess.CalledProcessError) as failure:
            results.result(f"{name}, its own tests", str(failure))
