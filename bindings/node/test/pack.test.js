// What npm publishes: whole, not more than that, and a source build can be made of it.
"use strict";
const assert = require("node:assert/strict");
const { spawnSync } = require("node:child_process");
const { existsSync, mkdtempSync, rmSync, symlinkSync } = require("node:fs");
const { tmpdir } = require("node:os");
const { dirname, join } = require("node:path");
const { after, before, describe, it } = require("node:test");

const here = join(__dirname, "..");

function run(cwd, command, ...args) {
  const done = spawnSync(command, args, { cwd, encoding: "utf8", timeout: 600000, maxBuffer: 1 << 26 });
  assert.equal(done.status, 0, `${command} ${args.join(" ")}: ${done.error ?? done.stdout + done.stderr}`);
  return done.stdout;
}

describe("the packed package", () => {
  const directory = mkdtempSync(join(tmpdir(), "kvs-node-pack-"));
  const project = join(directory, "project");
  const installed = join(directory, "package");
  let list;
  before(() => {
    run(here, process.execPath, "scripts/source.mjs"); // what prepack does, without building dist again under other tests
    [list] = JSON.parse(run(here, "npm", "pack", "--ignore-scripts", "--json", "--pack-destination", directory));
    run(directory, "tar", "xzf", list.filename);
    require("node:fs").mkdirSync(join(project, "node_modules"), { recursive: true });
    symlinkSync(installed, join(project, "node_modules", "kvs-client"));
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  it("has what it needs, and nothing else", () => {
    const files = list.files.map(({ path }) => path);
    const needed = ["LICENSE", "README.md", "package.json", "dist/index.js", "dist/index.mjs", "dist/index.d.ts", "scripts/build.mjs",
      "scripts/install.mjs", "examples/bank.js", "libkvs/meson.build", "libkvs/LICENSE", "libkvs/src/libkvs.map",
      "libkvs/include/kvs/kvs.h", "libkvs/bindings/node/native/addon.c"];
    assert.deepEqual(needed.filter((file) => !files.includes(file)), []);
    const places = /^(LICENSE|README\.md|package\.json|(dist|examples)\/[\w./]+|scripts\/(build|install)\.mjs|prebuilds\/[\w-]+\/kvs\.node|libkvs\/(LICENSE|Makefile|meson\.build|meson_options\.txt|tools\/(setup|static-library)|(include|schema|src|bindings\/node\/native)\/.+))$/;
    assert.deepEqual(files.filter((file) => !places.test(file)), []);
    assert.ok(list.unpackedSize < 24e6, `${list.unpackedSize} bytes`);
    assert.ok(list.size < 8e6, `${list.size} bytes`);
  });

  it("has all sources of a build", (t) => {
    if (spawnSync("meson", ["--version"]).status !== 0) return t.skip("no meson here");
    const headers = require("node-api-headers").include_dir;
    const build = join(directory, "build");
    run(installed, "meson", "setup", build, "libkvs", "--buildtype=release", "-Dtests=false", "-Drocksdb=disabled", "-During=disabled", `-Dnode_headers=${headers}`);
    run(installed, "ninja", "-C", build, "-n", "bindings/node/native/kvs.node");
    rmSync(build, { recursive: true });
  });

  it("is required and imported from a project, as the first TiKV client was, too", () => {
    const addon = [process.env.KVS_NODE_ADDON, join(here, "build/kvs.node")].find((path) => path && existsSync(path));
    const env = { ...process.env, KVS_NODE_ADDON: addon };
    const scripts = {
      cjs: `const kvs = require("kvs-client"); kvs.KvsClient.connect("memory:").then(async (c) => { await c.set("k", "v"); console.log(await c.get("k", { encoding: "utf8" })); await c.close(); });`,
      mjs: `import { KvsClient } from "kvs-client"; const c = await KvsClient.connect("memory:"); await c.set("k", "v"); console.log(await c.get("k", { encoding: "utf8" })); await c.close();`,
      "old.cjs": `const tikv = require("kvs-client/dist/asynchronous"); const { OperationAfterCommitError } = require("kvs-client/dist/error"); console.log(typeof tikv.RawClient === "function" && OperationAfterCommitError.prototype instanceof Error ? "v" : "");`,
    };
    for (const [kind, text] of Object.entries(scripts)) {
      const file = join(project, `program.${kind}`);
      require("node:fs").writeFileSync(file, text);
      const done = spawnSync(process.execPath, ["--preserve-symlinks", file], { cwd: project, env, encoding: "utf8", timeout: 600000 });
      assert.deepEqual({ kind, out: done.stdout, err: done.stderr }, { kind, out: "v\n", err: "" });
    }
  });

  it("says how to go on where there is no addon", () => {
    rmSync(join(installed, "prebuilds"), { recursive: true, force: true });
    const env = { ...process.env, KVS_NODE_ADDON: undefined };
    delete env.KVS_NODE_ADDON;
    const done = spawnSync(process.execPath, ["--preserve-symlinks", "-e", `require("kvs-client")`], { cwd: project, env, encoding: "utf8" });
    assert.match(done.stderr, /there is no addon for linux-x64; node scripts\/build\.mjs/);
    assert.equal(dirname(installed), directory);
  });
});
