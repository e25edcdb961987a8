"""The published TiKV clients' transactions against our server: lists of calls, reading crosswise, clients that die."""
import signal
import time
import urllib.request

import tikv
from harness import Failure, Server

CLIENTS = {name: tikv.CLIENTS[name] for name in ("rust", "go", "go-2.0.7")}
STAGES = {  # where a client dies -> what others find afterwards; README.md has who can
    "locked": "old",
    "prewritten": "old",
    "committing": "locked",
}
CANNOT = {("rust", "committing")}
GC_SECONDS_MAX = 30


def spaces(program):
    return ("v1",) if program.name in tikv.V1_ONLY else ("v1", "v2")


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
            if (victim.name, stage) in CANNOT:
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


def metric(server, name):
    with urllib.request.urlopen(f"http://{server.status}/metrics") as page:
        for line in page.read().decode().splitlines():
            if line.startswith(name + " "):
                return int(line.split()[1])
    raise Failure(f"there is no {name}")


def collected(results, server):
    """The lists have moved PD's safe point: the server removes what was overwritten before."""
    started = time.monotonic()
    while metric(server, "kvs_gc_removed_versions_total") == 0 and time.monotonic() - started < GC_SECONDS_MAX:
        time.sleep(0.5)
    removed = metric(server, "kvs_gc_removed_versions_total")
    print(f"# {removed} old versions were removed", flush=True)
    results.result("server, garbage collection", None if removed > 0 else "no version was removed")


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
        collected(results, server)
        status = server.stop()
        results.result("server, ends", None if status == 0 else f"exit status {status}")
    except Failure as failure:
        results.result("server", str(failure))
    finally:
        if server.process is not None:
            server.stop(signal.SIGKILL)
