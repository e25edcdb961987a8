// Two seats and who has them, by transactions, blocking.
//
// node examples/sync_transaction_app.js [WHERE]: memory: (the default), log:DIR, or HOST:PORT of PD (TiKV, or
// kvs-server --tikv).
"use strict";
const { AlreadyExistsError, OperationAfterCommitError, TransactionClient, WriteConflictError } = require("kvs-client/sync");

const client = new TransactionClient(process.argv[2] ?? "memory:");

// What the work throws; the transaction is done with then.
function failure(txn, work) {
  try {
    work();
    return "none";
  } catch (error) {
    for (const one of [AlreadyExistsError, OperationAfterCommitError, WriteConflictError])
      if (error instanceof one) return one.name;
    throw error;
  } finally {
    try {
      txn.rollback();
    } catch (error) {
      if (!(error instanceof OperationAfterCommitError)) throw error;
    }
  }
}

const first = client.begin(false);
first.put("seat:1", "free");
first.put("seat:2", "free");
first.commit();
const before = client.snapshot(client.current_timestamp(), false);

const booking = client.begin(true); // nobody else changes what it reads for update
if (booking.get_for_update("seat:1") === "free") booking.put("seat:1", "Ada");
booking.commit();
console.log("now:", client.begin(false).batch_get(["seat:1", "seat:2"]).join(" "));
console.log("before:", before.scan("seat:", "seat;", 10, true, false).join(" "));

const one = client.begin(false);
const other = client.begin(false);
for (const [txn, who] of [[one, "Grace"], [other, "Alan"]])
  if (txn.get("seat:2") === "free") txn.put("seat:2", who);
one.commit();
console.log("both want seat 2:", failure(other, () => other.commit()));

const again = client.begin(true);
console.log("a seat that there is:", failure(again, () => {
  again.insert("seat:1", "free");
  again.commit();
}));
console.log("after the commit:", failure(one, () => one.put("seat:2", "Alan")));

const cleaning = client.begin(true);
cleaning.lock_keys(["seat:1", "seat:2"]);
for (const key of cleaning.scan_keys("seat:", "seat;", 10, true, false)) cleaning.delete(key);
cleaning.commit();
console.log("left:", client.begin(false).key_exists("seat:1"));

client.close();
