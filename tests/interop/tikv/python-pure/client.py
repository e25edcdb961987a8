"""The calls of the published client that is Python alone, made against a server: README.md has the commands. The lists
are made by its blocking client, load and the workers by that of asyncio."""
import asyncio
import os
import sys
import time

import tikv

SHARED_COUNT = 300
CALL_SECONDS_MAX = 300  # a bound on what hangs, also on a busy machine
MIB = 1024 * 1024


def check(condition, otherwise):
    if not condition:
        raise AssertionError(otherwise)


def fails(kind, call, *arguments, **words):
    try:
        call(*arguments, **words)
    except kind:
        return
    raise AssertionError(f"no {kind.__name__}")


def tls():
    """KVS_TLS names a folder with the authority, and who this client is."""
    folder = os.environ.get("KVS_TLS")
    return tikv.TLSConfig(**{name: f"{folder}/{file}.pem" for name, file in
                             (("ca", "ca"), ("cert", "certificate"), ("key", "key"))}) if folder else None


class Test:
    def __init__(self, pd, prefix):
        self.pd = pd
        self.prefix = prefix
        self.client = tikv.RawClient(pd, timeout=CALL_SECONDS_MAX, tls=tls())
        self.failed = False

    def run(self, name, body, *arguments):
        try:
            body(self, *arguments)
            print(f"ok - {name}", flush=True)
        except Exception as error:  # pylint: disable=broad-except
            self.failed = True
            why = " ".join((str(error) or repr(error)).split())[:500]
            print(f"not ok - {name}: {why}", flush=True)

    def swapper(self):
        return tikv.RawClient(self.pd, timeout=CALL_SECONDS_MAX, atomic=True, tls=tls())

    def key(self, name):
        return (self.prefix + name).encode()

    def fill(self, name, count):
        pairs = [(self.key(f"{name}/{i:05}"), f"value {i}".encode()) for i in range(count)]
        self.client.put_many(pairs)
        return pairs

    def scan(self, name, **words):
        return list(self.client.scan(prefix=self.key(name + "/"), **words))


# What every client does.

def one_key(t):
    key = t.key("one")
    check(t.client.get(key) is None, "a key that was never put is there")
    t.client.put(key, b"first")
    check(t.client.get(key) == b"first", "not what was put")
    t.client.put(key, b"second")
    check(t.client.get(key) == b"second", "not overwritten")
    t.client.delete(key)
    check(t.client.get(key) is None, "there after delete")
    t.client.delete(key)


def empty_value(t):
    t.client.put(t.key("empty"), b"")
    check(t.client.get(t.key("empty")) == b"", "the empty value is missing")


def batches(t):
    pairs = t.fill("batch", 1500)
    keys = [key for key, _ in pairs] + [t.key("batch/missing")]
    check(t.client.get_many(keys) == dict(pairs), "batch get differs")
    t.client.delete_many(keys)
    check(t.client.get_many(keys) == {}, "there after batch delete")


def scans(t):
    pairs = t.fill("scan", 1200)
    check(t.scan("scan") == pairs, "scan differs")
    check(t.scan("scan", limit=7) == pairs[:7], "scan with a limit differs")
    found = list(t.client.scan(pairs[10][0], pairs[20][0]))
    check(found == pairs[10:20], "scan from key to key differs")
    keys = list(t.client.scan_keys(prefix=t.key("scan/"), limit=3))
    check(keys == [key for key, _ in pairs[:3]], "scan of keys differs")


def scans_backward(t):
    pairs = t.fill("reverse", 600)[::-1]
    check(t.scan("reverse", reverse=True) == pairs, "all differs")
    check(t.scan("reverse", reverse=True, limit=4) == pairs[:4], "the last four differ")


def delete_range(t):
    pairs = t.fill("delete", 500)
    t.client.delete_range(pairs[100][0], pairs[400][0])
    check(t.scan("delete") == pairs[:100] + pairs[400:], "what is left differs")
    t.client.delete_range(prefix=t.key("delete/"))
    check(t.scan("delete") == [], "pairs are left")


def times_to_live(t):
    began = time.monotonic()
    t.client.put(t.key("ttl/for-ever"), b"v")
    t.client.put(t.key("ttl/long"), b"v", ttl=100)
    check(t.client.ttl(t.key("ttl/for-ever")) is None, "a key without an end has one")
    fails(KeyError, t.client.ttl, t.key("ttl/missing"))
    left = t.client.ttl(t.key("ttl/long"))
    check(98 - (time.monotonic() - began) <= left <= 100, f"100 s became {left}")
    began = time.monotonic()
    t.client.put_many({t.key("ttl/short"): b"v"}, ttl=2)
    while t.client.get(t.key("ttl/short")) is not None:
        time.sleep(0.05)
    check(time.monotonic() - began >= 1, "gone too early")
    t.client.put(t.key("ttl/long"), b"v")
    check(t.client.ttl(t.key("ttl/long")) is None, "a put without an end keeps the old one")


def compare_and_swap(t):
    with t.swapper() as client:
        key = t.key("cas")
        for expected, new, result in ((b"x", b"1", (False, None)), (None, b"1", (True, None)), (None, b"2", (False, b"1")),
                                      (b"9", b"2", (False, b"1")), (b"1", b"2", (True, b"1"))):
            found = client.compare_and_swap(key, expected, new)
            check(tuple(found) == result, f"{expected} to {new}: {found}")
        check(client.get(key) == b"2", "another value than swapped in")
        client.delete(key)


def checksums(t):
    """That of a range is made of those of its parts, whichever regions they lie in."""
    check(tuple(t.client.checksum(prefix=t.key("sum/"))) == (0, 0, 0), "an empty range has pairs")
    pairs = t.fill("sum", 50)
    found = t.client.checksum(prefix=t.key("sum/"))
    check((found.keys, found.size) == (50, sum(len(key) + len(value) for key, value in pairs)), f"{found}")
    half = [t.client.checksum(*bounds).crc64_xor for bounds in ((pairs[0][0], pairs[20][0]), (pairs[20][0], t.key("sum0")))]
    check(found.crc64_xor == half[0] ^ half[1] != 0, "the sum of the parts is another")


def sizes(t):
    for size in 64 * 1024, MIB, 8 * MIB - 64 * 1024:
        value = shared_value(size)
        t.client.put(t.key("size"), value)
        check(t.client.get(t.key("size")) == value, f"{size} bytes differ")
    t.client.delete(t.key("size"))
    key = t.key("long-key/").ljust(8192, b"k")
    t.client.put(key, b"v")
    check(t.client.get(key) == b"v", "a key of the limit is missing")
    t.client.delete(key)


def oversizes(t):
    key = t.key("too-long/").ljust(8193, b"k")
    fails(tikv.ServerError, t.client.put, key, b"v")
    fails(tikv.TiKVError, t.client.put, t.key("too-big"), bytes(17 * MIB))
    check(t.client.get(t.key("too-big")) is None, "there all the same")


def large_scan(t):
    """Its pages are of 512 pairs, however large these are."""
    pairs = [(t.key(f"large/{i:05}"), bytes([i & 0xff]) * MIB) for i in range(300)]
    for key, value in pairs:
        t.client.put(key, value)
    count = 0
    for found, pair in zip(t.client.scan(prefix=t.key("large/")), pairs, strict=True):
        check(found == pair, f"pair {count} differs")
        count += 1
    t.client.delete_range(prefix=t.key("large/"))


async def work(t):
    async def one(client, worker):
        for i in range(50):
            key = t.key(f"worker/{worker:02}-{i}")
            await client.put(key, key)
            check(await client.get(key) == key, f"worker {worker} lost {i}")

    async with tikv.AsyncRawClient(t.pd, timeout=CALL_SECONDS_MAX, tls=tls()) as client:
        await asyncio.gather(*(one(client, worker) for worker in range(64)))
        count = 0
        async for _ in client.scan_keys(prefix=t.key("worker/")):
            count += 1
    check(count == 64 * 50, f"{count} keys instead of {64 * 50}")


def workers(t):
    asyncio.run(work(t))


def call_list(t):
    t.run("a key is put, got and deleted", one_key)
    t.run("an empty value is a value", empty_value)
    t.run("batches are put, got and deleted", batches)
    t.run("scans", scans)
    t.run("scans backward", scans_backward)
    t.run("a range is deleted", delete_range)
    t.run("keys live as long as told", times_to_live)
    t.run("values are compared and swapped", compare_and_swap)
    t.run("checksums", checksums)
    t.run("sizes up to the limits", sizes)
    t.run("sizes over the limits are errors", oversizes)
    t.run("answers of hundreds of MiB", large_scan)
    t.run("64 workers", workers)


# What one client writes for all others to read.

def shared_value(number):
    size = 1 + number * 37 % 500 if number < SHARED_COUNT else number
    pattern = bytes((number * 31 + at * 7) & 0xff for at in range(256))
    return (pattern * (size // 256 + 1))[:size]


def shared(prefix):
    return [(f"{prefix}{i:04}".encode() + bytes([0, 0xff, i & 0xff]), shared_value(i))
            for i in range(SHARED_COUNT)]


def write_shared(t):
    pairs = shared(t.prefix)
    for key, value in pairs[:10]:
        t.client.put(key, value)
    t.client.put_many(pairs[10:])


def read_shared(t):
    pairs = shared(t.prefix)
    bounds = t.prefix.encode(), t.key("~")
    check(list(t.client.scan(*bounds)) == pairs, "scan differs")
    check(list(t.client.scan(*bounds, reverse=True)) == pairs[::-1], "scan backward differs")
    check(t.client.get_many(key for key, _ in pairs) == dict(pairs), "batch get differs")
    for key, value in pairs[::29]:
        check(t.client.get(key) == value, "get differs")


# Load while the server is started anew.

class Load:
    def __init__(self, t, client, seconds):
        self.t = t
        self.client = client
        self.seconds = seconds
        self.puts = 0
        self.errors = 0

    async def until_done(self, call, *arguments):
        started = time.monotonic()
        while True:
            try:
                return await call(*arguments)
            except tikv.TiKVError as error:
                if time.monotonic() - started > CALL_SECONDS_MAX:
                    raise
                self.errors += 1
                if self.errors <= 3:
                    print("#", " ".join(str(error).split())[:200], flush=True)
                await asyncio.sleep(0.05)

    async def work(self, worker):
        def key(number):
            return self.t.key(f"{worker:03}-{number:06}")

        started = time.monotonic()
        count = 0
        while time.monotonic() - started < self.seconds:
            await self.until_done(self.client.put, key(count), key(count))
            value = await self.until_done(self.client.get, key(count // 2))
            check(value == key(count // 2), f"number {count // 2} of {count} is {value}")
            count += 1
        for first in range(0, count, 1000):
            keys = [key(number) for number in range(first, min(count, first + 1000))]
            found = await self.until_done(self.client.get_many, keys)
            check(found == {key: key for key in keys}, f"of {count} puts some are lost")
        self.puts += count


async def run_load(t, worker_count, seconds):
    async with tikv.AsyncRawClient(t.pd, tls=tls()) as client:  # with its own patience, 10 s
        run = Load(t, client, seconds)
        print("started", flush=True)
        await asyncio.gather(*(run.work(worker) for worker in range(worker_count)))
        print(f"# {run.puts} puts, each read again; {run.errors} calls failed meanwhile", flush=True)


def load(t, worker_count, seconds):
    asyncio.run(run_load(t, worker_count, seconds))


def main(command, pd, space, prefix, worker_count="16", seconds="5"):
    if space == "v2":
        print(f"ok - {command} # SKIP this client has API V1 only")
        return 0
    t = Test(pd, prefix)
    if command == "list":
        call_list(t)
    elif command == "load":
        t.run(command, load, int(worker_count), int(seconds))
    else:
        t.run(command, {"write": write_shared, "read": read_shared}[command])
    t.client.close()
    return 1 if t.failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
