import { call, callNow } from "./calls";
import { checkCount, checkName, checkObject, checkOptions, choose, exact } from "./checks";
import { Client } from "./client";
import { Connection } from "./connection";
import {
  EventOfAll,
  expectedNumber,
  ExpectedVersion,
  NewEvent,
  packEvents,
  PlainEvent,
  Position,
  ResolvedEvent,
} from "./event";
import { GroupInfo, GroupSettings, GroupSummary, nativeSettings, readInfo, readSummaries } from "./groups";
import { EventsCall, Handle, native, NativeFilter } from "./native";
import { Pages, ReadPages } from "./pages";
import { CallOptions, LocalOptions, syncOf } from "./store_client";
import { checkHandlers, GroupSubscription, Subscription, SubscriptionHandlers } from "./subscription";

/** Who asks. */
export interface Credentials {
  /** Name of the user. */
  login: string;
  /** In the clear; sent to the server as it is. */
  password: string;
}

/** How to open event streams; without a field its default. */
export interface EventsOptions {
  /** Gives the opening up. */
  signal?: AbortSignal;
  /** Who this client is, where the URL does not say. */
  credentials?: Credentials;
  /** Deadline of a call that sets none; default 30000, in this process none. */
  timeoutMs?: number;
  /** log: when is a write acknowledged? "always" (default): it survives a power cut. */
  sync?: LocalOptions["sync"];
  /** log: and rocksdb: fail when there is no store in the directory yet. */
  mustExist?: boolean;
  /** For the server's lists of connections; default "kvs". */
  connectionName?: string;
  /** TCP, TLS and greeting together; default 5000. */
  connectTimeoutMs?: number;
  /** Without an answer a call is sent again; default 7000. */
  attemptTimeoutMs?: number;
  /** Without a byte from the server it is asked for a sign of life; default 5000. */
  heartbeatIntervalMs?: number;
  /** Then, until the connection counts as lost; default 10000. */
  heartbeatTimeoutMs?: number;
  /** Attempts in a row before the client gives up; default: no limit. */
  reconnectsMax?: number;
  /** Calls that are sent and not answered; default 2048. */
  inFlightMax?: number;
  /** Speak TLS. */
  tls?: boolean;
  /** Takes any certificate: for tests. */
  tlsInsecure?: boolean;
  /** Files: authorities to trust, and who this client is. */
  tlsCa?: string;
  /** File of who this client is, for servers that ask. */
  tlsCertificate?: string;
  /** File of its private key. */
  tlsKey?: string;
  /** For what the TCP protocol has no command for; default 2113. */
  httpPort?: number;
  /** esdb+discover: */
  nodePreference?: "leader" | "follower" | "readOnlyReplica" | "random";
  /** esdb+discover: for one node's answer; default 3000. */
  gossipTimeoutMs?: number;
  /** esdb+discover: between rounds; default 500. */
  discoverIntervalMs?: number;
  /** esdb+discover: rounds before an attempt has failed; default 10. */
  discoverAttemptsMax?: number;
}

/** Options of every call. */
export interface EventsCallOptions extends CallOptions {
  /** In the name of this user. */
  credentials?: Credentials | undefined;
  /** Also a node that is not the leader may carry it out. */
  anyNode?: boolean | undefined;
}

/** Of writes to a stream. */
export interface AppendOptions extends EventsCallOptions {
  /** Default "any". */
  expectedVersion?: ExpectedVersion | undefined;
}

/** What a write to a stream came to. */
export interface AppendResult {
  /** Of the first event written; -1n of a delete. */
  firstNumber: bigint;
  /** What the next append may expect; -1n of a delete. */
  nextExpectedVersion: bigint;
  /** In $all; undefined: the other side did not tell. */
  position: Position | undefined;
}

/** Of reads. */
export interface ReadEventOptions extends EventsCallOptions {
  /** A link is given with the event that it points to. */
  resolveLinks?: boolean | undefined;
}

/** Links are given as they are. */
interface Plain {
  resolveLinks?: false | undefined;
}

interface ReadOptions extends ReadEventOptions {
  direction?: "forward" | "backward" | undefined;
  /** At most so many events; default: all. */
  maxCount?: number | undefined;
  /** Events of one page; default 512, at most 4096. The next is asked for when the loop wants it. */
  pageSize?: number | undefined;
}

/** Of reads of a stream. */
export interface ReadStreamOptions extends ReadOptions {
  /** Number of the first event; default: "start", backward: "end". */
  from?: bigint | number | "start" | "end" | undefined;
}

/** Of reads of $all. */
export interface ReadAllOptions extends ReadOptions {
  /** Forward: at this position and behind it; backward: before it. Default: "start", backward: "end". */
  from?: Position | "start" | "end" | undefined;
  /** Which events; default: all. */
  filter?: EventFilter | undefined;
}

/** Events of $all whose stream or type begins with one of the prefixes, or has a match of the expression. */
export interface EventFilter {
  /** What is looked at. */
  on: "stream" | "type";
  /** One of these is what it begins with. */
  prefixes?: string[];
  /** Or: an expression that it has a match of; without flags. */
  regex?: string | RegExp;
  /** The server looks at so many events, fitting or not, before it answers. */
  window?: number;
}

interface AnySubscribeOptions extends SubscriptionHandlers {
  credentials?: Credentials | undefined;
  resolveLinks?: boolean | undefined;
  /** With from "end": ends when the connection is lost or the loop too slow for the buffer. */
  volatile?: boolean | undefined;
  /** Events per read while it catches up; default 512. */
  pageSize?: number | undefined;
  /** Live events kept in memory while the loop is at work, and their bytes; default 4096, and 8 MiB. */
  bufferCount?: number | undefined;
  bufferSizeBytes?: number | undefined;
}

/** Of subscriptions to a stream. */
export interface SubscribeOptions extends AnySubscribeOptions {
  /** Default "start". "end": what is appended after the state "live". */
  from?: "start" | "end" | { after: bigint | number } | undefined;
}

/** Of subscriptions to $all. */
export interface SubscribeAllOptions extends AnySubscribeOptions {
  /** Default "start". "end": what is appended after the state "live". */
  from?: "start" | "end" | { after: Position } | undefined;
  /** Which events; default: all. */
  filter?: EventFilter | undefined;
  /** Events looked at between two calls of onCheckpoint; default 1000. */
  checkpointInterval?: number | undefined;
}

/** Of members of a group. */
export interface SubscribeGroupOptions extends SubscriptionHandlers {
  /** In the name of this user. */
  credentials?: Credentials | undefined;
  /** Events given and not acknowledged; default 10. */
  inFlight?: number | undefined;
  /** Events are acknowledged by ack and nak alone. */
  manualAck?: boolean | undefined;
  /** Ends when the connection is lost, instead of joining again. */
  noRejoin?: boolean | undefined;
}

/** A stream's metadata: what the server knows, and the user's own. */
export interface StreamMetadata {
  /** So many events are kept, the newest. */
  $maxCount?: number;
  /** Seconds. */
  $maxAge?: number;
  /** Number of the first event that is kept. */
  $tb?: number;
  /** Seconds for which readers by HTTP may keep it. */
  $cacheControl?: number;
  /** Who may read, write, delete, and read and write the metadata: users or groups. */
  $acl?: Partial<Record<"$r" | "$w" | "$d" | "$mr" | "$mw", string | string[]>>;
  [name: string]: unknown;
}

/** Somebody who may log in. */
export interface User {
  /** Name to log in with. */
  login: string;
  /** Name for people. */
  fullName: string;
  /** Names of groups. */
  groups: string[];
  /** Is not let in. */
  isDisabled: boolean;
}

/** A user to be made. */
export interface NewUser extends Credentials {
  /** Name for people. */
  fullName: string;
  /** Names of groups; "$admins" may do everything, "$ops" run the server. */
  groups?: string[];
}

const PREFERENCES = { leader: 0, follower: 1, readOnlyReplica: 2, random: 3 };
const FROM = { start: 0, end: 1 };
const FROM_AFTER = 2;
const READ = "the options of a read";
const SUBSCRIBE = "the options of a subscription";
const USER = { create: 1, update: 2, password: 3, enable: 4, disable: 5, delete: 6 };
const FLAG_RESOLVE_LINKS = 1;
const FLAG_BACKWARD = 2;
const PAGE_SIZE = 512;
const PAGE_SIZE_MAX = 4096;

function nativeCall(options: EventsCallOptions | undefined): EventsCall | undefined {
  checkOptions(options);
  return options && { timeoutMs: options.timeoutMs, anyNode: options.anyNode, ...loginOf(options) };
}

function loginOf({ credentials }: { credentials?: Credentials | undefined }): Credentials | undefined {
  if (credentials !== undefined) checkObject(credentials, "the credentials");
  return credentials;
}

/** The names of groups, or the prefixes of a filter. */
function checkTexts(texts: readonly string[], what: string): void {
  if (!Array.isArray(texts) || texts.some((text) => typeof text !== "string"))
    throw new TypeError(`${what} must be an array of strings`);
}

function nativeFilter(filter: EventFilter | undefined): NativeFilter | undefined {
  if (filter === undefined) return undefined;
  checkObject(filter, "the filter");
  const { on, prefixes, regex, window } = filter;
  if ((prefixes === undefined) === (regex === undefined))
    throw new TypeError("a filter must have either prefixes or a regex");
  if (regex instanceof RegExp && regex.flags !== "")
    throw new TypeError("the regex of a filter cannot have flags: the server looks at its text");
  if (prefixes !== undefined) checkTexts(prefixes, "the prefixes of a filter");
  else if (typeof regex !== "string" && !(regex instanceof RegExp)) throw new TypeError("the regex of a filter must be a RegExp or a string");
  const patterns = prefixes ?? [regex instanceof RegExp ? regex.source : regex!];
  return {
    on: choose("a filter's on", { stream: 0, type: 1 }, on),
    kind: prefixes !== undefined ? 1 : 0,
    patterns: [...patterns],
    window,
  };
}

function isNumber(given: unknown): boolean {
  return typeof given === "bigint" || typeof given === "number";
}

function checkPosition(given: Position, what: string): void {
  if (typeof given !== "object" || !isNumber(given?.commit) || !isNumber(given.prepare))
    throw new TypeError(`${what} must be a position: { commit, prepare }`);
}

/** Where a subscription starts, as the addon wants it. */
function nativeFrom(from: SubscribeOptions["from"]): object {
  if (from === undefined || typeof from === "string")
    return { from: choose("from", FROM, from ?? "start") };
  if (!isNumber(from?.after)) throw new TypeError('from must be "start", "end" or { after }, the number of an event');
  return { from: FROM_AFTER, afterNumber: exact(from.after, "from's number") };
}

/** The same, of a subscription to $all. */
function nativeFromAll(from: SubscribeAllOptions["from"]): object {
  if (from === undefined || typeof from === "string") return nativeFrom(from);
  checkPosition(from?.after, "from's after");
  return { from: FROM_AFTER, afterCommit: from.after.commit, afterPrepare: from.after.prepare };
}

/**
 * Event streams: on a kvs-server or an EventStoreDB (`esdb://[USER:PASSWORD@]HOST[:PORT]`, its TCP
 * protocol), on a cluster (`esdb+discover://`), or in this process (`log:DIR`, `memory:`).
 *
 * @example
 * const client = await EventsClient.connect("esdb://admin:changeit@127.0.0.1:1113");
 * await client.append("order-1", jsonEvent({ type: "placed", data: { total: 12 } }));
 * for await (const { event } of client.readStream("order-1")) console.log(event.type, event.json());
 * await client.close();
 */
export class EventsClient extends Client {
  /** Tells what happens to the connection. */
  readonly connection: Connection;

  /** Ready when the first connection stands and the login is accepted, or the directory is open. */
  static async connect(url: string, options: EventsOptions = {}): Promise<EventsClient> {
    checkObject(options, "the options of connect");
    const { sync, nodePreference, credentials, signal, ...rest } = options;
    const given = {
      ...rest,
      ...loginOf({ credentials }),
      sync: syncOf(sync),
      nodePreference: choose("nodePreference", PREFERENCES, nodePreference ?? "leader"),
    };
    const handle = await call(
      (id) => native.eventsOpen(id, url, given),
      (r) => r.handle(),
      signal,
    );
    return new EventsClient(handle);
  }

  private constructor(handle: Handle) {
    super();
    if (typeof handle !== "object" || handle === null) throw new TypeError("a client is made by EventsClient.connect");
    this.handle = handle;
    this.connection = new Connection(handle);
  }

  /* --- writing --- */

  /** Appends events, all or none. */
  append(
    stream: string,
    events: NewEvent | Iterable<NewEvent>,
    options?: AppendOptions,
  ): Promise<AppendResult> {
    return this.write(
      (id, of) => {
        checkName(stream, "stream");
        const expected = expectedNumber(options?.expectedVersion);
        native.eventsAppend(id, this.handle, expected, ...packEvents(events, stream), of);
      },
      options,
    );
  }

  /** Deletes a stream: it can be written to again, and numbers go on. */
  deleteStream(stream: string, options?: AppendOptions): Promise<AppendResult> {
    return this.remove(stream, false, options);
  }

  /** Deletes a stream for good. */
  tombstoneStream(stream: string, options?: AppendOptions): Promise<AppendResult> {
    return this.remove(stream, true, options);
  }

  private remove(stream: string, hard: boolean, options?: AppendOptions): Promise<AppendResult> {
    return this.write(
      (id, of) => {
        checkName(stream, "stream");
        const expected = expectedNumber(options?.expectedVersion);
        native.eventsDelete(id, this.handle, stream, expected, hard, of);
      },
      options,
    );
  }

  private write(
    start: (id: number, of: EventsCall | undefined) => void,
    options: EventsCallOptions | undefined,
  ): Promise<AppendResult> {
    return call(
      (id) => start(id, nativeCall(options)),
      (r) => ({
        firstNumber: r.signed(),
        nextExpectedVersion: r.signed(),
        position: r.position(),
      }),
      options?.signal,
    );
  }

  private done(
    start: (id: number, of: EventsCall | undefined) => void,
    options: EventsCallOptions | undefined,
  ): Promise<void> {
    return call(
      (id) => start(id, nativeCall(options)),
      (r) => r.nothing(),
      options?.signal,
    );
  }

  /** Begins a transaction: events of several calls that become visible together. */
  async startTransaction(stream: string, options?: AppendOptions): Promise<EventTransaction> {
    const number = await call(
      (id) => {
        checkName(stream, "stream");
        const expected = expectedNumber(options?.expectedVersion);
        native.eventsTransactionStart(id, this.handle, stream, expected, nativeCall(options));
      },
      (r) => r.signed(),
      options?.signal,
    );
    return this.continueTransaction(number);
  }

  /** Goes on with one that was begun, by this client or another. */
  continueTransaction(id: bigint | number): EventTransaction {
    const transaction = exact(id, "a transaction's number");
    return new EventTransaction(
      transaction,
      (events, options) =>
        this.done(
          (call, of) =>
            native.eventsTransactionWrite(call, this.handle, transaction, ...packEvents(events), of),
          options,
        ),
      (options) =>
        this.write(
          (call, of) => native.eventsTransactionCommit(call, this.handle, transaction, of),
          options,
        ),
    );
  }

  /* --- reading --- */

  /** One event of a stream, or its last. It is a NotFoundError or NoStreamError when there is none. */
  readEvent(
    stream: string,
    number: bigint | number | "last",
    options?: ReadEventOptions & Plain,
  ): Promise<PlainEvent>;
  readEvent(
    stream: string,
    number: bigint | number | "last",
    options?: ReadEventOptions,
  ): Promise<ResolvedEvent>;
  readEvent(
    stream: string,
    number: bigint | number | "last",
    options?: ReadEventOptions,
  ): Promise<ResolvedEvent> {
    return call(
      (id) => {
        checkName(stream, "stream");
        native.eventsReadEvent(
          id,
          this.handle,
          stream,
          number === "last" ? -1 : exact(number, "the number of an event"),
          options?.resolveLinks ? FLAG_RESOLVE_LINKS : 0,
          nativeCall(options),
        );
      },
      (r) => r.events()[0]!,
      options?.signal,
    );
  }

  /** Events of a stream in order, page by page; NoStreamError: there is none. */
  readStream(stream: string, options?: ReadStreamOptions & Plain): Pages<PlainEvent>;
  readStream(stream: string, options?: ReadStreamOptions): Pages<ResolvedEvent>;
  readStream(stream: string, options: ReadStreamOptions = {}): Pages<ResolvedEvent> {
    checkName(stream, "stream");
    checkObject(options, READ);
    const [start, end] = [0, -1];
    const given = options.from ?? (options.direction === "backward" ? "end" : "start");
    let from = typeof given === "string" ? choose("from", { start, end }, given) : exact(given, "from");
    if (from === end && options.direction !== "backward") return nothing();
    const of = nativeCall(options);
    return this.pages(options, (count, flags) =>
      call(
        (id) => native.eventsReadStream(id, this.handle, stream, from, count, flags, of),
        (r) => {
          const page = { events: r.events(), isEnd: r.boolean() };
          from = r.signed();
          r.position();
          return page;
        },
        options.signal,
      ),
    );
  }

  /** Events of $all in order, page by page. */
  readAll(options?: ReadAllOptions & Plain): Pages<EventOfAll<PlainEvent>>;
  readAll(options?: ReadAllOptions): Pages<EventOfAll>;
  readAll(options: ReadAllOptions = {}): Pages<ResolvedEvent> {
    checkObject(options, READ);
    const places = { start: { commit: 0n, prepare: 0n }, end: { commit: -1n, prepare: -1n } };
    const given = options.from ?? (options.direction === "backward" ? "end" : "start");
    let from = typeof given === "string" ? choose("from", places, given) : given;
    checkPosition(from, "from");
    const of = nativeCall(options);
    const filter = nativeFilter(options.filter);
    if (from === places.end && options.direction !== "backward") return nothing();
    return this.pages(options, (count, flags) =>
      call(
        (id) =>
          native.eventsReadAll(
            id,
            this.handle,
            from.commit,
            from.prepare,
            count,
            flags,
            filter,
            of,
          ),
        (r) => {
          const page = { events: r.events(), isEnd: r.boolean() };
          r.signed();
          from = { commit: r.signed(), prepare: r.signed() };
          return page;
        },
        options.signal,
      ),
    );
  }

  private pages(
    options: ReadOptions,
    read: (count: number, flags: number) => Promise<{ events: ResolvedEvent[]; isEnd: boolean }>,
  ): Pages<ResolvedEvent> {
    const { direction = "forward", pageSize = PAGE_SIZE } = options;
    checkCount(options.maxCount, "maxCount", 0);
    checkCount(pageSize, "pageSize", 1);
    const backward = choose("direction", { forward: 0, backward: FLAG_BACKWARD }, direction);
    const flags = backward | (options.resolveLinks ? FLAG_RESOLVE_LINKS : 0);
    let left = options.maxCount ?? Infinity;
    return new ReadPages(async () => {
      if (left <= 0) return undefined;
      const page = await read(Math.min(left, pageSize, PAGE_SIZE_MAX), flags);
      left = page.isEnd ? 0 : left - page.events.length;
      return page.events;
    });
  }

  /* --- subscriptions --- */

  /** The events of a stream: what is there, then what comes. */
  subscribe(stream: string, options?: SubscribeOptions & Plain): Subscription<PlainEvent>;
  subscribe(stream: string, options?: SubscribeOptions): Subscription;
  subscribe(stream: string, options: SubscribeOptions = {}): Subscription {
    checkName(stream, "stream");
    checkObject(options, SUBSCRIBE);
    return this.begin(options, { stream, ...nativeFrom(options.from) });
  }

  /** The events of $all: what is there, then what comes. */
  subscribeToAll(options?: SubscribeAllOptions & Plain): Subscription<EventOfAll<PlainEvent>>;
  subscribeToAll(options?: SubscribeAllOptions): Subscription<EventOfAll>;
  subscribeToAll(options: SubscribeAllOptions = {}): Subscription {
    checkObject(options, SUBSCRIBE);
    return this.begin(options, {
      ...nativeFromAll(options.from),
      filter: nativeFilter(options.filter),
      checkpointInterval: options.checkpointInterval,
    });
  }

  private begin(options: AnySubscribeOptions, more: object): Subscription {
    checkHandlers(options);
    const handle = callNow(() =>
      native.eventsSubscribe(this.handle, {
        ...more,
        resolveLinks: options.resolveLinks,
        volatile: options.volatile,
        pageCount: options.pageSize,
        bufferCount: options.bufferCount,
        bufferSizeBytes: options.bufferSizeBytes,
        ...loginOf(options),
      }),
    );
    return new Subscription(handle, options);
  }

  /** Joins a persistent subscription group, whose members share the events among them. */
  subscribeToGroup(
    stream: string,
    group: string,
    options: SubscribeGroupOptions = {},
  ): GroupSubscription {
    checkName(stream, "stream");
    checkName(group, "group");
    checkObject(options, SUBSCRIBE);
    checkHandlers(options);
    const { inFlight, noRejoin } = options;
    const handle = callNow(() =>
      native.eventsSubscribeGroup(this.handle, {
        stream,
        group,
        inFlight,
        noRejoin,
        ...loginOf(options),
      }),
    );
    return new GroupSubscription(handle, options, options.manualAck ?? false);
  }

  /** Makes a persistent subscription group; AlreadyExistsError: there is one. */
  createGroup(
    stream: string,
    group: string,
    settings: GroupSettings = {},
    options?: EventsCallOptions,
  ): Promise<void> {
    return this.ofGroup(stream, group, options, (id, of) =>
      native.eventsCreateGroup(id, this.handle, stream, group, nativeSettings(settings), of),
    );
  }

  /** All settings anew: one that is left out is its default. Members join again by themselves. */
  updateGroup(
    stream: string,
    group: string,
    settings: GroupSettings = {},
    options?: EventsCallOptions,
  ): Promise<void> {
    return this.ofGroup(stream, group, options, (id, of) =>
      native.eventsUpdateGroup(id, this.handle, stream, group, nativeSettings(settings), of),
    );
  }

  /** Deletes a group; its members are dropped. */
  deleteGroup(stream: string, group: string, options?: EventsCallOptions): Promise<void> {
    return this.ofGroup(stream, group, options, (id, of) =>
      native.eventsDeleteGroup(id, this.handle, stream, group, of),
    );
  }

  /** Gives the parked events to the group's members again. */
  replayParked(stream: string, group: string, options?: EventsCallOptions): Promise<void> {
    return this.ofGroup(stream, group, options, (id, of) =>
      native.eventsReplayParked(id, this.handle, stream, group, of),
    );
  }

  /** What the groups of a stream are doing, or without one all groups. */
  groups(stream?: string, options?: EventsCallOptions): Promise<GroupSummary[]> {
    return call(
      (id) => {
        if (stream !== undefined) checkName(stream, "stream");
        native.eventsListGroups(id, this.handle, stream ?? null, nativeCall(options));
      },
      readSummaries,
      options?.signal,
    );
  }

  /** What a group is doing, its settings and its members; it is a NotFoundError when there is none. */
  group(stream: string, group: string, options?: EventsCallOptions): Promise<GroupInfo> {
    return call(
      (id) => {
        checkName(stream, "stream");
        checkName(group, "group");
        native.eventsGetGroup(id, this.handle, stream, group, nativeCall(options));
      },
      readInfo,
      options?.signal,
    );
  }

  private ofGroup(
    stream: string,
    group: string,
    options: EventsCallOptions | undefined,
    start: (id: number, of: EventsCall | undefined) => void,
  ): Promise<void> {
    return this.done((id, of) => {
      checkName(stream, "stream");
      checkName(group, "group");
      start(id, of);
    }, options);
  }

  /* --- metadata, users, upkeep --- */

  /** A stream's metadata, and its version, which the next `setMetadata` may expect; -1n: there is none. */
  getMetadata(
    stream: string,
    options?: EventsCallOptions,
  ): Promise<{ metadata: StreamMetadata; version: bigint; isDeleted: boolean }> {
    return call(
      (id) => {
        checkName(stream, "stream");
        native.eventsGetMetadata(id, this.handle, stream, nativeCall(options));
      },
      (r) => {
        const version = r.signed();
        const json = r.value("utf8") as string;
        const metadata = (json === "" ? {} : JSON.parse(json)) as StreamMetadata;
        return { metadata, version, isDeleted: r.boolean() };
      },
      options?.signal,
    );
  }

  /** Sets all of it; `expectedVersion` is the metadata's own. */
  setMetadata(
    stream: string,
    metadata: StreamMetadata,
    options?: AppendOptions,
  ): Promise<AppendResult> {
    return this.write(
      (id, of) => {
        checkName(stream, "stream");
        checkObject(metadata, "the metadata");
        const json = JSON.stringify(metadata);
        const expected = expectedNumber(options?.expectedVersion);
        native.eventsSetMetadata(id, this.handle, stream, json, expected, of);
      },
      options,
    );
  }

  /** All users. Only administrators may ask for, and change, users. */
  users(options?: EventsCallOptions): Promise<User[]> {
    return this.getUsers(undefined, options);
  }

  /** One user; it is a NotFoundError when there is none. */
  async user(login: string, options?: EventsCallOptions): Promise<User> {
    checkName(login, "user");
    return (await this.getUsers(login, options))[0]!;
  }

  private getUsers(login: string | undefined, options?: EventsCallOptions): Promise<User[]> {
    return call(
      (id) => native.eventsGetUsers(id, this.handle, { login }, nativeCall(options)),
      (r) =>
        Array.from({ length: r.number() }, () => ({
          login: r.value("utf8") as string,
          fullName: r.value("utf8") as string,
          isDisabled: r.boolean(),
          groups: Array.from({ length: r.number() }, () => r.value("utf8") as string),
        })),
      options?.signal,
    );
  }

  /** Makes a user; AlreadyExistsError: there is one. */
  createUser(user: NewUser, options?: EventsCallOptions): Promise<void> {
    return this.changeUser(USER.create, user, options);
  }

  /** The name and all groups anew. */
  updateUser(user: Omit<NewUser, "password">, options?: EventsCallOptions): Promise<void> {
    return this.changeUser(USER.update, user, options);
  }

  /** Gives a user another password. */
  setPassword(user: Credentials, options?: EventsCallOptions): Promise<void> {
    return this.changeUser(USER.password, user, options);
  }

  /** Lets a user in again. */
  enableUser(login: string, options?: EventsCallOptions): Promise<void> {
    return this.changeUser(USER.enable, { login }, options);
  }

  /** Lets a user in no more, without deleting him. */
  disableUser(login: string, options?: EventsCallOptions): Promise<void> {
    return this.changeUser(USER.disable, { login }, options);
  }

  /** Deletes a user. */
  deleteUser(login: string, options?: EventsCallOptions): Promise<void> {
    return this.changeUser(USER.delete, { login }, options);
  }

  private changeUser(
    change: number,
    user: { login: string; groups?: string[] },
    options?: EventsCallOptions,
  ): Promise<void> {
    return this.done((id, of) => {
      checkObject(user, "the user");
      checkName(user.login, "user");
      if (user.groups !== undefined) checkTexts(user.groups, "the groups of a user");
      native.eventsChangeUser(id, this.handle, change, user, of);
    }, options);
  }

  /** Gives back the space of what is deleted: a server has begun when it is done; in process all is. */
  scavenge(options?: EventsCallOptions): Promise<string> {
    return call(
      (id) => native.eventsScavenge(id, this.handle, nativeCall(options)),
      (r) => r.value("utf8") as string,
      options?.signal,
    );
  }

  /** Done when the other side has answered. */
  ping(options?: EventsCallOptions): Promise<void> {
    return this.done((id, of) => native.eventsPing(id, this.handle, of), options);
  }

  /** @internal */
  protected override closeNative(id: number, handle: Handle): void {
    native.eventsClose(id, handle);
  }
}

/** A transaction on a stream; its events become visible together, by `commit`. It lives on the server. */
export class EventTransaction {
  /** @internal */
  constructor(
    /** By which another client can go on with it. */
    readonly id: bigint,
    private readonly writeEvents: (
      events: NewEvent | Iterable<NewEvent>,
      options?: EventsCallOptions,
    ) => Promise<void>,
    private readonly commitAll: (options?: EventsCallOptions) => Promise<AppendResult>,
  ) {}

  /** Adds events; nobody sees them before the commit. */
  write(events: NewEvent | Iterable<NewEvent>, options?: EventsCallOptions): Promise<void> {
    return this.writeEvents(events, options);
  }

  /** The stream's version that was expected is looked at here. */
  commit(options?: EventsCallOptions): Promise<AppendResult> {
    return this.commitAll(options);
  }
}

function nothing(): Pages<never> {
  return new ReadPages<never>(async () => undefined);
}
