/** Events as they come; include/kvs/subscription.h says more. */
import { call, callNow, checkSignal, CloseOptions, onAbort, Results, within } from "./calls";
import { checkFunction, choose } from "./checks";
import { Position, ResolvedEvent } from "./event";
import { Handle, native } from "./native";
import { Pages } from "./pages";

/**
 * "catchingUp": it reads what was there; "live": all that was there has been given (groups: it has
 * joined); "waiting": the connection is lost, it goes on by itself.
 */
export type SubscriptionState = "catchingUp" | "live" | "waiting";

/** @internal */
export interface SubscriptionHandlers {
  signal?: AbortSignal | undefined;
  onState?: ((state: SubscriptionState) => void) | undefined;
  onCheckpoint?: ((position: Position) => void) | undefined;
}

/** @internal */
export function checkHandlers({ signal, onState, onCheckpoint }: SubscriptionHandlers): void {
  if (signal !== undefined) checkSignal(signal);
  if (onState !== undefined) checkFunction(onState, "onState");
  if (onCheckpoint !== undefined) checkFunction(onCheckpoint, "onCheckpoint");
}

const STATES: (SubscriptionState | undefined)[] = [undefined, "catchingUp", "live", "waiting"];

interface Notes {
  state: SubscriptionState | undefined;
  checkpoint: Position | undefined;
}

/** What crossed at once; undefined: the end. */
interface Part {
  before: Notes;
  events: ResolvedEvent[];
  after: Notes;
}

function readNotes(r: Results): Notes {
  const state = STATES[r.number()];
  const has = r.boolean();
  const position = r.position();
  return { state, checkpoint: has ? position : undefined };
}

function readPart(r: Results): Part | undefined {
  if (r.boolean()) return undefined;
  return { before: readNotes(r), events: r.events(), after: readNotes(r) };
}

type Next = IteratorResult<ResolvedEvent, undefined>;

/**
 * An async iterable of events. It asks for more when the loop does: a slow loop slows the source, and
 * memory stays bounded. The loop ends when the subscription is closed, and throws when it was dropped.
 * One that is forgotten is closed.
 */
export class Subscription<Event extends ResolvedEvent = ResolvedEvent> extends Pages<Event> {
  private after: Notes | undefined;
  private reason: { error: unknown } | undefined;
  private closing: Promise<void> | undefined;
  private takeBack: (() => void) | undefined;

  /** @internal */
  constructor(
    /** @internal */
    protected readonly handle: Handle,
    private readonly handlers: SubscriptionHandlers,
  ) {
    super();
    const { signal } = handlers;
    if (signal === undefined) return;
    const weak = new WeakRef<Subscription>(this); // the signal may live longer than what it ends
    const abort = () => weak.deref()?.abort(signal.reason);
    if (signal.aborted) abort();
    else this.takeBack = onAbort(signal, abort);
  }

  /** Ends it; a `next` that waits is done. The options say how long this waits for the other side. */
  override close(options?: CloseOptions): Promise<void> {
    return within(options, () => this.end());
  }

  private end(): Promise<void> {
    if (this.closing === undefined) {
      super.close();
      this.takeBack?.();
      this.closing = call((id) => native.subscriptionClose(id, this.handle), (r) => r.nothing());
    }
    return this.closing;
  }

  private abort(error: unknown): void {
    if (this.ended) return;
    this.reason = { error };
    this.close().catch(() => {});
  }

  private tell({ state, checkpoint }: Notes): void {
    if (state !== undefined) this.handlers.onState?.(state);
    if (checkpoint !== undefined) this.handlers.onCheckpoint?.(checkpoint);
  }

  /** @internal */
  protected override atEnd(): void {
    const { reason } = this;
    this.reason = undefined;
    if (reason !== undefined) throw reason.error;
  }

  /** @internal */
  protected override async more(): Promise<Event[] | undefined> {
    if (this.after !== undefined) {
      const after = this.after;
      this.after = undefined;
      this.tell(after);
      return []; // it may have closed this
    }
    const part = await this.askNative();
    if (part === undefined || this.ended) return undefined;
    this.after = part.after;
    this.tell(part.before);
    return part.events as Event[];
  }

  private async askNative(): Promise<Part | undefined> {
    try {
      return await call((id) => native.subscriptionNext(id, this.handle), readPart);
    } catch (error) {
      if (!this.ended) this.reason = { error };
      return undefined;
    }
  }
}

function idsOf(events: ResolvedEvent[]): string[] {
  if (events.some((event) => !(event instanceof ResolvedEvent)))
    throw new TypeError("what is acknowledged must be events of this subscription");
  return events.map((event) => event.original.id);
}

const NAK_ACTIONS = { unknown: 0, park: 1, retry: 2, skip: 3, stop: 4 };

/**
 * A member of a persistent subscription group. By default an event is acknowledged when the loop asks for
 * the one after it; with `manualAck` by `ack`, or `nak`. What is not comes again, to this or another member.
 */
export class GroupSubscription extends Subscription {
  private last: string | undefined;
  private done: string[] = [];

  /** @internal */
  constructor(
    handle: Handle,
    handlers: SubscriptionHandlers,
    private readonly manualAck: boolean,
  ) {
    super(handle, handlers);
  }

  /** These are handled. */
  ack(...events: ResolvedEvent[]): void {
    const ids = idsOf(events);
    this.forget(events);
    callNow(() => native.subscriptionAck(this.handle, ids));
  }

  /**
   * These are not: the server puts them aside (park), gives them again (retry), or leaves them (skip; stop is
   * the same).
   */
  nak(
    action: "unknown" | "park" | "retry" | "skip" | "stop",
    reason: string,
    ...events: ResolvedEvent[]
  ): void {
    const number = choose("the action", NAK_ACTIONS, action);
    const ids = idsOf(events);
    this.forget(events);
    callNow(() => native.subscriptionNak(this.handle, ids, number, reason));
  }

  override next(): Promise<Next> {
    if (this.last !== undefined) {
      if (this.done.push(this.last) === 1) setImmediate(() => this.acknowledge());
      this.last = undefined;
    }
    return super.next();
  }

  override close(options?: CloseOptions): Promise<void> {
    this.acknowledge();
    return super.close(options);
  }

  /** @internal */
  protected override taken(event: ResolvedEvent): void {
    if (!this.manualAck) this.last = event.original.id;
  }

  /** They were told by hand. */
  private forget(events: ResolvedEvent[]): void {
    if (events.some((event) => event.original.id === this.last)) this.last = undefined;
  }

  private acknowledge(): void {
    const { done } = this;
    this.done = [];
    if (done.length === 0) return;
    try {
      native.subscriptionAck(this.handle, done);
    } catch {
      // It has ended: they come again.
    }
  }
}
