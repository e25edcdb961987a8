// A shopping list by the raw API, blocking: no promise, each line is done before the next one.
//
// node examples/sync_raw_app.js WHERE: HOST:PORT of PD (TiKV, or kvs-server --tikv).
"use strict";
const { RawClient } = require("kvs-client/sync");

const FAMILY = "default";

const client = new RawClient(process.argv[2] ?? "127.0.0.1:2379");

client.put("list:apples", "3", FAMILY);
client.batch_put([["list:bread", "1"], ["list:cheese", "2"], ["list:dates", "20"]], FAMILY);
console.log("apples:", client.get("list:apples", FAMILY));
console.log("of bread and figs:", client.batch_get(["list:bread", "list:figs"], FAMILY).join(" "));

client.delete("list:apples", FAMILY); // is in the basket
console.log("apples:", client.get("list:apples", FAMILY));
console.log("b to c:", client.scan("list:bread", "list:cheese", 10, true, true, FAMILY).join(" "));
console.log("first two:", client.scan_keys("list:", "list;", 2, true, false, FAMILY).join(" "));

client.batch_delete(["list:bread"], FAMILY);
client.delete_range("list:", "list;", true, false, FAMILY);
console.log("left:", client.scan_keys("list:", "list;", 10, true, false, FAMILY).length);

client.close();
