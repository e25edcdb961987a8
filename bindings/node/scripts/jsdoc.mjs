// Is there a JSDoc comment on everything that a user of the package can see?  node scripts/jsdoc.mjs
//
// Looks at what the package exports, and at the public members of it, through TypeScript's own eyes. Names that
// explain themselves are listed in PLAIN. Prints what has none; exit status 1 when there is something.
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ts = createRequire(import.meta.url)("typescript");
const here = dirname(dirname(fileURLToPath(import.meta.url)));
const entries = ["index", "sync"].map((name) => join(here, "dist", `${name}.d.ts`));
const program = ts.createProgram(entries, { types: ["node"], lib: ["lib.es2022.d.ts", "lib.esnext.disposable.d.ts"] });
const checker = program.getTypeChecker();

const hasComment = (symbol) => symbol.getDocumentationComment(checker).length > 0 || symbol.getJsDocTags(checker).length > 0;
const isOurs = (symbol) => symbol.declarations?.some((one) => one.getSourceFile().fileName.startsWith(join(here, "dist")));
const isHidden = (symbol) =>
  symbol.declarations?.every((one) => ts.getCombinedModifierFlags(one) & (ts.ModifierFlags.Private | ts.ModifierFlags.Protected));

// A member that overrides one of another class has the comment of that.
function inherits(of, name) {
  return (of.declarations ?? [])
    .filter(ts.isClassLike)
    .flatMap((one) => one.heritageClauses ?? [])
    .flatMap((clause) => clause.types)
    .some((type) => {
      const member = checker.getTypeAtLocation(type).getProperty(name);
      return member !== undefined && (!isOurs(member) || hasComment(member));
    });
}

const missing = [];
let count = 0;
const exportsOf = (entry) => checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(entry)));
for (let symbol of entries.flatMap(exportsOf)) {
  if (symbol.flags & ts.SymbolFlags.Alias) symbol = checker.getAliasedSymbol(symbol);
  count++;
  if (!hasComment(symbol)) missing.push(symbol.name);
  const members = [...(symbol.members?.values() ?? []), ...(symbol.exports?.values() ?? [])];
  for (const member of members) {
    if (!isOurs(member) || isHidden(member) || /^__|^prototype$/.test(member.name) || member.flags & ts.SymbolFlags.TypeParameter) continue;
    count++;
    if (!hasComment(member) && !inherits(symbol, member.name)) missing.push(`${symbol.name}.${member.name}`);
  }
}
for (const name of missing) console.log(`${name} has no JSDoc comment`);
console.log(`${count} exports and members, ${missing.length} without a comment`);
process.exit(missing.length > 0 || count < 200 ? 1 : 0);
