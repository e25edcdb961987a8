// npm test: builds the addon and the JavaScript, finds or builds kvs-server, runs test/*.test.js.
//
//   KVS_BUILD_DIR=DIR   take kvs-server from there
//   npm test -- gc      only the files whose names contain a word
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(dirname(fileURLToPath(import.meta.url)));

function run(command, args, options = {}) {
  const { status } = spawnSync(command, args, { cwd: here, stdio: ["ignore", "inherit", "inherit"], ...options });
  if (status !== 0) process.exit(1);
}

const quiet = { stdio: ["ignore", 2, 2] }; // standard output is the test report's
run("npm", ["run", "--silent", "compile"], quiet);
const builds = [process.env.KVS_BUILD_DIR, join(here, "build", "meson")];
let servers = builds.find((folder) => folder && existsSync(join(folder, "kvs-server")));
if (servers === undefined) {
  servers = builds[1];
  run("ninja", ["-C", servers, "kvs-server"], quiet);
}
const words = process.argv.slice(2).filter((word) => !word.startsWith("-"));
const files = readdirSync(join(here, "test"))
  .filter((name) => name.endsWith(".test.js") && (words.length === 0 || words.some((word) => name.includes(word))))
  .map((name) => join("test", name));
const flags = process.argv.slice(2).filter((word) => word.startsWith("-"));
run(process.execPath, ["--expose-gc", "--test", "--test-concurrency=2", ...flags, ...files], {
  env: { ...process.env, KVS_BUILD_DIR: servers },
});
