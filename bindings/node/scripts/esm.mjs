// Makes dist/index.mjs: the same exports for import as for require, of the same objects.
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const names = Object.keys(createRequire(import.meta.url)("../dist/index.js")).sort();
writeFileSync(
  new URL("../dist/index.mjs", import.meta.url),
  `import kvs from "./index.js";\nexport const {\n${names.map((name) => `  ${name},\n`).join("")}} = kvs;\nexport default kvs;\n`,
);
