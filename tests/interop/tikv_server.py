"""Our TiKV client against a TiKV that is not ours: client-go's own test server, see tikv/go/tikvserver."""
import subprocess

from harness import BUILD, Failure, build_go, build_program, free_ports
from tikv import FOLDER, Ours, crosswise


def run(results, _arguments, _directory):
    go = build_program(results, "go", build_go, FOLDER / "go")
    store = build_program(results, "store", build_go, FOLDER / "go", package="./tikvserver", modules="go-2.0.7.mod")
    if go is None or store is None:
        return
    pd, address = (f"127.0.0.1:{port}" for port in free_ports(2))
    process = subprocess.Popen([*store.arguments, pd, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        process.stdout.readline()  # it listens
        ours = Ours("kvs-client tikv://", "--url", f"tikv://{pd}")
        crosswise(results, [go], pd, [ours])
        go.run(results, "regions of what go wrote", "split-shared", pd, "v1", "shared/go/")
        crosswise(results, [go], pd, [ours], again=True)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
