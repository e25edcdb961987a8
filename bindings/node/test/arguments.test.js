// Wrong arguments of every kind: a TypeError that says what is wrong, before anything is done, and after it all goes on.
"use strict";
const assert = require("node:assert/strict");
const { after, before, describe, it } = require("node:test");
const { setImmediate: turn } = require("node:timers/promises");
const kvs = require("..");
const { jsonEvent } = kvs;

const OBJECT = /must be an object$/;
const ITERABLE = /must be an array, or another iterable/;
const BYTES = /must be a Buffer, a Uint8Array or a string$/;
const MS = /timeoutMs must be a (whole )?number/;
const throwing = { get timeoutMs() { throw new TypeError("thrown by a getter"); } };

const OF_ALL = (call) => [
  [(c) => call(c, "utf8"), OBJECT],
  [(c) => call(c, 5), OBJECT],
  [(c) => call(c, null), OBJECT],
  [(c) => call(c, { timeoutMs: -1 }), MS],
  [(c) => call(c, { timeoutMs: "5" }), MS],
  [(c) => call(c, { timeoutMs: NaN }), MS],
  [(c) => call(c, { timeoutMs: 2 ** 32 }), MS],
  [(c) => call(c, { timeoutMs: 5n }), MS],
  [(c) => call(c, { signal: {} }), /signal must be an AbortSignal/],
  [(c) => call(c, { signal: null }), /signal must be an AbortSignal/],
  [(c) => call(c, throwing), /thrown by a getter/],
];

const WRONG = {
  KvsClient: [
    ...OF_ALL((c, o) => c.get("k", o)),
    ...OF_ALL((c, o) => c.set("k", "v", o)),
    ...OF_ALL((c, o) => c.batchSet([["k", "v"]], o)),
    ...OF_ALL((c, o) => c.stats(o)),
    ...[5, undefined, null, {}, [], new Uint16Array(2), new DataView(new ArrayBuffer(2)), new ArrayBuffer(2), Symbol("k")].flatMap((key) => [
      [(c) => c.get(key), BYTES],
      [(c) => c.set(key, "v"), BYTES],
      [(c) => c.set("k", key), BYTES],
      [(c) => c.batchGet([key]), BYTES],
      [(c) => c.batch([{ set: key, value: "v" }]), key === undefined ? /a change must be/ : BYTES],
      [(c) => c.batch([{ remove: key }]), key === undefined ? /a change must be/ : BYTES],
    ]),
    [(c) => c.get("k", { encoding: "nope" }), /encoding must be one that Buffers know.*"nope"/],
    [(c) => c.scan({ encoding: "nope" }).next(), /encoding/],
    [(c) => c.batchGet(["k"], { encoding: 5 }), /encoding/],
    [(c) => c.compareAndSet("k", 5, "v"), BYTES],
    ...[-1, "5", NaN, {}, Infinity, 5n].flatMap((ttlMs) => [
      [(c) => c.set("k", "v", { ttlMs }), /ttlMs must be a number of milliseconds/],
      [(c) => c.batchSet([["k", "v"]], { ttlMs }), /ttlMs/],
      [(c) => c.batch([{ set: "k", value: "v", ttlMs }]), /ttlMs/],
      [(c) => c.compareAndSet("k", "v", "w", { ttlMs }), /ttlMs/],
    ]),
    [(c) => c.batchGet("abc"), /not a single key/],
    [(c) => c.batchGet(Buffer.of(1)), /not a single key/],
    [(c) => c.batchGet(), ITERABLE],
    [(c) => c.batchGet(5), ITERABLE],
    [(c) => c.batchSet({ k: "v" }), ITERABLE],
    [(c) => c.batchSet("kv"), ITERABLE],
    [(c) => c.batchSet(["kv"]), /each of the pairs must be an array of a key and a value/],
    [(c) => c.batchSet([null]), /each of the pairs/],
    [(c) => c.batchSet([["k"]]), BYTES],
    [(c) => c.batch(5), ITERABLE],
    ...[{}, null, "remove", { put: "k" }, { set: "k", value: "v", remove: "l" }].map((change) => [(c) => c.batch([change]), /a change must be/]),
    [(c) => c.batch([{ removeRange: null }]), OBJECT],
    [(c) => c.scan(null).next(), OBJECT],
    [(c) => c.scan("k").next(), OBJECT],
    [(c) => c.scan({ limit: -1 }).next(), /limit must be a whole number/],
    [(c) => c.scan({ limit: "5" }).next(), /limit/],
    [(c) => c.scan({ limit: 1.5 }).next(), /limit/],
    [(c) => c.scanKeys({ pageSize: 0 }).next(), /pageSize must be a whole number/],
    [(c) => c.scan({ start: 5 }).next(), /start of a range must be a Buffer/],
    [(c) => c.scan({ prefix: 5 }).next(), /prefix of a range must be a Buffer/],
    [(c) => c.scan({ prefix: "k", end: "l" }).next(), /a prefix, or a start and an end/],
    [(c) => c.count(null), OBJECT],
    [(c) => c.count({ end: 5 }), /end of a range/],
    [(c) => c.count({ prefx: "k" }), /no "prefx"/],
    [(c) => c.removeRange(), OBJECT],
    [(c) => c.checkpoint(5), /directory must be a string/],
    [() => kvs.KvsClient.connect(5), /URL must be a string/],
    [() => kvs.KvsClient.connect("log:/tmp/a\0b"), /without the character U\+0000/],
    [() => kvs.KvsClient.connect("memory:", null), OBJECT],
    [() => kvs.KvsClient.connect("memory:", { sync: "toString" }), /sync must be one of always, interval, never/],
    [() => kvs.KvsClient.connect("memory:", { connections: "2" }), /connections must be a number/],
    [() => kvs.KvsClient.connect("memory:", { mustExist: 1 }), /mustExist must be true or false/],
    [() => kvs.KvsClient.connect("memory:", { cachePrefault: 1 }), /cachePrefault must be true or false/],
    [() => kvs.KvsClient.connect("memory:", { cacheSizeBytes: 0.5 }), /cacheSizeBytes must be a BigInt/],
    [() => kvs.KvsClient.connect("memory:", { tls: { ca: 5 } }), /tlsCa must be a string/],
    [() => kvs.KvsClient.connect("memory:", { tls: "ca.pem" }), OBJECT],
    [() => new kvs.KvsClient("memory:"), /KvsClient.connect/],
  ],
  RawClient: [
    [() => kvs.RawClient.connect(5), /PD addresses must be/],
    [() => kvs.RawClient.connect("127.0.0.1:1", null), OBJECT],
    [() => kvs.RawClient.connect("127.0.0.1:1", { encoding: "nope" }), /encoding/],
    [() => kvs.RawClient.connect("127.0.0.1:1", { keyspace: 5 }), /keyspace must be a string/],
    [async () => new kvs.RawClient(5), /PD addresses must be/],
  ],
  TransactionClient: [
    ...OF_ALL((c, o) => c.begin().get("k", o)),
    ...OF_ALL((c, o) => c.begin().mutate([], o)),
    ...OF_ALL((c, o) => c.currentTimestamp(o)),
    [() => kvs.TransactionClient.connect(5), /PD addresses must be/],
    [() => kvs.TransactionClient.connect("memory:", 5), OBJECT],
    [(c) => c.begin(5), OBJECT],
    [(c) => c.begin({ priority: "toString" }), /priority must be one of normal, low, high/],
    [(c) => c.begin({ pessimistic: "yes" }), /pessimistic must be true or false/],
    [(c) => c.begin({ asyncCommit: "no" }), /asyncCommit must be true or false/],
    [(c) => c.begin({ lockWaitMs: "no" }), /lockWaitMs must be a number of milliseconds.*"none"/],
    [(c) => c.begin({ lockWaitMs: -5 }), /lockWaitMs/],
    [(c) => c.begin({ sizeBytesMax: -5 }), /sizeBytesMax/],
    ...["x", 1.5, 2 ** 60, undefined, null].map((ts) => [(c) => c.garbageCollect(ts), /timestamp must be a BigInt or a safe integer/]),
    [(c) => c.snapshot(-1n), /timestamp must be a BigInt of 64 bits/],
    [(c) => c.snapshot(2n ** 64n), /timestamp must be a BigInt of 64 bits/],
    [(c) => c.begin().put(5, "v"), BYTES],
    [(c) => c.begin().put("k"), BYTES],
    [(c) => c.begin().insert("k", {}), BYTES],
    [(c) => c.begin().getForUpdate(5), BYTES],
    [(c) => c.begin().batchGet(), ITERABLE],
    [(c) => c.begin().lockKeys("k"), /not a single key/],
    [(c) => c.begin().lockKeys(["k"], { waitMs: "x" }), /waitMs must be a number of milliseconds/],
    [(c) => c.begin().lockKeys(["k"], { waitMs: NaN }), /waitMs/],
    [(c) => c.begin().lockKeys(["k"], { shared: 1 }), /shared must be true or false/],
    [(c) => c.begin().mutate(5), ITERABLE],
    ...[5, null, {}, { set: "k" }, { put: "k", value: "v", delete: "k" }].map((one) => [(c) => c.begin().mutate([one]), /each of the mutations must be/]),
    [(c) => c.begin().scan(null).next(), OBJECT],
    [(c) => c.begin().scan("a", "b"), /limit must be a number/],
    [(c) => c.begin().scan(5, "b", 1, true, true), /bound of the range must be a Buffer/],
    [(c) => c.run(), /must be a function/],
    [(c) => c.run(() => {}, null), OBJECT],
    [(c) => c.run(() => {}, { attemptsMax: 0 }), /attemptsMax/],
    [(c) => c.run(() => {}, { signal: 5 }), /AbortSignal/],
    [(c) => c.cleanupLocks(5, 5n), OBJECT],
    [(c) => c.cleanupLocks({}, "x"), /timestamp/],
    [(c) => c.unsafeDestroyRange(), OBJECT],
  ],
  EventsClient: [
    ...OF_ALL((c, o) => c.append("s", { type: "t" }, o)),
    ...OF_ALL((c, o) => c.readEvent("s", 0, o)),
    ...OF_ALL((c, o) => c.getMetadata("s", o)),
    ...OF_ALL((c, o) => c.users(o)),
    [() => kvs.EventsClient.connect(5), /URL must be a string/],
    [() => kvs.EventsClient.connect("memory:", null), OBJECT],
    [() => kvs.EventsClient.connect("memory:", { sync: "maybe" }), /sync must be one of/],
    [() => kvs.EventsClient.connect("memory:", { credentials: "a:b" }), OBJECT],
    [() => kvs.EventsClient.connect("memory:", { httpPort: 70000 }), /httpPort/],
    [() => kvs.EventsClient.connect("memory:", { mustExist: 1 }), /mustExist must be true or false/],
    ...[5, "", undefined, null, Buffer.from("s")].flatMap((name) => [
      [(c) => c.append(name, { type: "t" }), /name of the stream/],
      [(c) => c.deleteStream(name), /name of the stream/],
      [(c) => c.readStream(name), /name of the stream/],
      [(c) => c.subscribe(name), /name of the stream/],
      [(c) => c.createGroup(name, "g"), /name of the stream/],
      [(c) => c.createGroup("s", name), /name of the group/],
      [(c) => c.subscribeToGroup("s", name), /name of the group/],
      [(c) => c.user(name), /name of the user/],
    ]),
    ...[undefined, null, 5, "text"].map((events) => [(c) => c.append("s", events), /an event, or an array of events, must be/]),
    [(c) => c.append("s", [null]), /each of the events must be/],
    [(c) => c.append("s", { data: "x" }), /type of an event must be a string/],
    [(c) => c.append("s", { type: "t", data: 5 }), BYTES],
    [(c) => c.append("s", { type: "t", data: { x: 1 } }), /jsonEvent\(\{ type, data \}\) makes JSON of an object/],
    [(c) => c.append("s", { type: "t", metadata: [1] }), /jsonEvent/],
    [(c) => c.append("s", { type: "t", id: "no uuid" }), /UUID/],
    ...["some", -7, null, {}].map((expectedVersion) => [(c) => c.append("s", { type: "t" }, { expectedVersion }), /expected version must be a number/]),
    [(c) => c.append("s", { type: "t" }, { expectedVersion: 1.5 }), /expected version must be a BigInt or a safe integer/],
    [(c) => c.append("s", { type: "t" }, { expectedVersion: 2n ** 64n }), /expected version must be a BigInt of 64 bits/],
    [(c) => c.append("s", { type: "t" }, { credentials: { login: 5, password: "" } }), /login must be a string/],
    [(c) => c.append("s", { type: "t" }, { credentials: { login: "a\0b", password: "" } }), /login must be a string without/],
    [(c) => c.append("s", { type: "t" }, { anyNode: 1 }), /anyNode must be true or false/],
    ...["first", 2 ** 60, 1.5, undefined].map((number) => [(c) => c.readEvent("s", number), /number of an event must be/]),
    [(c) => c.readStream("s", null), OBJECT],
    [(c) => c.readStream("s", { from: "middle" }), /from must be one of start, end/],
    [(c) => c.readStream("s", { direction: "up" }), /direction must be one of/],
    [(c) => c.readStream("s", { maxCount: -1 }), /maxCount/],
    [(c) => c.readStream("s", { pageSize: 0 }), /pageSize/],
    ...[5, {}, { commit: 1 }].map((from) => [(c) => c.readAll({ from }), /from must be a position/]),
    [(c) => c.readAll({ filter: 5 }), OBJECT],
    [(c) => c.readAll({ filter: { on: "stream" } }), /prefixes or a regex/],
    [(c) => c.readAll({ filter: { on: "body", prefixes: ["x"] } }), /on must be one of/],
    [(c) => c.readAll({ filter: { on: "type", regex: /x/i } }), /flags/],
    [(c) => c.readAll({ filter: { on: "type", regex: 5 } }), /regex of a filter must be/],
    [(c) => c.readAll({ filter: { on: "type", prefixes: "abc" } }), /prefixes of a filter must be an array/],
    [(c) => c.readAll({ filter: { on: "type", prefixes: [5] } }), /prefixes of a filter must be an array/],
    ...["middle", 5, null, {}, { after: "x" }, { after: { commit: 1n, prepare: 1n } }, { after: 0.5 }]
      .map((from) => [(c) => c.subscribe("s", { from }), /from/]),
    ...["middle", 5, null, {}, { after: 5 }, { after: {} }].map((from) => [(c) => c.subscribeToAll({ from }), /from/]),
    [(c) => c.subscribe("s", null), OBJECT],
    [(c) => c.subscribe("s", { signal: 5 }), /AbortSignal/],
    [(c) => c.subscribe("s", { onState: 5 }), /onState must be a function/],
    [(c) => c.subscribe("s", { bufferCount: -1 }), /bufferCount must be a whole number/],
    [(c) => c.subscribeToGroup("s", "g", { onState: {} }), /onState must be a function/],
    [(c) => c.createGroup("s", "g", null), OBJECT],
    [(c) => c.createGroup("s", "g", { startFrom: "middle" }), /startFrom must be one of/],
    [(c) => c.createGroup("s", "g", { strategy: "any" }), /strategy must be one of RoundRobin/],
    [(c) => c.createGroup("s", "g", { retriesMax: -1 }), /retriesMax/],
    [(c) => c.setMetadata("s", null), OBJECT],
    [(c) => c.setMetadata("s"), OBJECT],
    [(c) => c.createUser(), OBJECT],
    [(c) => c.createUser({}), /name of the user/],
    [(c) => c.createUser({ login: "x", password: 5, fullName: "y" }), /password must be a string/],
    [(c) => c.createUser({ login: "x", password: "y", fullName: "z", groups: [5] }), /groups of a user must be an array of strings/],
    [(c) => c.createUser({ login: "x", password: "y", fullName: "z", groups: "ops" }), /groups of a user/],
    [(c) => c.groups(""), /name of the stream/],
    [(c) => c.groups({ timeoutMs: 5 }), /name of the stream/],
    [(c) => c.groups("s", 5), OBJECT],
    [(c) => c.group("s"), /name of the group/],
    [(c) => c.group("", "g"), /name of the stream/],
    [(c) => c.group("s", "g", { timeoutMs: -1 }), /timeoutMs/],
    [(c) => c.continueTransaction(1.5), /transaction's number/],
    [(c) => c.close(5), OBJECT],
    [() => jsonEvent(), OBJECT],
    [() => jsonEvent({ type: "t", data: undefined }), /no form in JSON/],
  ],
};

const RIGHT = { // and it has no trace of what was wrong before
  KvsClient: async (c) => {
    await c.set("k", "v");
    assert.deepEqual([await c.get("k", { encoding: "utf8" }), await c.count()], ["v", 1]);
  },
  TransactionClient: async (c) => assert.equal(typeof (await c.currentTimestamp()), "bigint"),
  EventsClient: async (c) => {
    await c.append("right", { type: "t" });
    assert.equal((await c.readEvent("right", "last")).event.type, "t");
    await assert.rejects(c.readEvent("s", 0), kvs.NoStreamError);
  },
};

describe("wrong arguments", () => {
  const clients = {};
  const warnings = [];
  const onWarning = (warning) => warnings.push(warning);
  before(async () => {
    process.on("warning", onWarning); // Node.js warns where an exception is lost on its way out of an addon
    for (const name of Object.keys(RIGHT)) clients[name] = await kvs[name].connect("memory:");
  });
  after(async () => {
    await Promise.all(Object.values(clients).map((client) => client.close()));
    process.off("warning", onWarning);
  });

  for (const [name, calls] of Object.entries(WRONG)) {
    it(`${name}: ${calls.length} of them are TypeErrors that say what is wrong`, async () => {
      for (const [run, message] of calls) {
        await assert.rejects(async () => run(clients[name]), (error) => {
          assert.ok(error instanceof TypeError && message.test(error.message), `${run}: ${error.name}: ${error.message}`);
          return true;
        }, String(run));
        await RIGHT[name]?.(clients[name]);
      }
    });
  }

  it("touch no other call of the same moment", async () => {
    const { KvsClient: client } = clients;
    const texts = Array.from({ length: 100 }, (_, i) => [`other-${i}`, String(i)]);
    await client.batchSet(texts);
    for (const encoding of ["nope", "utf7"]) {
      const right = texts.map(([key]) => client.get(key, { encoding: "utf8" }));
      const wrong = [client.batchGet(["k"], { encoding }), client.get("k", { encoding })];
      right.push(...texts.map(([key]) => client.get(key, { encoding: "utf8" })));
      for (const { status } of await Promise.allSettled(wrong)) assert.equal(status, "rejected");
      assert.deepEqual(await Promise.all(right), [...texts, ...texts].map(([, value]) => value));
    }
    await client.removeRange({ prefix: "other-" });
  });

  it("are looked at when the call is made: what changes later changes nothing", async () => {
    const { KvsClient: client } = clients;
    const options = { encoding: "utf8" };
    const asked = [client.get("k", options), client.batchGet(["k"], options)];
    options.encoding = "nope";
    assert.deepEqual(await Promise.all(asked), ["v", ["v"]]);
    await client.batchSet([["s1", "1"], ["s2", "2"], ["s3", "3"], ["s4", "4"]]);
    const range = { start: Buffer.from("s1"), end: Buffer.from("s3"), pageSize: 1 };
    const scan = client.scanKeys(range);
    range.start[1] = range.end[1] = 0x39;
    const found = [];
    for await (const key of scan) found.push(String(key));
    assert.deepEqual(found, ["s1", "s2"]);
    await client.removeRange({ prefix: "s" });
  });

  it("are none: bytes at an offset, of other realms, empty values, parts of a millisecond", async () => {
    const { KvsClient: client } = clients;
    const memory = new ArrayBuffer(16);
    new Uint8Array(memory).set(Buffer.from("....key..value.."));
    await client.set(new Uint8Array(memory, 4, 3), Buffer.from(memory, 9, 5));
    new Uint8Array(memory).fill(0); // it was copied
    assert.equal(await client.get("key", { encoding: "utf8" }), "value");
    const shared = new Uint8Array(new SharedArrayBuffer(3));
    shared.set(Buffer.from("key"));
    assert.equal(await client.get(shared, { encoding: "utf8" }), "value");
    await client.set("key", "");
    assert.deepEqual(await client.get("key"), Buffer.alloc(0));
    await client.batchSet([["key", new Uint8Array()]], { ttlMs: 0.25 }); // not for ever
    assert.notEqual(await client.ttl("key"), Infinity);
    assert.equal(await client.get("key-ü", { timeoutMs: 30000.5 }), undefined);
    await client.remove("key");
  });

  it("that only the store can see are errors that say what is wrong, too", async () => {
    const { KvsClient: store, TransactionClient: txns, EventsClient: streams } = clients;
    const invalid = [
      [() => store.get(""), /key: must not be empty/],
      [() => store.checkpoint(""), /directory: must not be empty/],
      [() => txns.begin().put("", "v"), /a key has 1 to/],
      [() => txns.snapshot(2n ** 63n - 2n).get("k"), /still to come/],
      [() => txns.unsafeDestroyRange({ start: "b", end: "a" }), /both bounds/],
      [() => streams.append("s", { type: "" }), /a type has 1 to/],
      [() => streams.readAll({ filter: { on: "type", regex: "(" } }).next(), /regular expression/],
      [() => kvs.EventsClient.connect("ftp://x"), /"ftp:|ftp/],
      [() => kvs.KvsClient.connect("http://x"), /known are log:DIR/],
    ];
    for (const [run, message] of invalid) await assert.rejects(run(), (error) => {
      assert.ok(error instanceof kvs.InvalidArgumentError && message.test(error.message), `${run}: ${error.name}: ${error.message}`);
      return true;
    });
    await assert.rejects(store.get(Buffer.alloc(8193)), kvs.TooLargeError);
    await assert.rejects(store.batchGet(Array(65537).fill("k")), kvs.TooLargeError);
  });

  it("lost no exception", async () => {
    await turn();
    assert.deepEqual(warnings, []);
  });
});
