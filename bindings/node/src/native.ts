import { existsSync } from "node:fs";
import { join } from "node:path";

/** The functions of the addon; native/*.c says what they do. Each result arrives under its `id`. */

/** Something open on the native side; it is closed when it is forgotten. */
export type Handle = object & { readonly __handle: unique symbol };
/** A key, a value. */
export type Bytes = Uint8Array | string;
/** Many of them: an array, or another iterable, but not a string, which would be one of its letters. */
export type Keys = Iterable<Bytes> & object;

export interface StoreOptions {
  sync?: number;
  syncIntervalMs?: number;
  valueSizeMax?: number;
  segmentSizeBytes?: number | bigint;
  cacheSizeBytes?: number | bigint;
  cachePrefault?: boolean;
  mustExist?: boolean;
  connections?: number;
  connectTimeoutMs?: number;
  timeoutMs?: number;
  keyspace?: string;
  tlsCa?: string;
  tlsCertificate?: string;
  tlsKey?: string;
  plainWrites?: boolean;
}

/** How a call on event streams differs from the others. */
export interface EventsCall {
  timeoutMs?: number | undefined;
  login?: string | undefined;
  password?: string | undefined;
  anyNode?: boolean | undefined;
}

export interface NativeFilter {
  on: number;
  kind: number;
  patterns: string[];
  window?: number | undefined;
}

/** Many values, one behind the other: pack.ts. */
export type Packed = [bytes: Uint8Array, sizes: Uint32Array, count: number];

export interface Native {
  start(deliver: (words: Uint32Array, count: number, bytes?: Buffer, handles?: Handle[]) => void): void;
  flush(): void;
  hold(): void;
  unhold(): void;
  cancel(id: number): void;
  version(): string;

  storeOpen(id: number, url: string, options: StoreOptions): void;
  storeClose(id: number, store: Handle): void;
  storeGet(id: number, store: Handle, key: Bytes, family: number, timeoutMs: number): void;
  storeExists(id: number, store: Handle, key: Bytes, family: number, timeoutMs: number): void;
  storeSet(
    id: number,
    store: Handle,
    key: Bytes,
    value: Bytes,
    family: number,
    timeoutMs: number,
    ttlMs: number | bigint,
  ): void;
  storeRemove(id: number, store: Handle, key: Bytes, family: number, timeoutMs: number): void;
  storeCompareAndSet(
    id: number,
    store: Handle,
    key: Bytes,
    expected: Bytes | null,
    value: Bytes,
    family: number,
    timeoutMs: number,
    ttlMs: number | bigint,
  ): void;
  storeBatchGet(
    id: number,
    store: Handle,
    ...keys: [...Packed, family: number, timeoutMs: number]
  ): void;
  storeBatchWrite(
    id: number,
    store: Handle,
    kinds: Uint8Array | number,
    ...pairs: [...Packed, ttlsMs: Float64Array | number, family: number, timeoutMs: number]
  ): void;
  storeScan(
    id: number,
    store: Handle,
    start: Bytes | null,
    end: Bytes | null,
    limit: number,
    flags: number,
    family: number,
    timeoutMs: number,
  ): void;
  storeCount(
    id: number,
    store: Handle,
    start: Bytes | null,
    end: Bytes | null,
    family: number,
    timeoutMs: number,
  ): void;
  storeRemoveRange(
    id: number,
    store: Handle,
    start: Bytes | null,
    end: Bytes | null,
    family: number,
    timeoutMs: number,
  ): void;
  storeTtl(id: number, store: Handle, key: Bytes, family: number, timeoutMs: number): void;
  storeChecksum(
    id: number,
    store: Handle,
    start: Bytes | null,
    end: Bytes | null,
    family: number,
    timeoutMs: number,
  ): void;
  storeCheckpoint(
    id: number,
    store: Handle,
    directory: string,
    family: number,
    timeoutMs: number,
  ): void;
  storePing(id: number, store: Handle, timeoutMs: number): void;
  storeStats(id: number, store: Handle, timeoutMs: number): void;
  storeSync(id: number, store: Handle, timeoutMs: number): void;
  storeCompact(id: number, store: Handle, timeoutMs: number): void;

  txnClientOpen(id: number, url: string, options: StoreOptions): void;
  txnClientClose(id: number, client: Handle): void;
  txnClientTimestamp(id: number, client: Handle, timeoutMs: number): void;
  txnClientGc(id: number, client: Handle, timeoutMs: number, safePoint: bigint): void;
  txnClientCleanupLocks(
    id: number,
    client: Handle,
    timeoutMs: number,
    start: Bytes | null,
    end: Bytes | null,
    timestamp: bigint,
  ): void;
  txnClientUnsafeDestroyRange(
    id: number,
    client: Handle,
    timeoutMs: number,
    start: Bytes | null,
    end: Bytes | null,
  ): void;
  txnBegin(client: Handle, options: object): Handle;
  txnClose(id: number, txn: Handle): void;
  txnGet(id: number, txn: Handle, timeoutMs: number, key: Bytes): void;
  txnExists(id: number, txn: Handle, timeoutMs: number, key: Bytes): void;
  txnBatchGet(id: number, txn: Handle, timeoutMs: number, ...keys: Packed): void;
  txnScan(
    id: number,
    txn: Handle,
    timeoutMs: number,
    start: Bytes | null,
    end: Bytes | null,
    limit: number,
    flags: number,
  ): void;
  txnGetForUpdate(id: number, txn: Handle, timeoutMs: number, key: Bytes): void;
  txnBatchGetForUpdate(id: number, txn: Handle, timeoutMs: number, ...keys: Packed): void;
  txnPut(id: number, txn: Handle, timeoutMs: number, key: Bytes, value: Bytes): void;
  txnInsert(id: number, txn: Handle, timeoutMs: number, key: Bytes, value: Bytes): void;
  txnDelete(id: number, txn: Handle, timeoutMs: number, key: Bytes): void;
  txnMutate(
    id: number,
    txn: Handle,
    timeoutMs: number,
    kinds: Uint8Array,
    ...pairs: Packed
  ): void;
  txnLock(id: number, txn: Handle, timeoutMs: number, ...keys: [...Packed, waitMs: number, shared: boolean]): void;
  txnCommit(id: number, txn: Handle, timeoutMs: number): void;
  txnRollback(id: number, txn: Handle, timeoutMs: number): void;
  txnTimestamp(id: number, txn: Handle, timeoutMs: number): void;
  snapshotNew(client: Handle, timestamp: bigint): Handle;
  snapshotGet(id: number, snapshot: Handle, timeoutMs: number, key: Bytes): void;
  snapshotExists(id: number, snapshot: Handle, timeoutMs: number, key: Bytes): void;
  snapshotBatchGet(id: number, snapshot: Handle, timeoutMs: number, ...keys: Packed): void;
  snapshotScan(
    id: number,
    snapshot: Handle,
    timeoutMs: number,
    start: Bytes | null,
    end: Bytes | null,
    limit: number,
    flags: number,
  ): void;
  snapshotTimestamp(id: number, snapshot: Handle, timeoutMs: number): void;

  eventsOpen(id: number, url: string, options: object): void;
  eventsClose(id: number, client: Handle): void;
  /** Packed: the stream, then type, data, metadata and id of each event; `json`: 1 for each that is JSON. */
  eventsAppend(
    id: number,
    client: Handle,
    expected: number | bigint,
    ...events: [...Packed, json: Uint8Array, options: EventsCall | undefined]
  ): void;
  eventsDelete(
    id: number,
    client: Handle,
    stream: string,
    expected: number | bigint,
    hard: boolean,
    options: EventsCall | undefined,
  ): void;
  eventsTransactionStart(
    id: number,
    client: Handle,
    stream: string,
    expected: number | bigint,
    options: EventsCall | undefined,
  ): void;
  eventsTransactionWrite(
    id: number,
    client: Handle,
    transaction: bigint,
    ...events: [...Packed, json: Uint8Array, options: EventsCall | undefined]
  ): void;
  eventsTransactionCommit(
    id: number,
    client: Handle,
    transaction: bigint,
    options: EventsCall | undefined,
  ): void;
  eventsReadEvent(
    id: number,
    client: Handle,
    stream: string,
    number: number | bigint,
    flags: number,
    options: EventsCall | undefined,
  ): void;
  eventsReadStream(
    id: number,
    client: Handle,
    stream: string,
    from: number | bigint,
    count: number,
    flags: number,
    options: EventsCall | undefined,
  ): void;
  eventsReadAll(
    id: number,
    client: Handle,
    commit: number | bigint,
    prepare: number | bigint,
    count: number,
    flags: number,
    filter: NativeFilter | undefined,
    options: EventsCall | undefined,
  ): void;
  eventsGetMetadata(id: number, client: Handle, stream: string, options: EventsCall | undefined): void;
  eventsSetMetadata(
    id: number,
    client: Handle,
    stream: string,
    json: Bytes,
    expected: number | bigint,
    options: EventsCall | undefined,
  ): void;
  eventsCreateGroup(
    id: number,
    client: Handle,
    stream: string,
    group: string,
    settings: object,
    options: EventsCall | undefined,
  ): void;
  eventsUpdateGroup(
    id: number,
    client: Handle,
    stream: string,
    group: string,
    settings: object,
    options: EventsCall | undefined,
  ): void;
  eventsDeleteGroup(
    id: number,
    client: Handle,
    stream: string,
    group: string,
    options: EventsCall | undefined,
  ): void;
  eventsReplayParked(
    id: number,
    client: Handle,
    stream: string,
    group: string,
    options: EventsCall | undefined,
  ): void;
  eventsGetGroup(
    id: number,
    client: Handle,
    stream: string,
    group: string,
    options: EventsCall | undefined,
  ): void;
  eventsListGroups(id: number, client: Handle, stream: string | null, options: EventsCall | undefined): void;
  eventsChangeUser(
    id: number,
    client: Handle,
    change: number,
    user: object,
    options: EventsCall | undefined,
  ): void;
  eventsGetUsers(
    id: number,
    client: Handle,
    which: { login?: string | undefined },
    options: EventsCall | undefined,
  ): void;
  eventsScavenge(id: number, client: Handle, options: EventsCall | undefined): void;
  eventsPing(id: number, client: Handle, options: EventsCall | undefined): void;
  eventsWatch(id: number, client: Handle): void;
  eventsSubscribe(client: Handle, options: object): Handle;
  eventsSubscribeGroup(client: Handle, options: object): Handle;
  subscriptionNext(id: number, subscription: Handle): void;
  subscriptionClose(id: number, subscription: Handle): void;
  subscriptionAck(subscription: Handle, ids: string[]): void;
  subscriptionNak(subscription: Handle, ids: string[], action: number, reason: string): void;
}

/** The addon: one built here, or the one that came with the package for this kind of machine. */
function load(): Native {
  const places = [
    process.env.KVS_NODE_ADDON,
    join(__dirname, "../build/kvs.node"),
    join(__dirname, `../prebuilds/${process.platform}-${process.arch}/kvs.node`),
  ];
  const place = places.find((path) => path !== undefined && existsSync(path));
  if (place === undefined)
    throw new Error(
      `kvs: there is no addon for ${process.platform}-${process.arch}; ` +
        "node scripts/build.mjs in the package's folder builds one",
    );
  return require(place) as Native;
}

export const native: Native = load();
