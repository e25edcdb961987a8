// Keys and values: sets, reads, a lock with a time to live, a batch, a scan.
//
// node examples/kvs.js [URL]: memory: (the default), log:DIR, or kvs://HOST:PORT (kvs-server).
"use strict";
const { KvsClient } = require("kvs-client");

async function main(url) {
  const client = await KvsClient.connect(url);
  await client.removeRange({ prefix: "example:" });
  await client.set("example:ada", "1815");
  await client.set("example:lock", "mine", { ttlMs: 60000 }); // gone by itself after a minute
  await client.batch([
    { set: "example:grace", value: "1906" },
    { set: "example:alan", value: "1912" },
    { remove: "example:lock" },
  ]);
  const { swapped } = await client.compareAndSet("example:ada", "1815", "1815-12-10");
  if (!swapped) throw new Error("somebody else has changed it");
  for await (const [key, value] of client.scan({ prefix: "example:", encoding: "utf8" })) console.log(key, value);
  console.log("removed", await client.removeRange({ prefix: "example:" }));
  await client.close();
}

main(process.argv[2] ?? "memory:").catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
