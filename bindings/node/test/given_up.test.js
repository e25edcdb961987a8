// Every call can be given up, by a signal and by a time, while the other side is silent.
"use strict";
const assert = require("node:assert/strict");
const { execFileSync } = require("node:child_process");
const { mkdtempSync, rmSync } = require("node:fs");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { after, before, describe, it } = require("node:test");
const kvs = require("..");
const { CALLS } = require("./calls");
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
  KvsClient: ["end", "timeoutOf", "getValue", "hasKey", "setValue", "removeKey", "swapValue", "getValues", "setValues", "removeKeys",
    "writeBatch", "scanRange", "countRange", "removeRangeOf", "ttlOf", "checksumOf"],
  Transaction: ["pages", "positional", "timeoutOf", "signalOf"],
  Snapshot: ["pages", "positional", "timeoutOf", "signalOf"],
  EventsClient: ["end", "write", "remove", "done", "pages", "begin", "getUsers", "changeUser", "ofGroup"],
  TransactionClient: ["end", "timeoutOf"],
};
PRIVATE.RawClient = [...PRIVATE.KvsClient, "with", "positional"];

// Those that do not ask the other side: in memory until the commit, in this process, or at once.
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
    await server.silence(); // from here on it is silent
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
      it(`${name}.${call} by a signal`, { timeout: 600000 }, async () => {
        const controller = new AbortController();
        const reason = new Error("given up");
        const promise = run(of[name], { signal: controller.signal });
        setImmediate(() => controller.abort(reason));
        // A write that was sent may happen: that counts for more than who gave it up.
        await assert.rejects(promise, (error) => error === reason || error.maybeCommitted === true);
        await assert.rejects(run(of[name], { signal: AbortSignal.abort(reason) }), (error) => error === reason);
      });
      it(`${name}.${call} by a time`, { timeout: 600000 }, async () => {
        await assert.rejects(run(of[name], { timeoutMs: 20 }),
          (error) => error instanceof kvs.TimeoutError || error.maybeCommitted === true);
        await assert.rejects(run(of[name], { timeoutMs: -1 }), TypeError);
      });
    }
  }

  it("opening, by a signal", { timeout: 600000 }, async () => {
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

// As above, of what is in this process, whose disk does not answer.
describe("given up in this process", () => {
  it("every call, and the waiting for a close", { timeout: 600000 }, () => {
    const folder = mkdtempSync(join(tmpdir(), "kvs-node-"));
    try {
      const disk = join(folder, "silent_disk.so");
      execFileSync(process.env.CC ?? "cc", ["-shared", "-fPIC", "-o", disk, join(__dirname, "silent_disk.c")], { stdio: "inherit" });
      const preload = [process.env.LD_PRELOAD, disk].filter((name) => name);
      const env = { ...process.env, LD_PRELOAD: preload.join(":"), KVS_TEST_SILENT: join(folder, "silent") };
      const said = execFileSync(process.execPath, [join(__dirname, "silent_disk.js")], { cwd: folder, env, encoding: "utf8" });
      assert.equal(said, "all given up\n");
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

// The addon has the outcome, and JavaScript has not heard of it yet, when the signal comes.
describe("given up too late", () => {
  const spin = () => { for (const end = process.hrtime.bigint() + 3_000_000n; process.hrtime.bigint() < end;); };
  for (const kind of ["KvsClient", "TransactionClient", "EventsClient"])
    it(`${kind}: what is done stays done`, async () => {
      const client = await kvs[kind].connect("memory:");
      const txn = kind === "TransactionClient" ? client.begin() : undefined;
      const appended = Array(30).fill(0); // to each stream, as far as we were told
      for (let round = 0; round < 20; round++) {
        const controller = new AbortController();
        const { signal } = controller;
        const calls = Array.from({ length: 30 }, (_, i) =>
          kind === "KvsClient" ? client.set(`k${i}`, `${round}`, { signal }) : kind === "EventsClient" ? client.append(`s${i}`, { type: "t" }, { signal }) : txn.get(`k${i}`, { signal }));
        const settled = Promise.allSettled(calls);
        await Promise.resolve(); // they are on their way
        spin();
        controller.abort();
        if (round % 4 === 0 && round > 0) await client.ping?.();
        for (const [i, { status, reason }] of (await settled).entries()) {
          if (status === "rejected") assert.ok(reason.name === "AbortError" || reason.maybeCommitted, reason);
          else if (kind === "KvsClient") assert.equal(await client.get(`k${i}`, { encoding: "utf8" }), `${round}`);
          else if (kind === "EventsClient") appended[i]++;
        }
      }
      for (const [i, count] of appended.entries())
        if (count > 0) assert.ok((await client.readEvent(`s${i}`, "last")).event.number >= BigInt(count - 1));
      await client.close();
    });
});

// A signal that comes when its own call has ended: the number of that call may be another one's by now.
describe("a signal of a call that has ended", () => {
  let server, client;
  before(async () => {
    server = await startServer({}, "--engine", "memory");
    client = await kvs.KvsClient.connect(`kvs://${server.address}`);
  });
  after(async () => {
    await client.close();
    await server[Symbol.asyncDispose]();
  });

  it("whose arguments were wrong", async () => {
    const controller = new AbortController();
    const wrong = client.get(7, { signal: controller.signal });
    const right = client.set("k", "v");
    controller.abort();
    await assert.rejects(wrong, TypeError);
    await right;
  });

  it("together with another one", async () => {
    for (let round = 0; round < 50; round++) {
      const controller = new AbortController();
      const first = client.get("k");
      const second = client.get("k", { signal: controller.signal });
      const third = first.then(() => {
        const set = client.set("k", "v");
        controller.abort(); // the first answer will do
        return set;
      });
      await Promise.allSettled([second]);
      await third;
    }
  });
});

describe("close with a time or a signal", () => {
  it("closes all the same", async () => {
    const client = await kvs.KvsClient.connect("memory:");
    await assert.rejects(client.close({ timeoutMs: -1 }), TypeError);
    await assert.rejects(client.close({ timeoutMs: "5" }), TypeError);
    await assert.rejects(client.close({ signal: {} }), TypeError);
    await client.set("k", "v"); // nothing was closed
    const reason = new Error("given up");
    await assert.rejects(client.close({ signal: AbortSignal.abort(reason) }), (error) => error === reason);
    await assert.rejects(client.get("k"), kvs.ClosedError);
    await client.close({ timeoutMs: 30000 });
    await client.close({ timeoutMs: 2 ** 32 - 1, signal: new AbortController().signal });
    await client.close();
  });

  it("every class has it", async (t) => {
    const server = await startServer({ tikv: true, eventstore: true }, "--engine", "memory");
    t.after(() => server[Symbol.asyncDispose]());
    const options = { timeoutMs: 30000, signal: new AbortController().signal };
    await (await kvs.KvsClient.connect(`kvs://${server.address}`)).close(options);
    await (await kvs.RawClient.connect(server.pd)).close(options);
    await (await kvs.TransactionClient.connect(server.pd)).close(options);
    const events = await kvs.EventsClient.connect(`esdb://admin:changeit@${server.eventstore}`);
    await events.append("s", { type: "t" });
    const subscription = events.subscribe("s");
    await subscription.next();
    await subscription.close(options);
    await events.readStream("s").close(options);
    await events.close(options);
  });

  it("lets calls that are under way be given up", { timeout: 600000 }, async (t) => {
    const server = await startServer({ tikv: true }, "--engine", "memory");
    t.after(() => server[Symbol.asyncDispose]());
    const clients = [await kvs.KvsClient.connect(`kvs://${server.address}`), await kvs.RawClient.connect(server.pd)];
    await clients[1].put("k", "v");
    await server.silence();
    const controller = new AbortController();
    const reason = new Error("given up");
    const calls = clients.map((client) => client.get("k", { signal: controller.signal, timeoutMs: 600000 }));
    const timed = clients.map((client) => client.get("k", { timeoutMs: 20 }));
    const closing = clients.map((client) => client.close());
    for (const call of timed) await assert.rejects(call, kvs.TimeoutError);
    controller.abort(reason);
    for (const call of calls) await assert.rejects(call, (error) => error === reason);
    await Promise.all(closing);
    server.process.kill("SIGCONT");
  });

  it("does not wait for a server that is silent", { timeout: 600000 }, async (t) => {
    const server = await startServer({}, "--engine", "memory");
    t.after(() => server[Symbol.asyncDispose]());
    const client = await kvs.KvsClient.connect(`kvs://${server.address}`);
    await server.silence();
    const set = client.set("k", "v", { timeoutMs: 3000 });
    set.catch(() => {});
    await assert.rejects(client.close({ timeoutMs: 5 }), kvs.TimeoutError);
    await assert.rejects(client.close({ signal: AbortSignal.timeout(5) }), { name: "TimeoutError" });
    await assert.rejects(set, (error) => error.maybeCommitted === true);
    await client.close();
    server.process.kill("SIGCONT");
  });
});
