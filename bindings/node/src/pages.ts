/** What comes page by page: scans, reads of events, subscriptions. */
import { CloseOptions } from "./calls";

/**
 * An async iterable that asks for a page when the loop has taken the one before: a slow loop slows the
 * source, and memory stays bounded. An error ends it.
 */
export abstract class Pages<T> implements AsyncIterableIterator<T, undefined>, AsyncDisposable {
  private items: T[] = [];
  private at = 0;
  private asking: Promise<unknown> = Promise.resolve();
  private askers = 0;
  /** @internal */
  protected ended = false;

  /** @internal The next page, which may be empty; undefined: that was the last. */
  protected abstract more(): Promise<T[] | undefined>;

  /** @internal The loop is about to get it. */
  protected taken(_item: T): void {}

  /** @internal Somebody asks who is to be told the end: what it throws is told instead. */
  protected atEnd(): void {}

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The next one, when it is there. Several may be asked for at once: they come in order. */
  next(): Promise<IteratorResult<T, undefined>> {
    if (this.askers === 0 && this.at < this.items.length) return Promise.resolve(this.take());
    this.askers++;
    const asked = this.asking.then(() => this.ask());
    this.asking = asked.then(
      () => this.askers--,
      () => this.askers--,
    );
    return asked;
  }

  /** What a loop calls that is left early: closes. */
  async return(): Promise<IteratorResult<T, undefined>> {
    await this.close();
    return { done: true, value: undefined };
  }

  /** Ends it; a `next` that waits is done. */
  close(_options?: CloseOptions): Promise<void> {
    this.ended = true;
    this.items = [];
    this.at = 0;
    return Promise.resolve();
  }

  /** As `close`: `await using` closes at the end of a block. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private take(): IteratorResult<T, undefined> {
    const value = this.items[this.at]!;
    this.items[this.at++] = undefined!;
    this.taken(value);
    return { done: false, value };
  }

  private async ask(): Promise<IteratorResult<T, undefined>> {
    while (!this.ended) {
      if (this.at < this.items.length) return this.take();
      const page = await this.more().catch((error: unknown) => {
        this.close().catch(() => {});
        throw error;
      });
      if (this.ended) break; // meanwhile
      this.ended = page === undefined;
      this.items = page ?? [];
      this.at = 0;
    }
    this.atEnd();
    return { done: true, value: undefined };
  }
}

/** Pages that a function reads, each when it is wanted; undefined from it: there are no more. */
export class ReadPages<T> extends Pages<T> {
  /** @internal */
  constructor(private readonly read: () => Promise<T[] | undefined>) {
    super();
  }

  /** @internal */
  protected override async more(): Promise<T[] | undefined> {
    return this.read();
  }
}
