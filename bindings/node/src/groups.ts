/** Persistent subscription groups: their settings, and what they are doing. */
import { Results } from "./calls";
import { checkObject, choose } from "./checks";

/** Which of a group's members gets an event. */
export type GroupStrategy = "RoundRobin" | "DispatchToSingle" | "Pinned" | "PinnedByCorrelation";

/** Settings of a persistent subscription group; counts are of events. */
export interface GroupSettings {
  /** Links are given with the events that they point to. */
  resolveLinks?: boolean;
  /** The server measures latencies for its statistics. */
  extraStatistics?: boolean;
  /** Number of the first event; default "end": only new ones. */
  startFrom?: bigint | number | "start" | "end";
  /** After it an event is given again; default 30000, 0: never. */
  messageTimeoutMs?: number;
  /** After so many it is parked; default 10. */
  retriesMax?: number;
  /** New events kept for members that are busy; default 500. */
  liveBufferCount?: number;
  /** Old events kept for them; default 500. */
  historyBufferCount?: number;
  /** Events that the server reads at once, fewer than historyBufferCount; default 20. */
  readBatchCount?: number;
  /** How often is written down how far it has come; default 2000. */
  checkpointAfterMs?: number;
  /** But not for fewer events than these; default 10. */
  checkpointCountMin?: number;
  /** And at once after so many; default 1000. */
  checkpointCountMax?: number;
  /** Default 0: no limit. */
  subscribersMax?: number;
  /** Which member gets an event; default "RoundRobin". */
  strategy?: GroupStrategy;
}

/** What a group is doing, in short. */
export interface GroupSummary {
  /** Name of the stream; "$all" of a group that has all events. */
  stream: string;
  /** Name of the group. */
  group: string;
  /** As the server says: "Live", "Behind", "NotReady" and others. */
  status: string;
  /** Number of the stream's last event, as far as the group knows; undefined: of none, or of $all. */
  lastKnown: bigint | undefined;
  /** All up to this number is done, and will not come again; undefined: none yet, or of $all. */
  lastCheckpoint: bigint | undefined;
  /** Events given since the server began. */
  total: number;
  /** Events given in a second, lately. */
  perSecond: number;
  /** How many members it has. */
  connectionsCount: number;
  /** Events given and not acknowledged. */
  inFlight: number;
}

/** One of a group's members. */
export interface GroupConnection {
  /** Its address; "" in this process. */
  from: string;
  /** Who it is; "": nobody has logged in. */
  login: string;
  /** What it calls itself. */
  name: string;
  /** Events given to it. */
  total: number;
  /** Events given to it in a second, lately. */
  perSecond: number;
  /** Events given to it and not acknowledged. */
  inFlight: number;
  /** Events that it would take now. */
  availableSlots: number;
}

/** What a group is doing. */
export interface GroupInfo extends GroupSummary {
  /** Those that it has: changed, they are those of `updateGroup`. */
  settings: Required<GroupSettings> & { startFrom: bigint | "end" };
  /** Events that are read and not given yet. */
  readBuffer: number;
  /** Events that are to be given again. */
  retryBuffer: number;
  /** Events that are in flight, to be given again, or being parked. */
  outstanding: number;
  /** Events that were put aside; `replayParked` gives them again. */
  parked: number;
  /** Its members. */
  connections: GroupConnection[];
}

const STRATEGIES = { RoundRobin: 0, DispatchToSingle: 1, Pinned: 2, PinnedByCorrelation: 3 };

/** @internal As the addon wants them. */
export function nativeSettings(settings: GroupSettings): object {
  checkObject(settings, "the settings of a group");
  if (settings.strategy !== undefined) choose("strategy", STRATEGIES, settings.strategy);
  const { startFrom, ...rest } = settings;
  if (startFrom === undefined) return rest;
  const numbers = { start: 0, end: -1 };
  return {
    ...rest,
    startFrom:
      typeof startFrom === "string" ? choose("startFrom", numbers, startFrom) : startFrom,
  };
}

function text(r: Results): string {
  return r.value("utf8") as string;
}

/** A number of an event; -1: none. */
function place(r: Results): bigint | undefined {
  const number = r.signed();
  return number < 0n ? undefined : number;
}

function readSummary(r: Results): GroupSummary {
  return {
    stream: text(r),
    group: text(r),
    status: text(r),
    lastKnown: place(r),
    lastCheckpoint: place(r),
    total: r.number(),
    perSecond: r.number(),
    connectionsCount: r.number(),
    inFlight: r.number(),
  };
}

function readSettings(r: Results): GroupInfo["settings"] {
  return {
    resolveLinks: r.boolean(),
    extraStatistics: r.boolean(),
    startFrom: place(r) ?? "end",
    messageTimeoutMs: r.number(),
    retriesMax: r.number(),
    liveBufferCount: r.number(),
    historyBufferCount: r.number(),
    readBatchCount: r.number(),
    checkpointAfterMs: r.number(),
    checkpointCountMin: r.number(),
    checkpointCountMax: r.number(),
    subscribersMax: r.number(),
    strategy: text(r) as GroupStrategy,
  };
}

function readConnection(r: Results): GroupConnection {
  return {
    from: text(r),
    login: text(r),
    name: text(r),
    total: r.number(),
    perSecond: r.number(),
    inFlight: r.number(),
    availableSlots: r.number(),
  };
}

/** @internal */
export function readSummaries(r: Results): GroupSummary[] {
  return Array.from({ length: r.number() }, () => readSummary(r));
}

/** @internal */
export function readInfo(r: Results): GroupInfo {
  const summary = readSummary(r);
  return {
    ...summary,
    settings: readSettings(r),
    readBuffer: r.number(),
    retryBuffer: r.number(),
    outstanding: r.number(),
    parked: r.number(),
    connections: Array.from({ length: summary.connectionsCount }, () => readConnection(r)),
  };
}
