"""The published TCP clients of EventStoreDB, and ours, against our server: lists of calls, what one leaves and others find,
events that others follow, groups that they share, restarts under load, TLS."""
import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from harness import (BUILD, PROGRAMS, SOURCES, TOOLS, Failure, Server, build_java, build_kvs, build_program, build_python, build_rust,
                     command, copy_sources, free_ports)

FOLDER = SOURCES / "eventstore"
NODE_PACKAGES = {"node": "node-eventstore-client", "node-0.2": "node-eventstore-client-0.2"}
LIST_ONLY = ("node-promise",)
NO_LIST = ("kvs-events",)  # its calls are in tests/unit/client
LASTING = (*NODE_PACKAGES, "kvs-events")  # they have the commands load and outlast
NO_WRITE = ("photon-pump",)  # it has no metadata and no transactions
NO_FINISH = ("rust-eventstore", "rust-eventstore-tls", *NO_WRITE)  # nor this a transaction by its number
OLD_GOSSIP = ("rust-eventstore", "photon-pump", "esjc")  # they look for a Master
TLS_ONLY, NO_TLS = ("rust-eventstore-tls",), ("rust-eventstore", "node-promise", "photon-pump")
SHARED, FED = 300, 50  # events that each writer leaves, that each appends for the followers
LOAD_SECONDS, LOAD_RESTARTS = 12, 6
STOPPED_EVENTS, STOPPED_SECONDS, STOPPED_MIB_MAX = 100000, 5, 200


def build_promise(folder, name):
    return [*build_node(folder, name, "")[:1], str(BUILD / name / "promise.js")]


def build_node(folder, name, package):
    copy = copy_sources(folder, name)
    command("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", cwd=copy, name=name)
    return ["node", str(copy / "client.js"), package]


def build_old_rust(folder, name, features=""):
    """The crate is from 2020: today's compiler takes one of its attributes only when it is told to."""
    return build_rust(folder, name, features, RUSTC_BOOTSTRAP="1",
                      RUSTFLAGS="-Zcrate-attr=feature(custom_inner_attributes)")


TOOLS.update({build_node: ["node", "npm"], build_promise: ["node", "npm"], build_old_rust: ["cargo"]})

CLIENTS = {  # name -> how it is built, where, with which options; README.md has their versions
    **{name: (build_node, FOLDER / "node", {"package": package}) for name, package in NODE_PACKAGES.items()},
    "node-promise": (build_promise, FOLDER / "node", {}),
    "rust-eventstore": (build_old_rust, FOLDER / "rust", {}),
    "rust-eventstore-tls": (build_old_rust, FOLDER / "rust", {"features": "tls"}),
    "jvm": (build_java, FOLDER / "java", {}),
    "esjc": (build_java, FOLDER / "esjc", {}),
    "photon-pump": (build_python, FOLDER / "python", {}),
    "kvs-events": (build_kvs, FOLDER / "kvs", {}),
}


class EventServer(Server):
    def __init__(self, directory, *more):
        port, http = free_ports(2)
        super().__init__(directory, f"--eventstore=127.0.0.1:{port}", f"--http=127.0.0.1:{http}", *more, tikv=False)
        self.events = f"127.0.0.1:{port}"
        self.http = f"127.0.0.1:{http}"
        self.ports.append(self.events)


# --- one after the other ---


def lists(results, programs, server, *words):
    for program in programs:
        if program.name not in NO_LIST:
            program.run(results, " ".join(["every call", *words[:1]]), "list", server.events,
                        f"list-{program.name}", *words)


def crosswise(results, programs, server, *words):
    """Each reads what each wrote: events, links, metadata, and a transaction that a third one finished; then all take
    their shares of the writer's group."""
    able = [program for program in programs if program.name not in LIST_ONLY]
    finishers = [program for program in able if program.name not in NO_FINISH]
    writers = [program for program in able if program.name not in NO_WRITE]
    for number, writer in enumerate(writers):
        prefix = f"shared-{writer.name}"
        lines = writer.run(results, "for all to read", "write", server.events, prefix, *words)
        transaction = next((line.split()[1] for line in lines if line.startswith("transaction ")), None)
        if transaction is None:
            continue
        if not finishers:
            results.skip(f"what {writer.name} began", "none of these clients goes on with another's transaction")
            return
        finishers[number % len(finishers)].run(results, f"what {writer.name} began", "finish", server.events, prefix,
                                               transaction, *words)
        read_all(results, able, server, writer, *words)
        take_all(results, able, server, writer, *words)


def read_all(results, able, server, writer, *words):
    for reader in able:
        reader.run(results, f"what {writer.name} wrote", "read", server.events, f"shared-{writer.name}", *words)


def take_all(results, able, server, writer, *words):
    taken = []
    for number, reader in enumerate(able):
        share = SHARED // len(able) if number + 1 < len(able) else SHARED - SHARED // len(able) * number
        lines = reader.run(results, f"of the group that {writer.name} made", "take", server.events,
                           f"shared-{writer.name}", share, *words)
        taken += [int(line.split()[1]) for line in lines if line.startswith("took ")]
    wrong = None if sorted(taken) == list(range(SHARED)) else (
        f"{len(taken)} were acknowledged, {len(set(taken))} different ones, of {SHARED}")
    results.result(f"group of {writer.name}, every event acknowledged once", wrong)


def wait_ready(process):
    while (line := process.stdout.readline()) and line != "ready\n":
        pass


def follow(results, programs, server, *words):
    """All follow a stream to which all append, one after the other."""
    able = [program for program in programs if program.name not in LIST_ONLY]
    followers = [(program, program.start("follow", server.events, "all", FED * len(able), *words)) for program in able]
    for _, process in followers:
        wait_ready(process)
    for number, writer in enumerate(able):
        writer.run(results, "for all to follow", "feed", server.events, "all", FED * number, FED, *words)
    for program, process in followers:
        program.finish(results, "all that was appended", process)


# --- through restarts ---


def restarts(results, programs, server, *words):
    """The server ends again and again under appends and subscriptions of every kind, of all these clients at once, on
    one stream; see node/load.js."""
    able = [program for program in programs if program.name in LASTING]
    seed = int(os.environ.get("KVS_TEST_SEED", time.time()))
    seconds = int(os.environ.get("KVS_TEST_SECONDS", LOAD_SECONDS))
    print(f"# KVS_TEST_SEED={seed}", flush=True)
    chance = random.Random(seed)
    for number in (signal.SIGTERM, signal.SIGKILL):
        processes = [(program, program.start("load", server.events, number.name, seconds, len(able), *words))
                     for program in able]
        for _ in range(LOAD_RESTARTS):
            time.sleep(chance.uniform(0.2, 1.4) * seconds / LOAD_RESTARTS * 0.8)
            status = server.stop(number)
            if status != (0 if number == signal.SIGTERM else -signal.SIGKILL):
                results.result(f"server, {number.name}", f"exit status {status}")
            server.start()
        for program, process in processes:
            program.finish(results, f"restarts by {number.name}", process)


def discovery(results, programs, directory):
    """They are told the address for HTTP only, and find the other by gossip."""
    able = [program for program in programs if program.name not in LIST_ONLY]
    for word, options in (("Leader", ()), ("Master", ("--gossip-master",))):
        (directory / word).mkdir(parents=True)
        server = EventServer(directory / word, *options)
        try:
            server.start()
            for program in able:
                if word == "Master" or program.name not in OLD_GOSSIP:
                    program.run(results, f"gossip says {word}", "discover", server.http, f"found-{program.name}")
        finally:
            server.stop()


def appended_lines(count):
    for first in range(0, count, 1000):
        yield "".join(f'{{"type":"Happened","data":{{"n":{n}}}}}\n' for n in range(first, min(count, first + 1000))).encode()


def peak_mib(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


def stopped(results, programs, directory):
    """Followers that are stopped while events are appended: the server keeps little for them, and they miss nothing."""
    count = int(os.environ.get("KVS_TEST_EVENTS", STOPPED_EVENTS))
    seconds = int(os.environ.get("KVS_TEST_STOP_SECONDS", STOPPED_SECONDS))
    directory.mkdir()
    server = EventServer(directory, "--cache=16m")
    try:
        server.start()
        followers = [(program, program.start("outlast", server.events, "stop", count))
                     for program in programs if program.name in LASTING]
        for _, process in followers:
            wait_ready(process)
            process.send_signal(signal.SIGSTOP)
        begin, before = time.monotonic(), peak_mib(server.process.pid)
        with subprocess.Popen([str(PROGRAMS / "kvs-client"), "events", "append", "stop-follow", "--batch", "100", "--url",
                               f"esdb://admin:changeit@{server.events}"], stdin=subprocess.PIPE,
                              stdout=subprocess.DEVNULL) as writer:
            for lines in appended_lines(count):
                writer.stdin.write(lines)
        results.result("appends while others are stopped", None if writer.returncode == 0 else "they failed")
        time.sleep(max(0, begin + seconds - time.monotonic()))
        for _, process in followers:
            process.send_signal(signal.SIGCONT)
        for program, process in followers:
            program.finish(results, f"{count} events after {time.monotonic() - begin:.0f} s", process)
        grown = peak_mib(server.process.pid) - before
        print(f"# server: {before:.0f} MiB before, {grown:.0f} MiB more at most", flush=True)
        results.result("the server's memory", None if grown < STOPPED_MIB_MAX else f"it grew by {grown:.0f} MiB")
    finally:
        server.stop()


def make_certificate(directory):
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
                   check=True, capture_output=True)
    return ["--tls-cert", str(certificate), "--tls-key", str(key)]


def over_tls(results, programs, directory):
    able = [program for program in programs if program.name not in NO_TLS]
    if shutil.which("openssl") is None:
        results.skip("TLS", "openssl is not installed")
        return
    directory.mkdir()
    (directory / "data").mkdir()
    server = EventServer(directory / "data", *make_certificate(directory))
    words = ("tls", str(directory / "certificate.pem"))
    try:
        server.start()
        lists(results, able, server, *words)
        crosswise(results, able, server, *words)
        follow(results, able, server, *words)
        restarts(results, able, server, *words)
        status = server.stop()
        results.result("server with TLS, ends", None if status == 0 else f"exit status {status}")
    finally:
        server.stop()


def run(results, arguments, directory):
    programs = [build_program(results, name, build, folder, **options)
                for name, (build, folder, options) in CLIENTS.items() if name in arguments.clients]
    programs = [program for program in programs if program is not None]
    plain = [program for program in programs if program.name not in TLS_ONLY]
    (directory / "events").mkdir()
    server = EventServer(directory / "events")
    try:
        server.start()
        lists(results, plain, server)
        crosswise(results, plain, server)
        follow(results, plain, server)
        restarts(results, plain, server)
        able = [program for program in plain if program.name not in LIST_ONLY]
        for writer in [program for program in able if program.name not in NO_WRITE]:
            read_all(results, able, server, writer)
        status = server.stop()
        results.result("server, ends", None if status == 0 else f"exit status {status}")
        stopped(results, plain, directory / "stopped")
        discovery(results, plain, directory / "gossip")
        over_tls(results, programs, directory / "tls")
    except Failure as failure:
        results.result("server", str(failure))
    finally:
        if server.process is not None:
            server.stop(signal.SIGKILL)
