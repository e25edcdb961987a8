"use strict";
const assert = require("node:assert/strict");
const { mkdtempSync, rmSync } = require("node:fs");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { after, before, describe, it } = require("node:test");
const kvs = require("..");
const { startServer } = require("./server");

// The same list on each kind of store.
function storeTests(name, open) {
  describe(name, () => {
    let client;
    before(async () => (client = await open()));
    after(() => client.close());

    it("sets, gets, removes", async () => {
      await client.set("one", "1");
      assert.equal(await client.get("one", { encoding: "utf8" }), "1");
      const bytes = await client.get("one");
      assert.ok(Buffer.isBuffer(bytes));
      assert.deepEqual(bytes, Buffer.from("1"));
      assert.equal(await client.get("nothing"), undefined);
      assert.equal(await client.exists("one"), true);
      assert.equal(await client.remove("one"), true);
      assert.equal(await client.remove("one"), false);
      assert.equal(await client.exists("one"), false);
    });

    it("takes and gives bytes of every kind", async () => {
      const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
      await client.set(all, all);
      assert.deepEqual(await client.get(new Uint8Array(all)), all);
      await client.set("empty", "");
      assert.equal((await client.get("empty")).length, 0);
      assert.equal(await client.get("empty", { encoding: "utf8" }), "");
      await client.set("ключ", "значение");
      assert.equal(await client.get(Buffer.from("ключ"), { encoding: "utf8" }), "значение");
      const part = new Uint8Array(all.buffer, all.byteOffset + 65, 3);
      await client.set(part, "part of a larger array");
      assert.equal(await client.get("ABC", { encoding: "utf8" }), "part of a larger array");
    });

    it("copies what it is given before the call returns", async () => {
      const value = Buffer.from("before");
      const set = client.set("copied", value);
      value.fill("x");
      await set;
      assert.equal(await client.get("copied", { encoding: "utf8" }), "before");
    });

    it("keeps values of every size", async () => {
      for (const size of [0, 1, 255, 4096, 65535, 65536, 1 << 20, 5 << 20]) {
        const value = Buffer.alloc(size, size % 251);
        await client.set("size", value);
        assert.ok((await client.get("size")).equals(value), `${size} bytes`);
      }
      await client.remove("size");
    });

    it("gives results that later calls do not change", async () => {
      const keys = Array.from({ length: 200 }, (_, i) => `kept-${i}`);
      await Promise.all(keys.map((key) => client.set(key, key.repeat(20))));
      const values = await Promise.all(keys.map((key) => client.get(key)));
      await Promise.all(keys.map((key) => client.set(key, "another")));
      await Promise.all(keys.map((key) => client.get(key)));
      keys.forEach((key, i) => assert.equal(values[i].toString(), key.repeat(20)));
      await client.removeRange({ prefix: "kept-" });
    });

    it("gives empty values, also when the memory of one was given away", async () => {
      await client.set("empty", "");
      for (let i = 0; i < 3; i++) {
        const value = await client.get("empty");
        assert.equal(value.length, 0);
        structuredClone(value, { transfer: [value.buffer] });
      }
      assert.deepEqual(await client.batchGet(["empty", "nothing"]), [Buffer.alloc(0), undefined]);
    });

    it("compares and sets", async () => {
      assert.deepEqual(await client.compareAndSet("cas", undefined, "1"), { swapped: true, previous: undefined });
      assert.deepEqual(await client.compareAndSet("cas", undefined, "2", { encoding: "utf8" }), {
        swapped: false,
        previous: "1",
      });
      assert.deepEqual(await client.compareAndSet("cas", "no", "2", { encoding: "utf8" }), {
        swapped: false,
        previous: "1",
      });
      assert.equal((await client.compareAndSet("cas", "1", "2")).swapped, true);
      await client.remove("cas");
      assert.deepEqual(await client.compareAndSet("cas", "2", "3"), { swapped: false, previous: undefined });
    });

    it("lets keys end", async () => {
      await client.set("ends", "soon", { ttlMs: 1 });
      while ((await client.get("ends")) !== undefined);
      await client.set("ends", "later", { ttlMs: 1000000 });
      assert.equal(await client.get("ends", { encoding: "utf8" }), "later");
    });

    it("works in batches", async () => {
      const pairs = Array.from({ length: 1000 }, (_, i) => [`batch-${String(i).padStart(4, "0")}`, `v${i}`]);
      await client.batchSet(pairs);
      const keys = pairs.map(([key]) => key);
      assert.deepEqual(
        await client.batchGet(["nothing", ...keys], { encoding: "utf8" }),
        [undefined, ...pairs.map(([, value]) => value)],
      );
      assert.equal(await client.count({ prefix: "batch-" }), 1000);
      await client.batch([
        { set: "batch-new", value: "1" },
        { remove: "batch-0000" },
        { removeRange: { start: "batch-0500", end: "batch-0510" } },
        { set: "batch-0505", value: "again" },
      ]);
      assert.equal(await client.count({ prefix: "batch-" }), 991);
      assert.equal(await client.get("batch-0505", { encoding: "utf8" }), "again");
      assert.equal(await client.removeRange({ prefix: "batch-" }), 991);
    });

    it("packs strings and bytes of every kind, in batches of every size", async () => {
      const kinds = [(i) => `pack-${i}`, (i) => `pack-\u00e9${i}`, (i) => `pack-\u{1f511}${i}`, (i) => Buffer.from(`pack-b${i}`), (i) => new Uint8Array(Buffer.from(`pack-u${i}`))];
      for (const count of [1, 2, 7, 300, 3000, 5]) {
        const keys = Array.from({ length: count }, (_, i) => kinds[i % kinds.length](i));
        const values = keys.map((key, i) => (i % 3 === 0 ? "" : i % 3 === 1 ? Buffer.from(key) : key));
        await client.batchSet(keys.map((key, i) => [key, values[i]]));
        const found = await client.batchGet(new Set(keys));
        assert.deepEqual(found, values.map((value) => Buffer.from(value)));
      }
      await client.removeRange({ prefix: "pack-" });
    });

    it("scans forward and backward, by pages of any size", async () => {
      const keys = Array.from({ length: 300 }, (_, i) => `scan-${String(i).padStart(3, "0")}`);
      await client.batchSet(keys.map((key) => [key, `of ${key}`]));
      for (const pageSize of [undefined, 1, 7, 300]) {
        const found = [];
        for await (const [key, value] of client.scan({ prefix: "scan-", encoding: "utf8", pageSize })) {
          assert.equal(value, `of ${key}`);
          found.push(key);
        }
        assert.deepEqual(found, keys);
      }
      const some = [];
      for await (const key of client.scanKeys({ start: "scan-100", end: "scan-200", reverse: true, limit: 3 }))
        some.push(key.toString());
      assert.deepEqual(some, ["scan-199", "scan-198", "scan-197"]);
      for await (const key of client.scanKeys({ prefix: "scan-" })) {
        assert.equal(key.toString(), "scan-000");
        break; // ends the iterator
      }
      await client.removeRange({ prefix: "scan-" });
      for await (const _ of client.scan({ prefix: "scan-" })) assert.fail("nothing is left");
    });

    it("keeps the order of calls", async () => {
      const sets = [];
      for (let i = 0; i < 500; i++) sets.push(client.set("order", String(i)));
      const value = client.get("order", { encoding: "utf8" });
      await Promise.all(sets);
      await value;
      assert.equal(await client.get("order", { encoding: "utf8" }), "499");
    });

    it("tells statistics, syncs, compacts, pings", async () => {
      assert.equal(typeof (await client.stats()), "object");
      await client.sync();
      await client.compact();
      await client.ping();
    });

    it("says what is wrong with arguments, in a rejection", async () => {
      for (const key of [undefined, null, 5, {}, [], new Float64Array(1), true]) {
        await assert.rejects(client.get(key), { name: "TypeError", message: /the key must be a Buffer/ });
        await assert.rejects(client.set(key, "v"), { name: "TypeError", message: /the key must be a Buffer/ });
        await assert.rejects(client.remove(key), { name: "TypeError" });
        await assert.rejects(client.set("k", key), { name: "TypeError", message: /the value must be a Buffer/ });
      }
      await assert.rejects(client.batchGet([1]), { name: "TypeError" });
      await assert.rejects(client.batchGet(5), { name: "TypeError" });
      await assert.rejects(client.set("k", "v", { ttlMs: -1 }), { name: "TypeError" });
      await assert.rejects(client.set("k", "v", { ttlMs: "1" }), { name: "TypeError" });
      await assert.rejects(client.get("k", { timeoutMs: -1 }), { name: "TypeError" });
      await assert.rejects(client.count({ prefix: "a", end: "b" }), { name: "TypeError" });
      await assert.rejects(client.get(""), kvs.InvalidArgumentError);
      await assert.rejects(client.set("k".repeat(8193), "v"), kvs.TooLargeError);
      assert.equal(await client.get("k"), undefined);
    });

    it("takes no slip of the pen for all keys", async () => {
      await client.batchSet(new Map([["slip-1", "1"], ["slip-2", "2"]]));
      for (const range of [{}, { prefx: "slip-" }, { prefix: undefined }]) {
        await assert.rejects(client.removeRange(range), { name: "TypeError" });
        await assert.rejects(client.batch([{ removeRange: range }]), { name: "TypeError" });
      }
      await assert.rejects(client.count({ prefx: "slip-" }), { name: "TypeError", message: /prefx/ });
      assert.equal(await client.get("slip-1", { encoding: "utf8", timeoutMs: 30000.5 }), "1");
      await client.batch([{ removeRange: { prefix: "slip-" } }]);
      assert.equal(await client.count({ prefix: "slip-" }), 0);
      await client.set("z", "1");
      const count = await client.count();
      assert.equal(await client.removeRange({ start: "" }), count);
      assert.equal(await client.count(), 0);
    });

    it("gives up when the signal says so", async () => {
      await assert.rejects(client.get("k", { signal: AbortSignal.abort() }), { name: "AbortError" });
      const controller = new AbortController();
      const reason = new Error("enough");
      const asked = client.get("k", { signal: controller.signal });
      controller.abort(reason);
      await asked.catch((error) => assert.equal(error, reason)); // it may have been done before
    });
  });
}

storeTests("memory:", () => kvs.KvsClient.connect("memory:"));

describe("a directory and a server", () => {
  const directory = mkdtempSync(join(tmpdir(), "kvs-node-"));
  let server;
  before(async () => (server = await startServer()));
  after(async () => {
    await server[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true });
  });
  storeTests("log:DIR", () => kvs.KvsClient.connect(`log:${directory}/store`, { sync: "never" }));
  storeTests("kvs://", () => kvs.KvsClient.connect(`kvs://${server.address}`));

  it("keeps what was set when the store is opened again", async () => {
    const url = `log:${directory}/again`;
    const first = await kvs.KvsClient.connect(url);
    await first.set("kept", "yes");
    await assert.rejects(kvs.KvsClient.connect(url), kvs.LockedError);
    await first.close();
    await first.close(); // a second time is no harm
    await assert.rejects(first.get("kept"), kvs.ClosedError);
    const second = await kvs.KvsClient.connect(url, { mustExist: true });
    assert.equal(await second.get("kept", { encoding: "utf8" }), "yes");
    await second.close();
  });
});

describe("opening", () => {
  it("is by connect alone", () => {
    assert.throws(() => new kvs.KvsClient(), { name: "TypeError", message: /connect/ });
    assert.throws(() => new kvs.EventsClient(), { name: "TypeError", message: /connect/ });
    for (const url of ["esdb://127.0.0.1:1113", null, 1]) {
      assert.throws(() => new kvs.EventsClient(url), { name: "TypeError", message: /connect/ });
    }
  });

  it("fails with an error that says what, where and what to do", async () => {
    await assert.rejects(kvs.KvsClient.connect("redis://x"), {
      name: "InvalidArgumentError",
      code: "INVALID_ARGUMENT",
      message: /known are/,
    });
    await assert.rejects(kvs.KvsClient.connect("kvs://127.0.0.1:1"), (error) => {
      assert.ok(error instanceof kvs.ConnectError && error instanceof kvs.KvsError && error instanceof Error);
      assert.match(error.message, /127\.0\.0\.1:1/);
      assert.equal(error.retryable, true);
      assert.equal(error.maybeCommitted, false);
      return true;
    });
    await assert.rejects(kvs.KvsClient.connect(5), { name: "TypeError" });
    await assert.rejects(kvs.KvsClient.connect("memory:", { sync: "maybe" }), { name: "TypeError" });
    await assert.rejects(kvs.KvsClient.connect("memory:", { connections: "many" }), { name: "TypeError" });
    await assert.rejects(kvs.KvsClient.connect("log:/nowhere", { mustExist: true }), kvs.NoDirectoryError);
  });
});
