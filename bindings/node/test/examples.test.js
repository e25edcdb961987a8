// The examples, run as a user runs them, in process and on a server.
"use strict";
const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const { mkdirSync, mkdtempSync, rmSync, symlinkSync, cpSync } = require("node:fs");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { after, before, describe, it } = require("node:test");
const { startServer } = require("./server");

const HERE = join(__dirname, "..");

describe("examples", () => {
  // A project with the package installed, as far as it matters here.
  const project = mkdtempSync(join(tmpdir(), "kvs-node-examples-"));
  let server;
  before(async () => {
    mkdirSync(join(project, "node_modules"));
    symlinkSync(HERE, join(project, "node_modules", "kvs-client"));
    cpSync(join(HERE, "examples"), join(project, "examples"), { recursive: true });
    server = await startServer({ tikv: true, eventstore: true }, "--sync", "never");
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    rmSync(project, { recursive: true });
  });

  function run(name, ...args) {
    const child = spawn(process.execPath, [join("examples", name), ...args], { cwd: project, timeout: 600000, killSignal: "SIGKILL" });
    let out = "", err = "";
    child.stdout.on("data", (text) => (out += text));
    child.stderr.on("data", (text) => (err += text));
    return new Promise((resolve) => child.on("close", (status) => resolve({ status, out, err })));
  }

  const expected = {
    // 20 orders: 100 each, and 0 + 1 + ... + 19
    "event_sourcing.js": "paid 20, revenue 2190, sent 20\n",
    "bank.js": "transfers done, total 8000\n",
    "kvs.js": "example:ada 1815-12-10\nexample:alan 1912\nexample:grace 1906\nremoved 3\n",
    "sync_transaction_app.js":
      "now: seat:1,Ada seat:2,free\nbefore: seat:1,free seat:2,free\nboth want seat 2: WriteConflictError\n" +
      "a seat that there is: AlreadyExistsError\nafter the commit: OperationAfterCommitError\nleft: false\n",
  };
  const remote = {
    "event_sourcing.js": () => `esdb://admin:changeit@${server.eventstore}`,
    "bank.js": () => server.pd,
    "sync_transaction_app.js": () => server.pd,
    "kvs.js": () => `kvs://${server.address}`,
  };
  for (const [name, out] of Object.entries(expected)) {
    it(`${name} in memory, in a directory, on a server`, async () => {
      for (const where of [[], [`log:${join(project, name)}`], [remote[name]()]])
        assert.deepEqual({ where, ...(await run(name, ...where)) }, { where, status: 0, out, err: "" });
    });
  }

  it("sync_raw_app.js on a server", async () => {
    const out = "apples: 3\nof bread and figs: list:bread,1\napples: undefined\nb to c: list:bread,1 list:cheese,2\n" +
      "first two: list:bread list:cheese\nleft: 0\n";
    assert.deepEqual(await run("sync_raw_app.js", server.pd), { status: 0, out, err: "" });
  });
});
