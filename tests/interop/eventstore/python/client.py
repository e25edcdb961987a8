"""photon-pump, as published, against a server of the EventStoreDB TCP protocol; ../../README.md has the commands.

It writes JSON only, and has no deletes, metadata and transactions; what others left of these it reads as what they are:
events of streams.
"""
import asyncio
import json
import sys
import uuid

import photonpump
from photonpump import exceptions

SHARED, LINKS, SECONDS_MAX = 300, 10, 90
WRONG_EXPECTED_VERSION = 4
counted = failed = 0


async def test(name, body):
    global counted, failed
    counted += 1
    try:
        await asyncio.wait_for(body, SECONDS_MAX)
        print(f"ok - {name}", flush=True)
    except Exception as error:  # pylint: disable=broad-except
        failed += 1
        print(f"not ok - {name}: {type(error).__name__} {str(error)[:300]}".replace("\n", " "), flush=True)


def equal(got, expected, what):
    if got != expected:
        raise AssertionError(f"{what}: {got!r}, not {expected!r}")


async def fails(awaitable, kind):
    try:
        await awaitable
    except kind:
        return
    raise AssertionError(f"no {kind.__name__}")


def numbers(first, count):
    return [photonpump.NewEvent("Happened", data={"n": n}) for n in range(first, first + count)]


def ns(events):
    return [event.json()["n"] for event in events]


async def first_ones(events, count, stream=None):
    got = []
    while len(got) < count:
        event = await events.anext()
        if stream is None or event.received_event.stream == stream:
            got.append(event)
    return got


# --- every call ---


async def list_calls(c, s):
    async def writes():
        event_id = uuid.uuid4()
        await c.publish_event(s("one"), "Happened", body={"n": 7}, id=event_id, metadata={"by": "interop"},
                              expected_version=photonpump.ExpectedVersion.StreamMustNotExist)
        got = await c.get_event(s("one"), 0)
        equal((got.event_number, got.type, got.id, got.json(), json.loads(got.metadata)),
              (0, "Happened", event_id, {"n": 7}, {"by": "interop"}), "event")

    async def versions():
        await c.publish(s("versions"), numbers(0, 3), expected_version=-1)
        for wrong in (-1, 1, 7):
            wrote = await c.publish(s("versions"), numbers(9, 1), expected_version=wrong)
            equal(wrote.result, WRONG_EXPECTED_VERSION, "result")
        await c.publish(s("versions"), numbers(3, 1), expected_version=2)
        equal(ns(await c.get(s("versions"))), [0, 1, 2, 3], "events")

    async def pages():
        await c.publish(s("pages"), numbers(0, 250))
        equal(ns(await c.get(s("pages"), from_event=10, max_count=20)), list(range(10, 30)), "forward")
        backward = await c.get(s("pages"), direction=photonpump.StreamDirection.Backward, from_event=29, max_count=20)
        equal(ns(backward), list(range(29, 9, -1)), "backward")
        equal([event.json()["n"] async for event in c.iter(s("pages"), batch_size=40)], list(range(250)), "all")

    async def nothing():
        await fails(c.get(s("nowhere")), exceptions.StreamNotFound)
        await fails(c.get_event(s("pages"), 250), exceptions.EventNotFound)

    async def log():
        mine = [event.json()["n"] async for event in c.iter_all(batch_size=100) if event.stream == s("pages")]
        equal(mine, list(range(250)), "the events of a stream, in order")

    async def live():
        subscription = await c.subscribe_to(s("live"))
        await c.publish(s("live"), numbers(0, 30))
        equal(ns(await first_ones(subscription.events, 30)), list(range(30)), "events")

    async def catch_up():
        await c.publish(s("catch-up"), numbers(0, 300))
        subscription = await c.subscribe_to(s("catch-up"), start_from=0)
        got = await first_ones(subscription.events, 300)
        await c.publish(s("catch-up"), numbers(300, 50))
        equal(ns(got + await first_ones(subscription.events, 50)), list(range(350)), "events")

    async def group():
        await c.create_subscription("g", s("group"), start_from=0)
        await c.publish(s("group"), numbers(0, 30))
        subscription = await c.connect_subscription("g", s("group"))
        got = []
        while len(got) < 30:
            event = await subscription.events.anext()
            await subscription.ack(event)
            got.append(event)
        equal(ns(got), list(range(30)), "events")
        await fails(c.create_subscription("g", s("group")), exceptions.SubscriptionCreationFailed)

    async def quiet():
        subscription = await c.subscribe_to(s("quiet"))
        await asyncio.sleep(4)  # longer than the server waits for an answer of ours
        await c.publish(s("quiet"), numbers(0, 1))
        equal(ns(await first_ones(subscription.events, 1)), [0], "events")

    await test("append and read one event back", writes())
    await test("expected versions", versions())
    await test("pages forward and backward, and from one to the next", pages())
    await test("what is not there", nothing())
    await test("the log", log())
    await test("a volatile subscription", live())
    await test("a catch-up subscription", catch_up())
    await test("a group", group())
    await test("ping", c.ping())
    await test("heartbeats keep a connection that says nothing", quiet())


# --- crosswise ---


def is_shared(record, i):
    data = f'{{"i":{i},"text":"é€{i}"}}'.encode() if i % 2 == 0 else bytes((i * 7 + k) & 255 for k in range(i))
    equal((record.event_number, record.type, bytes(record.data), bytes(record.metadata)),
          (i, f"Type{i % 5}", data, f"m{i}".encode()), "event")


async def read(c, s):
    async def events():
        got = [event async for event in c.iter(s("shared"), batch_size=100)]
        equal(len(got), SHARED, "events")
        for i, event in enumerate(got):
            is_shared(event.event, i)

    async def others():
        for i in range(LINKS):
            got = await c.get_event(s("links"), i)
            is_shared(got.event, i * 7)
            equal(got.link.event_number, i, "link")
        metadata = await c.get_event("$$" + s("shared"), 0)
        equal(metadata.json(), {"$maxCount": 1000, "of": "interop"}, "metadata")
        equal(ns(await c.get(s("open"))), [0, 1, 2, 3, 4], "the transaction")

    await test("read what others wrote", events())
    await test("links, metadata and a transaction of others", others())


async def take(c, s, count):
    async def body():
        subscription = await c.connect_subscription("g", s("shared"))
        for _ in range(count):
            event = await subscription.events.anext()
            is_shared(event.event, event.event_number)
            await subscription.ack(event)
            print(f"took {event.event_number}")
        # Requests are carried out in order: with this answer the acknowledgements have been, too.
        await c.ping()

    await test(f"take {count} events of a group", body())


async def follow(c, s, count):
    async def body():
        fresh = await c.subscribe_to(s("follow"))
        print("ready", flush=True)
        got = await first_ones(fresh.events, 1)
        by_stream = await c.subscribe_to(s("follow"), start_from=0)  # it ends when there is no stream
        equal(ns(got + await first_ones(fresh.events, count - 1)), list(range(count)), "live events")
        equal(ns(await first_ones(by_stream.events, count)), list(range(count)), "events")

    await test("follow what others append", body())


async def feed(c, s, first, count):
    async def body():
        for n in range(first, first + count):
            await c.publish(s("follow"), numbers(n, 1), expected_version=n - 1)

    await test("append what others follow", body())


async def discover(c, s):
    async def body():
        await c.publish(s("found"), numbers(7, 1))
        equal(ns(await c.get(s("found"))), [7], "events")

    await test("found by gossip", body())


async def main():
    command, address, prefix, *words = sys.argv[1:]
    host, port = address.rsplit(":", 1)
    commands = {"list": list_calls, "read": read, "take": take, "follow": follow, "feed": feed, "discover": discover}
    where = ({"discovery_host": host, "discovery_port": int(port)} if command == "discover"
             else {"host": host, "port": int(port)})
    async with photonpump.connect(**where, username="admin", password="changeit", name="interop") as c:
        await commands[command](c, lambda name: f"{prefix}-{name}", *map(int, words))
    print(f"1..{counted}", flush=True)


asyncio.run(main())
sys.exit(1 if failed else 0)
