/** What every client of keys and values has, whatever the cluster behind it is called. */
import { call } from "./calls";
import { checkEach, checkIterable, checkKey, checkObject, checkOptions, choose, lifeOf, listOf } from "./checks";
import { Client } from "./client";
import { Bytes, Handle, Keys, native } from "./native";
import { packed, packedPairs } from "./pack";
import { Pages } from "./pages";
import { KeyRange, bareRange, scanPages } from "./ranges";

/** Options of every call. */
export interface CallOptions {
  /** Gives the call up: its promise is rejected with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Milliseconds after which it is given up; default: the client's. What is in memory is there before that. */
  timeoutMs?: number | undefined;
}

/** Of calls that give keys or values. */
export interface ReadOptions extends CallOptions {
  /** Keys and values are given as strings of this encoding; without it as Buffers. */
  encoding?: BufferEncoding | undefined;
}

/** Of writes. */
export interface WriteOptions extends CallOptions {
  /** The key ends after so many milliseconds. */
  ttlMs?: number | undefined;
}

/** Of scans: which keys, how many, in which order. */
export interface ScanOptions extends ReadOptions, KeyRange {
  /** At most so many; default: all of the range. */
  limit?: number | undefined;
  /** From the last key of the range downwards. */
  reverse?: boolean | undefined;
  /** How many at a time are asked for; default: what fits into 1 MiB. */
  pageSize?: number | undefined;
}

/** What a read gives under the options O: strings with an encoding, else Buffers. */
export type Value<O> = O extends { encoding: BufferEncoding } ? string : Buffer;
/** A key and its value. */
export type Pair<O> = [key: Value<O>, value: Value<O>];

/** What a range holds, to be compared with another one. */
export interface Checksum {
  /** All pairs' CRC-64 (ECMA-182, reflected) of key and value, by XOR. */
  crc64Xor: bigint;
  /** How many keys there are. */
  keys: number;
  /** Of keys and values. */
  bytes: number;
}

/** How a store in this process is opened; without a field its default. */
export interface LocalOptions {
  /** When is a write acknowledged? "always" (default): it survives a power cut. */
  sync?: "always" | "interval" | "never";
  /** With sync "interval": how often; default 1000. */
  syncIntervalMs?: number;
  /** log: bytes of one file; default 64 MiB. */
  segmentSizeBytes?: number;
  /** log: memory for values, rocksdb: for blocks; default a quarter of the machine's. */
  cacheSizeBytes?: number;
  /** log: memory for all of the cache is made by the open, and kept until the close; else as it is needed. */
  cachePrefault?: boolean;
  /** log: and rocksdb: fail when there is no store in the directory yet. */
  mustExist?: boolean;
}

const SYNCS = { always: 0, interval: 1, never: 2 };

/** The policy's number, for the addon. */
export function syncOf(sync: LocalOptions["sync"]): number {
  return choose("sync", SYNCS, sync ?? "always");
}

/** TLS is used when any of the three is given; names of PEM files. */
export interface TlsOptions {
  /** Authorities to trust; default: those of the system. */
  ca?: string;
  /** Who this client is, for servers that ask, and the key of it. */
  certificate?: string;
  /** File of the private key of `certificate`. */
  key?: string;
}

const MUTATION_SET = 1;
const MUTATION_REMOVE = 2;

/** As the addon wants them. */
export function tlsFiles(tls: TlsOptions | undefined) {
  if (tls !== undefined) checkObject(tls, "the tls of the options");
  return { tlsCa: tls?.ca, tlsCertificate: tls?.certificate, tlsKey: tls?.key };
}

/** A deadline that is none: with it libkvs lets go of a call of a store in this process at once. */
const FAR_MS = 0xffffffff;

export class StoreClient extends Client {
  /** @internal The store is in this process. */
  protected isLocal = false;

  /** @internal Of a call; 0: the store's. */
  protected timeoutOf(options: CallOptions | undefined): number {
    checkOptions(options);
    const given = options?.timeoutMs ?? 0;
    return given === 0 && this.isLocal && options?.signal !== undefined ? FAR_MS : given;
  }

  /** @internal */
  protected getValue<O extends ReadOptions>(
    key: Bytes,
    family: number,
    options: O | undefined,
  ): Promise<Value<O> | undefined> {
    const encoding = options?.encoding;
    return call(
      (id) => {
        checkKey(key, "the key");
        native.storeGet(id, this.handle, key, family, this.timeoutOf(options));
      },
      (r) => r.value(encoding) as Value<O> | undefined,
      options?.signal,
    );
  }

  /** @internal */
  protected hasKey(key: Bytes, family: number, options?: CallOptions): Promise<boolean> {
    return call(
      (id) => {
        checkKey(key, "the key");
        native.storeExists(id, this.handle, key, family, this.timeoutOf(options));
      },
      (r) => r.boolean(),
      options?.signal,
    );
  }

  /** @internal */
  protected setValue(
    key: Bytes,
    value: Bytes,
    family: number,
    options?: WriteOptions,
  ): Promise<void> {
    return call(
      (id) => {
        checkKey(key, "the key");
        checkKey(value, "the value");
        native.storeSet(
          id,
          this.handle,
          key,
          value,
          family,
          this.timeoutOf(options),
          lifeOf(options?.ttlMs),
        );
      },
      (r) => r.nothing(),
      options?.signal,
    );
  }

  /** @internal */
  protected removeKey(key: Bytes, family: number, options?: CallOptions): Promise<boolean> {
    return call(
      (id) => {
        checkKey(key, "the key");
        native.storeRemove(id, this.handle, key, family, this.timeoutOf(options));
      },
      (r) => r.boolean(),
      options?.signal,
    );
  }

  /** @internal */
  protected swapValue<O extends ReadOptions & WriteOptions>(
    key: Bytes,
    expected: Bytes | undefined,
    value: Bytes,
    family: number,
    options: O | undefined,
  ): Promise<{ swapped: boolean; previous: Value<O> | undefined }> {
    const encoding = options?.encoding;
    return call(
      (id) => {
        checkKey(key, "the key");
        checkKey(value, "the value");
        if (expected !== undefined) checkKey(expected, "the expected value");
        native.storeCompareAndSet(
          id,
          this.handle,
          key,
          expected ?? null,
          value,
          family,
          this.timeoutOf(options),
          lifeOf(options?.ttlMs),
        );
      },
      (r) => {
        const swapped = r.boolean();
        const found = r.value(encoding) as Value<O> | undefined;
        return { swapped, previous: found };
      },
      options?.signal,
    );
  }

  /** @internal Values in the order of the keys. */
  protected getValues<O extends ReadOptions>(
    keys: Keys,
    family: number,
    options: O | undefined,
  ): Promise<(Value<O> | undefined)[]> {
    const encoding = options?.encoding;
    return call(
      (id) =>
        native.storeBatchGet(
          id,
          this.handle,
          ...packed(listOf(keys), "a key"),
          family,
          this.timeoutOf(options),
        ),
      (r) => r.values(encoding) as (Value<O> | undefined)[],
      options?.signal,
    );
  }

  /** @internal */
  protected setValues(
    pairs: Iterable<readonly [Bytes, Bytes]>,
    family: number,
    options?: WriteOptions,
  ): Promise<void> {
    return call(
      (id) => {
        const keys: Bytes[] = [];
        const values: Bytes[] = [];
        checkIterable(pairs, "the pairs");
        for (const pair of pairs) {
          checkEach(pair, "pairs", "an array of a key and a value");
          keys.push(pair[0]);
          values.push(pair[1]);
        }
        native.storeBatchWrite(
          id,
          this.handle,
          MUTATION_SET,
          ...packedPairs(keys, values),
          lifeOf(options?.ttlMs),
          family,
          this.timeoutOf(options),
        );
      },
      (r) => r.nothing(),
      options?.signal,
    );
  }

  /** @internal */
  protected removeKeys(
    keys: Keys,
    family: number,
    options?: CallOptions,
  ): Promise<void> {
    return call(
      (id) => {
        const all = listOf(keys);
        const none = new Array(all.length).fill(null);
        native.storeBatchWrite(
          id,
          this.handle,
          MUTATION_REMOVE,
          ...packedPairs(all, none, true),
          0,
          family,
          this.timeoutOf(options),
        );
      },
      (r) => r.nothing(),
      options?.signal,
    );
  }

  /** @internal */
  protected writeBatch(
    kinds: Uint8Array,
    keys: Bytes[],
    values: (Bytes | null)[],
    ttlsMs: Float64Array,
    options?: CallOptions,
  ): Promise<void> {
    return call(
      (id) =>
        native.storeBatchWrite(
          id,
          this.handle,
          kinds,
          ...packedPairs(keys, values, true),
          ttlsMs,
          0,
          this.timeoutOf(options),
        ),
      (r) => r.nothing(),
      options?.signal,
    );
  }

  /** @internal */
  protected scanRange<T>(
    options: ScanOptions,
    family: number,
    keysOnly: boolean,
  ): Pages<T> {
    return scanPages(options, keysOnly, (id, start, end, limit, flags) =>
      native.storeScan(id, this.handle, start, end, limit, flags, family, this.timeoutOf(options)),
    );
  }

  /** @internal */
  protected countRange(range: KeyRange, family: number, options?: CallOptions): Promise<number> {
    return call(
      (id) => {
        const [start, end] = bareRange(range);
        native.storeCount(id, this.handle, start, end, family, this.timeoutOf(options));
      },
      (r) => r.number(),
      options?.signal,
    );
  }

  /** @internal */
  protected removeRangeOf(
    range: KeyRange,
    family: number,
    options?: CallOptions,
  ): Promise<number> {
    return call(
      (id) => {
        const [start, end] = bareRange(range);
        native.storeRemoveRange(id, this.handle, start, end, family, this.timeoutOf(options));
      },
      (r) => r.number(),
      options?.signal,
    );
  }

  /** @internal Infinity: it does not end; undefined: there is no such key. */
  protected ttlOf(key: Bytes, family: number, options?: CallOptions): Promise<number | undefined> {
    return call(
      (id) => {
        checkKey(key, "the key");
        native.storeTtl(id, this.handle, key, family, this.timeoutOf(options));
      },
      (r) => {
        const left = r.number();
        return left < 0 ? undefined : left === 0 ? Infinity : left;
      },
      options?.signal,
    );
  }

  /** @internal */
  protected checksumOf(range: KeyRange, family: number, options?: CallOptions): Promise<Checksum> {
    return call(
      (id) => {
        const [start, end] = bareRange(range);
        native.storeChecksum(id, this.handle, start, end, family, this.timeoutOf(options));
      },
      (r) => ({ crc64Xor: r.bigint(), keys: r.number(), bytes: r.number() }),
      options?.signal,
    );
  }

  /** Done when the other side has answered. */
  ping(options?: CallOptions): Promise<void> {
    return call(
      (id) => native.storePing(id, this.handle, this.timeoutOf(options)),
      (r) => r.nothing(),
      options?.signal,
    );
  }

  /** What the client and its server count: `keys` those of keys and values, `all_keys` also what transactions and event streams are kept in. */
  stats(options?: CallOptions): Promise<Record<string, unknown>> {
    return call(
      (id) => native.storeStats(id, this.handle, this.timeoutOf(options)),
      (r) => r.json() as Record<string, unknown>,
      options?.signal,
    );
  }

  /** @internal */
  protected override closeNative(id: number, handle: Handle): void {
    native.storeClose(id, handle);
  }
}
