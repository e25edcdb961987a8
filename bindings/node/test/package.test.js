// The package as a whole: its two forms, its types, its addon's symbols.
"use strict";
const assert = require("node:assert/strict");
const { spawnSync } = require("node:child_process");
const { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } = require("node:fs");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { describe, it } = require("node:test");
const kvs = require("..");

const here = join(__dirname, "..");

describe("package", () => {
  it("gives import the objects that require gives", async () => {
    for (const [entry, required] of [["index", kvs], ["sync", require("../dist/sync")]]) {
      const module = await import(`../dist/${entry}.mjs`);
      const names = Object.keys(required);
      assert.deepEqual(Object.keys(module).filter((name) => name !== "default").sort(), names.sort());
      for (const name of names) assert.equal(module[name], required[name], name);
    }
  });

  it("has the types that it says it has", () => {
    const done = spawnSync(process.execPath, [join(here, "node_modules/typescript/bin/tsc"), "--noEmit", "--strict",
      "--target", "ES2022", "--lib", "ES2022,ESNext.Disposable", "--module", "CommonJS", "--moduleResolution", "Node",
      "--types", "node", "test/types.ts"], { cwd: here, encoding: "utf8" });
    assert.equal(done.stdout + done.stderr, "");
  });

  it("has samples in README.md that TypeScript takes as they are", () => {
    const [keys, events, connection, blocking] = [...readFileSync(join(here, "README.md"), "utf8").matchAll(/```js\n(.*?)```/gs)]
      .map(([, text]) => text.replace(/const (\{.*?\}) = require\((.*?)\);/, "import $1 from $2;"));
    const files = { "keys.mts": keys, "blocking.mts": blocking, "events.mts": `
      import { EventsClient, jsonEvent, Position, RecordedEvent } from "kvs-client";
      declare function save(position: Position): Promise<void>;
      declare function send(event: RecordedEvent | undefined): Promise<void>;
      ${events} ${connection}` };
    const project = mkdtempSync(join(tmpdir(), "kvs-node-samples-"));
    try {
      mkdirSync(join(project, "node_modules"));
      symlinkSync(here, join(project, "node_modules", "kvs-client"));
      for (const [name, text] of Object.entries(files)) writeFileSync(join(project, name), text);
      const done = spawnSync(process.execPath, [join(here, "node_modules/typescript/bin/tsc"), "--noEmit", "--strict",
        "--target", "ES2022", "--lib", "ES2022,ESNext.Disposable", "--module", "Node16", "--typeRoots",
        join(here, "node_modules/@types"), "--types", "node", ...Object.keys(files)], { cwd: project, encoding: "utf8" });
      assert.equal(done.stdout + done.stderr, "");
    } finally {
      rmSync(project, { recursive: true });
    }
  });

  it("has a JSDoc comment on everything", () => {
    const done = spawnSync(process.execPath, ["scripts/jsdoc.mjs"], { cwd: here, encoding: "utf8" });
    assert.match(done.stdout, /^\d+ exports and members, 0 without a comment\n$/);
  });

  it("closes what `await using` leaves", () => {
    const ts = require("typescript");
    const text = `
      (async () => {
        let outer;
        {
          await using client = await kvs.TransactionClient.connect("memory:");
          outer = client;
          await client.run((txn) => txn.put("k", "1"));
          {
            await using txn = client.begin();
            await txn.put("k", "2"); // not committed
          }
          await using scan = client.snapshot().scan({ encoding: "utf8" });
          console.log((await scan.next()).value.join());
        }
        await outer.currentTimestamp().catch((error) => console.log(error.code));
      })();`;
    const { outputText } = ts.transpileModule(text, { compilerOptions: { target: "ES2022", module: "CommonJS" } });
    const done = spawnSync(process.execPath, ["-e", `const kvs = require(${JSON.stringify(require.resolve(".."))});\n${outputText}`],
      { encoding: "utf8", timeout: 600000 });
    assert.deepEqual({ out: done.stdout, err: done.stderr }, { out: "k,1\nCLOSED\n", err: "" });
  });

  it("has an addon that shows nothing but its entry, and takes nothing but Node's and the C library's", (t) => {
    const addon = [process.env.KVS_NODE_ADDON, join(here, "build/kvs.node")].find((path) => path && existsSync(path));
    const nm = (which) => spawnSync("nm", ["-D", which, addon], { encoding: "utf8" });
    const shown = nm("--defined-only");
    if (shown.error) return t.skip("no nm here");
    const names = (text) => text.trim().split("\n").map((line) => line.trim().split(/\s+/).pop());
    assert.deepEqual(names(shown.stdout).sort(), ["napi_register_module_v1", "node_api_module_get_api_version_v1"]);
    const taken = names(nm("--undefined-only").stdout).filter(
      (name) => !/@GLIBC/.test(name) && !/^(napi_|uv_|_ITM_|__gmon_start__|__cxa_finalize)/.test(name),
    );
    assert.deepEqual(taken, []);
  });

  it("has a class for each code, with the old names beside", () => {
    assert.equal(kvs.UndertminedError, kvs.OutcomeUnknownError);
    assert.equal(kvs.AlreadyExistError, kvs.AlreadyExistsError);
    const unknown = new kvs.OutcomeUnknownError();
    assert.deepEqual([unknown.code, unknown.retryable, unknown.maybeCommitted], ["OUTCOME_UNKNOWN", false, true]);
    const timeout = new kvs.TimeoutError("late");
    assert.deepEqual([timeout.name, timeout.message, timeout.retryable], ["TimeoutError", "late", true]);
  });
});
