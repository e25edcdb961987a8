/**
 * Keys and values on their way to the addon, many at once: their bytes one behind the other, and their
 * sizes, in memory that is used again. One call into the addon then takes all of them, where each by
 * itself would cost several.
 */
import { TooLargeError } from "./errors";
import { Bytes, Packed } from "./native";

const BYTES_FIRST = 64 * 1024;
const BYTES_KEPT_MAX = 1024 * 1024;
const SIZES_KEPT_MAX = 65536;
const BYTES_MAX = 1024 * 1024 * 1024; // what libkvs takes at once is less
const UTF8_BYTES_MAX = 3; // of a UTF-16 unit

/** Values packed for one call; `begin` makes it empty again. */
class Pack {
  private bytes = Buffer.allocUnsafeSlow(BYTES_FIRST);
  private sizes = new Uint32Array(256);
  private count = 0;
  private used = 0;

  begin(): this {
    this.count = this.used = 0;
    if (this.bytes.length > BYTES_KEPT_MAX) this.bytes = Buffer.allocUnsafeSlow(BYTES_FIRST);
    if (this.sizes.length > SIZES_KEPT_MAX) this.sizes = new Uint32Array(256);
    return this;
  }

  /** All of them behind what is there. Optional: what is null or undefined is empty. */
  add(values: readonly (Bytes | null | undefined)[], what: string, optional: boolean): this {
    this.reserveSizes(values.length);
    const sizes = this.sizes;
    let count = this.count;
    let text = "";
    let from = 0; // of the strings in `text`
    for (let i = 0; i < values.length; i++) {
      const value = values[i];
      if (typeof value === "string") {
        text += value;
        sizes[count++] = value.length;
        continue;
      }
      if (text !== "") this.addTexts(values, from, i, text, count);
      text = "";
      from = i + 1;
      if (optional && (value === null || value === undefined)) sizes[count++] = 0;
      else sizes[count++] = this.addBytes(value as Uint8Array, what);
    }
    if (text !== "") this.addTexts(values, from, values.length, text, count);
    this.count = count;
    return this;
  }

  all(): Packed {
    return [this.bytes, this.sizes, this.count];
  }

  private addBytes(value: Uint8Array, what: string): number {
    if (!(value instanceof Uint8Array))
      throw new TypeError(`${what} must be a Buffer, a Uint8Array or a string`);
    const size = value.length;
    this.reserve(size);
    this.bytes.set(value, this.used);
    this.used += size;
    return size;
  }

  /** Strings from values[from] to values[to - 1], joined: written at once, which is exact in ASCII. Their sizes end
   * at sizes[end - 1]. */
  private addTexts(values: readonly unknown[], from: number, to: number, joined: string, end: number): void {
    this.reserve(joined.length * UTF8_BYTES_MAX);
    const size = this.bytes.write(joined, this.used);
    if (size === joined.length) {
      this.used += size;
      return;
    }
    for (let i = from; i < to; i++) {
      const one = this.bytes.write(values[i] as string, this.used);
      this.sizes[end - to + i] = one;
      this.used += one;
    }
  }

  private reserve(size: number): void {
    const needed = this.used + size;
    if (needed <= this.bytes.length) return;
    if (needed > BYTES_MAX) throw new TooLargeError("the keys and values of a call are too large");
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.bytes.length));
    this.bytes.copy(larger, 0, 0, this.used);
    this.bytes = larger;
  }

  private reserveSizes(count: number): void {
    const needed = this.count + count;
    if (needed <= this.sizes.length) return;
    const larger = new Uint32Array(Math.max(needed, 2 * this.sizes.length));
    larger.set(this.sizes.subarray(0, this.count));
    this.sizes = larger;
  }
}

const pack = new Pack();

/** Packs a list; what is packed is to be handed over before anything else is. */
export function packed(
  values: readonly (Bytes | null | undefined)[],
  what: string,
  optional = false,
): Packed {
  return pack.begin().add(values, what, optional).all();
}

/** Packs keys, and behind them their values. Optional: a value may be null. */
export function packedPairs(
  keys: readonly Bytes[],
  values: readonly (Bytes | null)[],
  optional = false,
): Packed {
  return pack.begin().add(keys, "a key", false).add(values, "a value", optional).all();
}
