// One measurement of node-eventstore-client for bench/run-events; prints `rate EVENTS-A-SECOND`:
//
//   node events-node.js HOST:PORT append|batch|read|subscribe STREAM SECONDS
//
// append: single events of 256 bytes, 64 in flight. batch: 100 of them a call, 4 calls in flight. read: pages of
// 512, forward. subscribe: a catch-up subscription from the begin. The package is found from the current folder.
"use strict";
const { randomBytes } = require("node:crypto");
const client = require(require.resolve("node-eventstore-client", { paths: [process.cwd()] }));

const [address, call, stream, secondsText] = process.argv.slice(2);
const seconds = Number(secondsText);
const BATCH = 100;
const PAGE = 512;
const data = Buffer.alloc(256, "x");
const now = () => Number(process.hrtime.bigint()) / 1e9;
let begin;

// Random ids cost as little as they can: so only the client is measured.
const seed = randomBytes(8).toString("hex");
let serial = 0;
function event() {
  const end = (serial++).toString(16).padStart(12, "0");
  const id = `${seed.slice(0, 8)}-${seed.slice(8, 12)}-4${seed.slice(13)}-8000-${end}`;
  return client.createEventData(id, "measured", false, data);
}

// As many at a time, until the time is over; `step` gives the number of its events.
async function lanes(count, step) {
  let done = 0;
  await Promise.all(Array.from({ length: count }, async () => {
    while (now() - begin < seconds) {
      const more = await step(); // before the sum is read: others add to it meanwhile
      done += more;
    }
  }));
  return done;
}

const calls = {
  append: (connection) => lanes(64, async () => {
    await connection.appendToStream(stream, client.expectedVersion.any, event());
    return 1;
  }),
  batch: (connection) => lanes(4, async () => {
    await connection.appendToStream(stream, client.expectedVersion.any, Array.from({ length: BATCH }, event));
    return BATCH;
  }),
  read: async (connection) => {
    let next = 0;
    return lanes(1, async () => {
      const page = await connection.readStreamEventsForward(stream, next, PAGE, false);
      next = page.isEndOfStream ? 0 : page.nextEventNumber;
      return page.events.length;
    });
  },
  subscribe: (connection) => new Promise((resolve, reject) => {
    let done = 0;
    const subscription = connection.subscribeToStreamFrom(stream, null, false, () => {
      if (++done % 1024 === 0 && now() - begin >= seconds) subscription.stop();
    }, () => subscription.stop(), (_, reason, error) => (error ? reject(error) : resolve(done)));
  }),
};

async function main() {
  const connection = client.createConnection({}, `tcp://${address}`);
  await new Promise((resolve, reject) => {
    connection.once("connected", resolve);
    connection.once("closed", (reason) => reject(new Error(reason)));
    connection.connect().catch(reject);
  });
  begin = now();
  const done = await calls[call](connection);
  console.log(`rate ${done / (now() - begin)}`);
  connection.close();
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
