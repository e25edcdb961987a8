// After npm install: is there an addon that this machine can load? Else builds one.
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);
const prebuilt = join(here, "prebuilds", `${process.platform}-${process.arch}`, "kvs.node");

function loads(path) {
  try {
    require(path);
    return true;
  } catch (error) {
    console.error(`kvs: the prebuilt addon does not load here (${error.message}); building it`);
    return false;
  }
}

if (existsSync(join(here, "..", "..", "src", "libkvs.map"))) {
  // In the project's repository, npm run compile does it.
} else if (!existsSync(prebuilt) || !loads(prebuilt)) {
  await import("./build.mjs");
}
