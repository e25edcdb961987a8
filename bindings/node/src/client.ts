/** What every client has: an end, and whether it keeps the process alive until then. */
import { call, CloseOptions, within } from "./calls";
import { Handle, native } from "./native";

export abstract class Client implements AsyncDisposable {
  /** @internal */
  protected handle!: Handle;
  private closing: Promise<void> | undefined;
  private held = false;

  /** @internal Gives the close to the addon. */
  protected abstract closeNative(id: number, handle: Handle): void;

  /**
   * Closes: what is under way ends first; of event streams it ends with ClosedError, writes that were
   * sent with OutcomeUnknownError. Calls after it are rejected with ClosedError.
   *
   * The options say how long this waits for that: then it is rejected, with TimeoutError or the signal's
   * reason, while the client closes on its own. A second `close` waits for the same.
   */
  close(options?: CloseOptions): Promise<void> {
    return within(options, () => this.end());
  }

  private end(): Promise<void> {
    if (this.closing === undefined) {
      this.unref();
      this.closing = call(
        (id) => this.closeNative(id, this.handle),
        (r) => r.nothing(),
      );
    }
    return this.closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The open client keeps the process alive. By default only calls under way do. */
  ref(): this {
    if (!this.held && this.closing === undefined) native.hold();
    this.held = this.closing === undefined;
    return this;
  }

  unref(): this {
    if (this.held) native.unhold();
    this.held = false;
    return this;
  }
}
