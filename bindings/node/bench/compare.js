// Measures the package beside its peers on this machine, in one run, in turns, and prints ratios:
//
//   npm install --no-save ioredis node-eventstore-client protobufjs; node bench/compare.js [ROUNDS] [COUNT]
//
// 64 calls in flight, values of 100 bytes. kvs-server runs with --sync=interval, redis-server (Debian's)
// with appendfsync everysec: both may lose the last second in a power cut. A peer that is not installed is
// left out. KVS_BUILD_DIR says where kvs-server is.
"use strict";
const { spawn } = require("node:child_process");
const { randomUUID } = require("node:crypto");
const { mkdtempSync, rmSync } = require("node:fs");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { setTimeout: sleep } = require("node:timers/promises");
const kvs = require("..");
const { startServer } = require("../test/server");

const IN_FLIGHT = 64;
const ROUNDS = Number(process.argv[2] ?? 3);
const COUNT = Number(process.argv[3] ?? 100000);
const REDIS_PORT = 24681;
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
  for (let round = 0; round < ROUNDS; round++)
    for (const [name, call] of Object.entries(cases)) {
      if (!call) continue;
      const count = name.startsWith("append") ? COUNT / 4 : COUNT;
      (rates[name] ??= []).push(await rate(count, call));
    }
  for (const [name, all] of Object.entries(rates)) console.log(`${name.padEnd(32)} ${Math.round(median(all))}/s`);
  const ratio = (a, b, bar) =>
    rates[a] && rates[b] && console.log(`${a} / ${b}: ${(median(rates[a]) / median(rates[b])).toFixed(2)} (bar ${bar})`);
  for (const call of ["set", "get"]) {
    ratio(`${call} KvsClient`, `${call} ioredis`, 1.5);
    ratio(`${call} RawClient`, `${call} ioredis`, 1);
  }
  ratio("append EventsClient", "append node-eventstore-client", 3);
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
