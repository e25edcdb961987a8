import { setTimeout as sleep } from "node:timers/promises";
import { attempt, call, callNow, checkSignal } from "./calls";
import {
  checkCount,
  checkEach,
  checkFunction,
  checkIterable,
  checkKey,
  checkObject,
  checkOptions,
  choose,
  exact,
  listOf,
} from "./checks";
import { Client } from "./client";
import { InvalidArgumentError, KvsError, OperationAfterCommitError } from "./errors";
import { Bytes, Handle, Keys, native, Packed } from "./native";
import { packed, packedPairs } from "./pack";
import { Pages } from "./pages";
import { collect, KeyRange, positionalRange, bareRange, scanPages } from "./ranges";
import { TikvOptions, tikvStoreOptions, tikvUrl } from "./raw_client";
import { CallOptions, LocalOptions, Pair, ReadOptions, ScanOptions, syncOf, Value } from "./store_client";

/** How to open the database of transactions: a cluster, or, with LocalOptions, one in this process. */
export interface TransactionClientOptions extends TikvOptions, LocalOptions {}

/** How a transaction behaves; without a field its default. */
export interface TransactionOptions {
  /** Locks each key when it is written or read for update; else conflicts are found at commit. */
  pessimistic?: boolean;
  /** Writes and locks are refused. */
  readOnly?: boolean;
  /** Without these a commit takes the classic two phases. */
  asyncCommit?: boolean;
  /** False: no commit in one phase. */
  onePc?: boolean;
  /** Commits may be ordered before earlier ones that it did not read from. */
  causalOnly?: boolean;
  /** For TiKV's scheduler; default "normal". */
  priority?: "normal" | "low" | "high";
  /** Pessimistic: how long a call waits for the locks of others; default 20000, "none": not at all. */
  lockWaitMs?: number | "none";
  /** Of each call, commit included; default the client's. A call's own may be shorter, not longer. */
  timeoutMs?: number;
  /** Of all that it writes; default 100 MiB, and 300000 keys. */
  sizeBytesMax?: number;
  /** Keys that it writes at most; default 300000. */
  countMax?: number;
}

/** How often `run` tries; no further attempt begins after a minute. */
export interface RunOptions extends TransactionOptions {
  /** Default 20. */
  attemptsMax?: number;
  /** Gives it up: calls that are under way, and further attempts. */
  signal?: AbortSignal;
}

/** One change of a transaction. */
export type Mutation =
  | { put: Bytes; value: Bytes; delete?: never }
  | { delete: Bytes; put?: never };

const MUTATION = "{ put, value } or { delete }";
const PRIORITIES = { normal: 0, low: 1, high: 2 };
const RETRY_MS_MAX = 60000; // of all attempts of `run`, as kvs_txn_run has it
const RETRY_DELAY_MS = 2;
const RETRY_DELAY_MS_MAX = 500;

/** Milliseconds of waiting, for the addon. */
function waitOf(waitMs: number | "none" | undefined, what: string): number | undefined {
  if (waitMs === undefined || (typeof waitMs === "number" && waitMs >= 0)) return waitMs;
  if (waitMs === "none") return -1;
  throw new TypeError(`${what} must be a number of milliseconds that is not negative, or "none"`);
}

function booleanOf(given: boolean | undefined, what: string): boolean | undefined {
  if (given !== undefined && typeof given !== "boolean") throw new TypeError(`${what} must be true or false`);
  return given;
}

function nativeOptions(options: TransactionOptions) {
  checkObject(options, "the options of a transaction");
  const { asyncCommit, onePc, priority, lockWaitMs, ...rest } = options;
  return {
    ...rest,
    noAsyncCommit: booleanOf(asyncCommit, "asyncCommit") === false,
    noOnePc: booleanOf(onePc, "onePc") === false,
    priority: choose("priority", PRIORITIES, priority ?? "normal"),
    lockWaitMs: waitOf(lockWaitMs, "lockWaitMs"),
  };
}

function timestampOf(given: bigint | number): bigint {
  return exact(given, "a timestamp");
}

/** How the calls of a transaction differ from the client's, where they do not say. */
interface Defaults {
  encoding: BufferEncoding | undefined;
  timeoutMs?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** The functions of the addon by which a transaction, or a snapshot, reads. */
interface Reads {
  get(id: number, of: Handle, timeoutMs: number, key: Bytes): void;
  exists(id: number, of: Handle, timeoutMs: number, key: Bytes): void;
  batchGet(id: number, of: Handle, timeoutMs: number, ...keys: Packed): void;
  scan(
    id: number,
    of: Handle,
    timeoutMs: number,
    start: Bytes | null,
    end: Bytes | null,
    limit: number,
    flags: number,
  ): void;
  timestamp(id: number, of: Handle, timeoutMs: number): void;
}

const txnReads: Reads = {
  get: native.txnGet,
  exists: native.txnExists,
  batchGet: native.txnBatchGet,
  scan: native.txnScan,
  timestamp: native.txnTimestamp,
};

const snapshotReads: Reads = {
  get: native.snapshotGet,
  exists: native.snapshotExists,
  batchGet: native.snapshotBatchGet,
  scan: native.snapshotScan,
  timestamp: native.snapshotTimestamp,
};

/** Reads of the database as of one moment. */
abstract class Reader {
  /** @internal */
  constructor(
    /** @internal */
    protected readonly handle: Handle,
    private readonly reads: Reads,
    /** @internal */
    protected readonly defaults: Defaults,
  ) {}

  /** @internal */
  protected timeoutOf(options: CallOptions | undefined): number {
    checkOptions(options);
    return options?.timeoutMs ?? this.defaults.timeoutMs ?? 0;
  }

  /** @internal */
  protected signalOf(options: CallOptions | undefined): AbortSignal | undefined {
    return options?.signal !== undefined ? options.signal : this.defaults.signal;
  }

  /** @internal The handle, for a call. */
  protected live(): Handle {
    return this.handle;
  }

  /** The value; undefined: there is none. */
  get<O extends ReadOptions>(key: Bytes, options?: O): Promise<Value<O> | undefined> {
    const encoding = options?.encoding ?? this.defaults.encoding;
    return call(
      (id) => {
        checkKey(key, "the key");
        this.reads.get(id, this.live(), this.timeoutOf(options), key);
      },
      (r) => r.value(encoding) as Value<O> | undefined,
      this.signalOf(options),
    );
  }

  exists(key: Bytes, options?: CallOptions): Promise<boolean> {
    return call(
      (id) => {
        checkKey(key, "the key");
        this.reads.exists(id, this.live(), this.timeoutOf(options), key);
      },
      (r) => r.boolean(),
      this.signalOf(options),
    );
  }

  /** Values in the order of the keys; undefined where there is none. */
  batchGet<O extends ReadOptions>(
    keys: Keys,
    options?: O,
  ): Promise<(Value<O> | undefined)[]> {
    const encoding = options?.encoding ?? this.defaults.encoding;
    return call(
      (id) => this.reads.batchGet(id, this.live(), this.timeoutOf(options), ...packed(listOf(keys), "a key")),
      (r) => r.values(encoding) as (Value<O> | undefined)[],
      this.signalOf(options),
    );
  }

  /** Keys and values in order, page by page. */
  scan<O extends ScanOptions>(options?: O): Pages<Pair<O>>;
  /** @deprecated */
  scan(
    start: Bytes | undefined,
    end: Bytes | undefined,
    limit: number,
    includeStart: boolean,
    includeEnd: boolean,
  ): Promise<[string, string][]>;
  scan(first?: any, ...rest: any[]): any {
    if (rest.length > 0) return this.positional(false, first, rest as any);
    return this.pages(first === undefined ? {} : first, false);
  }

  scanKeys<O extends ScanOptions>(options: O = {} as O): Pages<Value<O>> {
    return this.pages(options, true);
  }

  private pages<T>(options: ScanOptions, keysOnly: boolean): Pages<T> {
    checkObject(options, "the options of a scan");
    const all = { encoding: this.defaults.encoding, ...options, signal: this.signalOf(options) };
    return scanPages(all, keysOnly, (id, start, end, limit, flags) =>
      this.reads.scan(id, this.live(), this.timeoutOf(options), start, end, limit, flags),
    );
  }

  private positional(
    keysOnly: boolean,
    start: Bytes | undefined,
    [end, limit, includeStart, includeEnd]: [Bytes | undefined, number, boolean?, boolean?],
  ): Promise<unknown[]> {
    return attempt(() => {
      if (typeof limit !== "number") throw new TypeError("the limit must be a number");
      const range = positionalRange(start, end, includeStart, includeEnd);
      return collect(this.pages<unknown>({ ...range, limit }, keysOnly));
    });
  }

  /** Of the moment that is read: milliseconds since 1970 << 18, and a number within the millisecond. */
  timestamp(options?: CallOptions): Promise<bigint> {
    return call(
      (id) => this.reads.timestamp(id, this.live(), this.timeoutOf(options)),
      (r) => r.bigint(),
      this.signalOf(options),
    );
  }

  /* --- as in the first client --- */

  /** @deprecated use exists */
  key_exists(key: string): Promise<boolean> {
    return this.exists(key);
  }

  /** @deprecated use batchGet */
  async batch_get(keys: string[]): Promise<[string, string][]> {
    return found(keys, await this.batchGet(keys));
  }

  /** @deprecated use scanKeys */
  scan_keys(
    start: Bytes | undefined,
    end: Bytes | undefined,
    limit: number,
    includeStart: boolean,
    includeEnd: boolean,
  ): Promise<string[]> {
    return this.positional(true, start, [end, limit, includeStart, includeEnd]) as Promise<
      string[]
    >;
  }
}

function found(keys: string[], values: unknown[]): [string, string][] {
  const pairs = keys.map((key, i) => [key, values[i]]);
  return pairs.filter(([, value]) => value !== undefined) as [string, string][];
}

/** The database as of a timestamp. */
export class Snapshot extends Reader {
  /** @internal */
  constructor(handle: Handle, defaults: Defaults) {
    super(handle, snapshotReads, defaults);
  }
}

/**
 * Reads and writes that happen all at once at its commit, or not at all. Reads see the database as of
 * the begin, and the transaction's own writes. One that is forgotten, or left by `await using` without
 * a commit, is rolled back.
 */
export class Transaction extends Reader implements AsyncDisposable {
  private ended = false;

  /** @internal */
  constructor(handle: Handle, defaults: Defaults) {
    super(handle, txnReads, defaults);
  }

  /** @internal */
  protected override live(): Handle {
    if (this.ended) throw new OperationAfterCommitError();
    return this.handle;
  }

  /** Reads, and no other transaction changes the key before this one has ended. */
  getForUpdate<O extends ReadOptions>(key: Bytes, options?: O): Promise<Value<O> | undefined> {
    const encoding = options?.encoding ?? this.defaults.encoding;
    return call(
      (id) => {
        checkKey(key, "the key");
        native.txnGetForUpdate(id, this.live(), this.timeoutOf(options), key);
      },
      (r) => r.value(encoding) as Value<O> | undefined,
      this.signalOf(options),
    );
  }

  /** As `getForUpdate`, of many keys: values in their order. */
  batchGetForUpdate<O extends ReadOptions>(
    keys: Keys,
    options?: O,
  ): Promise<(Value<O> | undefined)[]> {
    const encoding = options?.encoding ?? this.defaults.encoding;
    return call(
      (id) =>
        native.txnBatchGetForUpdate(
          id,
          this.live(),
          this.timeoutOf(options),
          ...packed(listOf(keys), "a key"),
        ),
      (r) => r.values(encoding) as (Value<O> | undefined)[],
      this.signalOf(options),
    );
  }

  /** Writes a value, whatever was there. */
  put(key: Bytes, value: Bytes, options?: CallOptions): Promise<void> {
    return call(
      (id) => {
        checkKey(key, "the key");
        checkKey(value, "the value");
        native.txnPut(id, this.live(), this.timeoutOf(options), key, value);
      },
      (r) => r.nothing(),
      this.signalOf(options),
    );
  }

  /** Puts a key that must not exist: AlreadyExistsError, at once or at commit. */
  insert(key: Bytes, value: Bytes, options?: CallOptions): Promise<void> {
    return call(
      (id) => {
        checkKey(key, "the key");
        checkKey(value, "the value");
        native.txnInsert(id, this.live(), this.timeoutOf(options), key, value);
      },
      (r) => r.nothing(),
      this.signalOf(options),
    );
  }

  /** Removes a key, there or not. */
  delete(key: Bytes, options?: CallOptions): Promise<void> {
    return call(
      (id) => {
        checkKey(key, "the key");
        native.txnDelete(id, this.live(), this.timeoutOf(options), key);
      },
      (r) => r.nothing(),
      this.signalOf(options),
    );
  }

  /** Puts and deletes, with one round of locks. */
  mutate(mutations: Iterable<Mutation>, options?: CallOptions): Promise<void> {
    return call(
      (id) => {
        const kinds: number[] = [];
        const keys: Bytes[] = [];
        const values: (Bytes | null)[] = [];
        checkIterable(mutations, "the mutations");
        for (const mutation of mutations) {
          checkEach(mutation, "mutations", MUTATION);
          if ((mutation.put === undefined) === (mutation.delete === undefined))
            throw new TypeError(`each of the mutations must be ${MUTATION}`);
          const isPut = mutation.put !== undefined;
          if (isPut) checkKey(mutation.value, "the value");
          kinds.push(isPut ? 1 : 2);
          keys.push(isPut ? mutation.put : mutation.delete);
          values.push(isPut ? mutation.value : null);
        }
        native.txnMutate(
          id,
          this.live(),
          this.timeoutOf(options),
          Uint8Array.from(kinds),
          ...packedPairs(keys, values, true),
        );
      },
      (r) => r.nothing(),
      this.signalOf(options),
    );
  }

  /**
   * Locks keys, there or not. waitMs: as lockWaitMs of the transaction, which is the default. shared (of a
   * pessimistic transaction that has locked a key for itself): others may lock them so, too, but nobody writes them.
   */
  lockKeys(
    keys: Keys,
    options?: CallOptions & { waitMs?: number | "none"; shared?: boolean },
  ): Promise<void> {
    return call(
      (id) => {
        const wait = waitOf(options?.waitMs, "waitMs") ?? 0;
        const shared = booleanOf(options?.shared, "shared") ?? false;
        native.txnLock(id, this.live(), this.timeoutOf(options), ...packed(listOf(keys), "a key"), wait, shared);
      },
      (r) => r.nothing(),
      this.signalOf(options),
    );
  }

  /**
   * Commits: the timestamp, or undefined when nothing was written. After OutcomeUnknownError it has
   * happened or not; after every other error it has not.
   */
  async commit(options?: CallOptions): Promise<bigint | undefined> {
    const timestamp = await call(
      (id) => {
        native.txnCommit(id, this.live(), this.timeoutOf(options));
        this.ended = true;
      },
      (r) => r.bigint(),
      this.signalOf(options),
    );
    return timestamp === 0n ? undefined : timestamp;
  }

  /** Gives up all that it wrote, and its locks. */
  rollback(options?: CallOptions): Promise<void> {
    return call(
      (id) => {
        native.txnRollback(id, this.live(), this.timeoutOf(options));
        this.ended = true;
      },
      (r) => r.nothing(),
      this.signalOf(options),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      if (!this.ended) await this.rollback();
    } finally {
      this.ended = true; // what could not be rolled back now is in the background
      await call((id) => native.txnClose(id, this.handle), (r) => r.nothing());
    }
  }

  /* --- as in the first client --- */

  /** @deprecated use getForUpdate */
  get_for_update(key: string): Promise<string | undefined> {
    return this.getForUpdate(key) as Promise<string | undefined>;
  }

  /** @deprecated use batchGetForUpdate */
  async batch_get_for_update(keys: string[]): Promise<[string, string][]> {
    return found(keys, await this.batchGetForUpdate(keys));
  }

  /** @deprecated use lockKeys */
  lock_keys(keys: string[]): Promise<void> {
    return this.lockKeys(keys);
  }
}

const CONNECTED = Symbol("made by connect");

/**
 * Transactions with snapshot isolation: on a TiKV cluster, or in this process (`log:DIR`, `memory:`).
 *
 * `new TransactionClient(pd)` gives a promise of a client, as the first TiKV client for Node.js did; such
 * a client gives strings.
 *
 * @example
 * const client = await TransactionClient.connect("127.0.0.1:2379");
 * await client.run(async (txn) => {
 *   const count = Number((await txn.get("count", { encoding: "utf8" })) ?? 0);
 *   await txn.put("count", String(count + 1));
 * });
 * await client.close();
 */
export class TransactionClient extends Client {
  private encoding: BufferEncoding | undefined;
  private timeoutMs: number | undefined;

  /** @deprecated a promise of a client that gives strings; use TransactionClient.connect. */
  constructor(pd: string | readonly string[]);
  /** @internal */
  constructor(pd: string | readonly string[] | symbol) {
    super();
    if (pd !== CONNECTED)
      return attempt(() =>
        TransactionClient.connect(pd as string, { encoding: "utf8" }),
      ) as unknown as TransactionClient;
  }

  /** `where`: HOST[:PORT] of any of PD's members, or several of them; or log:DIR, memory:. */
  static async connect(
    where: string | readonly string[],
    options: TransactionClientOptions = {},
  ): Promise<TransactionClient> {
    checkObject(options, "the options of connect");
    const client = new TransactionClient(CONNECTED as unknown as string);
    const isLocal = typeof where === "string" && /^(log|rocksdb|memory):/.test(where);
    client.encoding = options.encoding;
    client.timeoutMs = options.timeoutMs;
    client.handle = await call(
      (id) =>
        native.txnClientOpen(id, isLocal ? where : tikvUrl(where), {
          ...tikvStoreOptions(options),
          sync: syncOf(options.sync),
        }),
      (r) => r.handle(),
      options.signal,
    );
    return client;
  }

  /** Begins one, at once. */
  begin(options?: TransactionOptions): Transaction;
  /** @deprecated a promise of one; use begin({ pessimistic }) */
  begin(pessimistic: boolean): Promise<Transaction>;
  /** @internal */
  begin(options: TransactionOptions, signal: AbortSignal | undefined): Transaction;
  begin(
    options: TransactionOptions | boolean = {},
    signal?: AbortSignal,
  ): Transaction | Promise<Transaction> {
    if (typeof options === "boolean")
      return attempt(async () => this.begin({ pessimistic: options }));
    const handle = callNow(() => native.txnBegin(this.handle, nativeOptions(options)));
    return new Transaction(handle, { encoding: this.encoding, timeoutMs: options.timeoutMs, signal });
  }

  /** Reads as of the timestamp; without one as of now. */
  snapshot(timestamp?: bigint | number): Snapshot;
  /** @deprecated a promise of one; use snapshot(timestamp) */
  snapshot(timestamp: bigint | number, pessimistic: boolean): Promise<Snapshot>;
  snapshot(timestamp: bigint | number = 0n, pessimistic?: boolean): Snapshot | Promise<Snapshot> {
    if (pessimistic !== undefined) return attempt(async () => this.snapshot(timestamp));
    const handle = callNow(() => native.snapshotNew(this.handle, timestampOf(timestamp)));
    return new Snapshot(handle, { encoding: this.encoding });
  }

  /**
   * Has `work` do its reads and writes in a transaction, and commits it. Where that is right, all of it
   * is tried again, within a minute: then `work` runs anew. What it returns is the result.
   */
  async run<T>(work: (txn: Transaction) => Promise<T>, options: RunOptions = {}): Promise<T> {
    checkFunction(work, "the work of a transaction");
    checkObject(options, "the options of run");
    checkCount(options.attemptsMax, "attemptsMax", 1);
    if (options.signal !== undefined) checkSignal(options.signal);
    const { attemptsMax = 20, signal, ...of } = options;
    const last = performance.now() + RETRY_MS_MAX;
    for (let attempts = 1; ; attempts++) {
      signal?.throwIfAborted();
      const txn = this.begin(of, signal);
      try {
        const result = await work(txn);
        await txn.commit();
        return result;
      } catch (error) {
        const again = error instanceof KvsError && error.retryTransaction;
        if (!again || attempts >= attemptsMax || performance.now() >= last) throw error;
      } finally {
        await txn[Symbol.asyncDispose]().catch(() => {});
      }
      const most = Math.min(RETRY_DELAY_MS * 2 ** attempts, RETRY_DELAY_MS_MAX);
      await sleep(Math.random() * most, undefined, { signal });
    }
  }

  /** Of a call that belongs to no transaction. */
  private timeoutOf(options: CallOptions | undefined): number {
    checkOptions(options);
    return options?.timeoutMs ?? this.timeoutMs ?? 0;
  }

  /** No transaction that begins later has a smaller one. */
  currentTimestamp(options?: CallOptions): Promise<bigint> {
    return call(
      (id) => native.txnClientTimestamp(id, this.handle, this.timeoutOf(options)),
      (r) => r.bigint(),
      options?.signal,
    );
  }

  /** Gives up what only reads before the safe point can see; the safe point that holds. */
  garbageCollect(safePoint: bigint | number, options?: CallOptions): Promise<bigint> {
    return call(
      (id) => native.txnClientGc(id, this.handle, this.timeoutOf(options), timestampOf(safePoint)),
      (r) => r.bigint(),
      options?.signal,
    );
  }

  /** Ends the locks of dead transactions that began at or before the timestamp: how many. */
  cleanupLocks(
    range: KeyRange,
    timestamp: bigint | number,
    options?: CallOptions,
  ): Promise<number> {
    return call(
      (id) => {
        const [start, end] = bareRange(range);
        native.txnClientCleanupLocks(
          id,
          this.handle,
          this.timeoutOf(options),
          start,
          end,
          timestampOf(timestamp),
        );
      },
      (r) => r.number(),
      options?.signal,
    );
  }

  /** Removes every version of the range, past snapshots and locks notwithstanding. */
  unsafeDestroyRange(range: KeyRange, options?: CallOptions): Promise<void> {
    return call(
      (id) => {
        const [start, end] = bareRange(range);
        if (start === null || end === null)
          throw new InvalidArgumentError("the range must have a start and an end");
        native.txnClientUnsafeDestroyRange(id, this.handle, this.timeoutOf(options), start, end);
      },
      (r) => r.nothing(),
      options?.signal,
    );
  }

  /** @internal */
  protected override closeNative(id: number, handle: Handle): void {
    native.txnClientClose(id, handle);
  }

  /* --- as in the first client --- */

  /** @deprecated use currentTimestamp; this one is a bigint, too: a number would lose the low bits */
  current_timestamp(): Promise<bigint> {
    return this.currentTimestamp();
  }

  /** @deprecated use garbageCollect */
  async gc(safePoint: bigint | number): Promise<boolean> {
    return (await this.garbageCollect(safePoint)) === timestampOf(safePoint);
  }
}
