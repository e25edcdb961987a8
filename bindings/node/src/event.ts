/** Events, as they are appended and as they are read; include/kvs/event.h says more. */
import { checkEach, checkObject, exact } from "./checks";
import { Bytes, Packed } from "./native";
import { packed } from "./pack";

/** Where an event stands in $all, the order of everything. */
export interface Position {
  /** Where the write that the event is part of stands. */
  commit: bigint;
  /** Where the event itself stands. */
  prepare: bigint;
}

/**
 * What a write expects of its stream: the number of its last event; that it has none ("noStream"), or
 * exists ("exists"); or nothing at all ("any").
 */
export type ExpectedVersion = bigint | number | "any" | "noStream" | "exists";

/** An event to append; `jsonEvent` makes one of an object. */
export interface NewEvent {
  /** What kind of event it is: 1 to 1024 bytes. */
  type: string;
  /** What happened. */
  data?: Bytes;
  /** What else there is to say of it. */
  metadata?: Bytes;
  /** A UUID; default: a random one. A server does not write the same one twice. */
  id?: string;
  /** Data and metadata are JSON texts. */
  isJson?: boolean;
}

/** An event whose data, and metadata, are JSON. */
export function jsonEvent(event: {
  type: string;
  data: unknown;
  metadata?: unknown;
  id?: string;
}): NewEvent {
  checkObject(event, "the event");
  const json: NewEvent = { type: event.type, data: text(event.data), isJson: true };
  if (event.metadata !== undefined) json.metadata = text(event.metadata);
  if (event.id !== undefined) json.id = event.id;
  return json;
}

function text(value: unknown): string {
  const json = JSON.stringify(value) as string | undefined;
  if (json === undefined) throw new TypeError("the data of an event has no form in JSON");
  return json;
}

/** An event as it was recorded. */
export class RecordedEvent {
  /** @internal */
  constructor(
    /** A UUID. */
    readonly id: string,
    /** Name of the stream. */
    readonly stream: string,
    /** What kind of event it is. */
    readonly type: string,
    /** In its stream, from 0n on. */
    readonly number: bigint,
    /** Milliseconds since 1970; 0: not known. */
    readonly createdMs: number,
    /** Data and metadata are JSON texts. */
    readonly isJson: boolean,
    /** What happened, as it was appended. */
    readonly data: Buffer,
    /** Empty when there is none. */
    readonly metadata: Buffer,
  ) {}

  /** When it was recorded. */
  get created(): Date {
    return new Date(this.createdMs);
  }

  /** The data, read as JSON. */
  json<T = unknown>(): T {
    return JSON.parse(this.data.toString()) as T;
  }

  /** The metadata, read as JSON; undefined: there is none. */
  jsonMetadata<T = unknown>(): T | undefined {
    return this.metadata.length === 0 ? undefined : (JSON.parse(this.metadata.toString()) as T);
  }
}

/** What a read or a subscription gives. */
export class ResolvedEvent {
  /** @internal */
  constructor(
    /** The event; with links resolved the one that the link points to, undefined when that is gone. */
    readonly event: RecordedEvent | undefined,
    /** The link that was resolved. */
    readonly link: RecordedEvent | undefined,
    /** Of the original event in $all; undefined in reads of one stream. */
    readonly position: Position | undefined,
    /** Groups: how often it was given before. */
    readonly retryCount: number,
  ) {}

  /** What was read: the link if there is one. Its number counts, its id is acknowledged. */
  get original(): RecordedEvent {
    return (this.link ?? this.event)!;
  }
}

/** What comes where no links are resolved: the event is always there. */
export type PlainEvent = ResolvedEvent & { readonly event: RecordedEvent };

/** What comes out of $all: its place there is known. */
export type EventOfAll<Event extends ResolvedEvent = ResolvedEvent> = Event & { readonly position: Position };

const EXPECTED = { any: -2, noStream: -1, exists: -4 };

/** @internal As the addon wants it. */
export function expectedNumber(expected: ExpectedVersion | undefined): number | bigint {
  if (typeof expected === "string" && Object.hasOwn(EXPECTED, expected)) return EXPECTED[expected];
  if (expected === undefined) return EXPECTED.any;
  if ((typeof expected !== "number" && typeof expected !== "bigint") || expected < 0)
    throw new TypeError('the expected version must be a number, "any", "noStream" or "exists"');
  return exact(expected, "the expected version");
}

/** @internal As the addon wants them: what is `ahead`, then type, data, metadata and id of each; and
 * which are JSON. */
export function packEvents(
  events: NewEvent | Iterable<NewEvent>,
  ...ahead: string[]
): [...Packed, json: Uint8Array] {
  checkObject(events, "an event, or an array of events,");
  const all = Symbol.iterator in events ? [...events] : [events];
  const fields: (Bytes | undefined)[] = ahead;
  const json = new Uint8Array(all.length);
  for (let i = 0; i < all.length; i++) {
    checkEach(all[i], "events", "{ type, data }");
    const { type, data, metadata, id, isJson } = all[i]!;
    if (typeof type !== "string") throw new TypeError("the type of an event must be a string");
    if (id !== undefined && typeof id !== "string")
      throw new TypeError("the id of an event must be a UUID");
    for (const value of [data, metadata] as unknown[]) {
      if (typeof value === "object" && value !== null && !ArrayBuffer.isView(value))
        throw new TypeError(
          "data and metadata of an event must be a Buffer, a Uint8Array or a string; jsonEvent({ type, data }) makes JSON of an object",
        );
    }
    fields.push(type, data, metadata, id);
    json[i] = isJson ? 1 : 0;
  }
  return [...packed(fields, "the data or metadata of an event", true), json];
}
