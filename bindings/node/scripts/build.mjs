// Builds the addon from source, into build/kvs.node:  node scripts/build.mjs [--prebuild]
//
// The sources of libkvs are two folders up in the project's repository, and in libkvs/ in the
// published package. Needs what `make setup` installs: a C compiler, meson, ninja and the libraries'
// headers. --prebuild: also strips it, into prebuilds/PLATFORM-ARCH/kvs.node.
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, renameSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const source = [join(here, "libkvs"), join(here, "..", "..")].find((folder) =>
  existsSync(join(folder, "src", "libkvs.map")),
);
const headers = createRequire(import.meta.url)("node-api-headers").include_dir;
const build = join(here, "build", "meson");

function run(command, ...args) {
  const { status, error } = spawnSync(command, args, { stdio: ["ignore", "inherit", "inherit"] });
  if (error?.code === "ENOENT") {
    console.error(`kvs: ${command} is needed to build the addon; on Debian 12, in ${source}: make setup`);
    process.exit(1);
  }
  if (status !== 0) process.exit(1);
}

if (source === undefined) {
  console.error("kvs: there are no sources of libkvs in libkvs/ or ../../, nor a prebuilt addon for " +
    `${process.platform}-${process.arch}`);
  process.exit(1);
}
if (!existsSync(join(build, "build.ninja")))
  run("meson", "setup", build, source, "--buildtype=release", "-Db_ndebug=false", "-Dtests=false", "-Drocksdb=disabled", "-During=disabled",
    `-Dnode_headers=${headers}`);
run("ninja", "-C", build, "bindings/node/native/kvs.node");
const addon = join(here, "build", "kvs.node");
copyFileSync(join(build, "bindings", "node", "native", "kvs.node"), `${addon}.new`);
renameSync(`${addon}.new`, addon); // a process that has the old one keeps it
if (process.argv.includes("--prebuild")) {
  const folder = join(here, "prebuilds", `${process.platform}-${process.arch}`);
  mkdirSync(folder, { recursive: true });
  run("strip", "--strip-unneeded", "-o", join(folder, "kvs.node"), addon);
}
