// Bank transfer: many transfers at once between few accounts; no money is made or lost, at any moment.
//
// node examples/bank.js [WHERE]: memory: (the default), log:DIR, or HOST:PORT of PD (TiKV, or
// kvs-server --tikv).
"use strict";
const { setImmediate: turn } = require("node:timers/promises");
const { TransactionClient } = require("kvs-client");

const ACCOUNTS = 8;
const START = 1000;
const TELLERS = 10;
const TRANSFERS = 20; // of each teller

const names = Array.from({ length: ACCOUNTS }, (_, i) => `account-${i}`);
const anyOf = (count) => Math.floor(Math.random() * count);
const utf8 = { encoding: "utf8" };

// Of a snapshot: what all accounts held at one moment.
async function total(bank) {
  const balances = await bank.snapshot().batchGet(names, utf8);
  return balances.reduce((sum, balance) => sum + Number(balance), 0);
}

// Both change, or none; false: there was not enough. What conflicts is tried again by `run`.
function transfer(bank, from, to, amount) {
  return bank.run(async (txn) => {
    const [source, target] = await txn.batchGetForUpdate([from, to], utf8);
    if (Number(source) < amount) return false;
    await txn.put(from, String(Number(source) - amount));
    await txn.put(to, String(Number(target) + amount));
    return true;
  }, { pessimistic: true, attemptsMax: 1000 });
}

async function teller(bank) {
  let done = 0;
  for (let i = 0; i < TRANSFERS; i++) {
    const from = anyOf(ACCOUNTS);
    const to = (from + 1 + anyOf(ACCOUNTS - 1)) % ACCOUNTS;
    if (await transfer(bank, names[from], names[to], 1 + anyOf(START / 2))) done++;
  }
  return done;
}

async function main(where) {
  const bank = await TransactionClient.connect(where);
  await bank.run(async (txn) => {
    for (const name of names) await txn.put(name, String(START));
  });
  let working = true;
  const auditor = (async () => {
    let audits = 0;
    for (; working || audits === 0; audits++) {
      const sum = await total(bank);
      if (sum !== ACCOUNTS * START) throw new Error(`there were ${sum} in all accounts`);
      await turn();
    }
    return audits;
  })();
  const done = await Promise.all(Array.from({ length: TELLERS }, () => teller(bank)));
  working = false;
  await auditor;
  console.log(`transfers ${done.reduce((a, b) => a + b) > 0 ? "done" : "missing"}, total ${await total(bank)}`);
  await bank.close();
}

main(process.argv[2] ?? "memory:").catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
