/**
 * The blocking form of the first TiKV client for Node.js: `kvs-client/sync`. A worker thread (sync_worker.ts)
 * has the client; the caller sleeps until the worker has answered.
 */
import { join } from "node:path";
import { MessageChannel, MessagePort, receiveMessageOnPort, Worker } from "node:worker_threads";
import { ClosedError, errorOf, OperationAfterCommitError, OutcomeUnknownError } from "./errors";
import type { TikvOptions } from "./raw_client";
import { Answer, Request, SentError, Word } from "./sync_messages";

export * from "./errors";

/** How to reach a cluster: as of the other clients, whose fields have the words. */
export type SyncOptions = Omit<TikvOptions, "encoding" | "signal">;

/** What a scan gives: by default with its start and without its end; a bound that is undefined is none. */
export type ScanRange = [
  start: string | undefined,
  end: string | undefined,
  limit: number,
  includeStart?: boolean,
  includeEnd?: boolean,
];

/** How long a close is waited for. */
export interface SyncCloseOptions {
  /** Milliseconds; default: no limit. */
  timeoutMs?: number | undefined;
}

const BEAT_WAIT_MS = 500;
const BEATS_MISSED_MAX = 20; // the worker beats five times in each wait

const forgotten = new FinalizationRegistry<() => void>((end) => end());

function received({ name, message, errno, details }: SentError): Error {
  if (name === OperationAfterCommitError.name) return new OperationAfterCommitError(message);
  if (errno !== undefined) {
    if (details !== undefined)
      details = { ...details, key: Buffer.from(details.key), primary: Buffer.from(details.primary) };
    return errorOf(errno, message, details);
  }
  if (name === "TypeError") return new TypeError(message);
  return new Error(message);
}

/** The caller's end: one call at a time, each answered before it returns. */
class Bridge {
  private readonly words = new Int32Array(new SharedArrayBuffer(Word.Count * 4));
  private readonly worker: Worker;
  private readonly port: MessagePort;
  private closed: string | undefined;
  private lastId = 0;
  private lastKept = 0;

  constructor(kind: "RawClient" | "TransactionClient", where: unknown, options: SyncOptions) {
    const { port1, port2 } = new MessageChannel();
    this.port = port1;
    this.worker = new Worker(join(__dirname, "sync_worker.js"), {
      workerData: { port: port2, words: this.words },
      transferList: [port2],
      execArgv: [], // those of a program that was given by -e, for example, are none for a file
    });
    this.worker.on("error", () => {}); // told by the call that finds it dead
    this.worker.unref();
    forgotten.register(this, () => port1.close(), this); // then the worker has nothing to wait for, and ends
    try {
      this.call(0, "open", [kind, where, options]);
    } catch (error) {
      this.end("the client could not be opened");
      throw error;
    }
  }

  call(of: number, method: string, args: unknown[], keepAs?: number): any {
    if (this.closed !== undefined) throw new ClosedError(this.closed);
    const id = ++this.lastId;
    const request: Request = { id, of, method, args, keepAs };
    try {
      this.port.postMessage(request);
    } catch (error) {
      throw new TypeError((error as Error).message); // a function, for example
    }
    const answer = this.wait(id);
    if (answer.error !== undefined) throw received(answer.error);
    return answer.result;
  }

  private wait(id: number): Answer {
    let missed = 0;
    for (;;) {
      const answers = Atomics.load(this.words, Word.Answers);
      const beats = Atomics.load(this.words, Word.Beats);
      const ended = Atomics.load(this.words, Word.Ended) !== 0; // before the look: it may have answered at last
      const answer = receiveMessageOnPort(this.port)?.message as Answer | undefined;
      if (answer?.id === id) return answer;
      if (answer !== undefined) continue; // of a call that the program was torn out of (vm's timeout)
      if (ended || missed === BEATS_MISSED_MAX) {
        this.end("the worker thread of the client has ended: make a new client");
        throw new OutcomeUnknownError("the worker thread of the client ended before it answered: make a new client");
      }
      const woke = Atomics.wait(this.words, Word.Answers, answers, BEAT_WAIT_MS);
      missed = woke !== "timed-out" || Atomics.load(this.words, Word.Beats) !== beats ? 0 : missed + 1;
    }
  }

  /** A call whose result stays with the worker, until `owner` is forgotten here. */
  keep(owner: object, method: string, args: unknown[]): number {
    const keepAs = ++this.lastKept;
    this.call(0, method, args, keepAs);
    const port = this.port;
    const forget: Request = { id: 0, of: keepAs, method: "forget", args: [] };
    forgotten.register(owner, () => port.postMessage(forget));
    return keepAs;
  }

  close(options?: SyncCloseOptions): void {
    if (this.closed !== undefined) return;
    try {
      this.call(0, "close", [options]);
    } finally {
      this.end("the client is closed");
    }
  }

  private end(why: string): void {
    this.closed ??= why;
    forgotten.unregister(this);
    this.port.close();
    void this.worker.terminate();
  }
}

/**
 * TiKV's raw API, blocking: each call returns when it is done, and the thread does nothing else until then.
 * The names, arguments and strings are those of the first TiKV client for Node.js; the column family may be left out.
 *
 * @example
 * const client = new RawClient("127.0.0.1:2379");
 * client.put("k1", "v1", "default");
 * client.get("k1", "default"); // "v1"
 * client.close();
 */
export class RawClient implements Disposable {
  private readonly bridge: Bridge;

  /** Returns when PD has answered. `pd`: HOST[:PORT] of any of its members, or several of them. */
  constructor(pd: string | readonly string[], options: SyncOptions = {}) {
    this.bridge = new Bridge("RawClient", pd, options);
  }

  /** The value; undefined: there is none. */
  get(key: string, family?: string): string | undefined {
    return this.bridge.call(0, "get", [key, family]);
  }

  /** Writes a value, whatever was there. */
  put(key: string, value: string, family?: string): void {
    this.bridge.call(0, "put", [key, value, family]);
  }

  /** Removes a key, there or not. */
  delete(key: string, family?: string): void {
    this.bridge.call(0, "delete", [key, family]);
  }

  /** Keys that are there, with their values. */
  batch_get(keys: string[], family?: string): [string, string][] {
    return this.bridge.call(0, "batch_get", [keys, family]);
  }

  /** Writes many. TiKV does it all or not at all only for keys of one region. */
  batch_put(pairs: [string, string][], family?: string): void {
    this.bridge.call(0, "batch_put", [pairs, family]);
  }

  /** Removes many keys, there or not. */
  batch_delete(keys: string[], family?: string): void {
    this.bridge.call(0, "batch_delete", [keys, family]);
  }

  /** The first `limit` keys of the range, with their values; a bound that is undefined is none. */
  scan(...range: [...ScanRange, family?: string]): [string, string][] {
    return this.bridge.call(0, "scan", range);
  }

  /** As `scan`, without the values. */
  scan_keys(...range: [...ScanRange, family?: string]): string[] {
    return this.bridge.call(0, "scan_keys", range);
  }

  /** Removes all of the range. */
  delete_range(
    start: string | undefined,
    end: string | undefined,
    includeStart?: boolean,
    includeEnd?: boolean,
    family?: string,
  ): void {
    this.bridge.call(0, "delete_range", [start, end, includeStart, includeEnd, family]);
  }

  /**
   * Closes, and ends the worker thread. Calls after it throw ClosedError. A client that is forgotten is closed.
   * What takes longer than `timeoutMs` is not waited for: then it throws TimeoutError, and is closed nonetheless.
   */
  close(options?: SyncCloseOptions): void {
    this.bridge.close(options);
  }

  [Symbol.dispose](): void {
    this.bridge.close();
  }
}

/** Reads of the database as of one moment. */
abstract class Reader {
  /** @internal */
  protected readonly kept: number;

  /** @internal */
  constructor(
    /** @internal */
    protected readonly bridge: Bridge,
    method: string,
    args: unknown[],
  ) {
    this.kept = bridge.keep(this, method, args);
  }

  /** The value; undefined: there is none. */
  get(key: string): string | undefined {
    return this.bridge.call(this.kept, "get", [key]);
  }

  /** Is there such a key? */
  key_exists(key: string): boolean {
    return this.bridge.call(this.kept, "key_exists", [key]);
  }

  /** Keys that are there, with their values. */
  batch_get(keys: string[]): [string, string][] {
    return this.bridge.call(this.kept, "batch_get", [keys]);
  }

  /** The first `limit` keys of the range, with their values; a bound that is undefined is none. */
  scan(...range: ScanRange): [string, string][] {
    return this.bridge.call(this.kept, "scan", range);
  }

  /** As `scan`, without the values. */
  scan_keys(...range: ScanRange): string[] {
    return this.bridge.call(this.kept, "scan_keys", range);
  }
}

/** The database as of a timestamp. */
export class Snapshot extends Reader {}

/** Reads and writes that happen all at once at its commit, or not at all. One that is forgotten is rolled back. */
export class Transaction extends Reader {
  /** Reads, and no other transaction changes the key before this one has ended. */
  get_for_update(key: string): string | undefined {
    return this.bridge.call(this.kept, "get_for_update", [key]);
  }

  /** As `get_for_update`, of many keys: those that are there. */
  batch_get_for_update(keys: string[]): [string, string][] {
    return this.bridge.call(this.kept, "batch_get_for_update", [keys]);
  }

  /** Locks keys, there or not. */
  lock_keys(keys: string[]): void {
    this.bridge.call(this.kept, "lock_keys", [keys]);
  }

  /** Writes a value, whatever was there. */
  put(key: string, value: string): void {
    this.bridge.call(this.kept, "put", [key, value]);
  }

  /** Puts a key that must not exist: AlreadyExistsError, at once or at commit. */
  insert(key: string, value: string): void {
    this.bridge.call(this.kept, "insert", [key, value]);
  }

  /** Removes a key, there or not. */
  delete(key: string): void {
    this.bridge.call(this.kept, "delete", [key]);
  }

  /** Commits: the timestamp, or undefined when nothing was written. After OutcomeUnknownError it has happened or not;
   * after every other error it has not. */
  commit(): bigint | undefined {
    return this.bridge.call(this.kept, "commit", []);
  }

  /** Gives up all that it wrote, and its locks. */
  rollback(): void {
    this.bridge.call(this.kept, "rollback", []);
  }
}

/**
 * Transactions with snapshot isolation, blocking: on a TiKV cluster, or in this process (`log:DIR`, `memory:`).
 *
 * @example
 * const client = new TransactionClient("127.0.0.1:2379");
 * const txn = client.begin(true);
 * txn.put("count", String(Number(txn.get_for_update("count") ?? 0) + 1));
 * txn.commit();
 * client.close();
 */
export class TransactionClient implements Disposable {
  private readonly bridge: Bridge;

  /** Returns when PD has answered. `where`: HOST[:PORT] of any of its members, or several; or log:DIR, memory:. */
  constructor(where: string | readonly string[], options: SyncOptions = {}) {
    this.bridge = new Bridge("TransactionClient", where, options);
  }

  /** Begins one. Pessimistic: it locks each key that it writes; else conflicts are found at commit. */
  begin(pessimistic: boolean = false): Transaction {
    return new Transaction(this.bridge, "begin", [{ pessimistic }]);
  }

  /** Reads as of the timestamp. `pessimistic` means nothing; the first client had it. */
  snapshot(timestamp: bigint | number, pessimistic: boolean = false): Snapshot {
    return new Snapshot(this.bridge, "snapshot", [timestamp, pessimistic]);
  }

  /** No transaction that begins later has a smaller one; a bigint, as a number would lose the low bits. */
  current_timestamp(): bigint {
    return this.bridge.call(0, "current_timestamp", []);
  }

  /** Gives up what only reads before the safe point can see; true: that one holds now. */
  gc(safePoint: bigint | number): boolean {
    return this.bridge.call(0, "gc", [safePoint]);
  }

  /**
   * Closes, and ends the worker thread. Calls after it throw ClosedError. A client that is forgotten is closed.
   * What takes longer than `timeoutMs` is not waited for: then it throws TimeoutError, and is closed nonetheless.
   */
  close(options?: SyncCloseOptions): void {
    this.bridge.close(options);
  }

  [Symbol.dispose](): void {
    this.bridge.close();
  }
}
