"""Transactions of the published Python client; README.md has the commands. It has no reverse scans, no options for
async and one-phase commit, and its pessimistic locks wait for a second at most."""
import asyncio

from tikv_client.asynchronous import TransactionClient

from client import check, shared

CRASH_KEYS = 10
AGAIN = "conflict", "WriteConflict", "locked", "LockInfo", "ResolveLock", "resolve lock", "Multiple"


def is_to_be_tried_again(error):
    return any(word in str(error) for word in AGAIN)


async def fails(call):
    """The error with which the call ends, as text."""
    try:
        await call
    except Exception as error:
        return str(error)
    return ""


class Txns:
    def __init__(self, test):
        self.test = test
        self.client = test.client
        self.key = test.key
        self.bounds = test.bounds

    async def now(self):
        return self.client.snapshot(await self.client.current_timestamp(), pessimistic=False)

    async def get(self, name):
        return await (await self.now()).get(self.key(name))

    async def check_value(self, name, value):
        there = await self.get(name)
        check(there == value, f"{name} is {there!r}, not {value!r}")

    async def put(self, pairs):
        txn = await self.client.begin()
        for key, value in pairs:
            await txn.put(key, value)
        await txn.commit()

    async def fill(self, name, count):
        pairs = [(self.key(f"{name}/{i:05}"), f"value {i}".encode()) for i in range(count)]
        await self.put(pairs)
        return pairs


# What every client does.

async def own_writes(t):
    before = await t.now()
    txn = await t.client.begin()
    await txn.put(t.key("own/a"), b"1")
    check(await txn.get(t.key("own/a")) == b"1", "a transaction does not read its own writes")
    check(await t.get("own/a") is None, "another one reads them before the commit")
    await txn.put(t.key("own/b"), b"2")
    await txn.commit()
    await t.check_value("own/a", b"1")
    check(await before.get(t.key("own/a")) is None, "a snapshot from before reads them")
    txn = await t.client.begin()
    await txn.delete(t.key("own/a"))
    await txn.put(t.key("own/b"), b"")
    await txn.commit()
    await t.check_value("own/a", None)
    await t.check_value("own/b", b"")


async def rollback(t):
    await t.put([(t.key("rollback"), b"before")])
    for pessimistic in (False, True):
        txn = await t.client.begin(pessimistic=pessimistic)
        await txn.put(t.key("rollback"), b"never")
        await txn.rollback()
    await t.check_value("rollback", b"before")


async def conflict(t):
    one, two = await t.client.begin(), await t.client.begin()
    await one.put(t.key("conflict"), b"1")
    await two.put(t.key("conflict"), b"2")
    await one.commit()
    error = await fails(two.commit())
    check("conflict" in error.lower(), f"the second commit ends with {error!r}")
    await t.check_value("conflict", b"1")


async def scans(t):
    pairs = await t.fill("scan", 1200)
    start, end = t.bounds("scan")
    now = await t.now()
    check(list(await now.scan(start, end, 5000)) == pairs, "scan differs")
    check(list(await now.scan(start, end, 7)) == pairs[:7], "scan with a limit differs")
    check(len(list(await now.scan_keys(start, end, 5000))) == 1200, "scan of keys differs")
    keys = [key for key, _ in pairs] + [t.key("scan/missing")]
    check(sorted(await now.batch_get(keys)) == pairs, "batch get differs")
    txn = await t.client.begin()
    await txn.delete(pairs[0][0])
    await txn.put(pairs[1][0], b"mine")
    mine = [(pairs[1][0], b"mine"), *pairs[2:]]
    check(list(await txn.scan(start, end, 5000)) == mine, "scan over own writes differs")
    await txn.rollback()


async def duplicates(t):
    await t.put([(t.key("insert/there"), b"1")])
    txn = await t.client.begin()
    await txn.insert(t.key("insert/there"), b"2")
    error = await fails(txn.commit())
    check("exist" in error.lower(), f"an insert of what is there ends with {error!r}")
    await t.check_value("insert/there", b"1")
    txn = await t.client.begin()
    await txn.insert(t.key("insert/new"), b"new")
    await txn.commit()
    await t.check_value("insert/new", b"new")


async def pessimistic_locks(t):
    await t.put([(t.key("locked/a"), b"1")])
    txn = await t.client.begin(pessimistic=True)
    check(await txn.get_for_update(t.key("locked/a")) == b"1", "get for update differs")
    found = list(await txn.batch_get_for_update([t.key("locked/a"), t.key("locked/missing")]))
    check(found == [(t.key("locked/a"), b"1")], f"batch get for update finds {found!r}")
    await txn.lock_keys([t.key("locked/b")])
    other = await t.client.begin(pessimistic=True)
    waiting = asyncio.ensure_future(fails(other.get_for_update(t.key("locked/a"))))
    await asyncio.sleep(0.8)
    check(not waiting.done(), "a lock of a locked key did not wait")
    await t.check_value("locked/a", b"1")
    await txn.put(t.key("locked/a"), b"2")
    await txn.commit()
    await waiting
    await other.rollback()
    await t.check_value("locked/a", b"2")


async def deadlock(t):
    one, two = [await t.client.begin(pessimistic=True) for _ in range(2)]
    await one.lock_keys([t.key("deadlock/a")])
    await two.lock_keys([t.key("deadlock/b")])
    waiting = asyncio.ensure_future(fails(one.lock_keys([t.key("deadlock/b")])))
    await asyncio.sleep(0.2)
    error = await fails(two.lock_keys([t.key("deadlock/a")]))
    check("deadlock" in error.lower(), f"the circle ends with {error!r}")
    await two.rollback()
    error = await waiting
    check(error == "", f"the other one ends with {error!r}")
    await one.put(t.key("deadlock/b"), b"1")
    await one.commit()
    await t.check_value("deadlock/b", b"1")


async def counter(t):
    workers, each = 6, 8

    async def add():
        txn = await t.client.begin()
        value = await txn.get(t.key("counter")) or b""
        await txn.put(t.key("counter"), value + b"x")
        await txn.commit()

    async def work(worker):
        done = 0
        while done < each:
            try:
                await add()
                done += 1
            except Exception as error:
                if not is_to_be_tried_again(error):
                    raise
                await asyncio.sleep(0.003 * worker)

    await asyncio.gather(*(work(worker) for worker in range(workers)))
    value = await t.get("counter")
    check(len(value) == workers * each, f"{workers * each} increments gave {len(value)}")


async def call_list(t):
    run = t.test.run
    await run("own writes and snapshots", own_writes(t))
    await run("rollback", rollback(t))
    await run("write conflict", conflict(t))
    await run("scans", scans(t))
    await run("insert of duplicates", duplicates(t))
    await run("pessimistic locks", pessimistic_locks(t))
    await run("deadlock", deadlock(t))
    await run("counter of many", counter(t))


# What one client writes for all others to read; a client that dies, and the next one.

async def write_shared(t):
    await t.put(shared(t.test.prefix))


async def read_shared(t):
    pairs = shared(t.test.prefix)
    now = await t.now()
    check(list(await now.scan(t.test.prefix.encode(), t.key("~"), 1000)) == pairs, "scan differs")
    check(sorted(await now.batch_get([key for key, _ in pairs])) == pairs, "batch get differs")


def crash_keys(t):
    return [t.key(str(i)) for i in range(CRASH_KEYS)]


async def before(t):
    await t.put([(key, b"old") for key in crash_keys(t)])


async def crash(t):
    txn = await t.client.begin(pessimistic=True)
    await txn.lock_keys(crash_keys(t))
    print("stage reached", flush=True)
    await asyncio.Event().wait()


async def after(t, value):
    while True:
        try:
            pairs = list(await (await t.now()).scan(t.test.prefix.encode(), t.key("~"), 100))
            break
        except Exception as error: # its patience with locks is shorter than they live
            if not is_to_be_tried_again(error):
                raise
    check([there for _, there in pairs] == [value.encode()] * CRASH_KEYS, f"there is {pairs!r}")


async def run(command, pd, make_test, stage):
    """Gives the exit status."""
    t = Txns(make_test(await TransactionClient.connect([pd])))
    if command == "txn-list":
        await call_list(t)
    elif command == "txn-crash":
        await crash(t)
    elif command == "txn-after":
        await t.test.run(command, after(t, stage))
    else:
        commands = {"txn-write": write_shared, "txn-read": read_shared, "txn-before": before}
        await t.test.run(command, commands[command](t))
    return 1 if t.test.failed else 0
