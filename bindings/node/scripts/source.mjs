// Before npm pack: copies the sources of libkvs that a build of the addon needs into libkvs/, and the licence.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const root = join(here, "..", "..");
const wanted = ["LICENSE", "Makefile", "meson.build", "meson_options.txt", "bindings/node/native", "include",
  "schema", "src", "tools/setup", "tools/static-library"];
rmSync(join(here, "libkvs"), { recursive: true, force: true });
const files = execFileSync("git", ["ls-files", "-z", "--", ...wanted], { cwd: root, encoding: "utf8" });
for (const file of files.split("\0").filter((name) => name !== "")) {
  const to = join(here, "libkvs", file);
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(join(root, file), to);
}
copyFileSync(join(root, "LICENSE"), join(here, "LICENSE"));
