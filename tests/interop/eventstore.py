"""The published TCP clients of EventStoreDB against our server: lists of calls, reading crosswise, restarts, TLS."""
import shutil
import signal
import subprocess
import time

from harness import (BUILD, SOURCES, TOOLS, Failure, Server, build_java, build_program, build_rust, command, copy_sources,
                     free_ports)

FOLDER = SOURCES / "eventstore"
NODE_PACKAGES = {"node": "node-eventstore-client", "node-0.2": "node-eventstore-client-0.2"}
LIST_ONLY = ("node-promise",)
LOAD_SECONDS = 8


def build_promise(folder, name):
    return [*build_node(folder, name, "")[:1], str(BUILD / name / "promise.js")]


def build_node(folder, name, package):
    copy = copy_sources(folder, name)
    command("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", cwd=copy, name=name)
    return ["node", str(copy / "client.js"), package]


def build_old_rust(folder, name):
    """The crate is from 2020: today's compiler takes one of its attributes only when it is told to."""
    return build_rust(folder, name, RUSTC_BOOTSTRAP="1", RUSTFLAGS="-Zcrate-attr=feature(custom_inner_attributes)")


TOOLS.update({build_node: ["node", "npm"], build_promise: ["node", "npm"], build_old_rust: ["cargo"]})

CLIENTS = {  # name -> how it is built, where, with which options; README.md has their versions
    **{name: (build_node, FOLDER / "node", {"package": package}) for name, package in NODE_PACKAGES.items()},
    "node-promise": (build_promise, FOLDER / "node", {}),
    "rust-eventstore": (build_old_rust, FOLDER / "rust", {}),
    "jvm": (build_java, FOLDER / "java", {}),
}


class EventServer(Server):
    def __init__(self, directory, *more):
        port, http = free_ports(2)
        super().__init__(directory, f"--eventstore=127.0.0.1:{port}", f"--http=127.0.0.1:{http}", *more, tikv=False)
        self.events = f"127.0.0.1:{port}"
        self.ports.append(self.events)


def lists(results, programs, server):
    for program in programs:
        program.run(results, "every call", "list", server.events, f"list-{program.name}")


def crosswise(results, programs, server, again=False):
    able = [program for program in programs if program.name not in LIST_ONLY]
    for writer in able:
        prefix = f"shared-{writer.name}"
        if not again:
            writer.run(results, "for all to read", "write", server.events, prefix)
        for reader in able:
            if not again or reader is not writer:
                reader.run(results, f"what {writer.name} wrote" + (" earlier" if again else ""), "read", server.events,
                           prefix)


def restarts(results, programs, server):
    """The server ends under appends and a catch-up subscription: every acknowledged event is seen once, in order."""
    for program in programs:
        if program.name not in NODE_PACKAGES:
            continue
        for number in (signal.SIGTERM, signal.SIGKILL):
            process = program.start("load", server.events, f"load-{program.name}-{number.name}", LOAD_SECONDS)
            for _ in range(2):
                time.sleep(LOAD_SECONDS / 4)
                status = server.stop(number)
                if status != (0 if number == signal.SIGTERM else -signal.SIGKILL):
                    results.result(f"server, {number.name}", f"exit status {status}")
                server.start()
            program.finish(results, f"restarts after {number.name}", process)


def make_certificate(directory):
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
                   check=True, capture_output=True)
    return ["--tls-cert", str(certificate), "--tls-key", str(key)]


def over_tls(results, programs, directory):
    able = [program for program in programs if program.name in NODE_PACKAGES]
    if shutil.which("openssl") is None or not able:
        results.skip("TLS", "openssl is not installed, or no client that can be told to trust")
        return
    directory.mkdir()
    server = EventServer(directory / "data", *make_certificate(directory))
    (directory / "data").mkdir()
    try:
        server.start()
        for program in able:
            program.run(results, "every call over TLS", "list", server.events, f"tls-{program.name}", "tls")
    finally:
        server.stop()


def run(results, arguments, directory):
    programs = [build_program(results, name, build, folder, **options)
                for name, (build, folder, options) in CLIENTS.items() if name in arguments.clients]
    programs = [program for program in programs if program is not None]
    (directory / "events").mkdir()
    server = EventServer(directory / "events")
    try:
        server.start()
        lists(results, programs, server)
        crosswise(results, programs, server)
        restarts(results, programs, server)
        crosswise(results, programs, server, again=True)
        status = server.stop()
        results.result("server, ends", None if status == 0 else f"exit status {status}")
        over_tls(results, programs, directory / "tls")
    except Failure as failure:
        results.result("server", str(failure))
    finally:
        if server.process is not None:
            server.stop(signal.SIGKILL)
