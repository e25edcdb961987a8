"""The test suites that clients' makers publish with them, unmodified, against our server."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading

from harness import BUILD, PROGRAM_SECONDS_MAX, SOURCES, Failure, Server, command, copy_sources, free_ports

TIKV_REGION_KEYS = 10  # as their continuous integration has it: the suite waits for 40 regions
EVENTSTORE_PORT, EVENTSTORE_OFF_PORT = 1113, 1114  # fixed in the suite: a server is at the one, nobody at the other
RESULT = re.compile(r"test (\S+)(?: - [a-z ]+)? \.\.\. .*?\b(ok|FAILED|ignored)\b")
RESULTS = {"ok": "ok - {}", "FAILED": "not ok - {}", "ignored": "ok - {} # SKIP its makers leave it out"}
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


CLIENTS = {"rust": run_tikv, "rust-eventstore": run_eventstore}


def run(results, arguments, directory):
    for name, run_suite in CLIENTS.items():
        if name not in arguments.clients:
            continue
        if shutil.which("cargo") is None:
            results.skip(f"{name}, its own tests", "cargo not installed")
            continue
        print(f"# building {name}, its own tests", flush=True)
        try:
            run_suite(results, name, directory / f"own-{name}")
        except (Failure, subprocess.CalledProcessError) as failure:
            results.result(f"{name}, its own tests", str(failure))
