"""The published clients of TiKV's raw API against our server: lists of calls, reading crosswise, restarts."""
import os
import shutil
import signal
import subprocess
import time

from harness import (SOURCES, Failure, OurClient, Server, build_go, build_java, build_kvs, build_program,
                     build_python, build_rust, make_certificates)

FOLDER = SOURCES / "tikv"
CLIENTS = {  # name -> how it is built, where, with which options; README.md has their versions
    "kvs": (build_kvs, FOLDER / "kvs", {}),
    "rust": (build_rust, FOLDER / "rust", {}),
    "rust-surrealdb": (build_rust, FOLDER / "rust", {"manifest": "surrealdb.toml"}),
    "go": (build_go, FOLDER / "go", {}),
    "go-2.0.7": (build_go, FOLDER / "go", {"modules": "go-2.0.7.mod", "tags": "v2_0_7"}),
    "python": (build_python, FOLDER / "python", {}),
    "python-pure": (build_python, FOLDER / "python-pure", {}),
    "java": (build_java, FOLDER / "java", {}),
}
ON_REQUEST = ("rust-surrealdb",)  # another 200 crates, for a client that differs little
SPACES = ("v1", "v2")
V1_ONLY = ("python", "python-pure")
NO_TLS = ("python",)
LOAD_SECONDS = 6
LOAD_WORKERS = 16
SHARED_COUNT = 300


def programs_of(results, names):
    built = [build_program(results, name, build, folder, **options)
             for name, (build, folder, options) in CLIENTS.items() if name in names]
    return [program for program in built if program is not None]


class Ours(OurClient):
    """Our own client, as one that writes and reads crosswise."""

    @staticmethod
    def shared(prefix):
        """What every program writes and reads: see shared_value in each."""
        for i in range(SHARED_COUNT):
            value = bytes((i * 31 + at * 7) & 0xff for at in range(1 + i * 37 % 500))
            yield f"{prefix}{i:04}".encode() + bytes([0, 0xff, i & 0xff]), value

    def read(self, prefix):
        found = self.all(prefix)
        if found != list(self.shared(prefix)):
            raise Failure(f"{len(found)} pairs, and they differ")

    def run(self, results, what, kind, _pd, _space, prefix):
        try:
            if kind == "write":
                self.put_all(self.shared(prefix))
            else:
                self.read(prefix)
            results.result(f"{self.name}, {what}")
        except (Failure, ValueError, subprocess.TimeoutExpired) as error:
            results.result(f"{self.name}, {what}", str(error))


def ours_of(server):
    return [Ours("kvs-client", "--addr", server.addr),
            Ours("kvs-client tikv://", "--url", f"tikv://{server.pd}")]


# --- what is looked at -------------------------------------------------------------------------


def lists(results, programs, pd, spaces=SPACES):
    for program in programs:
        for space in spaces:
            program.run(results, f"API {space.upper()}", "list", pd, space, f"list/{program.name}/")


def splitter_of(programs):
    return next((program for program in programs if program.name.startswith("go")), None)


def many_regions(results, programs, pd, splitter):
    """The same list with a region's bound inside each test's keys."""
    if splitter is None:
        results.skip("many regions", "the Go client is what splits regions")
        return
    for program in programs:
        prefix = f"regions/{program.name}/"
        splitter.run(results, f"regions for {program.name}", "split", pd, "v1", prefix)
        program.run(results, "many regions", "list", pd, "v1-regions", prefix)


def crosswise(results, programs, pd, ours, again=False, spaces=SPACES):
    for space in spaces:
        able = [program for program in programs if space == "v1" or program.name not in V1_ONLY]
        able += ours if space == "v1" else []
        for writer in able:
            prefix = f"shared/{writer.name}/"
            if not again:
                writer.run(results, f"API {space.upper()}, for all to read", "write", pd, space, prefix)
            for reader in able:
                what = f"API {space.upper()}, what {writer.name} wrote"
                if not again or reader is not writer:
                    reader.run(results, what + (" earlier" if again else ""), "read", pd, space,
                               prefix)


def restarts(results, programs, server):
    """The server ends under load and starts anew: no acknowledged write is lost, all go on."""
    for program in programs:
        for space, number in (("v1", signal.SIGTERM), ("v2", signal.SIGKILL)):
            if program.name in V1_ONLY and space == "v2":
                continue
            ending, started = number.name, time.monotonic()
            process = program.start("load", server.pd, space, f"load/{program.name}/", LOAD_WORKERS,
                                    LOAD_SECONDS)
            line = process.stdout.readline()
            if line.startswith("started"):
                time.sleep(LOAD_SECONDS / 3)
                status = server.stop(number)
                if status != (0 if number == signal.SIGTERM else -signal.SIGKILL):
                    results.result(f"server, {ending}", f"exit status {status}")
                server.start()
            else:
                results.line(program.name, line)
            program.finish(results, f"API {space.upper()}, restart after {ending}", process)
            print(f"# ended after {time.monotonic() - started:.1f} s", flush=True)


def over_tls(results, programs, directory):
    """Server and clients show each other certificates, and the server's is for a name: PD has to send them there."""
    if shutil.which("openssl") is None:
        results.skip("TLS", "openssl is not installed")
        return
    directory.mkdir()
    make_certificates(directory)
    ca, certificate, key = (str(directory / f"{name}.pem") for name in ("ca", "certificate", "key"))
    server = Server(directory / "data", "--tls-cert", certificate, "--tls-key", key, "--tls-ca", ca,
                    "--advertise=localhost")
    server.pd = server.pd.replace("127.0.0.1", "localhost")
    ours = [Ours("kvs-client tikv:// TLS", "--url", f"tikv://{server.pd}", "--tls-ca", ca, "--tls-cert", certificate,
                 "--tls-key", key)]
    able = [program for program in programs if program.name not in NO_TLS]
    os.environ["KVS_TLS"] = str(directory)
    try:
        server.start()
        lists(results, able, server.pd, spaces=("v1",))
        crosswise(results, able, server.pd, ours)
        restarts(results, able, server)
        status = server.stop()
        results.result("server with TLS, ends", None if status == 0 else f"exit status {status}")
    except Failure as failure:
        results.result("server with TLS", str(failure))
    finally:
        del os.environ["KVS_TLS"]
        if server.process is not None:
            server.stop(signal.SIGKILL)


def run_at(results, programs, pd):
    """Against a cluster that runs already; without restarts."""
    lists(results, programs, pd)
    many_regions(results, programs, pd, splitter_of(programs))
    crosswise(results, programs, pd, [Ours("kvs-client tikv://", "--url", f"tikv://{pd}")])


def run(results, arguments, directory):
    programs = programs_of(results, arguments.clients)
    if arguments.pd:
        run_at(results, programs, arguments.pd)
        return
    server = Server(directory / "tikv")
    try:
        server.start()
        lists(results, programs, server.pd)
        many_regions(results, programs, server.pd, splitter_of(programs))
        crosswise(results, programs, server.pd, ours_of(server))
        restarts(results, programs, server)
        crosswise(results, programs, server.pd, ours_of(server), again=True)
        status = server.stop()
        results.result("server, ends", None if status == 0 else f"exit status {status}")
    except Failure as failure:
        results.result("server", str(failure))
    finally:
        if server.process is not None:
            server.stop(signal.SIGKILL)
    over_tls(results, programs, directory / "tikv-tls")
