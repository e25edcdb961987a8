/** What happens to the connection of event streams. */
import { EventEmitter } from "node:events";
import { call, Results } from "./calls";
import { errorOf, KvsError } from "./errors";
import { Handle, native } from "./native";

/**
 * "connecting": it is tried, at first or again; "connected"; "disconnected": it was lost or could not be
 * made, and another attempt follows; "closed": for good, by `close`, or because the client gave up.
 */
export type ConnectionState = "connecting" | "connected" | "disconnected" | "closed";

/** What a listener is told. */
export interface ConnectionChange {
  /** What it is now. */
  state: ConnectionState;
  /** HOST:PORT it is about; undefined: none is known yet. */
  node: string | undefined;
  /** Why: of "disconnected", and of "closed" unless it was asked for. */
  error: KvsError | undefined;
  /** Attempts that failed in a row. */
  failures: number;
}

const STATES: ConnectionState[] = ["connecting", "connected", "disconnected", "closed"];

interface News {
  isEnd: boolean;
  changes: ConnectionChange[];
}

function readNews(r: Results): News {
  const isEnd = r.boolean();
  const changes = Array.from({ length: r.number() }, () => {
    const state = STATES[r.number()]!;
    const errno = r.number();
    const failures = r.number();
    const node = r.value("utf8") as string;
    const why = r.value("utf8") as string;
    return {
      state,
      node: node === "" ? undefined : node,
      error: errno === 0 ? undefined : errorOf(errno, why),
      failures,
    };
  });
  return { isEnd, changes };
}

type Listener = (change: ConnectionChange) => void;

/**
 * Emits an event for each change of the connection, named as its state. A listener does not keep the
 * process alive. Who listens right after `connect` is told the first "connected", too.
 *
 * @example
 * client.connection.on("disconnected", ({ node, error }) => console.warn(`${node}: ${error?.message}`));
 */
export class Connection extends EventEmitter {
  /** What was told last. */
  state: ConnectionState = "connected";
  /** The node of it. */
  node: string | undefined;

  /** @internal */
  constructor(handle: Handle) {
    super();
    watch(new WeakRef(this), new WeakRef(handle));
  }

  /** @internal */
  tell(change: ConnectionChange): void {
    this.state = change.state;
    this.node = change.node ?? this.node;
    this.emit(change.state, change);
  }

  /** Has the listener called at each change to the state. */
  override on(state: ConnectionState, listener: Listener): this {
    return super.on(state, listener);
  }

  /** Has the listener called at the next change to the state. */
  override once(state: ConnectionState, listener: Listener): this {
    return super.once(state, listener);
  }

  /** The listener is not called any more. */
  override off(state: ConnectionState, listener: Listener): this {
    return super.off(state, listener);
  }
}

/** A function of its own, so that what waits for the news has no hold on the handle. */
function askForNews(handle: Handle): Promise<News> {
  return call((id) => native.eventsWatch(id, handle), readNews);
}

/** Asks for what is new until the end. It holds neither: a forgotten client is still closed. */
function watch(connection: WeakRef<Connection>, handle: WeakRef<Handle>): void {
  const of = handle.deref();
  if (of === undefined) return;
  askForNews(of).then(
    ({ isEnd, changes }) => {
      if (!isEnd) watch(connection, handle);
      // Outside of the promise: what a listener throws is an uncaught exception, as of any emitter.
      for (const change of changes) process.nextTick(() => connection.deref()?.tell(change));
    },
    () => {}, // the client is closed
  );
}
