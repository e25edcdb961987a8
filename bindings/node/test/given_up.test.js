// Every call can be given up, by a signal and by a time, while the other side is silent.
"use strict";
const assert = require("node:assert/strict");
const { after, before, describe, it } = require("node:test");
const kvs = require("..");
const { startServer } = require("./server");

const NEVER_ASKS = ["constructor", "close", "ref", "unref", "closeNative", "live", "taken", "more", "atEnd"];

// Names of the public calls of a class, without those of the first TiKV client, which have no options.
function callsOf(of) {
  const names = new Set();
  for (let proto = of.prototype; proto && proto !== Object.prototype; proto = Object.getPrototypeOf(proto))
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(proto)))
      if (typeof value === "function" && !name.includes("_") && !NEVER_ASKS.includes(name)) names.add(name);
  return names;
}

// `more`: what a class has that its users do not see.
const PRIVATE = {
  KvsClient: ["getValue", "hasKey", "setValue", "removeKey", "swapValue", "getValues", "setValues", "removeKeys",
    "writeBatch", "scanRange", "countRange", "removeRangeOf", "ttlOf", "checksumOf"],
  Transaction: ["pages", "positional", "timeoutOf", "signalOf"],
  Snapshot: ["pages", "positional", "timeoutOf", "signalOf"],
  EventsClient: ["write", "remove", "done", "pages", "begin", "getUsers", "changeUser"],
  TransactionClient: [],
};
PRIVATE.RawClient = [...PRIVATE.KvsClient, "with", "positional"];

// How each call is made; those that do not ask the other side are missing on purpose, and named below.
const pairs = [["k", "v"]];
const CALLS = {
  KvsClient: {
    get: (c, o) => c.get("k", o),
    exists: (c, o) => c.exists("k", o),
    set: (c, o) => c.set("k", "v", o),
    remove: (c, o) => c.remove("k", o),
    compareAndSet: (c, o) => c.compareAndSet("k", undefined, "v", o),
    batchGet: (c, o) => c.batchGet(["k"], o),
    batchSet: (c, o) => c.batchSet(pairs, o),
    batch: (c, o) => c.batch([{ remove: "k" }], o),
    scan: (c, o) => c.scan(o).next(),
    scanKeys: (c, o) => c.scanKeys(o).next(),
    count: (c, o) => c.count({}, o),
    removeRange: (c, o) => c.removeRange({ prefix: "k" }, o),
    ttl: (c, o) => c.ttl("k", o),
    checksum: (c, o) => c.checksum({}, o),
    checkpoint: (c, o) => c.checkpoint("copy", o),
    sync: (c, o) => c.sync(o),
    compact: (c, o) => c.compact(o),
    ping: (c, o) => c.ping(o),
    stats: (c, o) => c.stats(o),
  },
  RawClient: {
    get: (c, o) => c.get("k", o),
    exists: (c, o) => c.exists("k", o),
    put: (c, o) => c.put("k", "v", o),
    delete: (c, o) => c.delete("k", o),
    compareAndSwap: (c, o) => c.compareAndSwap("k", undefined, "v", o),
    batchGet: (c, o) => c.batchGet(["k"], o),
    batchPut: (c, o) => c.batchPut(pairs, o),
    batchDelete: (c, o) => c.batchDelete(["k"], o),
    scan: (c, o) => c.scan(o).next(),
    scanKeys: (c, o) => c.scanKeys(o).next(),
    count: (c, o) => c.count({}, o),
    deleteRange: (c, o) => c.deleteRange({ prefix: "k" }, o),
    ttl: (c, o) => c.ttl("k", o),
    checksum: (c, o) => c.checksum({}, o),
    ping: (c, o) => c.ping(o),
  },
  TransactionClient: {
    currentTimestamp: (c, o) => c.currentTimestamp(o),
    garbageCollect: (c, o) => c.garbageCollect(1, o),
    cleanupLocks: (c, o) => c.cleanupLocks({}, 1, o),
    unsafeDestroyRange: (c, o) => c.unsafeDestroyRange({ prefix: "u" }, o),
    run: (c, { signal, timeoutMs }) => c.run((txn) => txn.get("k"), { signal, timeoutMs, attemptsMax: 1 }),
  },
  Transaction: {
    get: (t, o) => t().get("k", o),
    exists: (t, o) => t().exists("k", o),
    batchGet: (t, o) => t().batchGet(["k"], o),
    scan: (t, o) => t().scan(o).next(),
    scanKeys: (t, o) => t().scanKeys(o).next(),
    timestamp: (t, o) => t().timestamp(o),
    getForUpdate: (t, o) => t().getForUpdate("k", o),
    batchGetForUpdate: (t, o) => t().batchGetForUpdate(["k"], o),
    put: (t, o) => t().put("k", "v", o),
    insert: (t, o) => t().insert("k", "v", o),
    delete: (t, o) => t().delete("k", o),
    mutate: (t, o) => t().mutate([{ put: "k", value: "v" }], o),
    lockKeys: (t, o) => t().lockKeys(["k"], o),
    commit: (t, o) => t(true).commit(o),
  },
  Snapshot: {
    get: (s, o) => s().get("k", o),
    exists: (s, o) => s().exists("k", o),
    batchGet: (s, o) => s().batchGet(["k"], o),
    scan: (s, o) => s().scan(o).next(),
    scanKeys: (s, o) => s().scanKeys(o).next(),
    timestamp: (s, o) => s().timestamp(o),
  },
  EventsClient: {
    append: (c, o) => c.append("s", { type: "t" }, o),
    deleteStream: (c, o) => c.deleteStream("s", o),
    tombstoneStream: (c, o) => c.tombstoneStream("s", o),
    startTransaction: (c, o) => c.startTransaction("s", o),
    continueTransaction: (c, o) => c.continueTransaction(5).commit(o),
    readEvent: (c, o) => c.readEvent("s", 0, o),
    readStream: (c, o) => c.readStream("s", o).next(),
    readAll: (c, o) => c.readAll(o).next(),
    createGroup: (c, o) => c.createGroup("s", "g", {}, o),
    updateGroup: (c, o) => c.updateGroup("s", "g", {}, o),
    deleteGroup: (c, o) => c.deleteGroup("s", "g", o),
    replayParked: (c, o) => c.replayParked("s", "g", o),
    getMetadata: (c, o) => c.getMetadata("s", o),
    setMetadata: (c, o) => c.setMetadata("s", {}, o),
    users: (c, o) => c.users(o),
    user: (c, o) => c.user("ada", o),
    createUser: (c, o) => c.createUser({ login: "ada", password: "x", fullName: "A" }, o),
    updateUser: (c, o) => c.updateUser({ login: "ada", fullName: "A" }, o),
    setPassword: (c, o) => c.setPassword({ login: "ada", password: "x" }, o),
    enableUser: (c, o) => c.enableUser("ada", o),
    disableUser: (c, o) => c.disableUser("ada", o),
    deleteUser: (c, o) => c.deleteUser("ada", o),
    scavenge: (c, o) => c.scavenge(o),
    ping: (c, o) => c.ping(o),
  },
};
// In memory until the commit, in this process, or at once.
const NOT_ASKING = {
  KvsClient: [],
  RawClient: ["stats"], // the client's own counters
  TransactionClient: ["begin", "snapshot", "gc"],
  Transaction: ["rollback"], // ends at once; locks go in the background
  Snapshot: [],
  EventsClient: ["subscribe", "subscribeToAll", "subscribeToGroup"], // a signal ends them: events.test.js
};

describe("given up", () => {
  let server;
  const of = {};
  const open = [];
  const txns = [];
  before(async () => {
    server = await startServer({ tikv: true, eventstore: true, http: true }, "--sync", "never");
    of.KvsClient = await kvs.KvsClient.connect(`kvs://${server.address}`);
    of.RawClient = await kvs.RawClient.connect(server.pd);
    of.TransactionClient = await kvs.TransactionClient.connect(server.pd);
    of.EventsClient = await kvs.EventsClient.connect(`esdb://admin:changeit@${server.eventstore}`,
      { httpPort: Number(server.http.split(":")[1]) });
    open.push(...Object.values(of));
    for (let i = 0; i < 4; i++) { // a commit needs something to write
      const txn = of.TransactionClient.begin();
      await txn.timestamp();
      await txn.put(`commit-${i}`, "v");
      txns.push(txn);
    }
    of.Transaction = (isCommit) => isCommit ? txns.pop() : of.TransactionClient.begin({ pessimistic: true });
    of.Snapshot = () => of.TransactionClient.snapshot();
    server.process.kill("SIGSTOP"); // from here on it is silent
  });
  after(async () => {
    server.process.kill("SIGCONT");
    await Promise.all(open.map((client) => client.close()));
    await server[Symbol.asyncDispose]();
  });

  for (const [name, calls] of Object.entries(CALLS)) {
    it(`${name}: this list has every call`, () => {
      const there = [...callsOf(kvs[name])].filter((call) => !PRIVATE[name]?.includes(call) && !NOT_ASKING[name].includes(call));
      assert.deepEqual(there.sort(), Object.keys(calls).sort());
    });
    for (const [call, run] of Object.entries(calls)) {
      it(`${name}.${call} by a signal`, { timeout: 30000 }, async () => {
        const controller = new AbortController();
        const reason = new Error("given up");
        const promise = run(of[name], { signal: controller.signal });
        setImmediate(() => controller.abort(reason));
        // A write that was sent may happen: that counts for more than who gave it up.
        await assert.rejects(promise, (error) => error === reason || error.maybeCommitted === true);
        await assert.rejects(run(of[name], { signal: AbortSignal.abort(reason) }), (error) => error === reason);
      });
      it(`${name}.${call} by a time`, { timeout: 30000 }, async () => {
        await assert.rejects(run(of[name], { timeoutMs: 20 }),
          (error) => error instanceof kvs.TimeoutError || error.maybeCommitted === true);
        await assert.rejects(run(of[name], { timeoutMs: -1 }), TypeError);
      });
    }
  }

  it("opening, by a signal", { timeout: 30000 }, async () => {
    const reason = new Error("given up");
    const openings = [
      (signal) => kvs.KvsClient.connect(`kvs://${server.address}`, { signal }),
      (signal) => kvs.RawClient.connect(server.pd, { signal }),
      (signal) => kvs.TransactionClient.connect(server.pd, { signal }),
      (signal) => kvs.EventsClient.connect(`esdb://${server.eventstore}`, { signal }),
    ];
    for (const run of openings) {
      const controller = new AbortController();
      const promise = run(controller.signal);
      setImmediate(() => controller.abort(reason));
      await assert.rejects(promise, (error) => error === reason, String(run));
    }
  });
});
