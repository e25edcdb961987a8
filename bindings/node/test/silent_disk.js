// A program for given_up.test.js, in an empty folder, with silent_disk.c loaded ahead: every call of every class in this process
// is given up while the disk does not answer. Prints what was otherwise than it should be.
"use strict";
const { rmSync, writeFileSync } = require("node:fs");
const kvs = require("..");
const { CALLS } = require("./calls");

// What is in memory, or needs nobody, may be there before it is given up.
const ANSWERED = {
  KvsClient: ["exists", "ttl", "ping", "stats"],
  Transaction: ["exists", "timestamp"],
  Snapshot: ["exists", "timestamp"],
  TransactionClient: ["currentTimestamp", "cleanupLocks", "unsafeDestroyRange"], // of nothing
  EventsClient: ["readEvent", "readStream", "readAll", "getMetadata", "users", "user", "groups", "group", "ping"],
};
// The second call may find that the first has been done.
const DONE = ["AlreadyExistsError", "BusyError", "StreamDeletedError", "NotFoundError"];
const reason = new Error("given up");
const wrong = [];

async function outcome(run) {
  const late = new Promise((resolve) => setTimeout(resolve, 10000, { late: true }).unref());
  try {
    return await Promise.race([Promise.resolve(run()).then((value) => ({ value })), late]);
  } catch (error) {
    return { error };
  }
}

async function check(name, call, how, run, isGivenUp) {
  const { error, late } = await outcome(run);
  const ok = late ? false
    : error === undefined ? (ANSWERED[name]?.includes(call) ?? false)
    : isGivenUp(error) || error.maybeCommitted === true || DONE.includes(error.name);
  if (!ok) wrong.push(`${name}.${call} ${how}: ${late ? "nothing in ten seconds" : (error ?? "done")}`);
}

let filled = 0;

// Writes "k", and fills a segment, so that it is on the disk alone after the next start.
async function fill(where) {
  const store = await kvs.KvsClient.connect(where, { segmentSizeBytes: 65536 });
  await store.set("k", "v");
  for (let i = 0; i < 40; i++) await store.set(`fill-${filled++}`, Buffer.alloc(4096)); // new ones: nothing is moved
  await store.close();
}

async function main() {
  const silent = process.env.KVS_TEST_SILENT;
  const small = { cacheSizeBytes: 1, segmentSizeBytes: 65536 };
  await fill("log:store");
  const store = await kvs.KvsClient.connect("log:store", small);
  const memory = await kvs.KvsClient.connect("memory:");
  await memory.batchSet(Array.from({ length: 2000 }, (_, i) => [`key-${i}`, "v"]));

  const first = await kvs.TransactionClient.connect("log:txn", small);
  await first.run((txn) => txn.put("k", Buffer.alloc(2000)));
  await first.close();
  await fill("log:txn");
  const txns = await kvs.TransactionClient.connect("log:txn", small);
  const commits = [];
  for (let i = 0; i < 2; i++) {
    const txn = txns.begin();
    await txn.put(`commit-${i}`, "v");
    commits.push(txn);
  }
  const events = await kvs.EventsClient.connect("log:events");
  await events.append("s", { type: "t" });

  writeFileSync(silent, "");
  // All threads for what may block wait for the disk: so do counts, scans and checksums of what is in memory.
  const blocked = Array.from({ length: 4 }, () => store.checksum());
  const of = {
    KvsClient: [store],
    EventsClient: [events],
    TransactionClient: [txns],
    Transaction: [(isCommit) => (isCommit ? commits.pop() : txns.begin({ pessimistic: true }))],
    Snapshot: [() => txns.snapshot()],
  };
  for (const [name, [client]] of Object.entries(of)) {
    for (const [call, run] of Object.entries(CALLS[name])) {
      const controller = new AbortController();
      const given = check(name, call, "by a signal", () => run(client, { signal: controller.signal }), (error) => error === reason);
      setImmediate(() => controller.abort(reason));
      await given;
      await check(name, call, "by a time", () => run(client, { timeoutMs: 20 }), (error) => error instanceof kvs.TimeoutError);
    }
  }
  for (const call of ["count", "checksum", "scan"]) {
    const run = CALLS.KvsClient[call];
    await check("memory:", call, "by a signal", () => run(memory, { signal: AbortSignal.timeout(5) }), (error) => error.name === "TimeoutError");
    await check("memory:", call, "by a time", () => run(memory, { timeoutMs: 5 }), (error) => error instanceof kvs.TimeoutError);
  }
  // What goes on keeps a close waiting; the waiting can be given up, and the close goes on. So can calls that are under way then.
  const controller = new AbortController();
  const left = ["get", "batchGet", "set", "batchSet", "remove", "sync", "checkpoint"].flatMap((call) => {
    const run = CALLS.KvsClient[call];
    return [
      check("closing", call, "by a signal", () => run(store, { signal: controller.signal }), (error) => error === reason),
      check("closing", call, "by a time", () => run(store, { timeoutMs: 50 }), (error) => error instanceof kvs.TimeoutError),
    ];
  });
  for (const [name, client] of Object.entries({ store, events, txns })) {
    await check(name, "close", "by a time", () => client.close({ timeoutMs: 5 }), (error) => error instanceof kvs.TimeoutError);
    await check(name, "close", "by a signal", () => client.close({ signal: AbortSignal.timeout(5) }), (error) => error.name === "TimeoutError");
  }
  controller.abort(reason);
  await Promise.all(left);
  rmSync(silent);
  await Promise.all([store, events, txns, memory].map((client) => client.close()));
  await Promise.all(blocked);

  for (const where of ["log:store", "log:txn"]) await fill(where);
  // Now by the time that the client was given.
  const timed = {
    KvsClient: await kvs.KvsClient.connect("log:store", { ...small, timeoutMs: 15 }),
    TransactionClient: await kvs.TransactionClient.connect("log:txn", { ...small, timeoutMs: 15 }),
    EventsClient: await kvs.EventsClient.connect("log:events", { timeoutMs: 15 }),
  };
  const commit = timed.TransactionClient.begin();
  await commit.put("commit-3", "v");
  timed.Transaction = (isCommit) => (isCommit ? commit : timed.TransactionClient.begin({ pessimistic: true }));
  timed.Snapshot = () => timed.TransactionClient.snapshot();
  writeFileSync(silent, "");
  const waiting = Array.from({ length: 4 }, () => timed.KvsClient.checksum({}, { timeoutMs: 600000 }));
  for (const [name, calls] of Object.entries(CALLS))
    for (const [call, run] of Object.entries(timed[name] ? calls : {}))
      await check(name, call, "by the client's time", () => run(timed[name], {}), (error) => error instanceof kvs.TimeoutError);
  // A call's own time counts for more, also when it is longer.
  const longer = timed.KvsClient.set("k", "v", { timeoutMs: 600000 });
  const chore = timed.TransactionClient.garbageCollect(1, { timeoutMs: 600000 });
  rmSync(silent);
  await Promise.all([longer, chore, ...waiting]);
  for (const name of ["KvsClient", "TransactionClient", "EventsClient"]) await timed[name].close();
}

main().then(
  () => console.log(wrong.length === 0 ? "all given up" : wrong.join("\n")),
  (error) => console.log(error),
);
