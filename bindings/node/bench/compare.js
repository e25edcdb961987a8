// Measures the package beside its peers on this machine, in one run, in turns, and prints ratios:
//
//   npm install --no-save ioredis node-eventstore-client protobufjs; node bench/compare.js [ROUNDS] [COUNT]
//
// Calls: 64 in flight, values of 100 bytes. Catching up: a subscription reads a stream of ten times COUNT
// events of 100 bytes. Batches: 100 keys each, 16 in flight, beside the C client, bench/micro/batches,
// through the same interface of libkvs: ninja -C BUILD bench/micro/batches.
// kvs-server runs with --sync=interval, redis-server (Debian's) with appendfsync everysec: both may lose the
// last second in a power cut. A peer that is not there is left out. KVS_BUILD_DIR says where kvs-server is.
"use strict";
const { spawn, spawnSync } = require("node:child_process");
const { randomUUID } = require("node:crypto");
const { existsSync, mkdtempSync, rmSync } = require("node:fs");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { setTimeout: sleep } = require("node:timers/promises");
const kvs = require("..");
const { startServer } = require("../test/server");

const IN_FLIGHT = 64;
const ROUNDS = Number(process.argv[2] ?? 3);
const COUNT = Number(process.argv[3] ?? 100000);
const REDIS_PORT = 24681;
const BATCH = 100;
const BATCHES_IN_FLIGHT = 16;
const BATCH_SECONDS = 1;
const HISTORY = 10 * COUNT;
const value = Buffer.alloc(100, "x");
const key = (i) => `key:${String(i % 100000).padStart(10, "0")}`;

function peer(name) {
  try {
    return require(name);
  } catch {
    console.log(`${name} is not installed, and left out`);
    return undefined;
  }
}

// How many a second, with so many in flight.
async function rate(count, call) {
  let next = 0;
  const begin = process.hrtime.bigint();
  await Promise.all(Array.from({ length: IN_FLIGHT }, async () => {
    while (next < count) await call(next++);
  }));
  return count / (Number(process.hrtime.bigint() - begin) / 1e9);
}

const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

async function startRedis() {
  const directory = mkdtempSync(join(tmpdir(), "redis-"));
  const child = spawn("redis-server", ["--port", REDIS_PORT, "--appendonly", "yes", "--appendfsync", "everysec",
    "--save", "", "--dir", directory], { stdio: "ignore" });
  await new Promise((resolve, reject) => child.on("spawn", resolve).on("error", reject));
  await sleep(500);
  return () => {
    child.kill();
    rmSync(directory, { recursive: true, force: true });
  };
}

// A stream of so many events.
async function fill(events, stream) {
  const batch = Array.from({ length: 500 }, () => ({ type: "measured", data: value }));
  let next = 0;
  await Promise.all(Array.from({ length: 8 }, async () => {
    for (; next < HISTORY; next += batch.length) await events.append(stream, batch);
  }));
}

function checkData(event) {
  if (event.data.length !== value.length) throw new Error("an event came in another form");
}

// How many events a second reach a loop that follows a stream from its begin.
async function catchUp(events, stream) {
  const begin = process.hrtime.bigint();
  let count = 0;
  for await (const { event } of events.subscribe(stream)) {
    checkData(event);
    if (++count === HISTORY) break;
  }
  return HISTORY / (Number(process.hrtime.bigint() - begin) / 1e9);
}

async function catchUpTheirs(connection, stream) {
  const begin = process.hrtime.bigint();
  let count = 0;
  let subscription;
  await new Promise((resolve, reject) => {
    const appeared = (_, { event }) => {
      checkData(event);
      if (++count === HISTORY) resolve();
    };
    subscription = connection.subscribeToStreamFrom(stream, null, false, appeared, undefined, (_, reason) => reject(new Error(reason)));
  });
  const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
  subscription.stop();
  return HISTORY / seconds;
}

// Keys a second of batches, one behind the other through all keys, as bench/micro/batches does it.
async function batchRate(batches, call) {
  let next = 0, keys = 0;
  const begin = process.hrtime.bigint();
  const end = Date.now() + BATCH_SECONDS * 1000;
  await Promise.all(Array.from({ length: BATCHES_IN_FLIGHT }, async () => {
    while (Date.now() < end) {
      const found = await call(batches[next++ % batches.length]);
      if (found !== undefined && found[BATCH - 1].length !== value.length) throw new Error("a key is missing");
      keys += BATCH;
    }
  }));
  return keys / (Number(process.hrtime.bigint() - begin) / 1e9);
}

async function compareBatches(urls, clients, rates) {
  const program = join(process.env.KVS_BUILD_DIR ?? join(__dirname, "../build/meson"), "bench/micro/batches");
  const isThere = existsSync(program);
  if (!isThere) console.log(`${program} is not there, and left out`);
  const keys = Array.from({ length: 1000 }, (_, b) => Array.from({ length: BATCH }, (_, k) => key(b * BATCH + k)));
  const pairs = keys.map((batch) => batch.map((one) => [one, value]));
  for (const [name, url] of Object.entries(urls)) {
    if (isThere) {
      const { stdout, stderr } = spawnSync(program, [url, BATCH_SECONDS, BATCH, BATCHES_IN_FLIGHT], { encoding: "utf8" });
      const [, write, read] = stdout.match(/write (\d+) .*\nread (\d+) /) ?? [];
      if (read === undefined) throw new Error(stderr);
      (rates[`batch write ${name} in C`] ??= []).push(Number(write));
      (rates[`batch read ${name} in C`] ??= []).push(Number(read));
    }
    const { write, read } = clients[name];
    (rates[`batch write ${name}`] ??= []).push(await batchRate(pairs, write));
    (rates[`batch read ${name}`] ??= []).push(await batchRate(keys, read));
  }
}

async function main() {
  const server = await startServer({ tikv: true, eventstore: true }, "--sync", "interval");
  const Redis = peer("ioredis");
  const eventstore = peer("node-eventstore-client");
  const stopRedis = Redis && (await startRedis());
  const rates = {};
  const store = await kvs.KvsClient.connect(`kvs://${server.address}`);
  const raw = await kvs.RawClient.connect(server.pd);
  const redis = Redis && new Redis(REDIS_PORT);
  const cases = {
    "set KvsClient": (i) => store.set(key(i), value),
    "set RawClient": (i) => raw.put(key(i), value),
    "set ioredis": redis && ((i) => redis.set(key(i), value)),
    "get KvsClient": (i) => store.get(key(i)),
    "get RawClient": (i) => raw.get(key(i)),
    "get ioredis": redis && ((i) => redis.getBuffer(key(i))),
  };
  const events = await kvs.EventsClient.connect(`esdb://${server.eventstore}`);
  cases["append EventsClient"] = () => events.append("ours", [{ type: "measured", data: value }]);
  let theirs;
  if (eventstore) {
    theirs = eventstore.createConnection({}, `tcp://${server.eventstore}`);
    await theirs.connect();
    cases["append node-eventstore-client"] = () =>
      theirs.appendToStream("theirs", eventstore.expectedVersion.any,
        eventstore.createEventData(randomUUID(), "measured", false, value));
  }
  await fill(events, "history");
  const urls = { KvsClient: `kvs://${server.address}`, RawClient: `tikv://${server.pd}` };
  const clients = {
    KvsClient: { write: (pairs) => store.batchSet(pairs), read: (keys) => store.batchGet(keys) },
    RawClient: { write: (pairs) => raw.batchPut(pairs), read: (keys) => raw.batchGet(keys) },
  };
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, call] of Object.entries(cases)) {
      if (!call) continue;
      const count = name.startsWith("append") ? COUNT / 4 : COUNT;
      (rates[name] ??= []).push(await rate(count, call));
    }
    (rates["catch up EventsClient"] ??= []).push(await catchUp(events, "history"));
    if (theirs) (rates["catch up node-eventstore-client"] ??= []).push(await catchUpTheirs(theirs, "history"));
    await compareBatches(urls, clients, rates);
  }
  for (const [name, all] of Object.entries(rates)) console.log(`${name.padEnd(32)} ${Math.round(median(all))}/s`);
  const ratio = (a, b, bar) =>
    rates[a] && rates[b] && console.log(`${a} / ${b}: ${(median(rates[a]) / median(rates[b])).toFixed(2)} (bar ${bar})`);
  for (const call of ["set", "get"]) {
    ratio(`${call} KvsClient`, `${call} ioredis`, 1.5);
    ratio(`${call} RawClient`, `${call} ioredis`, 1);
  }
  for (const call of ["append", "catch up"]) ratio(`${call} EventsClient`, `${call} node-eventstore-client`, 3);
  for (const client of ["KvsClient", "RawClient"])
    for (const call of ["write", "read"]) ratio(`batch ${call} ${client}`, `batch ${call} ${client} in C`, 0.5);
  theirs?.close();
  redis?.disconnect();
  await Promise.all([store.close(), raw.close(), events.close()]);
  stopRedis?.();
  await server[Symbol.asyncDispose]();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
