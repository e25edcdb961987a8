/** Arguments that are none: each is a TypeError that says what it should be, before anything is done. */
import { Bytes, Keys } from "./native";

function isObject(given: unknown): given is object {
  return typeof given === "object" && given !== null;
}

/** Options, or a range: an object. */
export function checkObject(given: unknown, what: string): void {
  if (!isObject(given)) throw new TypeError(`${what} must be an object`);
}

export function checkEncoding(encoding: BufferEncoding | undefined): void {
  if (encoding !== undefined && !Buffer.isEncoding(encoding))
    throw new TypeError(`the encoding must be one that Buffers know, "utf8" for example, not ${JSON.stringify(encoding)}`);
}

/** Options of a call, which may be left out. */
export function checkOptions(options: object | undefined): void {
  if (options === undefined) return;
  checkObject(options, "the options of a call");
  checkEncoding((options as { encoding?: BufferEncoding }).encoding);
}

/** What is no key or value is a TypeError. */
export function checkKey(key: unknown, what: string): void {
  if (typeof key !== "string" && !(key instanceof Uint8Array))
    throw new TypeError(`${what} must be a Buffer, a Uint8Array or a string`);
}

/** A name that is not empty. */
export function checkName(name: unknown, what: string): asserts name is string {
  if (typeof name !== "string" || name === "")
    throw new TypeError(`the name of the ${what} must be a string that is not empty`);
}

export function checkFunction(given: unknown, what: string): void {
  if (typeof given !== "function") throw new TypeError(`${what} must be a function`);
}

/** Something to loop over; a string is a single one, not many. */
export function checkIterable(given: unknown, what: string): void {
  const iterable = typeof given === "object" && typeof (given as Partial<Iterable<unknown>> | null)?.[Symbol.iterator] === "function";
  if (!iterable) throw new TypeError(`${what} must be an array, or another iterable`);
}

/** An object of an iterable. */
export function checkEach(given: unknown, what: string, wanted: string): void {
  if (!isObject(given)) throw new TypeError(`each of the ${what} must be ${wanted}`);
}

/** The keys of an argument: an array as it is, which its owner may change later. */
export function listOf(keys: Keys): readonly Bytes[] {
  if (typeof keys === "string" || keys instanceof Uint8Array)
    throw new TypeError("the keys must be an array, or another iterable of keys, not a single key");
  checkIterable(keys, "the keys");
  return Array.isArray(keys) ? keys : [...keys];
}

/** A count; undefined: no limit. */
export function checkCount(count: number | undefined, what: string, least: 0 | 1): void {
  if (count === undefined || count === Infinity || (Number.isInteger(count) && count >= least)) return;
  throw new TypeError(`${what} must be a whole number that is not ${least === 0 ? "negative" : "below 1"}`);
}

/** Milliseconds of a key's life, for the addon: a part of one counts as a whole; 0: for ever. */
export function lifeOf(ttlMs: number | undefined): number {
  if (ttlMs === undefined) return 0;
  if (typeof ttlMs === "number" && ttlMs >= 0 && ttlMs <= Number.MAX_SAFE_INTEGER) return Math.ceil(ttlMs);
  throw new TypeError("ttlMs must be a number of milliseconds that is not negative");
}

/** One of the words that there are. */
export function choose<T extends object>(what: string, table: T, name: keyof T): T[keyof T] {
  if (!Object.hasOwn(table, name))
    throw new TypeError(`${what} must be one of ${Object.keys(table).join(", ")}`);
  return table[name];
}

/** A number that is no safe integer may have been another one once, before it was rounded. */
export function exact(given: bigint | number, what: string): bigint {
  if (typeof given === "bigint") return given;
  if (Number.isSafeInteger(given)) return BigInt(given);
  throw new TypeError(`${what} must be a BigInt or a safe integer: a larger number has lost its low bits`);
}
