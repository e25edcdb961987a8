"""Our TiKV client against a TiKV that is not ours: client-go's own test server, see tikv/go/tikvserver."""
import subprocess
import time

import tikv
from harness import BUILD, Failure, Program, answers, build_go, build_program, free_ports

CLIENTS = ("kvs", "go-2.0.7")


class Store:
    """The store, which forgets everything when it ends."""

    def __init__(self, program):
        self.program = program
        self.pd, self.address = (f"127.0.0.1:{port}" for port in free_ports(2))
        self.process = None

    def start(self):
        self.process = subprocess.Popen([*self.program.arguments, self.pd, self.address], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=(BUILD / "store.err").open("ab"))
        if not self.process.stdout.readline() or not answers(self.pd):
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


def breaks(results, program, store):
    """All connections break under load, nobody listens for a while: nothing is lost, the load goes on."""
    for space in ("v1", "v2"):
        process = program.start("load", store.pd, space, f"load/{space}/", tikv.LOAD_WORKERS, tikv.LOAD_SECONDS)
        process.stdout.readline()
        time.sleep(tikv.LOAD_SECONDS / 3)
        store.say("close")
        time.sleep(0.5)
        store.say("open")
        program.finish(results, f"API {space.upper()}, connections break", process)


def run(results, _arguments, _directory):
    programs = tikv.programs_of(results, CLIENTS)
    program = build_program(results, "store", build_go, tikv.FOLDER / "go", package="./tikvserver",
                            modules="go-2.0.7.mod")
    if program is None or len(programs) < len(CLIENTS):
        return
    kvs = [one for one in programs if one.name == "kvs"]
    go = tikv.splitter_of(programs)
    ours = tikv.Ours("kvs-client tikv://", "--url", "")
    store = Store(program)
    try:
        store.start()
        ours.target = ("--url", f"tikv://{store.pd}")
        tikv.lists(results, kvs, store.pd)
        tikv.many_regions(results, kvs, store.pd, go)
        tikv.crosswise(results, programs, store.pd, [ours])
        go.run(results, "regions of what go wrote", "split-shared", store.pd, "v1", f"shared/{go.name}/")
        tikv.crosswise(results, programs, store.pd, [ours], again=True)
        for one in kvs:
            breaks(results, one, store)
    except Failure as failure:
        results.result("store", str(failure))
    finally:
        store.stop()
