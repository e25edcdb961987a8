// Makes src/errors_table.ts from include/kvs/error.h, so that both say the same: npm run compile.
import { readFileSync, writeFileSync } from "node:fs";

const header = readFileSync(new URL("../../../include/kvs/error.h", import.meta.url), "utf8");
const joined = header.replace(/\\\n/g, " ");
const flags = Object.fromEntries(
  [...joined.matchAll(/#define KVS_ERROR_FLAG_(\w+) (\d+)u/g)].map(([, name, bit]) => [name, Number(bit)]),
);
const table = joined.slice(joined.indexOf("#define KVS_ERROR_TABLE(X)"), joined.indexOf("enum kvs_error {"));
const rows = [...table.matchAll(/X\((\w+),\s*(-?\d+),\s*"([^"]*)",\s*([^)]*?)\)/g)].map(
  ([, symbol, number, text, words]) => ({
    symbol,
    number: Number(number),
    text,
    flags: [...words.matchAll(/KVS_ERROR_FLAG_(\w+)/g)].reduce((all, [, name]) => all | flags[name], 0),
  }),
);
if (rows.length < 20 || rows.some((row) => Number.isNaN(row.flags)))
  throw new Error("include/kvs/error.h is not of the form that this script reads");

const className = (symbol) =>
  symbol
    .toLowerCase()
    .split("_")
    .map((word) => word[0].toUpperCase() + word.slice(1))
    .join("") + "Error";

const classes = rows
  .filter((row) => row.number !== 0)
  .map(
    ({ symbol, number, text, flags: bits }) => `
/** ${text[0].toUpperCase() + text.slice(1)}. */
export class ${className(symbol)} extends KvsError {
  constructor(message: string = ${JSON.stringify(text)}, details?: ErrorDetails) {
    super(message, ${JSON.stringify(symbol)}, ${number}, ${bits}, details);
  }
}
classes.set(${number}, ${className(symbol)});
`,
  );
const out = `// Made by scripts/errors.mjs from include/kvs/error.h. Not to be edited.
import { classes, ErrorDetails, KvsError } from "./kvs_error";
${classes.join("")}`;
writeFileSync(new URL("../src/errors_table.ts", import.meta.url), out);
writeFileSync(
  new URL("../src/error_flags.ts", import.meta.url),
  `// Made by scripts/errors.mjs from include/kvs/error.h. Not to be edited.
${Object.entries(flags)
  .map(([name, bit]) => `export const ${name} = ${bit};`)
  .join("\n")}
`,
);
