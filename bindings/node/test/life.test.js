// What is forgotten is closed, what is under way is waited for, and an end at any moment is a clean one.
"use strict";
const assert = require("node:assert/strict");
const { after, before, describe, it } = require("node:test");
const { setImmediate: turn } = require("node:timers/promises");
const { Worker } = require("node:worker_threads");
const kvs = require("..");
const { collectUntil, runScript: run } = require("./script");
const { startServer } = require("./server");

const PACKAGE = require.resolve("..");
const runScript = (text, ...args) => run(`const kvs = require(${JSON.stringify(PACKAGE)});\n${text}`, ...args);

describe("life", () => {
  let server, url, events;
  before(async () => {
    server = await startServer({ tikv: true, eventstore: true, restarts: true });
    url = `kvs://${server.address}`;
    events = `esdb://admin:changeit@${server.eventstore}`;
  });
  after(() => server[Symbol.asyncDispose]());

  it("closes clients that are forgotten", async () => {
    const watch = await kvs.KvsClient.connect(url);
    const connections = async () => (await watch.stats()).server.connections;
    const before = await connections();
    await (async () => {
      const clients = await Promise.all(Array.from({ length: 20 }, () => kvs.KvsClient.connect(url)));
      await Promise.all(clients.map((client) => client.set("forgotten", "1")));
      assert.ok((await connections()) >= before + 20);
    })();
    await collectUntil(async () => (await connections()) === before);
    assert.equal(await connections(), before);
    await watch.close();
  });

  it("lets a forgotten directory be opened again", async () => {
    const directory = `${server.directory}-forgotten`;
    await (async () => {
      const client = await kvs.KvsClient.connect(`log:${directory}`);
      await client.set("k", "v");
    })();
    let again;
    await collectUntil(async () => {
      again = await kvs.KvsClient.connect(`log:${directory}`).catch(() => undefined);
      return again !== undefined;
    });
    assert.equal(await again.get("k", { encoding: "utf8" }), "v");
    await again.close();
    require("node:fs").rmSync(directory, { recursive: true });
  });

  it("closes subscriptions that are forgotten", async () => {
    const client = await kvs.EventsClient.connect(events);
    await client.append("forgotten", Array.from({ length: 100 }, () => ({ type: "t", data: Buffer.alloc(1000) })));
    await client.createGroup("forgotten", "one", { startFrom: "start", subscribersMax: 1 });
    await (async () => {
      const member = client.subscribeToGroup("forgotten", "one");
      await member.next();
      const others = Array.from({ length: 50 }, () => client.subscribe("forgotten"));
      await Promise.all(others.map((each) => each.next()));
    })();
    let joined;
    await collectUntil(async () => {
      const member = client.subscribeToGroup("forgotten", "one"); // the group has room once the other one has left
      joined = await member.next().catch((error) => assert.ok(error instanceof kvs.BusyError, error));
      await member.close();
      return joined !== undefined;
    });
    assert.equal(joined?.value.event.stream, "forgotten");
    await client.close();
  });

  it("closes a client of events that is forgotten with its subscriptions", async () => {
    const directory = `${server.directory}-events`;
    await (async () => {
      const client = await kvs.EventsClient.connect(`log:${directory}`);
      await client.append("s", { type: "t" });
      await client.subscribe("s").next();
    })();
    let again;
    await collectUntil(async () => {
      again = await kvs.EventsClient.connect(`log:${directory}`).catch(() => undefined);
      return again !== undefined;
    });
    assert.equal((await again.readEvent("s", 0)).event.type, "t");
    await again.close();
    require("node:fs").rmSync(directory, { recursive: true });
  });

  it("rolls back transactions that are forgotten, and gives their locks back", async () => {
    const client = await kvs.TransactionClient.connect(server.pd);
    await (async () => {
      const txns = Array.from({ length: 50 }, () => client.begin({ pessimistic: true }));
      await Promise.all(txns.map((txn, i) => txn.put(`forgotten-${i}`, "never")));
    })();
    let taken = 0; // each lock is there until its transaction is collected
    await collectUntil(async () => {
      const txn = client.begin({ pessimistic: true, lockWaitMs: "none" });
      await txn.put(`forgotten-${taken}`, "taken").then(() => taken++, (error) => assert.ok(error instanceof kvs.KvsError, error));
      await txn.rollback();
      return taken === 50;
    });
    assert.equal(taken, 50);
    assert.equal(await client.snapshot().get("forgotten-0"), undefined);
    await client.close();
  });

  it("lets go of the native side of all that is forgotten", async () => {
    const weak = [];
    const one = async (object) => {
      weak.push(new WeakRef(object));
      await object;
    };
    await (async () => {
      const store = await kvs.KvsClient.connect("memory:");
      const txns = await kvs.TransactionClient.connect("memory:");
      const streams = await kvs.EventsClient.connect("memory:");
      streams.connection.on("closed", () => {});
      await store.set("k", "v");
      await streams.append("s", { type: "t" });
      const txn = txns.begin();
      await txn.put("k", "v");
      const objects = [store, txns, streams, streams.connection, txn, txns.snapshot(), store.scan(), txn.scan(), streams.readStream("s"),
        streams.subscribe("s"), streams.continueTransaction(1)];
      for (const scan of objects.slice(6, 10)) await scan.next();
      for (const object of objects) await one(object);
    })();
    await collectUntil(async () => weak.every((each) => each.deref() === undefined));
    assert.deepEqual(weak.map((each) => each.deref()?.constructor.name), weak.map(() => undefined));
  });

  it("keeps no memory of transactions, snapshots and scans that are over", async () => {
    const client = await kvs.TransactionClient.connect("memory:");
    const value = Buffer.alloc(1000);
    const work = async (count) => {
      for (let i = 0; i < count; i++) {
        const txn = client.begin();
        for (let k = 0; k < 10; k++) await txn.put(`k${k}`, value);
        await (i % 3 === 0 ? txn.rollback() : i % 3 === 1 ? txn.commit() : undefined); // or forgotten
        const snapshot = client.snapshot();
        await snapshot.get("k1");
        await snapshot.scan().next();
        if (i % 100 === 0) await client.garbageCollect(await client.currentTimestamp());
      }
      globalThis.gc();
      await turn();
      globalThis.gc();
      return process.memoryUsage().rss;
    };
    const first = await work(1000);
    const second = await work(2000);
    assert.ok(second - first < 48e6, `${second - first} bytes more`);
    await client.close();
  });

  it("does not read ahead of a slow scan", async () => {
    const client = await kvs.KvsClient.connect(url);
    const value = Buffer.alloc(100000, "x");
    for (let i = 0; i < 600; i += 50)
      await client.batchSet(Array.from({ length: 50 }, (_, k) => [`slow-${String(i + k).padStart(4, "0")}`, value]));
    globalThis.gc();
    const before = process.memoryUsage();
    const scan = client.scan({ prefix: "slow-" });
    await scan.next();
    for (let i = 0; i < 300; i++) await turn(); // asked for nothing: nothing comes
    const now = process.memoryUsage();
    assert.ok(now.arrayBuffers - before.arrayBuffers < 6e6, `${now.arrayBuffers - before.arrayBuffers} bytes came`); // of 60 MB
    let count = 1, most = 0;
    for await (const [, { length }] of scan) {
      assert.equal(length, 100000);
      if (++count % 50 === 0) {
        globalThis.gc();
        most = Math.max(most, process.memoryUsage().arrayBuffers - before.arrayBuffers);
      }
    }
    assert.equal(count, 600);
    assert.ok(most < 12e6, `${most} bytes at once`);
    await client.removeRange({ prefix: "slow-" });
    await client.close();
  });

  it("keeps no memory of events that have passed", async () => {
    const client = await kvs.EventsClient.connect("memory:");
    const data = Buffer.alloc(10000);
    for (let i = 0; i < 10; i++) await client.append("many", Array.from({ length: 100 }, () => ({ type: "t", data })));
    const read = async (rounds) => {
      for (let i = 0; i < rounds; i++) {
        let count = 0;
        for await (const { event } of client.subscribe("many")) if (++count === 1000 && event.number === 999n) break;
      }
      globalThis.gc();
      await turn();
      globalThis.gc();
      return process.memoryUsage().rss;
    };
    const first = await read(20);
    const second = await read(40); // 400 MB pass through
    assert.ok(second - first < 64e6, `${second - first} bytes more`);
    await client.close();
  });

  it("keeps a client alive while a call of it is under way", async () => {
    const asked = await (async () => {
      const client = await kvs.KvsClient.connect(url);
      await client.set("alive", "yes");
      return client.get("alive", { encoding: "utf8" });
    })();
    globalThis.gc();
    assert.equal(asked, "yes");
  });

  it("keeps no memory of calls that are over", async () => {
    const client = await kvs.KvsClient.connect("memory:");
    const value = Buffer.alloc(10000);
    const work = async (count) => {
      for (let i = 0; i < count; i += 100)
        await Promise.all(Array.from({ length: 100 }, (_, k) => client.set(`k${k}`, value).then(() => client.get(`k${k}`))));
      globalThis.gc();
      await turn();
      globalThis.gc();
      return process.memoryUsage().rss;
    };
    const first = await work(10000);
    const second = await work(20000); // 200 MB pass through
    assert.ok(second - first < 64e6, `${second - first} bytes more`);
    await client.close();
  });

  it("has 100,000 calls under way", async () => {
    const client = await kvs.KvsClient.connect(url);
    const count = 100000;
    const sets = Array.from({ length: count }, (_, i) => client.set(`many-${i}`, String(i)));
    const outcomes = await Promise.allSettled(sets);
    const failed = outcomes.filter(({ status }) => status !== "fulfilled");
    assert.deepEqual(failed.slice(0, 1), []);
    const values = await Promise.all(Array.from({ length: count }, (_, i) => client.get(`many-${i}`, { encoding: "latin1" })));
    values.forEach((value, i) => assert.equal(value, String(i)));
    assert.equal(await client.removeRange({ prefix: "many-" }), count);
    await client.close();
  });

  it("has 100,000 calls under way on TiKV, and of event streams, and ends those that are too many", async () => {
    const count = 100000;
    const raw = await kvs.RawClient.connect(server.pd);
    await Promise.all(Array.from({ length: count }, (_, i) => raw.put(`many-${i}`, String(i))));
    const values = await Promise.all(Array.from({ length: count }, (_, i) => raw.get(`many-${i}`, { encoding: "latin1" })));
    values.forEach((value, i) => assert.equal(value, String(i)));
    await raw.deleteRange({ prefix: "many-" });
    await raw.close();
    const streams = await kvs.EventsClient.connect(events, { timeoutMs: 120000 });
    const outcomes = await Promise.allSettled(Array.from({ length: count }, () => streams.append("many", { type: "t" })));
    const written = outcomes.filter(({ status }) => status === "fulfilled").length;
    for (const { status, reason } of outcomes) if (status === "rejected") assert.ok(reason instanceof kvs.BusyError, reason);
    assert.ok(written >= 1000, `${written} were taken`);
    assert.equal((await streams.readEvent("many", "last")).event.number, BigInt(written - 1));
    await streams.close();
  });

  it("lets the process end when only idle clients are open", async () => {
    const { status, signal, out } = await runScript(
      `(async () => {
         const client = await kvs.KvsClient.connect(process.argv[1]);
         await client.set("idle", "1");
         console.log("done");
       })();`,
      url,
    );
    assert.deepEqual({ status, signal, out }, { status: 0, signal: null, out: "done\n" });
  });

  it("keeps the process alive while a call is under way, or a client is ref'ed", async () => {
    const { status, out } = await runScript(
      `kvs.KvsClient.connect(process.argv[1]).then((client) => {
         client.ref();
         setTimeout(() => { console.log("still here"); client.unref(); }, 50).unref();
       });`,
      url,
    );
    assert.deepEqual({ status, out }, { status: 0, out: "still here\n" });
    for (const open of ["EventsClient.connect('memory:')", "TransactionClient.connect('memory:')"]) {
      const { status, out } = await runScript(
        `kvs.${open}.then((client) => {
           client.ref();
           setTimeout(() => { console.log("still here"); client.close(); }, 50).unref();
         });`,
      );
      assert.deepEqual({ status, out }, { status: 0, out: "still here\n" });
    }
  });

  it("keeps the process alive while a loop waits for an event", async () => {
    const { status, out } = await runScript(
      `kvs.EventsClient.connect("memory:").then(async (client) => {
         const subscription = client.subscribe("s");
         setTimeout(() => client.append("s", { type: "came" }), 50).unref();
         console.log((await subscription.next()).value.event.type);
       });`,
    );
    assert.deepEqual({ status, out }, { status: 0, out: "came\n" });
  });

  it("ends at any moment", async () => {
    const moments = {
      "at once": "process.exit(7)",
      "while opening": "kvs.KvsClient.connect(url); process.exit(7)",
      "while opening what never answers": "kvs.KvsClient.connect('kvs://127.0.0.1:1').catch(() => {}); process.exit(7)",
      "after opening": "kvs.KvsClient.connect(url).then(() => process.exit(7))",
      "with calls gathered": "kvs.KvsClient.connect(url).then((c) => { for (let i = 0; i < 1000; i++) c.set('k' + i, 'v').catch(() => {}); process.exit(7); })",
      "with calls under way": "kvs.KvsClient.connect(url).then((c) => { for (let i = 0; i < 10000; i++) c.set('k' + i, 'v').catch(() => {}); setImmediate(() => process.exit(7)); })",
      "with results on their way": "kvs.KvsClient.connect(url).then(async (c) => { const all = []; for (let i = 0; i < 1000; i++) all.push(c.get('k' + i)); await Promise.race(all); process.exit(7); })",
      "while closing": "kvs.KvsClient.connect(url).then((c) => { c.set('a', 'b').catch(() => {}); c.close(); process.exit(7); })",
      "with a directory": "kvs.KvsClient.connect('log:' + directory).then((c) => { for (let i = 0; i < 1000; i++) c.set('k' + i, 'v').catch(() => {}); setImmediate(() => process.exit(7)); })",
      "with TiKV": "kvs.RawClient.connect(pd).then((c) => { for (let i = 0; i < 1000; i++) c.put('k' + i, 'v').catch(() => {}); setImmediate(() => process.exit(7)); })",
      "with appends under way": "events().then((c) => { for (let i = 0; i < 1000; i++) c.append('s', { type: 't' }).catch(() => {}); setImmediate(() => process.exit(7)); })",
      "with a subscription that begins": "events().then((c) => { c.subscribe('s'); c.subscribeToGroup('s', 'none'); process.exit(7); })",
      "with a subscription that waits": "events().then(async (c) => { await c.append('s', { type: 't' }); const s = c.subscribe('s'); await s.next(); s.next().catch(() => {}); setImmediate(() => process.exit(7)); })",
      "with a batch that was not asked for": "events().then(async (c) => { await c.append('l', Array.from({ length: 5000 }, () => ({ type: 't' }))); const s = c.subscribe('l'); await s.next(); setImmediate(() => process.exit(7)); })",
      "with a batch on its way": "events().then(async (c) => { await c.append('m', Array.from({ length: 5000 }, () => ({ type: 't' }))); const s = c.subscribe('m'); s.next(); process.nextTick(() => process.exit(7)); })",
      "while a subscription closes": "events().then(async (c) => { await c.append('s', { type: 't' }); const s = c.subscribe('s'); await s.next(); s.next(); s.close(); c.close(); process.exit(7); })",
      "with events in a directory": "kvs.EventsClient.connect('log:' + directory + '2').then(async (c) => { await c.append('s', Array.from({ length: 5000 }, () => ({ type: 't' }))); const s = c.subscribe('s'); await s.next(); c.append('s', { type: 't' }).catch(() => {}); setImmediate(() => process.exit(7)); })",
      "with a group": "events().then(async (c) => { await c.createGroup('s', 'g' + Date.now(), {}); const s = c.subscribeToGroup('s', 'g'); s.next().catch(() => {}); setImmediate(() => process.exit(7)); })",
      "with a transaction that began": "kvs.TransactionClient.connect(pd).then((c) => { c.begin(); process.exit(7); })",
      "with locks held": "kvs.TransactionClient.connect(pd).then(async (c) => { const t = c.begin({ pessimistic: true }); await t.put('e' + Math.random(), 'v'); process.exit(7); })",
      "while committing": "kvs.TransactionClient.connect(pd).then(async (c) => { const t = c.begin(); await t.put('e' + Math.random(), 'v'); t.commit().catch(() => {}); setImmediate(() => process.exit(7)); })",
      "with snapshots and scans": "kvs.TransactionClient.connect(pd).then(async (c) => { const s = c.snapshot(); s.scan().next().catch(() => {}); s.get('k').catch(() => {}); process.nextTick(() => process.exit(7)); })",
      "while TiKV is opened": "kvs.TransactionClient.connect(pd).catch(() => {}); setImmediate(() => process.exit(7))",
      "while events are opened": "events().catch(() => {}); setImmediate(() => process.exit(7))",
      "with listeners": "events().then((c) => { c.connection.on('closed', () => {}); c.ref(); setImmediate(() => process.exit(7)); })",
      "while calls are given up": "kvs.RawClient.connect(pd).then((c) => { const a = new AbortController(); for (let i = 0; i < 100; i++) c.get('k', { signal: a.signal }).catch(() => {}); setImmediate(() => { a.abort(); process.exit(7); }); })",
      "while calls in this process are given up": "kvs.KvsClient.connect('log:' + directory).then((c) => { const a = new AbortController(); for (let i = 0; i < 300; i++) { c.set('k' + i, 'v', i % 2 ? { signal: a.signal } : { timeoutMs: 1 }).catch(() => {}); c.checksum({}, { signal: a.signal, timeoutMs: 5 }).catch(() => {}); } setImmediate(() => { a.abort(); process.exit(7); }); })",
      "while a close is not waited for any more": "kvs.KvsClient.connect('log:' + directory).then((c) => { for (let i = 0; i < 100; i++) c.set('k' + i, 'v', { timeoutMs: 1 }).catch(() => {}); c.close({ signal: AbortSignal.abort() }).catch(() => process.exit(7)); })",
      "by an exception": "kvs.KvsClient.connect(url).then((c) => { c.get('k'); setImmediate(() => { throw new Error('meant'); }); })",
    };
    for (const [moment, script] of Object.entries(moments)) {
      const directory = `${server.directory}-ended`;
      const { status, signal, err } = await runScript(
        `const [url, pd, directory, esdb] = process.argv.slice(1);
         const events = () => kvs.EventsClient.connect(esdb); ${script}`,
        url, server.pd, directory, events,
      );
      const thrown = /meant/.test(err); // then Node says 1, and why
      assert.deepEqual({ moment, status, signal, err: thrown ? "" : err },
        { moment, status: thrown ? 1 : 7, signal: null, err: "" });
    }
    for (const name of ["ended", "ended2"])
      require("node:fs").rmSync(`${server.directory}-${name}`, { recursive: true, force: true });
  });

  it("lets no call wait for ever behind a flood of others", async () => {
    const store = await kvs.KvsClient.connect(url);
    const txns = await kvs.TransactionClient.connect(server.pd);
    const keys = Array.from({ length: 100 }, (_, i) => `flood-${i}`);
    await store.batchSet(keys.map((key) => [key, Buffer.alloc(1000, "x")]));
    let ended = false; // the flood ends when the others are done
    const flood = Array.from({ length: 64 }, async () => {
      while (!ended) await store.batchGet(keys);
    });
    for (let i = 0; i < 20; i++) await txns.run((txn) => txn.put("flood", String(i)));
    await turn();
    ended = true;
    await Promise.all(flood);
    assert.equal(await txns.snapshot().get("flood", { encoding: "utf8" }), "19");
    await Promise.all([store.close(), txns.close()]);
  });

  it("lives in workers, many at once, that end at any moment", async () => {
    const text = `
      const { workerData, parentPort } = require("node:worker_threads");
      const kvs = require(workerData.package);
      (async () => {
        const client = await kvs.KvsClient.connect(workerData.url);
        let count = 0;
        await Promise.all(Array.from({ length: 16 }, async (_, w) => {
          for (let i = 0; i < 200; i++) {
            await client.set("worker-" + workerData.id + "-" + w, String(i));
            if ((await client.get("worker-" + workerData.id + "-" + w, { encoding: "utf8" })) === String(i)) count++;
          }
        }));
        parentPort.postMessage(count);
        if (workerData.id % 2 === 0) await client.close();
      })();`;
    const workers = Array.from({ length: 6 }, (_, id) => new Worker(text, { eval: true, workerData: { id, url, package: PACKAGE } }));
    const counts = await Promise.all(workers.map((worker) => new Promise((resolve, reject) => {
      worker.on("message", resolve);
      worker.on("error", reject);
    })));
    assert.deepEqual(counts, Array(6).fill(3200));
    await Promise.all(workers.map((worker) => worker.terminate()));
    for (let round = 0; round < 10; round++) {
      const busy = new Worker(text, { eval: true, workerData: { id: 1, url, package: PACKAGE } });
      busy.on("error", () => {});
      await new Promise((resolve) => busy.once("online", resolve));
      for (let i = 0; i < round * 20; i++) await turn();
      await busy.terminate();
    }
    const client = await kvs.KvsClient.connect(url);
    assert.equal(await client.get("worker-0-0", { encoding: "utf8" }), "199");
    await client.close();
  });

  it("ends workers with subscriptions at any moment", async () => {
    const text = `
      const { workerData, parentPort } = require("node:worker_threads");
      const kvs = require(workerData.package);
      (async () => {
        const client = await kvs.EventsClient.connect(workerData.url);
        const stream = "worker-" + workerData.id;
        const writing = (async () => { for (;;) await client.append(stream, Array.from({ length: 50 }, () => ({ type: "t" }))); })();
        writing.catch(() => {});
        await Promise.all([client.subscribe(stream), client.subscribe(stream), client.subscribeToAll({ from: "end" })].map(async (each) => {
          let count = 0;
          for await (const { event } of each) if (++count % 100 === 0) parentPort.postMessage(String(event.number));
        }));
      })();`;
    for (const [kind, where] of [["server", events], ["memory", "memory:"]]) {
      for (let round = 0; round < 12; round++) {
        const worker = new Worker(text, { eval: true, workerData: { id: `${kind}-${round}`, url: where, package: PACKAGE } });
        const failed = new Promise((_, reject) => worker.once("error", reject));
        failed.catch(() => {});
        const messages = round; // how far it has come when it ends
        await Promise.race([failed, new Promise((resolve) => {
          let seen = 0;
          worker.on("message", () => ++seen >= messages && resolve());
          if (messages === 0) worker.once("online", resolve);
        })]);
        await worker.terminate();
      }
    }
    const client = await kvs.EventsClient.connect(events);
    assert.ok((await client.readEvent("worker-server-11", "last")).event.number > 100n);
    await client.close();
  });

  it("finds TiKV again that was killed", async () => {
    const raw = await kvs.RawClient.connect(server.pd);
    const txns = await kvs.TransactionClient.connect(server.pd);
    await raw.put("kept-raw", "yes");
    await txns.run((txn) => txn.put("kept-txn", "yes"));
    const settled = Promise.allSettled([
      ...Array.from({ length: 100 }, (_, i) => raw.put(`killed-${i}`, "1")),
      ...Array.from({ length: 20 }, (_, i) => txns.run((txn) => txn.put(`killed-txn-${i}`, "1"))),
    ]);
    await server.restart("SIGKILL");
    const outcomes = await settled;
    for (const { status, reason } of outcomes)
      if (status === "rejected") assert.ok(reason instanceof kvs.KvsError, reason);
    assert.equal(await raw.get("kept-raw", { encoding: "utf8" }), "yes");
    assert.equal(await txns.run((txn) => txn.get("kept-txn", { encoding: "utf8" })), "yes");
    for (let i = 0; i < 100; i++)
      if (outcomes[i].status === "fulfilled") assert.equal(await raw.get(`killed-${i}`, { encoding: "utf8" }), "1");
    for (let i = 0; i < 20; i++)
      if (outcomes[100 + i].status === "fulfilled") assert.equal(await txns.snapshot().get(`killed-txn-${i}`, { encoding: "utf8" }), "1");
    await Promise.all([raw.close(), txns.close()]);
  });

  it("finds a server again that was killed", async () => {
    const client = await kvs.KvsClient.connect(url);
    await client.set("kept", "yes");
    const settled = Promise.allSettled(Array.from({ length: 100 }, (_, i) => client.set(`r${i}`, "1")));
    await server.restart("SIGKILL");
    const outcomes = await settled;
    for (const { status, reason } of outcomes)
      if (status === "rejected") assert.ok(reason instanceof kvs.KvsError && (reason.maybeCommitted || reason.retryable), reason.message);
    assert.equal(await client.get("kept", { encoding: "utf8" }), "yes");
    for (const [i, { status }] of outcomes.entries())
      if (status === "fulfilled") assert.equal(await client.get(`r${i}`, { encoding: "utf8" }), "1");
    await client.close();
  });
});
