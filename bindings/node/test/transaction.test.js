"use strict";
const assert = require("node:assert/strict");
const { mkdtempSync, rmSync } = require("node:fs");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { after, before, describe, it } = require("node:test");
const kvs = require("..");
const { startServer } = require("./server");

const utf8 = { encoding: "utf8" };

async function all(iterable) {
  const found = [];
  for await (const one of iterable) found.push(one);
  return found;
}

// The same list in process and on a server.
function transactionTests(name, open) {
  describe(name, () => {
    let client;
    before(async () => (client = await open()));
    after(() => client.close());

    for (const pessimistic of [false, true]) {
      const kind = pessimistic ? "pessimistic" : "optimistic";

      it(`commits and rolls back (${kind})`, async () => {
        const txn = client.begin({ pessimistic });
        await txn.put("a", "1");
        await txn.put(Buffer.from("b"), new Uint8Array([50]));
        assert.equal(await txn.get("a", utf8), "1");
        assert.equal(await client.snapshot().get("a"), undefined);
        const start = await txn.timestamp();
        const timestamp = await txn.commit();
        assert.equal(typeof timestamp, "bigint");
        assert.ok(timestamp > start);
        assert.deepEqual(await client.snapshot().batchGet(["b", "none", "a"], utf8), ["2", undefined, "1"]);
        assert.equal(await client.snapshot(start).get("a"), undefined);
        await assert.rejects(txn.get("a"), kvs.InvalidArgumentError);
        const other = client.begin({ pessimistic });
        await other.delete("a");
        assert.equal(await other.exists("a"), false);
        await other.rollback();
        assert.equal(await client.snapshot().exists("a"), true);
        await client.run(async (txn) => txn.mutate([{ delete: "a" }, { delete: "b" }]));
      });

      it(`inserts only what is not there (${kind})`, async () => {
        await client.run((txn) => txn.insert("once", "1"), { pessimistic });
        await assert.rejects(client.run((txn) => txn.insert("once", "2"), { pessimistic }), kvs.AlreadyExistsError);
        await client.run((txn) => txn.delete("once"), { pessimistic });
      });
    }

    it("scans over what it has written", async () => {
      await client.run(async (txn) => {
        for (let i = 0; i < 50; i++) await txn.put(`scan-${String(i).padStart(2, "0")}`, String(i));
      });
      const txn = client.begin();
      await txn.delete("scan-03");
      await txn.put("scan-03x", "new");
      const pairs = await all(txn.scan({ prefix: "scan-", ...utf8, pageSize: 7 }));
      assert.equal(pairs.length, 50);
      assert.deepEqual(pairs.slice(2, 5), [["scan-02", "2"], ["scan-03x", "new"], ["scan-04", "4"]]);
      assert.deepEqual(await all(txn.scanKeys({ prefix: "scan-", ...utf8, limit: 2, reverse: true })), ["scan-49", "scan-48"]);
      await txn.rollback();
      assert.equal((await all(client.snapshot().scan({ prefix: "scan-" }))).length, 50);
      await client.unsafeDestroyRange({ prefix: "scan-" });
      assert.equal((await all(client.snapshot().scan({ prefix: "scan-" }))).length, 0);
    });

    it("tells conflicts, and what they were about", async () => {
      const first = client.begin(), second = client.begin();
      await first.get("conflict");
      await second.timestamp();
      await first.put("conflict", "1");
      await second.put("conflict", "2");
      await first.commit();
      await assert.rejects(second.commit(), (error) => {
        assert.ok(error instanceof kvs.WriteConflictError, error.message);
        assert.equal(error.code, "WRITE_CONFLICT");
        assert.equal(error.retryTransaction, true);
        assert.equal(error.maybeCommitted, false);
        assert.equal(error.details.key.toString(), "conflict");
        assert.equal(typeof error.details.conflictCommitTimestamp, "bigint");
        return true;
      });
      assert.equal(await client.snapshot().get("conflict", utf8), "1");
    });

    it("tries again what a busy moment has stopped", async () => {
      // The predicate is libkvs's: what is worth another try by itself is so with its transaction.
      for (const name of ["WriteConflict", "Deadlock", "LockTimeout", "Busy", "Timeout", "ConnectionLost", "Connect"])
        assert.equal(new kvs[`${name}Error`]().retryTransaction, true, name);
      for (const name of ["OutcomeUnknown", "NotFound", "Closed", "TxnTooLarge"])
        assert.equal(new kvs[`${name}Error`]().retryTransaction, false, name);
      let attempts = 0;
      const given = await client.run(async () => {
        if (++attempts < 3) throw new kvs.BusyError();
        return attempts;
      });
      assert.equal(given, 3);
      await assert.rejects(client.run(async () => { attempts++; throw new kvs.BusyError(); }, { attemptsMax: 2 }), kvs.BusyError);
      assert.equal(attempts, 5);
    });

    it("waits for locks, or does not", async () => {
      const first = client.begin({ pessimistic: true });
      await first.lockKeys(["locked"]);
      const second = client.begin({ pessimistic: true });
      await assert.rejects(second.lockKeys(["locked"], { waitMs: "none" }), (error) => error.code === "LOCK_TIMEOUT");
      const waits = second.getForUpdate("locked", utf8);
      await first.put("locked", "by the first");
      await first.commit();
      assert.equal(await waits, "by the first");
      await second.rollback();
    });

    it("shares locks", async () => {
      const [one, two, writer] = [1, 2, 3].map(() => client.begin({ pessimistic: true, lockWaitMs: "none" }));
      await assert.rejects(one.lockKeys(["shared"], { shared: true }), (error) => error.code === "INVALID_ARGUMENT");
      await Promise.all([one.put("shared-one", "1"), one.lockKeys(["shared"], { shared: true })]);
      await Promise.all([two.put("shared-two", "2"), two.lockKeys(["shared"], { shared: true })]);
      await assert.rejects(one.put("shared", "x"), (error) => error.code === "INVALID_ARGUMENT");
      await assert.rejects(writer.put("shared", "x"), (error) => error.code === "LOCK_TIMEOUT");
      await one.commit();
      await assert.rejects(writer.put("shared", "x"), (error) => error.code === "LOCK_TIMEOUT");
      await two.commit();
      const last = client.begin({ pessimistic: true }); // what the commits have left is taken away in the background
      await last.put("shared", "free");
      await last.commit();
      await writer.rollback();
      assert.deepEqual(await client.snapshot().batchGet(["shared", "shared-one", "shared-two"], utf8), ["free", "1", "2"]);
    });

    it("finds deadlocks", async () => {
      const [first, second] = [client.begin({ pessimistic: true }), client.begin({ pessimistic: true })];
      await first.lockKeys(["dead-a"]);
      await second.lockKeys(["dead-b"]);
      const outcomes = await Promise.allSettled([first.lockKeys(["dead-b"]), second.lockKeys(["dead-a"])].map((lock, i) =>
        lock.catch(async (error) => {
          await [first, second][i].rollback();
          throw error;
        })));
      const errors = outcomes.filter(({ status }) => status === "rejected").map(({ reason }) => reason.code);
      assert.deepEqual(errors, ["DEADLOCK"]);
      for (const txn of [first, second]) await txn.rollback().catch(() => {});
    });

    it("keeps the sum of a bank", async () => {
      const accounts = Array.from({ length: 10 }, (_, i) => `account-${i}`);
      await client.run(async (txn) => {
        for (const account of accounts) await txn.put(account, "100");
      });
      const sum = (values) => values.reduce((total, value) => total + Number(value), 0);
      let reading = true;
      const reader = (async () => {
        while (reading) assert.equal(sum(await client.snapshot().batchGet(accounts, utf8)), 1000);
      })();
      await Promise.all(Array.from({ length: 8 }, (_, w) => (async () => {
        for (let i = 0; i < 20; i++) {
          const from = accounts[(w * 7 + i) % 10], to = accounts[(w * 3 + i * 5 + 1) % 10];
          if (from === to) continue;
          await client.run(async (txn) => {
            const [a, b] = await txn.batchGetForUpdate([from, to], utf8);
            await txn.put(from, String(Number(a) - 1));
            await txn.put(to, String(Number(b) + 1));
          }, { pessimistic: w % 2 === 0, attemptsMax: 100 });
        }
      })()));
      reading = false;
      await reader;
      assert.equal(sum(await client.snapshot().batchGet(accounts, utf8)), 1000);
    });

    it("rolls back what is left without a commit", async () => {
      await (async () => {
        const txn = client.begin({ pessimistic: true });
        await txn.put("left", "1");
        await txn[Symbol.asyncDispose](); // what await using says
      })();
      const next = client.begin({ pessimistic: true });
      await next.lockKeys(["left"], { waitMs: "none" });
      assert.equal(await next.get("left"), undefined);
      await next.rollback();
      (() => { client.begin({ pessimistic: true }).lockKeys(["forgotten"]); })();
      for (let i = 0; i < 1000; i++) {
        globalThis.gc();
        const another = client.begin({ pessimistic: true });
        const error = await another.lockKeys(["forgotten"], { waitMs: "none" }).catch((e) => e);
        await another.rollback();
        if (error === undefined) return;
      }
      assert.fail("the lock of a forgotten transaction is still there");
    });

    it("gives timestamps that no number could hold", async () => {
      const [first, second] = [await client.currentTimestamp(), await client.currentTimestamp()];
      assert.ok(second > first);
      const age = Date.now() - Number(first >> 18n);
      assert.ok(Math.abs(age) < 60000);
      for (const rounded of [Number(first), 1.5, NaN, "1"]) { // as a number it would be another moment
        assert.throws(() => client.snapshot(rounded), { name: "TypeError", message: /BigInt/ });
        await assert.rejects(client.garbageCollect(rounded), { name: "TypeError" });
        await assert.rejects(client.cleanupLocks({}, rounded), { name: "TypeError" });
        await assert.rejects(client.gc(rounded), { name: "TypeError" });
      }
    });

    it("collects garbage", async () => {
      await client.run((txn) => txn.put("old", "1"));
      await client.run((txn) => txn.put("old", "2"));
      const now = await client.currentTimestamp();
      const holds = await client.garbageCollect(now);
      assert.ok(holds <= now);
      assert.equal(await client.snapshot().get("old", utf8), "2");
      assert.equal(await client.cleanupLocks({}, now), 0);
    });

    it("says what is wrong with arguments", async () => {
      const txn = client.begin();
      await assert.rejects(txn.get(1), { name: "TypeError" });
      await assert.rejects(txn.put("k", null), { name: "TypeError" });
      await assert.rejects(txn.mutate([{ put: "k", value: 5 }]), { name: "TypeError" });
      await assert.rejects(txn.lockKeys("k", { waitMs: "x" }), { name: "TypeError" });
      assert.throws(() => client.begin({ pessimistic: 1 }), { name: "TypeError" });
      assert.throws(() => client.begin({ priority: "some" }), { name: "TypeError" });
      await txn.rollback();
    });
  });
}

transactionTests("memory:", () => kvs.TransactionClient.connect("memory:"));

describe("a directory and a server", () => {
  const directory = mkdtempSync(join(tmpdir(), "kvs-node-"));
  let server;
  before(async () => (server = await startServer({ tikv: true })));
  after(async () => {
    await server[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true });
  });
  transactionTests("log:DIR", () => kvs.TransactionClient.connect(`log:${directory}/txn`));
  transactionTests("tikv://", () => kvs.TransactionClient.connect(server.pd));
  transactionTests("tikv:// with a keyspace", () => kvs.TransactionClient.connect(server.pd, { keyspace: "DEFAULT" }));

  it("runs a program written for the first client", async () => {
    const tikv = kvs;
    const client = await new tikv.TransactionClient(server.pd);
    const txn = await client.begin(true);
    await txn.put("k1", "v1");
    await txn.insert("k2", "v2");
    await txn.put("k3", "v3");
    await txn.lock_keys(["k4"]);
    assert.equal(await txn.get("k1"), "v1");
    assert.equal(await txn.get_for_update("k9"), undefined);
    assert.deepEqual(await txn.batch_get(["k1", "k9"]), [["k1", "v1"]]);
    assert.deepEqual(await txn.batch_get_for_update(["k2"]), [["k2", "v2"]]);
    assert.equal(await txn.key_exists("k3"), true);
    assert.deepEqual(await txn.scan("k1", "k3", 10, true, false), [["k1", "v1"], ["k2", "v2"]]);
    assert.deepEqual(await txn.scan_keys("k1", "k3", 10, false, true), ["k2", "k3"]);
    await txn.delete("k3");
    await txn.commit();
    const snapshot = await client.snapshot(await client.current_timestamp(), true);
    assert.equal(await snapshot.get("k1"), "v1");
    assert.equal(await snapshot.key_exists("k3"), false);
    assert.deepEqual(await snapshot.batch_get(["k2", "k3"]), [["k2", "v2"]]);
    assert.deepEqual(await snapshot.scan("k1", "k2", 10, true, true), [["k1", "v1"], ["k2", "v2"]]);
    assert.deepEqual(await snapshot.scan("k1", undefined, 2, true, false), [["k1", "v1"], ["k2", "v2"]]);
    assert.equal((await snapshot.scan(undefined, undefined, 3, true, false)).length, 3);
    assert.equal((await snapshot.scan_keys(undefined, "k2", 1000, false, false)).at(-1), "k1");
    const { OperationAfterCommitError, WriteConflictError, AlreadyExistError } = tikv;
    await assert.rejects(txn.get("k1"), OperationAfterCommitError);
    await assert.rejects(txn.commit(), OperationAfterCommitError);
    const [first, second] = [await client.begin(false), await client.begin(false)];
    await Promise.all([first.get("k1"), second.get("k1")]);
    await first.put("k1", "first");
    await second.put("k1", "second");
    assert.equal(typeof await first.commit(), "bigint");
    await assert.rejects(second.commit(), WriteConflictError);
    await assert.rejects((await client.begin(true)).insert("k2", "again"), AlreadyExistError);
    await assert.rejects(client.begin(true).then((other) => other.scan("a", "b")), TypeError); // no limit
    assert.equal(await client.gc(await client.current_timestamp()), true);
    await client.close();
  });
});
