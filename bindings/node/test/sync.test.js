// The blocking clients: what they give, what they throw, and how they and their worker threads end.
"use strict";
const assert = require("node:assert/strict");
const { join } = require("node:path");
const { after, before, describe, it } = require("node:test");
const { setImmediate: turn } = require("node:timers/promises");
const { Worker } = require("node:worker_threads");
const sync = require("../dist/sync");
const { collectUntil, runScript: run } = require("./script");
const { startServer } = require("./server");

const PACKAGE = require.resolve("../dist/sync");
const runScript = (text, ...args) => run(`const sync = require(${JSON.stringify(PACKAGE)});\n${text}`, ...args);

describe("blocking clients", () => {
  let server;
  before(async () => (server = await startServer({ tikv: true })));
  after(() => server[Symbol.asyncDispose]());

  it("are as the first client's: raw", () => {
    const client = new sync.RawClient(server.pd);
    assert.equal(client.put("k1", "v1", "default"), undefined);
    assert.equal(client.get("k1", "default"), "v1");
    assert.equal(client.batch_put([["k2", "v2"], ["k3", "ü"], ["k4", "v4"], ["k5", "v5"]], "default"), undefined);
    assert.deepEqual(client.batch_get(["k1", "k9", "k3"], "default"), [["k1", "v1"], ["k3", "ü"]]);
    assert.deepEqual(client.scan("k1", "k4", 10, true, false, "default"), [["k1", "v1"], ["k2", "v2"], ["k3", "ü"]]);
    assert.deepEqual(client.scan("k1", "k3", 10, false, true, "default"), [["k2", "v2"], ["k3", "ü"]]);
    assert.deepEqual(client.scan_keys("k1", "k5", 2, true, false, "default"), ["k1", "k2"]);
    assert.deepEqual(client.scan_keys(undefined, undefined, 10), ["k1", "k2", "k3", "k4", "k5"]);
    assert.equal(client.delete_range("k1", "k2", true, true, "default"), undefined);
    client.batch_delete(["k3"], "default");
    client.delete("k4", "default");
    assert.deepEqual(client.scan_keys("k", "l", 10, true, false, "default"), ["k5"]);
    assert.equal(client.get("k1", "default"), undefined);
    client.put("k5", "of write", "write");
    assert.equal(client.get("k5"), "v5");
    client.delete("k5", "write");
    client.delete("k5");
    client.close();
  });

  for (const where of ["a server", "memory"]) {
    it(`are as the first client's: transactions, ${where}`, () => {
      const client = new sync.TransactionClient(where === "memory" ? "memory:" : server.pd);
      const txn = client.begin(true);
      txn.put("t1", "v1");
      txn.insert("t2", "v2");
      txn.lock_keys(["t3", "t4"]);
      assert.equal(txn.get("t1"), "v1");
      assert.equal(txn.get_for_update("t3"), undefined);
      assert.deepEqual(txn.batch_get_for_update(["t1", "t3", "t2"]), [["t1", "v1"], ["t2", "v2"]]);
      const committed = txn.commit();
      assert.equal(typeof committed, "bigint");
      assert.ok(client.current_timestamp() >= committed);

      const old = client.snapshot(committed, false);
      const next = client.begin(false);
      next.delete("t1");
      next.put("t2", "w2");
      assert.deepEqual([next.key_exists("t1"), next.key_exists("t2")], [false, true]);
      next.commit();
      assert.deepEqual(old.batch_get(["t1", "t2", "t3"]), [["t1", "v1"], ["t2", "v2"]]);
      assert.deepEqual(old.scan("t", "u", 10, true, false), [["t1", "v1"], ["t2", "v2"]]);
      assert.deepEqual(old.scan_keys(undefined, undefined, 1), ["t1"]);
      assert.deepEqual([old.get("t1"), old.key_exists("t1")], ["v1", true]);
      assert.deepEqual(client.snapshot(client.current_timestamp(), true).scan("t", "u", 10), [["t2", "w2"]]);

      const undone = client.begin(true);
      undone.put("t2", "x2");
      undone.rollback();
      assert.equal(client.begin().get("t2"), "w2");
      assert.equal(client.begin().commit(), undefined);
      assert.equal(client.gc(committed), true);
      client.close();
    });
  }

  it("are there for import, and in worker threads", async () => {
    const { RawClient, KvsError } = await import("../dist/sync.mjs");
    assert.equal(RawClient, sync.RawClient);
    assert.equal(KvsError, require("..").KvsError);
    const text = `
      const { workerData, parentPort } = require("node:worker_threads");
      const client = new (require(workerData.package).RawClient)(workerData.pd);
      client.put("of-worker", "yes");
      parentPort.postMessage(client.get("of-worker"));`;
    const worker = new Worker(text, { eval: true, workerData: { package: PACKAGE, pd: server.pd } });
    const came = new Promise((resolve, reject) => worker.on("message", resolve).on("error", reject));
    const ended = new Promise((resolve) => worker.on("exit", resolve));
    assert.deepEqual([await came, await ended], ["yes", 0]); // without a close
  });

  it("throw what the other clients reject with", () => {
    const client = new sync.TransactionClient(server.pd);
    const [first, second] = [client.begin(false), client.begin(false)];
    for (const txn of [first, second]) txn.put("conflict", String(Math.random()));
    first.commit();
    assert.throws(() => second.commit(), (error) => {
      assert.ok(error instanceof sync.WriteConflictError && error instanceof require("..").KvsError);
      assert.deepEqual([error.code, error.retryable, error.retryTransaction, error.maybeCommitted], ["WRITE_CONFLICT", false, true, false]);
      assert.ok(Buffer.isBuffer(error.details.key) && typeof error.details.conflictTimestamp === "bigint");
      return /test.sync\.test\.js/.test(error.stack); // where the caller is
    });
    assert.throws(() => first.put("a", "b"), sync.OperationAfterCommitError);
    const again = client.begin(true);
    assert.throws(() => { again.insert("conflict", "v"); again.commit(); }, sync.AlreadyExistError);
    assert.throws(() => client.snapshot(-1.5, false), { name: "TypeError" });
    client.close();

    const raw = new sync.RawClient(server.pd);
    assert.throws(() => raw.get(5), { name: "TypeError" });
    assert.throws(() => raw.get(() => {}), { name: "TypeError" });
    assert.throws(() => raw.get("k", "other"), { name: "TypeError", message: /column family/ });
    assert.throws(() => raw.scan("a", "b"), { name: "TypeError", message: /limit/ });
    assert.throws(() => raw.put("", "v"), sync.InvalidArgumentError);
    raw.put("still", "there");
    assert.equal(raw.get("still"), "there");
    raw.close();
    raw.close();
    assert.throws(() => raw.get("still"), sync.ClosedError);
    raw[Symbol.dispose]();
    assert.throws(() => new sync.RawClient("127.0.0.1:1", { connectTimeoutMs: 200 }), (error) =>
      error instanceof sync.KvsError && error.retryable && /127\.0\.0\.1:1/.test(error.message));
    assert.throws(() => new sync.RawClient(5), { name: "TypeError" });
  });

  it("say what is amiss with the addon", async () => {
    const { out } = await runScript(`
      process.env.KVS_NODE_ADDON = ${JSON.stringify(join(__dirname, "script.js"))}; // is none
      try { new sync.RawClient("127.0.0.1:1"); } catch (error) { console.log(error.name, error.message); }`);
    assert.match(out, /native\.start/);
  });

  it("say that the worker thread has died, and do not hang", async () => {
    const client = new sync.RawClient(server.pd);
    client.put("before", "v");
    client.bridge.port.postMessage(null); // which it throws at
    assert.throws(() => client.put("after", "v"), (error) => error instanceof sync.OutcomeUnknownError && error.maybeCommitted);
    assert.throws(() => client.get("before"), (error) => error instanceof sync.ClosedError && /worker/.test(error.message));
    client.close();

    const silent = new sync.RawClient(server.pd);
    void silent.bridge.worker.terminate(); // of this end no code of the worker hears
    assert.throws(() => silent.put("after", "v"), sync.OutcomeUnknownError);
    assert.throws(() => silent.get("after"), sync.ClosedError);
    await turn();
  });

  it("wait longer than beats may be missed", () => {
    const [holder, waiter] = [0, 1].map(() => new sync.TransactionClient(server.pd));
    const [held, waits] = [holder.begin(true), waiter.begin(true)];
    held.put("held", "v");
    assert.throws(() => waits.put("held", "w"), sync.LockTimeoutError); // after 20 seconds
    held.commit();
    assert.equal(waiter.begin().get("held"), "v");
    holder.close();
    waiter.close();
  });

  it("end with the process, closed or not", async () => {
    const moments = {
      "open": "new sync.RawClient(pd).put('k', 'v'); console.log('done')",
      "many": "const all = Array.from({ length: 4 }, () => new sync.RawClient(pd)); for (const one of all) one.put('k', 'v'); console.log('done')",
      "with a transaction": "new sync.TransactionClient(pd).begin(true).put('open' + Math.random(), 'v'); console.log('done')",
      "in memory": "const t = new sync.TransactionClient('memory:').begin(false); t.put('k', 'v'); t.commit(); console.log('done')",
      "closed": "const c = new sync.RawClient(pd); c.put('k', 'v'); c.close(); console.log('done')",
      "forgotten": "new sync.RawClient(pd).get('k'); gc(); setImmediate(() => { gc(); console.log('done'); })",
      "not opened": "try { new sync.RawClient(5); } catch { console.log('done'); }",
    };
    for (const [moment, script] of Object.entries(moments))
      for (const exit of ["", "; setImmediate(() => setImmediate(() => process.exit()))"])
        assert.deepEqual({ moment, ...(await runScript(`const [pd] = process.argv.slice(1); ${script}${exit}`, server.pd)) },
          { moment, status: 0, signal: null, out: "done\n", err: "" });
  });

  it("end their worker threads when they are closed or forgotten", async () => {
    let ended = 0;
    const make = () => {
      const client = new sync.RawClient(server.pd);
      client.bridge.worker.on("exit", () => ended++);
      return client;
    };
    make().close();
    await collectUntil(() => ended === 1);
    assert.equal(ended, 1);
    (() => { for (let i = 0; i < 3; i++) make().get("k"); })();
    await collectUntil(() => ended === 4);
    assert.equal(ended, 4);
  });

  it("roll forgotten transactions back, and keep the client of one that is not", async () => {
    const other = new sync.TransactionClient(server.pd);
    let kept = (() => new sync.TransactionClient(server.pd).begin(true))();
    kept.put("kept", "v");
    const gone = (() => {
      const txn = other.begin(true);
      txn.put("forgotten", "v");
      return new WeakRef(txn);
    })();
    await collectUntil(() => gone.deref() === undefined);
    for (let i = 0; i < 50; i++) await turn(); // the word of it is on its way
    const next = other.begin(true);
    assert.equal(next.get_for_update("forgotten"), undefined); // waits for no lock
    next.rollback();
    assert.equal(typeof kept.commit(), "bigint");
    other.close();
  });
});
