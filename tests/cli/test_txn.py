#!/usr/bin/env python3
"""tests/cli/test_txn.py: kvs-client txn and the transactions of kvs-bench, in process and on
kvs-server --tikv."""
import json
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from harness import ANY, CLIENT, Server, Terminal, one_line, pd_of, run  # noqa: E402
import tap  # noqa: E402

BENCH = str(tap.BUILD_DIR / "kvs-bench")


def txn(url, *statements, stdin=b""):
    return run(CLIENT, "--url", url, "txn", *statements, stdin=stdin)


def check_statements(url):
    done = txn(url, "put a 1", 'put b "x y"', "get a", "get nothing", "exists b", "scan a c")
    assert done == (0, b"1\nKey not found\ntrue\na\t1\nb\tx y\n", b""), done
    # What fails leaves nothing behind, and says one line.
    done = txn(url, "put a 2", "insert b 2")
    assert done.status == 1 and 'key already exists: "b"' in one_line(done.err), done
    done = txn(url, "put a 2", "rollback")
    assert done == (0, b"", b""), done
    done = txn(url, "get a", "delete a", "get a", "commit")
    assert done == (0, b"1\nKey not found\n", b""), done
    script = b"# a comment\nput c 3\n\nlock a b\nget-for-update b\nscan a z 1\n"
    done = txn(url, "--pessimistic", stdin=script)
    assert done == (0, b"x y\nb\tx y\n", b""), done
    assert txn(url, "scan").out == b"b\tx y\nc\t3\n"
    done = txn(url, "--pessimistic", "lock-shared b")
    assert done.status == 1 and "for itself" in one_line(done.err), done
    done = txn(url, "--pessimistic", "put c 4", "lock-shared b a", "put c 3", "lock-shared c", "put c 5", "put c 3")
    assert done == (0, b"", b""), done
    done = txn(url, "--pessimistic", "put c 4", "lock-shared b", "put b 1")
    assert done.status == 1 and "in share mode" in one_line(done.err), done
    for wrong in (["foo"], ["get"], ["put a"], ["scan a b 0"], ['get "a'], ["rollback", "get a"]):
        done = txn(url, *wrong)
        assert done.status == 2 and "statement" in one_line(done.err), done
    assert txn(url, "scan").out == b"b\tx y\nc\t3\n"


def check_bench(url):
    for workload in (["txn", "--txn-keys", "5"], ["rmw", "--txn-keys", "2"],
                     ["bank"], ["bank", "--pessimistic"]):
        done = run(BENCH, url, "--load", "--workload", *workload, "--keys", "200", "--connections",
                   "8", "--warm-up", "0", "--requests", "300", "--json")
        assert done.status == 0 and done.err == b"", (workload, done)
        measured = json.loads(done.out)["measured"]
        assert measured["txn"]["answered"] == 300 and measured["errors"] == 0, measured


def test_statements_in_process(directory):
    check_statements(f"log:{directory}/data")


def test_a_directory_that_is_not_there(directory):
    """Statements that write nothing do not make one; from standard input nobody knows."""
    url = f"log:{directory}/data"
    for only_reads in (["get a"], ["exists a", "scan", "commit"], ["--pessimistic", "get-for-update a"],
                       ["lock a"], ["delete a"], ["rollback"]):
        done = txn(url, *only_reads)
        assert done.status == 1 and "no such directory" in one_line(done.err), done
        assert not (directory / "data").exists(), only_reads
    assert txn(url, "get a", " put a 1", "get a") == (0, b"Key not found\n1\n", b"")
    assert txn(url, "get a") == (0, b"1\n", b"")
    assert txn(f"log:{directory}/more", stdin=b"get a\n") == (0, b"Key not found\n", b"")
    assert txn(f"log:{directory}/again", "insert a 1") == (0, b"", b"")


def test_statements_on_a_server(directory):
    with Server(directory, ANY) as server:
        check_statements(f"tikv://{pd_of(server)}")
        check_statements(f"tikv://{pd_of(server)}/DEFAULT")
        done = server.client("txn", "get a")
        assert done.status == 2 and "tikv://" in one_line(done.err), done


def test_an_interrupt_writes_nothing(directory):
    with Server(directory, ANY) as server:
        url = f"tikv://{pd_of(server)}"
        arguments = (CLIENT, "--url", url, "txn", "--pessimistic")
        with Terminal(*arguments) as holder:
            holder.type(b"get-for-update b\r")
            holder.expect(b"Key not found")
            with Terminal(*arguments, "get a", "put a 1", "get-for-update b") as waiting:
                waiting.expect(b"Key not found")  # so it has begun
                waiting.process.send_signal(signal.SIGINT)
                holder.type(b"rollback\r\x04")
                assert holder.finish() == 0, holder.all
                assert waiting.finish() == 130, waiting.all
                assert b"txn: interrupted" in waiting.all, waiting.all
        assert txn(url, "get a").out == b"Key not found\n"


def test_the_shell_stays_with_its_store(directory):
    with Server(directory, ANY) as server:
        for url in (f"tikv://{pd_of(server)}", f"log:{directory}/data", "memory:"):
            script = (b"events append s --type t --url memory:\ntxn 'put a 1' 'put b 2'\n"
                      b"txn 'get a'\ntxn 'insert b 3'\n")
            done = run(CLIENT, "--url", url, "shell", stdin=script)
            assert done.out.endswith(b"}\n1\n") and done.status == 1, done
            assert one_line(done.err).startswith("key already exists"), done
            assert url.encode() in done.err, done


def test_bench_in_process(directory):
    check_bench(f"log:{directory}/data")


def test_bench_in_memory(_directory):
    check_bench("memory:")
    done = run(BENCH, "memory:", "--load", "--keys", "200", "--connections", "8", "--warm-up", "0",
               "--requests", "300", "--workload", "get", "--json")
    measured = json.loads(done.out)["measured"]
    assert done.status == 0 and done.err == b"", done
    assert measured["get"]["answered"] == 300 and measured["missing_keys"] == 0, measured


def test_bench_on_a_server(directory):
    with Server(directory, ANY, "--split-keys", "60") as server:
        check_bench(f"tikv://{pd_of(server)}")


def test_bench_says_what_it_cannot_do(directory):
    done = run(BENCH, f"log:{directory}/data", "--workload", "bank", "--keys", "1")
    assert done.status == 2 and "two --keys" in one_line(done.err), done
    for option, says in (("--pessimistic", "rmw or bank"), ("--txn-keys=5", "txn or rmw")):
        done = run(BENCH, "memory:", option, "--workload", "set", "--requests", "1")
        assert done.status == 2 and says in one_line(done.err), done
    done = run(BENCH, "kvs://127.0.0.1", "--workload", "bank")
    assert done.status == 2 and "transactions" in one_line(done.err), done


def test_a_server_that_knows_no_transactions(directory):
    for where in ([], ["--addr", "127.0.0.1:1"], ["--url", "kvs://127.0.0.1:1"]):
        done = run(CLIENT, *where, "txn", "get a")
        assert done.status == 2 and "tikv:// URLs" in one_line(done.err), done
    done = run(CLIENT, "--url", "tikv://127.0.0.1:1", "--timeout", "200", "txn", "get a")
    assert done.status == 1, done


def test_a_load_whose_server_is_gone(directory):
    """It ends after one call's time, and tells; it went on until each of its transactions had waited."""
    with Server(directory, ANY) as server:
        load = subprocess.Popen([BENCH, f"tikv://{pd_of(server)}", "--load", "--workload", "rmw", "--keys", "200",
                                 "--connections", "8", "--warm-up", "0", "--duration", "600", "--timeout", "2", "--json"],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        tap.kill_at_exit(load)
        while txn(f"tikv://{pd_of(server)}", "scan").out.count(b"\n") < 200:  # it has begun
            pass
        server.kill()
        out, err = load.communicate(timeout=120)
        assert load.returncode == 1 and "is the server running?" in one_line(err), (load.returncode, out, err)


if __name__ == "__main__":
    tap.run(globals())
