import { attempt, call } from "./calls";
import { checkIterable, checkKey, checkObject, lifeOf } from "./checks";
import { Bytes, Keys, native } from "./native";
import { Pages } from "./pages";
import { bareRange, KeyRange, rangeToRemove } from "./ranges";
import {
  CallOptions,
  Checksum,
  LocalOptions,
  Pair,
  ReadOptions,
  ScanOptions,
  StoreClient,
  syncOf,
  tlsFiles,
  TlsOptions,
  Value,
  WriteOptions,
} from "./store_client";

/** How to open a store; without a field its default. */
export interface KvsOptions extends LocalOptions {
  /** Connections to the server; default 1. */
  connections?: number;
  /** Until a connection stands; default 5000. */
  connectTimeoutMs?: number;
  /** Deadline of a call that sets none; default 30000, in this process none. */
  timeoutMs?: number;
  /** Bytes of a value at most; default 16 MiB. */
  valueSizeMax?: number;
  /** kvs: speak TLS with the server. */
  tls?: TlsOptions;
  /** Gives the opening up. */
  signal?: AbortSignal;
}

/** One change of a batch. */
export type Change =
  | { set: Bytes; value: Bytes; ttlMs?: number | undefined; remove?: never; removeRange?: never }
  | { remove: Bytes; set?: never; removeRange?: never }
  | { removeRange: KeyRange; set?: never; remove?: never };

const CONNECTED = Symbol("made by connect");
const LOCAL = /^(log|rocksdb|memory):/;
const NO_BYTES = new Uint8Array();

function checkChange(change: Change): void {
  const given = typeof change === "object" && change !== null ? [change.set, change.remove, change.removeRange] : [];
  if (given.filter((one) => one !== undefined).length !== 1)
    throw new TypeError("a change must be { set, value }, { remove } or { removeRange }: one of them");
}

/**
 * An ordered key-value store: on a kvs-server (`kvs://HOST[:PORT]`), or in this process (`log:DIR`,
 * `memory:`). Keys are 1 to 8192 bytes, values up to 16 MiB; keys are ordered as unsigned bytes.
 *
 * @example
 * const client = await KvsClient.connect("kvs://127.0.0.1:4000");
 * await client.set("greeting", "hello");
 * console.log(await client.get("greeting", { encoding: "utf8" }));
 * await client.close();
 */
export class KvsClient extends StoreClient {
  /** Ready when the first connection stands, or the directory is open. */
  static async connect(url: string, options: KvsOptions = {}): Promise<KvsClient> {
    checkObject(options, "the options of connect");
    const { sync, tls, signal, ...rest } = options;
    const client = new KvsClient(CONNECTED);
    client.isLocal = LOCAL.test(url);
    client.handle = await call(
      (id) => native.storeOpen(id, url, { ...rest, ...tlsFiles(tls), sync: syncOf(sync) }),
      (r) => r.handle(),
      signal,
    );
    return client;
  }

  private constructor(by: symbol) {
    super();
    if (by !== CONNECTED) throw new TypeError("a client is made by KvsClient.connect");
  }

  /** The value; undefined: there is none. */
  get<O extends ReadOptions>(key: Bytes, options?: O): Promise<Value<O> | undefined> {
    return this.getValue(key, 0, options);
  }

  /** Is there such a key? */
  exists(key: Bytes, options?: CallOptions): Promise<boolean> {
    return this.hasKey(key, 0, options);
  }

  /** Done when it is as safe as the store's sync policy says. */
  set(key: Bytes, value: Bytes, options?: WriteOptions): Promise<void> {
    return this.setValue(key, value, 0, options);
  }

  /** True: it was there. */
  remove(key: Bytes, options?: CallOptions): Promise<boolean> {
    return this.removeKey(key, 0, options);
  }

  /** Sets the key when it holds `expected` (undefined: when there is none); else tells what it holds. */
  compareAndSet<O extends ReadOptions & WriteOptions>(
    key: Bytes,
    expected: Bytes | undefined,
    value: Bytes,
    options?: O,
  ): Promise<{ swapped: boolean; previous: Value<O> | undefined }> {
    return this.swapValue(key, expected, value, 0, options);
  }

  /** Values in the order of the keys; undefined where there is none. */
  batchGet<O extends ReadOptions>(
    keys: Keys,
    options?: O,
  ): Promise<(Value<O> | undefined)[]> {
    return this.getValues(keys, 0, options);
  }

  /** All of them, or none. */
  batchSet(pairs: Iterable<readonly [Bytes, Bytes]>, options?: WriteOptions): Promise<void> {
    return this.setValues(pairs, 0, options);
  }

  /** Changes that happen all or not at all, one after the other. */
  async batch(changes: Iterable<Change>, options?: CallOptions): Promise<void> {
    const kinds: number[] = [];
    const keys: Bytes[] = [];
    const values: (Bytes | null)[] = [];
    const ttls: number[] = [];
    checkIterable(changes, "the changes");
    for (const change of changes) {
      checkChange(change);
      if (change.set !== undefined) {
        checkKey(change.value, "the value");
        kinds.push(1);
        keys.push(change.set);
        values.push(change.value);
        ttls.push(lifeOf(change.ttlMs));
        continue;
      }
      if (change.remove !== undefined) {
        kinds.push(2);
        keys.push(change.remove);
        values.push(null);
      } else {
        const [start, end] = bareRange(rangeToRemove(change.removeRange));
        kinds.push(3);
        keys.push(start ?? NO_BYTES);
        values.push(end);
      }
      ttls.push(0);
    }
    return this.writeBatch(
      Uint8Array.from(kinds),
      keys,
      values,
      Float64Array.from(ttls),
      options,
    );
  }

  /** Keys and values in order, page by page: a slow loop slows the reading, not the heap. */
  scan<O extends ScanOptions>(options: O = {} as O): Pages<Pair<O>> {
    return this.scanRange(options, 0, false);
  }

  /** As `scan`, without the values. */
  scanKeys<O extends ScanOptions>(options: O = {} as O): Pages<Value<O>> {
    return this.scanRange(options, 0, true);
  }

  /** How many keys are in the range; default: all. */
  count(range: KeyRange = {}, options?: CallOptions): Promise<number> {
    return this.countRange(range, 0, options);
  }

  /** Removes all of the range at once; how many there were. */
  removeRange(range: KeyRange, options?: CallOptions): Promise<number> {
    return attempt(() => this.removeRangeOf(rangeToRemove(range), 0, options));
  }

  /** Milliseconds until the key ends; Infinity: it does not; undefined: there is no such key. */
  ttl(key: Bytes, options?: CallOptions): Promise<number | undefined> {
    return this.ttlOf(key, 0, options);
  }

  /** Of a range, default all: equal ranges have equal ones. */
  checksum(range: KeyRange = {}, options?: CallOptions): Promise<Checksum> {
    return this.checksumOf(range, 0, options);
  }

  /**
   * A backup: a copy of all data, as of some moment of the call, in a new directory, which `log:DIR` opens.
   * In process `directory` is a path, on a server a name below its --backup-dir.
   */
  checkpoint(directory: string, options?: CallOptions): Promise<void> {
    return call(
      (id) => {
        if (typeof directory !== "string") throw new TypeError("the directory must be a string");
        native.storeCheckpoint(id, this.handle, directory, 0, this.timeoutOf(options));
      },
      (r) => r.nothing(),
      options?.signal,
    );
  }

  /** Done when all writes acknowledged before are on the disk. */
  sync(options?: CallOptions): Promise<void> {
    return call(
      (id) => native.storeSync(id, this.handle, this.timeoutOf(options)),
      (r) => r.nothing(),
      options?.signal,
    );
  }

  /** Done when the space of removed and overwritten values has been given back. */
  compact(options?: CallOptions): Promise<void> {
    return call(
      (id) => native.storeCompact(id, this.handle, this.timeoutOf(options)),
      (r) => r.nothing(),
      options?.signal,
    );
  }
}
