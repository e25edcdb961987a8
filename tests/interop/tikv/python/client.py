"""The calls of the published Python client, made against a server: README.md has the commands."""
import asyncio
import os
import sys
import time

from tikv_client.asynchronous import RawClient

import txn

SHARED_COUNT = 300
CALL_SECONDS_MAX = 300  # a bound on what hangs, also on a busy machine
MIB = 1024 * 1024
FAMILIES = "default", "write", "lock"


def check(condition, otherwise):
    if not condition:
        raise AssertionError(otherwise)


class Test:
    def __init__(self, client, prefix):
        self.client = client
        self.prefix = prefix
        self.failed = False

    async def run(self, name, test):
        try:
            await asyncio.wait_for(test, CALL_SECONDS_MAX)
            print(f"ok - {name}", flush=True)
        except Exception as error:
            self.failed = True
            why = " ".join((str(error) or repr(error)).split())
            print(f"not ok - {name}: {why}", flush=True)

    def key(self, name):
        return (self.prefix + name).encode()

    def bounds(self, name):
        """The keys of one test: everything that begins with its name."""
        return self.key(name + "/"), self.key(name + "0")

    async def fill(self, name, count):
        pairs = [(self.key(f"{name}/{i:05}"), f"value {i}".encode()) for i in range(count)]
        await self.client.batch_put(dict(pairs))
        return pairs


# What every client does.

async def one_key(t):
    key = t.key("one")
    check(await t.client.get(key) is None, "a key that was never put is there")
    await t.client.put(key, b"first")
    check(await t.client.get(key) == b"first", "not what was put")
    await t.client.put(key, b"second")
    check(await t.client.get(key) == b"second", "not overwritten")
    await t.client.delete(key)
    check(await t.client.get(key) is None, "there after delete")
    await t.client.delete(key)


async def empty_value(t):
    await t.client.put(t.key("empty"), b"")
    check(await t.client.get(t.key("empty")) == b"", "the empty value is missing")


async def batches(t):
    pairs = await t.fill("batch", 1500)
    keys = [key for key, _ in pairs] + [t.key("batch/missing")]
    check(sorted(await t.client.batch_get(keys)) == pairs, "batch get differs")
    await t.client.batch_delete(keys)
    check(await t.client.batch_get(keys) == [], "there after batch delete")


async def scans(t):
    pairs = await t.fill("scan", 1200)
    start, end = t.bounds("scan")
    check(await t.client.scan(start, end, 5000) == pairs, "scan differs")
    check(await t.client.scan(start, end, 7) == pairs[:7], "scan with a limit differs")
    found = await t.client.scan(pairs[10][0], pairs[20][0], 100, include_start=False, include_end=True)
    check(found == pairs[11:21], "scan from key to key differs")
    keys = await t.client.scan_keys(start, end, 3)
    check(keys == [key for key, _ in pairs[:3]], "scan of keys differs")


async def delete_range(t):
    pairs = await t.fill("delete", 500)
    start, end = t.bounds("delete")
    await t.client.delete_range(pairs[100][0], pairs[400][0])
    check(await t.client.scan(start, end, 1000) == pairs[:100] + pairs[400:], "what is left differs")
    await t.client.delete_range(start, end)
    check(await t.client.scan(start, end, 1) == [], "pairs are left")


async def column_families(t):
    key = t.key("family")
    for family in FAMILIES:
        await t.client.put(key, family.encode(), cf=family)
    for family in FAMILIES:
        check(await t.client.get(key, cf=family) == family.encode(), f"{family} differs")
    await t.client.delete(key, cf="write")
    check(await t.client.get(key, cf="write") is None, "not deleted")
    check(await t.client.get(key) == b"default", "deleted in another family, too")


async def sizes(t):
    for size in 64 * 1024, MIB, 4 * MIB - 64 * 1024:  # what this client's decoder takes
        value = shared_value(size)
        await t.client.put(t.key("size"), value)
        check(await t.client.get(t.key("size")) == value, f"{size} bytes differ")
    await t.client.delete(t.key("size"))
    key = t.key("long-key/").ljust(8192, b"k")
    await t.client.put(key, b"v")
    check(await t.client.get(key) == b"v", "a key of the limit is missing")
    await t.client.delete(key)


async def refuses(call):
    try:
        await call
    except Exception:
        return True
    return False


async def oversizes(t):
    key = t.key("too-long/").ljust(8193, b"k")
    check(await refuses(t.client.put(key, b"v")), "a key over the limit is taken")
    value = bytes(17 * MIB)
    check(await refuses(t.client.put(t.key("too-big"), value)), "a value over the limit is taken")
    check(await t.client.get(t.key("too-big")) is None, "there all the same")


async def workers(t):
    async def work(worker):
        for i in range(50):
            key = t.key(f"worker/{worker:02}-{i}")
            await t.client.put(key, key)
            check(await t.client.get(key) == key, f"worker {worker} lost {i}")

    await asyncio.gather(*(work(worker) for worker in range(64)))
    keys = await t.client.scan_keys(*t.bounds("worker"), 5000)
    check(len(keys) == 64 * 50, f"{len(keys)} keys instead of {64 * 50}")


async def call_list(t):
    await t.run("a key is put, got and deleted", one_key(t))
    await t.run("an empty value is a value", empty_value(t))
    await t.run("batches are put, got and deleted", batches(t))
    await t.run("scans", scans(t))
    await t.run("a range is deleted", delete_range(t))
    await t.run("column families are apart", column_families(t))
    await t.run("sizes up to the limits", sizes(t))
    await t.run("sizes over the limits are errors", oversizes(t))
    await t.run("64 workers", workers(t))


# What one client writes for all others to read.

def shared_value(number):
    size = 1 + number * 37 % 500 if number < SHARED_COUNT else number
    pattern = bytes((number * 31 + at * 7) & 0xff for at in range(256))
    return (pattern * (size // 256 + 1))[:size]


def shared(prefix):
    return [(f"{prefix}{i:04}".encode() + bytes([0, 0xff, i & 0xff]), shared_value(i))
            for i in range(SHARED_COUNT)]


async def write_shared(t):
    pairs = shared(t.prefix)
    for key, value in pairs[:10]:
        await t.client.put(key, value)
    await t.client.batch_put(dict(pairs[10:]))


async def read_shared(t):
    pairs = shared(t.prefix)
    check(await t.client.scan(t.prefix.encode(), t.key("~"), 1000) == pairs, "scan differs")
    keys = [key for key, _ in pairs]
    check(sorted(await t.client.batch_get(keys)) == pairs, "batch get differs")
    for key, value in pairs[::29]:
        check(await t.client.get(key) == value, "get differs")


# Load while the server is started anew.

class Load:
    def __init__(self, t, seconds):
        self.t = t
        self.seconds = seconds
        self.puts = 0
        self.errors = 0

    async def until_done(self, call, *arguments):
        started = time.monotonic()
        while True:
            try:
                return await call(*arguments)
            except Exception as error:
                if time.monotonic() - started > CALL_SECONDS_MAX:
                    raise
                self.errors += 1
                if self.errors <= 3:
                    print("#", " ".join(str(error).split()), flush=True)
                await asyncio.sleep(0.05)

    async def work(self, worker):
        def key(number):
            return self.t.key(f"{worker:03}-{number:06}")

        started = time.monotonic()
        count = 0
        while time.monotonic() - started < self.seconds:
            await self.until_done(self.t.client.put, key(count), key(count))
            value = await self.until_done(self.t.client.get, key(count // 2))
            check(value == key(count // 2), f"number {count // 2} of {count} is {value}")
            count += 1
        for first in range(0, count, 1000):
            keys = [key(number) for number in range(first, min(count, first + 1000))]
            found = await self.until_done(self.t.client.batch_get, keys)
            check(sorted(found) == [(key, key) for key in keys], f"of {count} puts some are lost")
        self.puts += count


async def load(t, worker_count, seconds):
    run = Load(t, seconds)
    print("started", flush=True)
    await asyncio.gather(*(run.work(worker) for worker in range(worker_count)))
    print(f"# {run.puts} puts, each read again; {run.errors} calls failed meanwhile", flush=True)


async def main(command, pd, space, prefix, worker_count="16", seconds="5"):
    if space == "v2":
        print(f"ok - {command} # SKIP this client has API V1 only")
        return 0
    if command.startswith("txn-"):
        return await txn.run(command, pd, lambda client: Test(client, prefix), worker_count)
    try:
        client = await asyncio.wait_for(RawClient.connect([pd]), CALL_SECONDS_MAX)
    except Exception as error:
        print(f"not ok - connect: {error}")
        return 1
    t = Test(client, prefix)
    if command == "list":
        await call_list(t)
    elif command == "load":
        await t.run(command, load(t, int(worker_count), int(seconds)))
    else:
        await t.run(command, {"write": write_shared, "read": read_shared}[command](t))
    return 1 if t.failed else 0


def leave(status):
    """Ends without taking the interpreter down. The client's own threads outlive a call: one may still be
    in call_soon_threadsafe, which told us of the last result, while the interpreter frees what it uses;
    in one of three runs that ended with signal 11, after the last line."""
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    leave(asyncio.run(main(*sys.argv[1:])))
