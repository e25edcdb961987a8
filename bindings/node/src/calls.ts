/**
 * Calls under way: a promise for each, settled in batches. The addon delivers many results at once in
 * two arrays (native/completions.c says how they are written); this reads them.
 */
import { endianness } from "node:os";
import { checkObject } from "./checks";
import { asKvsError, errorOf, KvsError, TimeoutError } from "./errors";
import { Position, RecordedEvent, ResolvedEvent } from "./event";
import { Handle, native } from "./native";

/** What a call's promise becomes, read from its result. */
export type Read<T> = (results: Results) => T;

const enum Shape {
  Nothing,
  Boolean,
  Number,
  U64,
  Bytes,
  Json,
  Pairs,
  Keys,
  Values,
  Resource,
  Events,
}

const enum EventFlag {
  Event = 1,
  Link = 2,
  Position = 4,
  Retried = 8,
}

const enum RecordFlag {
  Json = 1,
  SameStream = 2,
  SameType = 4,
  Metadata = 8,
}

const LITTLE_ENDIAN = endianness() === "LE";
const ID_SIZE = 36;
const NO_BYTES = Buffer.alloc(0);

type BufferClass = new (memory: ArrayBufferLike, offset: number, size: number) => Buffer;

/** Of what Buffer.prototype.subarray makes: the class whose instances Buffers are, which needs no look for the
 * memory behind each one. Where Node.js keeps it to itself: Buffer.from. */
const species = (Buffer as unknown as Record<symbol, unknown>)[Symbol.species] as BufferClass;
const BufferOf: BufferClass =
  typeof species === "function" && species !== (Buffer as unknown) && species.prototype === Buffer.prototype
    ? species
    : (function (memory: ArrayBuffer, offset: number, size: number) {
        return Buffer.from(memory, offset, size);
      } as unknown as BufferClass);

/** Results of one delivery, read from front to back. */
export class Results {
  private words!: Uint32Array; // the same for many deliveries
  private view!: DataView; // the words again, for numbers of 64 bits
  private count = 0; // of the words of this delivery
  private bytes!: Buffer;
  private memory!: ArrayBufferLike; // of the bytes
  private offset = 0; // of the bytes in it
  private handles: Handle[] | undefined;
  private word = 0;
  private byte = 0;
  private stream = ""; // of the event before
  private type = "";

  begin(words: Uint32Array, count: number, bytes: Buffer, handles: Handle[] | undefined): void {
    if (words !== this.words) {
      this.words = words;
      this.view = new DataView(words.buffer, words.byteOffset, words.byteLength);
    }
    this.count = count;
    this.bytes = bytes;
    this.memory = bytes.buffer;
    this.offset = bytes.byteOffset;
    this.handles = handles;
    this.word = this.byte = 0;
  }

  get done(): boolean {
    return this.word >= this.count;
  }

  next(): number {
    return this.words[this.word++]!;
  }

  take(size: number): Buffer {
    const from = this.byte;
    this.byte = from + size;
    return new BufferOf(this.memory, this.offset + from, size);
  }

  text(size: number, encoding: BufferEncoding = "utf8"): string {
    const from = this.byte;
    this.byte = from + size;
    return this.bytes.toString(encoding, from, from + size);
  }

  /** An error's message, and what it was about. */
  error(errno: number): KvsError {
    const size = this.next();
    const details = this.next();
    const message = this.text(size);
    if (details === 0) return errorOf(errno, message);
    if (details === 2) return errorOf(errno, message, undefined, this.long());
    const keySize = this.next();
    const primarySize = this.next();
    const long = () => BigInt.asUintN(64, this.long());
    const [startTimestamp, conflictTimestamp, conflictCommitTimestamp, lockTtlMs] = [
      long(),
      long(),
      long(),
      Number(long()),
    ];
    const key = Buffer.from(this.take(keySize));
    const primary = Buffer.from(this.take(primarySize));
    return errorOf(errno, message, {
      key,
      primary,
      startTimestamp,
      conflictTimestamp,
      conflictCommitTimestamp,
      lockTtlMs,
    });
  }

  nothing(): undefined {
    this.word++;
    return undefined;
  }

  boolean(): boolean {
    this.word++;
    return this.words[this.word++] !== 0;
  }

  /** A signed number; one that is no safe integer is a broken promise of the addon's caller. */
  number(): number {
    this.word++;
    const low = this.words[this.word++]!;
    return (this.words[this.word++]! | 0) * 4294967296 + low;
  }

  bigint(): bigint {
    return BigInt.asUintN(64, this.signed());
  }

  /** A signed number of 64 bits, without its shape. */
  private long(): bigint {
    const number = this.view.getBigInt64(this.word * 4, LITTLE_ENDIAN);
    this.word += 2;
    return number;
  }

  signed(): bigint {
    this.word++;
    return this.long();
  }

  /** A place in $all; undefined: none is known. */
  position(): Position | undefined {
    const commit = this.signed();
    const prepare = this.signed();
    return commit < 0n ? undefined : { commit, prepare };
  }

  private recorded(id: string): RecordedEvent {
    const flags = this.next();
    const number = this.long();
    const low = this.next();
    const created = (this.next() | 0) * 4294967296 + low;
    if ((flags & RecordFlag.SameStream) === 0) this.stream = this.text(this.next());
    if ((flags & RecordFlag.SameType) === 0) this.type = this.text(this.next());
    const data = this.take(this.next());
    const metadata = flags & RecordFlag.Metadata ? this.take(this.next()) : NO_BYTES;
    const isJson = (flags & RecordFlag.Json) !== 0;
    return new RecordedEvent(id, this.stream, this.type, number, created, isJson, data, metadata);
  }

  events(): ResolvedEvent[] {
    this.word++;
    const events = new Array<ResolvedEvent>(this.next());
    const ids = this.text(this.next() * ID_SIZE, "latin1");
    let id = 0;
    const next = () => this.recorded(ids.substring(id, (id += ID_SIZE)));
    for (let i = 0; i < events.length; i++) {
      const flags = this.next();
      const position =
        flags & EventFlag.Position ? { commit: this.long(), prepare: this.long() } : undefined;
      const retryCount = flags & EventFlag.Retried ? this.next() | 0 : 0;
      const event = flags & EventFlag.Event ? next() : undefined;
      const link = flags & EventFlag.Link ? next() : undefined;
      events[i] = new ResolvedEvent(event, link, position, retryCount);
    }
    return events;
  }

  /** Bytes, or undefined where there is nothing. */
  value(encoding: BufferEncoding | undefined): Buffer | string | undefined {
    if (this.words[this.word++] === Shape.Nothing) return undefined;
    const size = this.words[this.word++]!;
    return encoding === undefined ? this.take(size) : this.text(size, encoding);
  }

  json(): unknown {
    this.word++;
    return JSON.parse(this.text(this.words[this.word++]!));
  }

  handle(): Handle {
    if (this.words[this.word++] !== Shape.Resource) throw errorOf(-7, "");
    return this.handles![this.words[this.word++]!]!;
  }

  /** Keys with their values; undefined: there is none. */
  pairs(encoding: BufferEncoding | undefined): [Buffer | string, Buffer | string | undefined][] {
    this.word++;
    const count = this.words[this.word++]!;
    const pairs = new Array(count);
    for (let i = 0; i < count; i++) {
      const keySize = this.words[this.word++]!;
      const valueSize = this.words[this.word++]!;
      const key = encoding === undefined ? this.take(keySize) : this.text(keySize, encoding);
      pairs[i] = [
        key,
        valueSize === 0
          ? undefined
          : encoding === undefined
            ? this.take(valueSize - 1)
            : this.text(valueSize - 1, encoding),
      ];
    }
    return pairs;
  }

  /** The last key of a scan, as bytes. */
  lastKey(): Buffer | undefined {
    return this.value(undefined) as Buffer | undefined;
  }

  values(encoding: BufferEncoding | undefined): (Buffer | string | undefined)[] {
    this.word++;
    const count = this.words[this.word++]!;
    const values = new Array(count);
    for (let i = 0; i < count; i++) {
      const size = this.words[this.word++]!;
      values[i] =
        size === 0
          ? undefined
          : encoding === undefined
            ? this.take(size - 1)
            : this.text(size - 1, encoding);
    }
    return values;
  }

  keys(encoding: BufferEncoding | undefined): (Buffer | string)[] {
    this.word++;
    const count = this.words[this.word++]!;
    const keys = new Array(count);
    for (let i = 0; i < count; i++) {
      const size = this.words[this.word++]!;
      keys[i] = encoding === undefined ? this.take(size) : this.text(size, encoding);
    }
    return keys;
  }
}

interface Waiting {
  resolve: (value: any) => void;
  reject: (error: unknown) => void;
  read: Read<any>;
}

const waiting: (Waiting | undefined)[] = [];
const free: number[] = [];
const results = new Results();
let flushing = false;

function flush(): void {
  flushing = false;
  native.flush();
}

function deliver(words: Uint32Array, count: number, bytes: Buffer = Buffer.alloc(0), handles?: Handle[]): void {
  results.begin(words, count, bytes, handles);
  while (!results.done) {
    const id = results.next();
    const error = results.next() | 0;
    const call = waiting[id]!;
    waiting[id] = undefined;
    free.push(id);
    if (error !== 0) {
      call.reject(results.error(error));
      continue;
    }
    try {
      call.resolve(call.read(results));
    } catch (thrown) {
      call.reject(thrown);
    }
  }
}

native.start(deliver);

/**
 * Starts a call: `start` gives it to the addon under the id. Calls of one turn reach libkvs together.
 * Its promise is rejected with what `start` throws. The signal gives the call up.
 */
export function call<T>(
  start: (id: number) => void,
  read: Read<T>,
  signal?: AbortSignal,
): Promise<T> {
  if (signal !== undefined) return callWithSignal(start, read, signal);
  return new Promise((resolve, reject) => {
    const id = free.length > 0 ? free.pop()! : waiting.length;
    waiting[id] = { resolve, reject, read };
    try {
      start(id);
    } catch (error) {
      waiting[id] = undefined;
      free.push(id);
      reject(asKvsError(error));
      return;
    }
    if (!flushing) {
      flushing = true;
      queueMicrotask(flush);
    }
  });
}

/** Of this realm or another one. */
export function checkSignal(given: AbortSignal): void {
  const isSignal =
    typeof given === "object" && typeof given?.aborted === "boolean" && typeof given.addEventListener === "function";
  if (!isSignal) throw new TypeError("the signal must be an AbortSignal");
}

const onAborts = new WeakMap<AbortSignal, Set<() => void>>();

/** Has `work` called when the signal aborts, and gives what takes that back. However many do so, the signal
 * has one listener: at more than ten Node.js would warn of a leak. */
export function onAbort(signal: AbortSignal, work: () => void): () => void {
  let all = onAborts.get(signal);
  if (all === undefined) {
    const made = (all = new Set<() => void>());
    onAborts.set(signal, made);
    signal.addEventListener("abort", () => made.forEach((each) => each()), { once: true });
  }
  const works = all.add(work);
  return () => works.delete(work);
}

function callWithSignal<T>(
  start: (id: number) => void,
  read: Read<T>,
  signal: AbortSignal,
): Promise<T> {
  try {
    checkSignal(signal);
  } catch (error) {
    return Promise.reject(error);
  }
  if (signal.aborted) return Promise.reject(signal.reason);
  let id = -1;
  const promise = call((given) => {
    id = given;
    start(given);
  }, read);
  const own = waiting[id]; // undefined: it has ended already
  const takeBack = onAbort(signal, () => {
    if (own !== undefined && waiting[id] === own) native.cancel(id); // else the id is another call's by now
  });
  return promise.then(
    (value) => {
      takeBack();
      return value;
    },
    (error) => {
      takeBack();
      throw signal.aborted && error.code === "CANCELLED" ? signal.reason : error;
    },
  );
}

/** Rejects instead of throwing. */
export function attempt<T>(run: () => Promise<T>): Promise<T> {
  try {
    return run();
  } catch (error) {
    return Promise.reject(error);
  }
}

/** How long a close is waited for. */
export interface CloseOptions {
  /** Ends the waiting: the promise is rejected with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Milliseconds after which the waiting ends with TimeoutError; default: no limit. */
  timeoutMs?: number | undefined;
}

const TIMER_MS_MAX = 0x7fffffff;

/** What `close` gives, or the end of the waiting for it; it goes on by itself then. */
export async function within(options: CloseOptions | undefined, close: () => Promise<void>): Promise<void> {
  if (options !== undefined) checkObject(options, "the options of close");
  const { signal, timeoutMs } = options ?? {};
  if (timeoutMs !== undefined && !(typeof timeoutMs === "number" && timeoutMs >= 0 && timeoutMs < 2 ** 32))
    throw new TypeError("timeoutMs must be a whole number below 2^32");
  if (signal !== undefined) checkSignal(signal);
  const closing = close();
  if (signal === undefined && !timeoutMs) return closing;
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    let takeBack: (() => void) | undefined;
    const end = (settle: () => void) => {
      clearTimeout(timer);
      takeBack?.();
      settle();
    };
    closing.then(
      () => end(resolve),
      (error) => end(() => reject(error)),
    );
    if (signal?.aborted) return end(() => reject(signal.reason));
    if (signal !== undefined) takeBack = onAbort(signal, () => end(() => reject(signal.reason)));
    if (timeoutMs && timeoutMs <= TIMER_MS_MAX)
      timer = setTimeout(
        () => end(() => reject(new TimeoutError("not closed within the timeoutMs of the call; it goes on"))),
        timeoutMs,
      );
  });
}

/** A function of the addon that is done when it returns; what it throws is an error of this package. */
export function callNow<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw asKvsError(error);
  }
}
