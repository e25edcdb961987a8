"use strict";
const assert = require("node:assert/strict");
const { randomUUID } = require("node:crypto");
const { existsSync, mkdtempSync, rmSync } = require("node:fs");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { after, before, describe, it } = require("node:test");
const { setImmediate: turn } = require("node:timers/promises");
const kvs = require("..");
const { startServer } = require("./server");

const { jsonEvent } = kvs;
const ADMIN = { login: "admin", password: "changeit" };

async function all(iterable) {
  const found = [];
  for await (const one of iterable) found.push(one);
  return found;
}

// The first `count` events of a subscription, which is closed by leaving the loop.
async function take(subscription, count) {
  const found = [];
  for await (const event of subscription) {
    found.push(event);
    if (found.length === count) break;
  }
  return found;
}

const numbered = (from, count) =>
  Array.from({ length: count }, (_, i) => jsonEvent({ type: "counted", data: { n: from + i } }));
const n = (events) => events.map(({ event }) => event.json().n);
const upTo = (count, from = 0) => Array.from({ length: count }, (_, i) => from + i);

// The same list in process and on a server.
function eventTests(name, open) {
  describe(name, () => {
    let client;
    let streams = 0;
    const stream = () => `test-${++streams}`;
    before(async () => (client = await open()));
    after(() => client.close());

    it("appends and reads every field of an event", async () => {
      const s = stream();
      const id = randomUUID();
      const before = Date.now() - 60000;
      const result = await client.append(s, [
        { type: "bytes", data: Buffer.from([0, 1, 255]), metadata: new Uint8Array([7]), id },
        jsonEvent({ type: "json", data: { a: "ä" }, metadata: { b: 2 } }),
        { type: "empty" },
      ], { expectedVersion: "noStream" });
      assert.equal(result.firstNumber, 0n);
      assert.equal(result.nextExpectedVersion, 2n);
      assert.equal(typeof result.position.commit, "bigint");
      const [one, two, three] = await all(client.readStream(s));
      assert.ok(one instanceof kvs.ResolvedEvent && one.event instanceof kvs.RecordedEvent);
      assert.equal(one.link, undefined);
      assert.equal(one.original, one.event);
      const { event } = one;
      assert.deepEqual(
        { id: event.id, stream: event.stream, type: event.type, number: event.number, isJson: event.isJson },
        { id, stream: s, type: "bytes", number: 0n, isJson: false },
      );
      assert.deepEqual([...event.data, ...event.metadata], [0, 1, 255, 7]);
      assert.ok(Buffer.isBuffer(event.data));
      assert.ok(event.createdMs > before && event.created instanceof Date);
      assert.deepEqual(two.event.json(), { a: "ä" });
      assert.deepEqual(two.event.jsonMetadata(), { b: 2 });
      assert.equal(two.event.isJson, true);
      assert.equal(three.event.data.length, 0);
      assert.equal(three.event.jsonMetadata(), undefined);
      assert.equal((await client.readEvent(s, "last")).event.number, 2n);
      assert.equal((await client.readEvent(s, 1n)).event.type, "json");
      await assert.rejects(client.readEvent(s, 3), kvs.NotFoundError);
    });

    it("expects versions, and tells the one there is", async () => {
      const s = stream();
      await client.append(s, numbered(0, 3), { expectedVersion: -1 + 1 }).then(
        () => assert.fail("an append expected an event in a stream without any"),
        (error) => assert.ok(error instanceof kvs.WrongExpectedVersionError),
      );
      await client.append(s, numbered(0, 3), { expectedVersion: "noStream" });
      await client.append(s, numbered(3, 1), { expectedVersion: 2n });
      await client.append(s, numbered(4, 1), { expectedVersion: "exists" });
      await assert.rejects(client.append(s, numbered(9, 1), { expectedVersion: 1 }), (error) => {
        assert.ok(error instanceof kvs.WrongExpectedVersionError);
        assert.equal(error.lastNumber, 4n);
        return true;
      });
      assert.deepEqual(n(await all(client.readStream(s))), upTo(5));
    });

    it("reads forward, backward, from the middle, in pages, and as far as it is asked", async () => {
      const s = stream();
      await client.append(s, numbered(0, 50));
      assert.deepEqual(n(await all(client.readStream(s, { pageSize: 7 }))), upTo(50));
      assert.deepEqual(n(await all(client.readStream(s, { direction: "backward", pageSize: 7 }))), upTo(50).reverse());
      assert.deepEqual(n(await all(client.readStream(s, { from: 45n }))), upTo(5, 45));
      assert.deepEqual(n(await all(client.readStream(s, { from: 3, direction: "backward" }))), [3, 2, 1, 0]);
      assert.deepEqual(n(await all(client.readStream(s, { from: 10, maxCount: 15, pageSize: 10 }))), upTo(15, 10));
      assert.deepEqual(await all(client.readStream(s, { from: "end" })), []);
      await assert.rejects(all(client.readStream(stream())), kvs.NoStreamError);
    });

    it("reads $all both ways, and what fits a filter", async () => {
      const s = stream();
      await client.append(s, numbered(0, 20));
      await client.append(`${s}-other`, { type: "other", data: "x" });
      const forward = await all(client.readAll({ pageSize: 9 }));
      const mine = forward.filter(({ event }) => event.stream === s);
      assert.deepEqual(n(mine), upTo(20));
      const backward = await all(client.readAll({ direction: "backward", pageSize: 9 }));
      assert.deepEqual(backward.map(({ event }) => event.id), forward.map(({ event }) => event.id).reverse());
      const { position } = mine[10];
      assert.equal((await all(client.readAll({ from: position, maxCount: 1 })))[0].event.id, mine[10].event.id);
      assert.equal((await all(client.readAll({ from: position, maxCount: 1, direction: "backward" })))[0].event.id, mine[9].event.id);
      const filters = [
        { on: "stream", prefixes: [`${s}-o`] },
        { on: "stream", regex: `^${s}-oth` },
        { on: "stream", regex: new RegExp(`${s}-other$`) },
      ];
      for (const filter of filters)
        assert.deepEqual((await all(client.readAll({ filter }))).map(({ event }) => event.type), ["other"]);
      assert.deepEqual(await all(client.readAll({ from: "end" })), []);
    });

    it("resolves links", async () => {
      const s = stream();
      await client.append(s, numbered(0, 1));
      await client.append(`${s}-links`, [{ type: "$>", data: `0@${s}` }, { type: "$>", data: "0@none-such" }]);
      const [found, gone] = await all(client.readStream(`${s}-links`, { resolveLinks: true }));
      assert.equal(found.event.stream, s);
      assert.equal(found.link.stream, `${s}-links`);
      assert.equal(found.original, found.link);
      assert.equal(gone.event, undefined);
      assert.equal(gone.original.number, 1n);
      const [plain] = await all(client.readStream(`${s}-links`));
      assert.equal(plain.event.type, "$>");
    });

    it("deletes streams, for now and for good", async () => {
      const s = stream();
      await client.append(s, numbered(0, 2));
      await client.deleteStream(s, { expectedVersion: 1 });
      await assert.rejects(all(client.readStream(s)), kvs.NoStreamError);
      assert.equal((await client.append(s, numbered(2, 1))).firstNumber, 2n);
      await client.tombstoneStream(s);
      await assert.rejects(client.append(s, numbered(3, 1)), kvs.StreamDeletedError);
      await assert.rejects(all(client.readStream(s)), kvs.StreamDeletedError);
      assert.equal((await client.getMetadata(s)).isDeleted, true);
    });

    it("keeps metadata", async () => {
      const s = stream();
      await client.append(s, numbered(0, 5));
      assert.deepEqual(await client.getMetadata(s), { metadata: {}, version: -1n, isDeleted: false });
      await client.setMetadata(s, { $maxCount: 2, mine: ["x"] }, { expectedVersion: "noStream" });
      assert.deepEqual(await client.getMetadata(s), { metadata: { $maxCount: 2, mine: ["x"] }, version: 0n, isDeleted: false });
      assert.deepEqual(n(await all(client.readStream(s))), [3, 4]);
      await assert.rejects(client.setMetadata(s, {}, { expectedVersion: 5 }), kvs.WrongExpectedVersionError);
    });

    it("has transactions", async () => {
      const s = stream();
      const transaction = await client.startTransaction(s, { expectedVersion: "noStream" });
      assert.equal(typeof transaction.id, "bigint");
      await transaction.write(numbered(0, 2));
      await client.continueTransaction(transaction.id).write(numbered(2, 1)[0]);
      await assert.rejects(all(client.readStream(s)), kvs.NoStreamError);
      assert.equal((await transaction.commit()).nextExpectedVersion, 2n);
      assert.deepEqual(n(await all(client.readStream(s))), [0, 1, 2]);
      await assert.rejects(client.continueTransaction(2n ** 62n).commit(), kvs.KvsError);
    });

    it("subscribes to a stream: what is there, then what comes", async () => {
      const s = stream();
      await client.append(s, numbered(0, 1200));
      const states = [];
      const subscription = client.subscribe(s, { onState: (state) => states.push([state, found.length]) });
      const found = [];
      const writing = (async () => {
        for (let i = 1200; i < 1300; i++) await client.append(s, numbered(i, 1));
      })();
      for await (const { event } of subscription) {
        found.push(event.json().n);
        if (found.length === 1300) break;
      }
      await writing;
      assert.deepEqual(found, upTo(1300));
      assert.deepEqual(states[0], ["catchingUp", 0]);
      assert.equal((await subscription.next()).done, true);
      const after = await take(client.subscribe(s, { from: { after: 1297 } }), 2);
      assert.deepEqual(n(after), [1298, 1299]);
    });

    it("tells when it is live, and begins at the end", async () => {
      const s = stream();
      await client.append(s, numbered(0, 3));
      for (const volatile of [false, true]) {
        const last = Number((await client.readEvent(s, "last")).event.number);
        let subscription, first;
        await new Promise((resolve) => {
          subscription = client.subscribe(s, { from: "end", volatile, onState: (state) => state === "live" && resolve() });
          first = subscription.next();
        });
        await client.append(s, numbered(last + 1, 1));
        assert.equal((await first).value.event.json().n, last + 1);
        await subscription.close();
      }
    });

    it("subscribes to $all, with a filter and checkpoints", async () => {
      const s = stream();
      await client.append(s, numbered(0, 3000));
      await client.append(`${s}-rare`, numbered(0, 2));
      const positions = [];
      const subscription = client.subscribeToAll({
        filter: { on: "stream", prefixes: [`${s}-rare`] },
        checkpointInterval: 500,
        onCheckpoint: (position) => positions.push(position),
      });
      const [one, two] = await take(subscription, 2);
      assert.deepEqual(n([one, two]), [0, 1]);
      const commits = positions.map(({ commit }) => commit);
      assert.ok(commits.length > 0 && commits[0] < one.position.commit, commits.join()); // before what it found
      assert.deepEqual(commits, [...new Set(commits)].sort((a, b) => (a < b ? -1 : 1)));
      const filter = { on: "stream", prefixes: [`${s}-rare`] };
      assert.deepEqual(n(await take(client.subscribeToAll({ filter, from: { after: positions[0] } }), 2)), [0, 1]);
      const resumed = await take(client.subscribeToAll({ from: { after: one.position } }), 1);
      assert.equal(resumed[0].event.id, two.event.id);
      const start = await take(client.subscribeToAll(), 1);
      assert.equal(start[0].event.id, (await all(client.readAll({ maxCount: 1 })))[0].event.id);
    });

    it("serves many askers in order, and ends for all of them", async () => {
      const s = stream();
      await client.append(s, numbered(0, 10));
      const subscription = client.subscribe(s);
      const asked = await Promise.all(Array.from({ length: 10 }, () => subscription.next()));
      assert.deepEqual(n(asked.map(({ value }) => value)), upTo(10));
      const waiting = [subscription.next(), subscription.next()];
      await turn();
      await subscription.close();
      await subscription.close();
      assert.deepEqual(await Promise.all(waiting), Array(2).fill({ done: true, value: undefined }));
    });

    it("ends by a signal, with its reason", async () => {
      const s = stream();
      await client.append(s, numbered(0, 3));
      const controller = new AbortController();
      const subscription = client.subscribe(s, { signal: controller.signal });
      const found = [];
      await assert.rejects(async () => {
        for await (const { event } of subscription) {
          found.push(event.json().n);
          if (found.length === 3) setImmediate(() => controller.abort(new Error("enough")));
        }
      }, /enough/);
      assert.deepEqual(found, [0, 1, 2]);
      assert.equal((await subscription.next()).done, true);
      await assert.rejects(client.subscribe(s, { signal: AbortSignal.abort(new Error("before")) }).next(), /before/);
      await assert.rejects(all(client.readStream(s, { signal: AbortSignal.abort(new Error("read")) })), /read/);
    });

    it("is told when the stream is deleted", async () => {
      const s = stream();
      await client.append(s, numbered(0, 2));
      const found = [];
      await assert.rejects(async () => {
        for await (const { event } of client.subscribe(s)) {
          if (event.type === "counted") found.push(event.json().n);
          if (found.length === 2 && event.type === "counted") await client.tombstoneStream(s);
        }
      }, kvs.StreamDeletedError);
      assert.deepEqual(found, [0, 1]);
    });

    it("does not read ahead of a slow loop", async () => {
      const s = stream();
      const count = 1500;
      const data = Buffer.alloc(40000, "x");
      for (let i = 0; i < count; i += 100)
        await client.append(s, Array.from({ length: 100 }, () => ({ type: "large", data })));
      const subscription = client.subscribe(s, { pageSize: 50 });
      await subscription.next();
      globalThis.gc();
      const { arrayBuffers, rss } = process.memoryUsage();
      for (let i = 0; i < 300; i++) await turn(); // asked for nothing: nothing comes
      const now = process.memoryUsage();
      assert.ok(now.arrayBuffers - arrayBuffers < 1e6, `${now.arrayBuffers - arrayBuffers} bytes came`);
      assert.ok(now.rss - rss < 30e6, `${now.rss - rss} bytes more`); // of 60 MB
      let seen = 1n;
      for await (const { event } of subscription) {
        assert.equal(event.number, seen++);
        if (seen === BigInt(count)) break;
      }
    });

    it("shares a group's events among its members", async () => {
      const s = stream();
      await client.createGroup(s, "workers", { startFrom: "start", messageTimeoutMs: 0 });
      await assert.rejects(client.createGroup(s, "workers"), kvs.AlreadyExistsError);
      await client.append(s, numbered(0, 200));
      const seen = [];
      const members = [1, 2].map(() => client.subscribeToGroup(s, "workers", { inFlight: 5 }));
      await Promise.all(members.map(async (member) => {
        for await (const { event } of member) {
          seen.push(event.json().n);
          if (seen.length === 200) await Promise.all(members.map((each) => each.close()));
        }
      }));
      assert.deepEqual([...new Set(seen)].sort((a, b) => a - b), upTo(200));
      await client.updateGroup(s, "workers", { startFrom: "start", retriesMax: 3 });
      await client.deleteGroup(s, "workers");
      await assert.rejects(client.deleteGroup(s, "workers"), kvs.NotFoundError);
      await assert.rejects(client.subscribeToGroup(s, "workers").next(), kvs.NotFoundError);
    });

    it("gives again what was not acknowledged, and parks", async () => {
      const s = stream();
      await client.createGroup(s, "g", { startFrom: 0, messageTimeoutMs: 0 });
      await client.append(s, numbered(0, 4));
      const member = client.subscribeToGroup(s, "g", { manualAck: true });
      const next = async () => (await member.next()).value;
      const first = [await next(), await next(), await next(), await next()];
      assert.deepEqual(n(first), [0, 1, 2, 3]);
      assert.equal(first[0].retryCount, 0);
      member.ack(first[0], first[3]);
      member.nak("park", "broken", first[1]);
      member.nak("retry", "later", first[2]);
      const again = await next();
      assert.deepEqual([again.event.json().n, again.retryCount], [2, 1]);
      await member.close(); // not acknowledged: for the next member
      const other = client.subscribeToGroup(s, "g");
      assert.equal((await other.next()).value.event.json().n, 2);
      await client.append(s, numbered(4, 1));
      assert.equal((await other.next()).value.event.json().n, 4);
      await other.close();
      assert.throws(() => other.ack(again), kvs.ClosedError);
      const parked = await all(client.readStream(`$persistentsubscription-${s}::g-parked`, { resolveLinks: true }));
      assert.deepEqual(n(parked), [1]);
    });

    it("tells what groups are doing, and their settings, and changes them", async () => {
      const s = stream();
      const settings = {
        resolveLinks: true, extraStatistics: true, startFrom: 1n, messageTimeoutMs: 600001, retriesMax: 2, liveBufferCount: 103,
        historyBufferCount: 104, readBatchCount: 5, checkpointAfterMs: 6, checkpointCountMin: 1, checkpointCountMax: 8,
        subscribersMax: 9, strategy: "DispatchToSingle",
      };
      assert.deepEqual(await client.groups(s), []);
      await assert.rejects(client.group(s, "told"), kvs.NotFoundError);
      await client.createGroup(s, "told", settings);
      await client.createGroup(s, "other");
      assert.deepEqual((await client.groups(s)).map((one) => one.group).sort(), ["other", "told"]);
      const everywhere = await client.groups();
      assert.equal(everywhere.filter((one) => one.stream === s).length, 2);
      assert.deepEqual(await client.groups(`${s}-none`), []);

      const { status, ...idle } = await client.group(s, "told");
      assert.equal(typeof status, "string");
      assert.deepEqual(idle, {
        stream: s, group: "told", lastKnown: undefined, lastCheckpoint: undefined, total: 0, perSecond: 0, connectionsCount: 0,
        inFlight: 0, settings, readBuffer: 0, retryBuffer: 0, outstanding: 0, parked: 0, connections: [],
      });
      assert.equal((await client.group(s, "other")).settings.startFrom, "end");

      await client.append(s, numbered(0, 6));
      const member = client.subscribeToGroup(s, "told", { manualAck: true, inFlight: 3 });
      const given = [];
      for (let i = 0; i < 3; i++) given.push((await member.next()).value);
      assert.deepEqual(n(given), [1, 2, 3]);
      const busy = await client.group(s, "told");
      assert.deepEqual([busy.lastKnown, busy.total, busy.inFlight, busy.outstanding, busy.connectionsCount], [5n, 3, 3, 3, 1]);
      const [{ login, name, from, ...counts }, ...others] = busy.connections;
      assert.deepEqual(others, []);
      assert.deepEqual([login, name, from].map((text) => typeof text), Array(3).fill("string"));
      assert.deepEqual({ ...counts, perSecond: 0 }, { total: 3, perSecond: 0, inFlight: 3, availableSlots: 0 });
      const [summary] = (await client.groups(s)).filter((one) => one.group === "told");
      assert.deepEqual(Object.keys(summary), Object.keys(busy).slice(0, Object.keys(summary).length));
      assert.deepEqual([summary.lastKnown, summary.total, summary.inFlight, summary.connectionsCount], [5n, 3, 3, 1]);

      member.nak("park", "of no use", given[0]);
      member.ack(given[1], given[2]);
      for (;;) { // over another connection: until it has arrived
        const { parked, lastCheckpoint } = await client.group(s, "told");
        if (parked === 1 && lastCheckpoint === 3n) break;
      }
      await member.close();
      await client.updateGroup(s, "told", { ...busy.settings, retriesMax: 7 });
      assert.deepEqual((await client.group(s, "told")).settings, { ...settings, retriesMax: 7 });
      await client.deleteGroup(s, "told");
      await assert.rejects(client.group(s, "told"), kvs.NotFoundError);
      assert.deepEqual((await client.groups(s)).map((one) => one.group), ["other"]);
    });

    it("keeps 2000 appends in flight in the order of their stream", async () => {
      const s = stream();
      const results = await Promise.all(upTo(2000).map((i) => client.append(s, numbered(i, 1))));
      assert.equal(new Set(results.map(({ firstNumber }) => firstNumber)).size, 2000);
      assert.equal((await all(client.readStream(s))).length, 2000);
      await client.ping();
    });

    it("ends subscriptions when the client is closed", async () => {
      const other = await open();
      const s = stream();
      await other.append(s, numbered(0, 1));
      const subscription = other.subscribe(s);
      await subscription.next();
      const waiting = assert.rejects(subscription.next(), kvs.ClosedError);
      await other.close();
      await waiting;
      assert.equal((await subscription.next()).done, true);
      await subscription.close();
      assert.throws(() => other.subscribe(s), kvs.ClosedError);
      await assert.rejects(other.append(s, numbered(0, 1)), kvs.ClosedError);
    });
  });
}

eventTests("events in memory", () => kvs.EventsClient.connect("memory:"));

const directory = mkdtempSync(join(tmpdir(), "kvs-node-events-"));
after(() => rmSync(directory, { recursive: true, force: true }));
let directories = 0;
eventTests("events in a directory", () => kvs.EventsClient.connect(`log:${join(directory, String(++directories))}`, { sync: "never" }));

describe("opening event streams", () => {
  it("fails when its directory must exist, and does not", async () => {
    const path = join(directory, "must exist");
    await assert.rejects(kvs.EventsClient.connect(`log:${path}`, { mustExist: true }), kvs.NoDirectoryError);
    assert.equal(existsSync(path), false);
    await (await kvs.EventsClient.connect(`log:${path}`)).close();
    await (await kvs.EventsClient.connect(`log:${path}`, { mustExist: true })).close();
  });
});

describe("events on kvs-server", () => {
  let server, url;
  before(async () => {
    server = await startServer({ eventstore: true, http: true, restarts: true }, "--sync", "never");
    url = `esdb://admin:changeit@${server.eventstore}`;
  });
  after(() => server[Symbol.asyncDispose]());

  const httpPort = () => Number(server.http.split(":")[1]);
  eventTests("by its TCP protocol", () => kvs.EventsClient.connect(url, { httpPort: httpPort() }));

  it("tells whose a group's members are, to who has logged in", async (t) => {
    const client = await kvs.EventsClient.connect(url, { httpPort: httpPort(), connectionName: "worker 5" });
    t.after(() => client.close());
    await client.createGroup("watched", "g", { startFrom: "start" });
    await client.append("watched", numbered(0, 1));
    const member = client.subscribeToGroup("watched", "g");
    await member.next();
    const [{ login, name, from }] = (await client.group("watched", "g")).connections;
    assert.deepEqual([login, name], ["admin", "worker 5"]);
    assert.match(from, /^127\.0\.0\.1:\d+$/);
    await member.close();
    const credentials = { login: "admin", password: "wrong" };
    const refusal = { name: "AccessDeniedError", message: /login or password are wrong, or the user may not/ }; // HTTP knows one word for both
    await assert.rejects(client.groups("watched", { credentials }), refusal);
    await assert.rejects(client.group("watched", "g", { credentials }), refusal);
  });

  it("knows users", async (t) => {
    const client = await kvs.EventsClient.connect(`esdb://${server.eventstore}`, { credentials: ADMIN });
    t.after(() => client.close());
    await client.createUser({ login: "ada", fullName: "Ada L", password: "secret", groups: ["readers", "others"] });
    const ada = { login: "ada", fullName: "Ada L", groups: ["readers", "others"], isDisabled: false };
    assert.deepEqual(await client.user("ada"), ada);
    assert.deepEqual((await client.users()).map(({ login }) => login).sort(), ["ada", "admin", "ops"]);
    await client.append("secret", { type: "t" });
    await client.setMetadata("secret", { $acl: { $r: "ada" } });
    const credentials = { login: "ada", password: "secret" };
    assert.equal((await all(client.readStream("secret", { credentials }))).length, 1);
    await assert.rejects(client.users({ credentials }), kvs.AccessDeniedError);
    await client.setPassword({ login: "ada", password: "other" });
    assert.equal((await all(client.readStream("secret", { credentials: { login: "ada", password: "other" } }))).length, 1);
    await assert.rejects(kvs.EventsClient.connect(`esdb://ada:secret@${server.eventstore}`), kvs.NotAuthenticatedError);
    await client.disableUser("ada");
    assert.equal((await client.user("ada")).isDisabled, true);
    await client.enableUser("ada");
    await client.updateUser({ login: "ada", fullName: "Ada", groups: [] });
    assert.deepEqual(await client.user("ada"), { ...ada, fullName: "Ada", groups: [] });
    await client.deleteUser("ada");
    await assert.rejects(client.user("ada"), kvs.NotFoundError);
    await assert.rejects(kvs.EventsClient.connect(`esdb://admin:wrong@${server.eventstore}`), kvs.NotAuthenticatedError);
  });

  it("goes on after the server was killed", async (t) => {
    const client = await kvs.EventsClient.connect(url);
    t.after(() => client.close());
    await client.append("survivor", numbered(0, 10), { expectedVersion: "noStream" });
    const states = [];
    const subscription = client.subscribe("survivor", { onState: (state) => states.push(state) });
    const found = [];
    let restarted;
    for await (const { event } of subscription) {
      found.push(event.json().n);
      if (found.length === 10)
        restarted = server.restart("SIGKILL").then(() => client.append("survivor", numbered(10, 10), { expectedVersion: 9 }));
      if (found.length === 20) break;
    }
    await restarted;
    assert.deepEqual(found, upTo(20));
    assert.ok(states.includes("waiting"), states.join());
  });
});
