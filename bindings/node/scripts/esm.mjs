// Makes dist/index.mjs and dist/sync.mjs: the same exports for import as for require, of the same objects.
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";

for (const entry of ["index", "sync"]) {
  const names = Object.keys(createRequire(import.meta.url)(`../dist/${entry}.js`)).sort();
  writeFileSync(
    new URL(`../dist/${entry}.mjs`, import.meta.url),
    `import kvs from "./${entry}.js";\nexport const {\n${names.map((name) => `  ${name},\n`).join("")}} = kvs;\nexport default kvs;\n`,
  );
}
