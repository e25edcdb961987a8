"""Our TiKV client against a TiKV that is not ours: the store that client-go tests itself with, see
tikv/go/tikvserver, once with that one's own PD and once with the real PD."""
import subprocess
import time
from pathlib import Path

import tikv
from harness import BUILD, SERVER_SECONDS_MAX, Failure, answers, build_go, build_program, free_ports

CLIENTS = ("kvs", "go-2.0.7")


class Store:
    """Forgets everything when it ends."""

    def __init__(self, program, pd="", *more):
        self.program, self.more = program, more
        own_pd, address = (f"127.0.0.1:{port}" for port in free_ports(2))
        self.pd, self.address = pd or own_pd, address
        self.process = None

    def start(self):
        self.process = subprocess.Popen([*self.program.arguments, self.pd, self.address, *self.more],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=(BUILD / "store.err").open("ab"))
        if not self.process.stdout.readline() or not answers(self.address):
            raise Failure(f"the store does not start, see {BUILD / 'store.err'}")

    def say(self, word):
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()


class RealPd:
    def __init__(self, program, directory):
        self.program, self.directory = program, Path(directory)
        self.pd, self.peer = (f"127.0.0.1:{port}" for port in free_ports(2))
        self.process = None

    def start(self):
        self.directory.mkdir()
        config = self.directory / "pd.toml"
        config.write_text("[replication]\nmax-replicas = 1\n")  # what is not replicated is not split
        log = (BUILD / "pd.log").open("ab")
        self.process = subprocess.Popen(
            [*self.program.arguments, "--config", str(config), "--name", "pd", "--data-dir",
             str(self.directory / "data"), "--client-urls", f"http://{self.pd}", "--peer-urls", f"http://{self.peer}",
             "--initial-cluster", f"pd=http://{self.peer}"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        log.close()
        started = time.monotonic()
        while not answers(self.pd):
            if self.process.poll() is not None or time.monotonic() - started > SERVER_SECONDS_MAX:
                raise Failure(f"PD does not listen, see {BUILD / 'pd.log'}")
            time.sleep(0.05)

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def breaks(results, program, store, spaces):
    """All connections break under load, nobody listens for a while: nothing is lost, the load goes on."""
    for space in spaces:
        process = program.start("load", store.pd, space, f"load/{space}/", tikv.LOAD_WORKERS, tikv.LOAD_SECONDS)
        process.stdout.readline()
        time.sleep(tikv.LOAD_SECONDS / 3)
        store.say("close")
        time.sleep(0.5)
        store.say("open")
        program.finish(results, f"API {space.upper()}, connections break", process)


def at_store(results, programs, store, spaces):
    kvs = [one for one in programs if one.name == "kvs"]
    go = tikv.splitter_of(programs)
    ours = tikv.Ours("kvs-client tikv://", "--url", f"tikv://{store.pd}")
    tikv.lists(results, kvs, store.pd, spaces)
    tikv.many_regions(results, kvs, store.pd, go)
    tikv.crosswise(results, programs, store.pd, [ours], spaces=spaces)
    go.run(results, "regions of what go wrote", "split-shared", store.pd, "v1", f"shared/{go.name}/")
    tikv.crosswise(results, programs, store.pd, [ours], again=True, spaces=spaces)
    for one in kvs:
        breaks(results, one, store, spaces)


def run(results, _arguments, directory):
    programs = tikv.programs_of(results, CLIENTS)
    store_program = build_program(results, "store", build_go, tikv.FOLDER / "go", package="./tikvserver",
                                  modules="go-2.0.7.mod")
    pd_program = build_program(results, "pd", build_go, tikv.FOLDER / "pd", tags="without_dashboard")
    if store_program is None or len(programs) < len(CLIENTS):
        return
    store = Store(store_program)
    try:
        store.start()
        at_store(results, programs, store, tikv.SPACES)
    except Failure as failure:
        results.result("store", str(failure))
    finally:
        store.stop()
    if pd_program is None:
        return
    pd = RealPd(pd_program, directory / "pd")
    store = Store(store_program, pd.pd, "join")
    try:
        print("# the real PD: it has no keyspaces yet, so API V1", flush=True)
        pd.start()
        store.start()
        at_store(results, programs, store, ("v1",))
    except Failure as failure:
        results.result("PD", str(failure))
    finally:
        store.stop()
        pd.stop()
