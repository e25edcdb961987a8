// Runs the tests with the addon under a sanitizer:  node scripts/sanitize.mjs asan|tsan [--addon=FILE] [WORD...]
//
// WORDs: only the test files whose names contain one. The addon is built into build/asan or build/tsan, unless FILE is one
// that is built (make asan and make tsan have theirs). Other flags are those of node --test. Node itself is
// not instrumented, so the sanitizer's runtime is loaded ahead of it (LD_PRELOAD), and leaks are not looked for:
// node's own would be found. What JavaScript and the addon keep is what test/life.test.js is for. kvs-server is
// that of KVS_BUILD_DIR, or of build/meson, without a sanitizer.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const root = join(here, "..", "..");
const kinds = {
  asan: { sanitize: "address,undefined", library: "libasan.so",
    env: { ASAN_OPTIONS: "detect_leaks=0:abort_on_error=1:detect_odr_violation=0", UBSAN_OPTIONS: "halt_on_error=1:print_stacktrace=1" } },
  tsan: { sanitize: "thread", library: "libtsan.so",
    env: { TSAN_OPTIONS: `halt_on_error=1:abort_on_error=1:ignore_noninstrumented_modules=1:suppressions=${join(root, "tools/tsan-suppressions.txt")}` } },
};
const [name, ...rest] = process.argv.slice(2);
const words = rest.filter((word) => !word.startsWith("-"));
const given = rest.find((word) => word.startsWith("--addon="))?.slice("--addon=".length);
const flags = rest.filter((word) => word.startsWith("-") && !word.startsWith("--addon="));
const kind = Object.hasOwn(kinds, name ?? "") ? kinds[name] : undefined;
if (kind === undefined) {
  console.error("usage: node scripts/sanitize.mjs asan|tsan [--addon=FILE] [WORD...]");
  process.exit(2);
}

function run(command, args, options = {}) {
  const { status, signal } = spawnSync(command, args, { cwd: here, stdio: "inherit", ...options });
  if (status !== 0) {
    console.error(`sanitize: ${command} ended with ${signal ?? status}`);
    process.exit(1);
  }
}

const quiet = { stdio: ["ignore", 2, 2] };

function buildAddon() {
  const build = join(here, "build", name);
  const headers = createRequire(import.meta.url)("node-api-headers").include_dir;
  if (!existsSync(join(build, "build.ninja")))
    run("meson", ["setup", build, root, "--buildtype=debugoptimized", `-Db_sanitize=${kind.sanitize}`, "-Db_lundef=false", "-Dtests=false",
      "-Drocksdb=disabled", "-During=disabled", `-Dnode_headers=${headers}`], quiet);
  run("ninja", ["-C", build, "bindings/node/native/kvs.node"], quiet);
  return join(build, "bindings/node/native/kvs.node");
}

const addon = given ?? buildAddon();
run("npm", ["run", "--silent", "compile:js"], quiet);
const { stdout } = spawnSync("gcc", [`-print-file-name=${kind.library}`], { encoding: "utf8" });
const files = readdirSync(join(here, "test"))
  .filter((file) => file.endsWith(".test.js") && !/^(pack|package)\./.test(file) && (words.length === 0 || words.some((word) => file.includes(word))))
  .map((file) => join("test", file));
run(process.execPath, ["--expose-gc", "--test", "--test-concurrency=1", ...flags, ...files], {
  env: { ...process.env, ...kind.env, LD_PRELOAD: stdout.trim(), KVS_NODE_ADDON: addon,
    KVS_NODE_SANITIZED: name, KVS_BUILD_DIR: process.env.KVS_BUILD_DIR ?? join(here, "build", "meson") },
});
