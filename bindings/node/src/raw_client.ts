import { attempt, call } from "./calls";
import { checkEncoding, checkObject, checkOptions } from "./checks";
import { Bytes, Keys, native } from "./native";
import { Pages } from "./pages";
import { collect, KeyRange, positionalRange, rangeToRemove } from "./ranges";
import {
  CallOptions,
  Checksum,
  Pair,
  ReadOptions,
  ScanOptions,
  StoreClient,
  tlsFiles,
  TlsOptions,
  Value,
  WriteOptions,
} from "./store_client";

/** One of TiKV's column families; programs use "default". */
export type ColumnFamily = "default" | "write" | "lock";

/** How to reach a cluster; without a field its default. */
export interface TikvOptions {
  /** Keys are those of this keyspace (API V2); without it API V1. */
  keyspace?: string;
  /** So many threads take part, each with a connection to each node; default 1. */
  connections?: number;
  /** Until a connection stands; default 5000. */
  connectTimeoutMs?: number;
  /** Deadline of a call that sets none; default 30000. */
  timeoutMs?: number;
  /** Speak TLS with the cluster. */
  tls?: TlsOptions;
  /** Writes without TiKV's latches: faster, but a compareAndSwap at the same time may not see them. */
  plainWrites?: boolean;
  /** Default of all calls that give keys or values. */
  encoding?: BufferEncoding;
  /** Gives the opening up. */
  signal?: AbortSignal;
}

/** Of one column family; default "default". */
export interface FamilyOptions {
  /** Which one. */
  family?: ColumnFamily | undefined;
}

const FAMILIES = { default: 0, write: 1, lock: 2 };

export function familyOf(name: string | undefined): number {
  if (name === undefined) return 0;
  if (!Object.hasOwn(FAMILIES, name))
    throw new TypeError(`the column family must be "default", "write" or "lock", not ${JSON.stringify(name)}`);
  return FAMILIES[name as ColumnFamily];
}

function familyIn(range: FamilyOptions): number {
  checkObject(range, "the range");
  return familyOf(range.family);
}

/** "tikv://..." of one or several addresses of PD, each with or without a scheme. */
export function tikvUrl(pd: string | readonly string[]): string {
  const addresses = typeof pd === "string" ? [pd] : pd;
  if (!Array.isArray(addresses) || addresses.some((address) => typeof address !== "string"))
    throw new TypeError("the PD addresses must be a string or an array of strings");
  return "tikv://" + addresses.map((one) => one.replace(/^(tikv|https?):\/\//, "")).join(",");
}

export function tikvStoreOptions(options: TikvOptions) {
  const { tls, encoding, signal: _, ...rest } = options;
  checkEncoding(encoding);
  return { ...rest, ...tlsFiles(tls) };
}

const CONNECTED = Symbol("made by connect");

/**
 * TiKV's raw API: keys and values without transactions.
 *
 * `RawClient.connect` is the way in. `new RawClient(pd)` gives a promise of a client, as the first TiKV
 * client for Node.js did, whose methods (snake case, positional arguments, a column family at the end)
 * are here, too; such a client gives strings.
 *
 * @example
 * const client = await RawClient.connect("127.0.0.1:2379");
 * await client.put("k1", "v1");
 * for await (const [key, value] of client.scan({ prefix: "k", encoding: "utf8" })) console.log(key, value);
 * await client.close();
 */
export class RawClient extends StoreClient {
  private encoding: BufferEncoding | undefined;

  /** @deprecated a promise of a client that gives strings; use RawClient.connect. */
  constructor(pd: string | readonly string[]);
  /** @internal */
  constructor(pd: string | readonly string[] | symbol) {
    super();
    if (pd !== CONNECTED)
      return attempt(() =>
        RawClient.connect(pd as string, { encoding: "utf8" }),
      ) as unknown as RawClient;
  }

  /** Ready when PD has answered. `pd`: HOST[:PORT] of any of its members, or several of them. */
  static async connect(
    pd: string | readonly string[],
    options: TikvOptions = {},
  ): Promise<RawClient> {
    checkObject(options, "the options of connect");
    const client = new RawClient(CONNECTED as unknown as string);
    client.encoding = options.encoding;
    client.handle = await call(
      (id) => native.storeOpen(id, tikvUrl(pd), tikvStoreOptions(options)),
      (r) => r.handle(),
      options.signal,
    );
    return client;
  }

  /** The options of a call that was given an options object, a column family, or nothing. */
  private with<O extends object>(options: O | string | undefined): O & { encoding?: BufferEncoding } {
    const encoding = this.encoding;
    const given = typeof options === "string" ? { family: options } : options;
    checkOptions(given);
    return { encoding, ...given } as O & { encoding?: BufferEncoding };
  }

  /** The value; undefined: there is none. */
  get<O extends ReadOptions & FamilyOptions>(
    key: Bytes,
    options?: O,
  ): Promise<Value<O> | undefined>;
  /** @deprecated */
  get(key: Bytes, family: string): Promise<string | undefined>;
  get(key: Bytes, options?: (ReadOptions & FamilyOptions) | string): Promise<any> {
    return attempt(() => {
      const all = this.with(options);
      return this.getValue(key, familyOf(all.family), all);
    });
  }

  /** Is there such a key? */
  exists(key: Bytes, options?: CallOptions & FamilyOptions): Promise<boolean> {
    return attempt(() => this.hasKey(key, familyOf(options?.family), options));
  }

  /** Writes a value, whatever was there. */
  put(key: Bytes, value: Bytes, options?: (WriteOptions & FamilyOptions) | string): Promise<void> {
    return attempt(() => {
      const all = this.with(options);
      return this.setValue(key, value, familyOf(all.family), all);
    });
  }

  /** Also of a key that is not there. */
  delete(key: Bytes, options?: (CallOptions & FamilyOptions) | string): Promise<void> {
    return this.batchDelete([key], options);
  }

  /** Puts the value when the key holds `previous` (undefined: when there is none); else tells what it
   * holds. */
  compareAndSwap<O extends ReadOptions & WriteOptions & FamilyOptions>(
    key: Bytes,
    previous: Bytes | undefined,
    value: Bytes,
    options?: O,
  ): Promise<{ swapped: boolean; previous: Value<O> | undefined }> {
    return attempt(() => {
      const all = this.with(options) as O;
      return this.swapValue(key, previous, value, familyOf(all.family), all);
    });
  }

  /** Values in the order of the keys; undefined where there is none. */
  batchGet<O extends ReadOptions & FamilyOptions>(
    keys: Keys,
    options?: O,
  ): Promise<(Value<O> | undefined)[]> {
    return attempt(() => {
      const all = this.with(options) as O;
      return this.getValues(keys, familyOf(all.family), all);
    });
  }

  /** Writes many. TiKV does it all or not at all only for keys of one region. */
  batchPut(
    pairs: Iterable<readonly [Bytes, Bytes]>,
    options?: WriteOptions & FamilyOptions,
  ): Promise<void> {
    return attempt(() => this.setValues(pairs, familyOf(options?.family), options));
  }

  /** Removes many keys, there or not. */
  batchDelete(
    keys: Keys,
    options?: (CallOptions & FamilyOptions) | string,
  ): Promise<void> {
    return attempt(() => {
      const all = this.with(options);
      return this.removeKeys(keys, familyOf(all.family), all);
    });
  }

  /** Keys and values in order, page by page: a slow loop slows the reading, not the heap. */
  scan<O extends ScanOptions & FamilyOptions>(
    options?: O,
  ): Pages<Pair<O>>;
  /** @deprecated */
  scan(
    start: Bytes | undefined,
    end: Bytes | undefined,
    limit: number,
    includeStart: boolean,
    includeEnd: boolean,
    family: string,
  ): Promise<[string, string][]>;
  scan(first?: any, ...rest: any[]): any {
    if (rest.length > 0) return this.positional(false, first, rest as any);
    const all = this.with<ScanOptions & FamilyOptions>(first);
    return this.scanRange(all, familyOf(all.family), false);
  }

  /** As `scan`, without the values. */
  scanKeys<O extends ScanOptions & FamilyOptions>(
    options?: O,
  ): Pages<Value<O>> {
    const all = this.with<ScanOptions & FamilyOptions>(options);
    return this.scanRange(all, familyOf(all.family), true);
  }

  /** How many keys are in the range; default: all. */
  count(range: KeyRange & FamilyOptions = {}, options?: CallOptions): Promise<number> {
    return attempt(() => this.countRange(range, familyIn(range), options));
  }

  /** Removes all of the range, region by region; how many there were. */
  deleteRange(range: KeyRange & FamilyOptions, options?: CallOptions): Promise<number> {
    return attempt(() => this.removeRangeOf(rangeToRemove(range), familyIn(range), options));
  }

  /** Milliseconds until the key ends; Infinity: it does not; undefined: there is no such key. */
  ttl(key: Bytes, options?: CallOptions & FamilyOptions): Promise<number | undefined> {
    return attempt(() => this.ttlOf(key, familyOf(options?.family), options));
  }

  /** Of a range, default all: equal ranges have equal ones. */
  checksum(range: KeyRange & FamilyOptions = {}, options?: CallOptions): Promise<Checksum> {
    return attempt(() => this.checksumOf(range, familyIn(range), options));
  }

  /* --- as in the first client --- */

  /** @deprecated use batchGet */
  async batch_get(keys: string[], family?: string): Promise<[string, string][]> {
    const all = this.with({ family: family as ColumnFamily });
    const values = await this.getValues(keys, familyOf(all.family), all);
    const pairs = keys.map((key, i) => [key, values[i]]);
    return pairs.filter(([, value]) => value !== undefined) as [string, string][];
  }

  /** @deprecated use batchPut */
  batch_put(pairs: [string, string][], family?: string): Promise<void> {
    return attempt(() => this.setValues(pairs, familyOf(family)));
  }

  /** @deprecated use batchDelete */
  batch_delete(keys: string[], family?: string): Promise<void> {
    return this.batchDelete(keys, family);
  }

  /** @deprecated use scanKeys */
  scan_keys(
    start: Bytes | undefined,
    end: Bytes | undefined,
    limit: number,
    includeStart: boolean,
    includeEnd: boolean,
    family?: string,
  ): Promise<string[]> {
    return this.positional(true, start, [end, limit, includeStart, includeEnd, family]) as Promise<
      string[]
    >;
  }

  /** @deprecated use deleteRange */
  async delete_range(
    start: Bytes | undefined,
    end: Bytes | undefined,
    includeStart: boolean,
    includeEnd: boolean,
    family?: string,
  ): Promise<void> {
    await this.removeRangeOf(
      positionalRange(start, end, includeStart, includeEnd),
      familyOf(family),
    );
  }

  private async positional(
    keysOnly: boolean,
    start: Bytes | undefined,
    [end, limit, includeStart, includeEnd, family]: [
      Bytes | undefined,
      number,
      boolean,
      boolean,
      string | undefined,
    ],
  ): Promise<unknown[]> {
    if (typeof limit !== "number") throw new TypeError("the limit must be a number");
    const all = this.with<ScanOptions>({
      ...positionalRange(start, end, includeStart, includeEnd),
      limit,
    });
    return collect(this.scanRange<unknown>(all, familyOf(family), keysOnly));
  }
}
