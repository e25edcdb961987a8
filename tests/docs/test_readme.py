#!/usr/bin/env python3
"""README.md keeps its word: the tour does what its comments say, the program compiles and runs,
and what it links to is there."""
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import tap  # noqa: E402

README = (tap.SOURCE_DIR / "README.md").read_text()
PROGRAMS = shlex.quote(str(tap.BUILD_DIR)) + "/"
ENVIRONMENT = {**os.environ, "LD_LIBRARY_PATH": str(tap.BUILD_DIR / "src"), "TERM": "dumb"}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


class Server:
    """kvs-server on a port of the system's choice, ended with the with statement."""

    def __init__(self, directory, *flags):
        self.process = subprocess.Popen(
            [tap.BUILD_DIR / "kvs-server", "--addr", "127.0.0.1:0", "--dir", directory, *flags],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        tap.kill_at_exit(self.process)
        for line in self.process.stderr:
            found = re.search(r"listening on (\S+)", line)
            if found:
                self.address = found[1]
                return
        raise AssertionError("the server did not start")

    def port_of_events(self):
        for line in self.process.stderr:
            found = re.search(r"EventStoreDB's clients on \S+:(\d+)", line)
            if found:
                return found[1]
        raise AssertionError("the server does not serve event streams")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        _, rest = self.process.communicate(timeout=600)
        assert self.process.returncode == 0, rest


def run_line(line, address, directory):
    """Runs one line of the tour against the server at address; returns what it printed."""
    line = line.replace("build/", PROGRAMS).replace("127.0.0.1:4000", address)
    if "kvs-client" in line:
        line += f" --addr {address}"
    if "kvs-bench" in line:
        line += " --requests 1000 --warm-up 0"
    done = subprocess.run(["sh", "-c", line], cwd=directory, stdin=subprocess.DEVNULL, env=ENVIRONMENT,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
    assert done.returncode == 0, f"{line}: {done.returncode} {done.stdout}"
    return done.stdout


def test_the_tour_does_what_it_says(directory):
    (tour,) = [block for block in blocks("sh") if "kvs-client set" in block]
    outputs = {}
    with Server(directory) as server:
        for line in tour.splitlines():
            command, _, comment = line.partition("#")
            outputs[command.strip()] = output = run_line(command.strip(), server.address, directory)
            if re.search(r"client (get|count)", command):
                assert output.strip() == comment.strip(), f"{line}: {output}"
    scan = outputs["build/kvs-client scan --prefix user:"]
    assert scan.index("Ada") < scan.index("Grace"), scan


def test_event_streams_are_as_shown(directory):
    (lines,) = [block.splitlines() for block in blocks("sh") if "kvs-client events" in block]
    with Server(directory, "--eventstore=127.0.0.1:0") as server:
        port = server.port_of_events()
        for line in lines:
            command, _, comment = line.partition("#")
            command = command.strip().replace("build/", PROGRAMS)
            command += f":{port}" if "--url" in command else f" --url esdb://127.0.0.1:{port}"
            done = subprocess.run(["sh", "-c", command], cwd=directory, stdin=subprocess.DEVNULL,
                                  env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
            assert done.returncode == 0 and done.stderr == "", (command, done)
            assert done.stdout.startswith(comment.partition(" and so on")[0].strip().rstrip(",")), done


def test_the_program_compiles_and_runs(directory):
    (program,) = blocks("c")
    (directory / "program.c").write_text(program)
    compiled = subprocess.run(
        ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-I", tap.SOURCE_DIR / "include", "program.c",
         "-o", "program", "-L", tap.BUILD_DIR / "src", "-lkvs"],
        cwd=directory, capture_output=True, text=True, timeout=600)
    assert compiled.returncode == 0, compiled.stderr
    for _ in range(2):  # the second time on the data of the first
        done = subprocess.run(["./program"], cwd=directory, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=600)
        assert done.returncode == 0 and done.stdout == "hello\n", done


def test_links_lead_somewhere():
    pages = [tap.SOURCE_DIR / name for name in ("README.md", "CONTRIBUTING.md", "docs/architecture.md",
                                                 "tests/README.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


if __name__ == "__main__":
    tap.run(globals())
