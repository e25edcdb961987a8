"""The published TiKV clients' transactions against our server: lists of calls, reading crosswise, clients that die."""
import os
import signal
import time
import urllib.request
from random import Random

import tikv
from harness import Failure, Server
from history import check

CLIENTS = {name: tikv.CLIENTS[name] for name in ("rust", "rust-surrealdb", "go", "go-2.0.7", "python", "java")}
V1_ONLY = ("python", "java")
STAGES = {  # where a client dies -> what others find afterwards
    "locked": "old",
    "prewritten": "old",
    "committing": "locked",
    "flushed": "old",
    "flush-committing": "locked",
}
FLUSHERS = ("go",)
CANNOT = {("rust", "committing"), ("rust-surrealdb", "committing"), ("python", "prewritten"), ("python", "committing"),
          ("java", "locked")}
GC_SECONDS_MAX = 300
HISTORIANS = "rust", "rust-surrealdb", "go", "go-2.0.7"
HISTORY_SECONDS = 30
HISTORY_CLIENTS = 4  # at once, each with four workers
HISTORY_KILLS = 0.3  # of a client, each second or so
HISTORY_RESTARTS = 2


def spaces(program):
    return ("v1",) if program.name in V1_ONLY else ("v1", "v2")


def lists(results, programs, pd):
    for program in programs:
        for space in spaces(program):
            program.run(results, f"transactions, API {space.upper()}", "txn-list", pd, space,
                        f"txn-list/{program.name}/")


def crosswise(results, programs, pd):
    for space in ("v1", "v2"):
        able = [program for program in programs if space in spaces(program)]
        for writer in able:
            prefix = f"txn-shared/{writer.name}/"
            writer.run(results, f"API {space.upper()}, committed for all to read", "txn-write", pd, space, prefix)
            for reader in able:
                reader.run(results, f"API {space.upper()}, what {writer.name} committed", "txn-read", pd, space,
                           prefix)


def crashes(results, programs, pd):
    """Each client is killed at a stage of its commit; each other one reads what is left, and gets by."""
    for victim in programs:
        for stage, value in STAGES.items():
            if (victim.name, stage) in CANNOT or (stage.startswith("flush") and victim.name not in FLUSHERS):
                continue
            for reader in programs:
                prefix = f"txn-crash/{victim.name}/{stage}/{reader.name}/"
                victim.run(results, f"before it is killed {stage}", "txn-before", pd, "v1", prefix)
                process = victim.start("txn-crash", pd, "v1", prefix, stage)
                line = process.stdout.readline()
                process.send_signal(signal.SIGKILL)
                process.wait()
                process.stdout.close()
                if line.startswith("stage"):
                    reader.run(results, f"after {victim.name} was killed {stage}", "txn-after", pd, "v1", prefix,
                               value)
                else:
                    results.result(f"{victim.name}, killed {stage}", f"it said {line!r}")


def too_old(results, programs, server):
    """Our client collects garbage: client-go begins nothing below what PD tells it then."""
    reader = next((program for program in programs if program.name == "go"), None)
    if reader is None:
        results.skip("kvs, garbage collection", "the Go client (the newer) is what asks PD how far it is")
        return
    for ours in tikv.programs_of(results, ["kvs"]):
        lines = ours.run(results, "garbage collection", "txn-gc", server.pd, "v1", "txn-gc/")
        before = next((line.split()[1] for line in lines if line.startswith("before ")), None)
        if before is not None:
            reader.run(results, "older than the safe point of kvs", "txn-too-old", server.pd, "v1", "txn-gc/", before)


def metric(server, name):
    with urllib.request.urlopen(f"http://{server.status}/metrics") as page:
        for line in page.read().decode().splitlines():
            if line.startswith(name + " "):
                return int(line.split()[1])
    raise Failure(f"there is no {name}")


def collected(results, programs, server):
    """The lists of Rust and Go have moved PD's safe point: the server removes what was overwritten before."""
    if not any(program.name.startswith(("rust", "go")) for program in programs):
        results.skip("server, garbage collection", "the Rust and Go clients are what asks for it")
        return
    started = time.monotonic()
    while metric(server, "kvs_gc_removed_versions_total") == 0 and time.monotonic() - started < GC_SECONDS_MAX:
        time.sleep(0.5)
    removed = metric(server, "kvs_gc_removed_versions_total")
    print(f"# {removed} old versions were removed", flush=True)
    results.result("server, garbage collection", None if removed > 0 else "no version was removed")


def history(results, programs, server, directory, seed):
    """Random transactions of several clients at once; some are killed, and the server is, too. Then all that they
    told is held against all versions of all keys."""
    able = [program for program in programs if program.name in HISTORIANS]
    teller = next((program for program in able if program.name.startswith("go")), None)
    if teller is None:
        results.skip("history", "the Go client is what lists all versions")
        return
    print(f"# history: seed {seed}", flush=True)
    prefix = f"history/{seed}/"
    random = Random(seed)
    failed = results.failed
    teller.run(results, "a history begins", "txn-history-begin", server.pd, "v1", prefix)
    if results.failed > failed:
        return
    files, running, started, kills = [], [], time.monotonic(), 0
    restarts = sorted(random.uniform(0.2, 0.8) * HISTORY_SECONDS for _ in range(HISTORY_RESTARTS))
    while (elapsed := time.monotonic() - started) < HISTORY_SECONDS:
        running = [process for process in running if process.poll() is None]
        while len(running) < HISTORY_CLIENTS:
            files.append(directory / f"history-{seed}-{len(files)}")
            with files[-1].open("wb") as out:
                running.append(random.choice(able).start("txn-history", server.pd, "v1", prefix, seed + len(files),
                                                         HISTORY_SECONDS, out=out))
        time.sleep(random.uniform(0.2, 1.5))
        if random.random() < HISTORY_KILLS:
            running.pop(random.randrange(len(running))).kill()
            kills += 1
        if restarts and elapsed > restarts[0]:
            restarts.pop(0)
            server.stop(signal.SIGKILL)
            server.start()
    for process in running:
        process.kill()
        process.wait()
    lines = teller.run(results, "all versions", "txn-versions", server.pd, "v1", prefix)
    versions = directory / f"history-{seed}-versions"
    versions.write_text("\n".join(lines) + "\n")
    wrong, summary = check(versions, files)
    print(f"# {summary}; {len(files)} clients, {kills} killed, {HISTORY_RESTARTS} times the server", flush=True)
    for line in wrong:
        print(f"# {line}", flush=True)
    results.result(f"history, seed {seed}", wrong[0] if wrong else None)


def run(results, arguments, directory):
    programs = tikv.programs_of(results, [name for name in arguments.clients if name in CLIENTS])
    if arguments.pd:
        lists(results, programs, arguments.pd)
        crosswise(results, programs, arguments.pd)
        crashes(results, programs, arguments.pd)
        return
    server = Server(directory / "tikv-txn")
    try:
        server.start()
        lists(results, programs, server.pd)
        crosswise(results, programs, server.pd)
        crashes(results, programs, server.pd)
        collected(results, programs, server)
        too_old(results, programs, server)
        history(results, programs, server, directory, int(os.environ.get("KVS_TEST_SEED", time.time_ns() % 10**6)))
        status = server.stop()
        results.result("server, ends", None if status == 0 else f"exit status {status}")
    except Failure as failure:
        results.result("server", str(failure))
    finally:
        if server.process is not None:
            server.stop(signal.SIGKILL)
