/** Ranges of keys, and scans of them page by page. */
import { call } from "./calls";
import { checkCount, checkKey, checkObject, checkOptions } from "./checks";
import { Bytes } from "./native";
import { Pages, ReadPages } from "./pages";
import type { ScanOptions } from "./store_client";

/** Which keys: from `start` up to, not with, `end`; or all that begin with `prefix`. */
export interface KeyRange {
  /** The first key; default: the first there is. */
  start?: Bytes | undefined;
  /** The first key behind the range; default: there is none. */
  end?: Bytes | undefined;
  /** In place of start and end: all keys that begin with it. */
  prefix?: Bytes | undefined;
}

const FLAG_REVERSE = 1;
const FLAG_KEYS_ONLY = 2;
const FLAG_PAGE = 256;
const PAGE_SIZE_MAX = 65536;

/** The first bytes behind all that begin with the prefix; undefined: there are none. */
export function prefixEnd(prefix: Bytes): Buffer | undefined {
  const end = Buffer.from(prefix as string);
  for (let i = end.length - 1; i >= 0; i--) {
    if (end[i]! !== 0xff) {
      end[i]!++;
      return end.subarray(0, i + 1);
    }
  }
  return undefined;
}

/** The first key behind this one. */
export function keyAfter(key: Bytes): Buffer {
  return Buffer.concat([Buffer.from(key as string), Buffer.of(0)]);
}

export function rangeOf(range: KeyRange): [start: Bytes | null, end: Bytes | null] {
  for (const name of ["start", "end", "prefix"] as const) if (range[name] != null) checkKey(range[name], `the ${name} of a range`);
  if (range.prefix == null) return [range.start ?? null, range.end ?? null];
  if (range.start != null || range.end != null)
    throw new TypeError("a range has a prefix, or a start and an end");
  return [range.prefix, prefixEnd(range.prefix) ?? null];
}

const NAMES = ["start", "end", "prefix", "family"];

/** As rangeOf, of an argument that is a range and nothing else: a slip of the pen must not stand for all keys. */
export function bareRange(range: KeyRange): [start: Bytes | null, end: Bytes | null] {
  checkObject(range, "the range");
  const strange = Object.keys(range).find((name) => !NAMES.includes(name));
  if (strange !== undefined) throw new TypeError(`a range has start and end, or prefix, but no "${strange}"`);
  return rangeOf(range);
}

/** As bareRange, of what goes: all keys only when that is said. */
export function rangeToRemove(range: KeyRange): KeyRange {
  const [start, end] = bareRange(range);
  if (start === null && end === null)
    throw new TypeError('which keys? The range has neither start nor end nor prefix; { start: "" } stands for all');
  return range;
}

/** A range of positional arguments: without an end it has none. */
export function positionalRange(
  start: Bytes | undefined | null,
  end: Bytes | undefined | null,
  includeStart = true,
  includeEnd = false,
): KeyRange {
  const none = (bound: Bytes | undefined | null) => bound == null || bound.length === 0;
  for (const bound of [start, end]) if (bound != null) checkKey(bound, "a bound of the range");
  return {
    start: none(start) ? undefined : includeStart ? start! : keyAfter(start!),
    end: none(end) ? undefined : includeEnd ? keyAfter(end!) : end!,
  };
}

/** Bytes that their owner may change while the scan goes on. */
function ownBytes(bytes: Bytes | null): Bytes | null {
  return bytes instanceof Uint8Array ? Buffer.from(bytes) : bytes;
}

/** Page after page, each when the one before has been taken; `ask` asks for one. */
export function scanPages<T>(
  options: ScanOptions,
  keysOnly: boolean,
  ask: (
    id: number,
    start: Bytes | null,
    end: Bytes | null,
    limit: number,
    flags: number,
  ) => void,
): Pages<T> {
  checkObject(options, "the options of a scan");
  checkOptions(options);
  checkCount(options.limit, "the limit", 0);
  checkCount(options.pageSize, "the pageSize", 1);
  const { encoding, reverse, signal, pageSize = PAGE_SIZE_MAX } = options;
  let [start, end] = rangeOf(options).map(ownBytes) as [Bytes | null, Bytes | null];
  let left = options.limit ?? Infinity;
  const flags = FLAG_PAGE | (reverse ? FLAG_REVERSE : 0) | (keysOnly ? FLAG_KEYS_ONLY : 0);
  return new ReadPages(async () => {
    if (left === 0) return undefined;
    const limit = Math.min(left, pageSize, PAGE_SIZE_MAX);
    const [page, last, more] = await call(
      (id) => ask(id, start, end, limit, flags),
      (r): [T[], Buffer | undefined, boolean] => {
        const all = keysOnly ? r.keys(encoding) : r.pairs(encoding);
        return [all as T[], r.lastKey(), r.boolean()];
      },
      signal,
    );
    left = more && last !== undefined ? left - page.length : 0;
    if (last !== undefined && reverse) end = Buffer.from(last);
    else if (last !== undefined) start = keyAfter(last);
    return page;
  });
}

/** All that an iterator gives. */
export async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const one of source) found.push(one);
  return found;
}
