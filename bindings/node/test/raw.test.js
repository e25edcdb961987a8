"use strict";
const assert = require("node:assert/strict");
const { after, before, describe, it } = require("node:test");
const kvs = require("..");
const { startServer } = require("./server");

async function all(iterable) {
  const found = [];
  for await (const one of iterable) found.push(one);
  return found;
}

for (const keyspace of [undefined, "DEFAULT"]) {
  describe(keyspace === undefined ? "API V1" : "API V2", () => {
    let server, client;
    before(async () => {
      server = await startServer({ tikv: true });
      client = await kvs.RawClient.connect(server.pd, { ...(keyspace && { keyspace }), encoding: "utf8" });
    });
    after(async () => {
      await client.close();
      await server[Symbol.asyncDispose]();
    });

    it("puts, gets, deletes", async () => {
      await client.put("k", "v");
      assert.equal(await client.get("k"), "v");
      assert.deepEqual(await client.get("k", { encoding: undefined }), Buffer.from("v"));
      assert.equal(await client.exists("k"), true);
      await client.delete("k");
      await client.delete("k");
      assert.equal(await client.get("k"), undefined);
    });

    it("works in batches and ranges", async () => {
      const pairs = Array.from({ length: 2000 }, (_, i) => [`b${String(i).padStart(4, "0")}`, "x".repeat(100) + i]);
      await client.batchPut(pairs);
      assert.deepEqual(await client.batchGet(["b0007", "none"]), ["x".repeat(100) + 7, undefined]);
      assert.deepEqual(await all(client.scan({ prefix: "b" })), pairs);
      assert.deepEqual(await all(client.scan({ prefix: "b", reverse: true, pageSize: 333 })), [...pairs].reverse());
      assert.deepEqual(await all(client.scanKeys({ start: "b0010", end: "b0012" })), ["b0010", "b0011"]);
      assert.equal(await client.count({ prefix: "b" }), 2000);
      await client.batchDelete(["b0000", "none"]);
      assert.equal(await client.deleteRange({ prefix: "b" }), 1999);
      assert.deepEqual(await all(client.scan()), []);
    });

    it("compares and swaps, and lets keys end", async () => {
      assert.deepEqual(await client.compareAndSwap("c", undefined, "1"), { swapped: true, previous: undefined });
      assert.deepEqual(await client.compareAndSwap("c", "2", "3"), { swapped: false, previous: "1" });
      assert.equal((await client.compareAndSwap("c", "1", "2", { ttlMs: 100000 })).swapped, true);
      await client.delete("c");
    });

    it("tells what is wrong", async () => {
      await assert.rejects(client.get(5), { name: "TypeError" });
      await assert.rejects(client.get("k", "nonsense"), { name: "TypeError", message: /column family/ });
      await assert.rejects(client.put("k".repeat(8193), "v"), kvs.TooLargeError);
    });

    if (keyspace === undefined)
      it("has column families", async () => {
        await client.put("f", "of write", { family: "write" });
        await client.put("f", "of default");
        assert.equal(await client.get("f", { family: "write" }), "of write");
        assert.equal(await client.get("f", "default"), "of default");
        assert.deepEqual(await all(client.scan({ family: "write" })), [["f", "of write"]]);
        await client.delete("f", { family: "write" });
        await client.delete("f");
      });
  });
}

describe("a program written for the first client", () => {
  let server;
  before(async () => (server = await startServer({ tikv: true })));
  after(() => server[Symbol.asyncDispose]());

  it("works as it is", async () => {
    const tikv = kvs;
    const client = await new tikv.RawClient(server.pd);
    await client.put("k1", "v1", "default");
    assert.equal(await client.get("k1", "default"), "v1");
    await client.batch_put([["k2", "v2"], ["k3", "v3"], ["k4", "v4"], ["k5", "v5"]], "default");
    assert.deepEqual(await client.batch_get(["k1", "k9", "k3"], "default"), [["k1", "v1"], ["k3", "v3"]]);
    assert.deepEqual(await client.scan("k1", "k5", 10, true, false, "default"), [
      ["k1", "v1"], ["k2", "v2"], ["k3", "v3"], ["k4", "v4"],
    ]);
    assert.deepEqual(await client.scan("k1", "k5", 10, false, true, "default"), [
      ["k2", "v2"], ["k3", "v3"], ["k4", "v4"], ["k5", "v5"],
    ]);
    assert.deepEqual(await client.scan_keys("k1", "k5", 2, true, false, "default"), ["k1", "k2"]);
    await client.delete_range("k1", "k2", true, true, "default");
    await client.batch_delete(["k3"], "default");
    await client.delete("k4", "default");
    assert.deepEqual(await client.scan_keys("k", "l", 10, true, false, "default"), ["k5"]);
    assert.equal(await client.get("k1", "default"), undefined);
    await client.close();
  });

  it("is told when there is no PD", async () => {
    await assert.rejects(new kvs.RawClient("127.0.0.1:1"), /127\.0\.0\.1:1/);
    await assert.rejects(kvs.RawClient.connect(["a:b:c"]), kvs.KvsError);
    await assert.rejects(kvs.RawClient.connect(5), { name: "TypeError" });
  });
});
