import * as flags from "./error_flags";

/** What an error of a transaction was about; empty or 0 where the other side did not tell. */
export interface ErrorDetails {
  /** The key that it is about. */
  key: Buffer;
  /** First key of the other transaction. */
  primary: Buffer;
  /** Start of the transaction that failed. */
  startTimestamp: bigint;
  /** Start of the other transaction. */
  conflictTimestamp: bigint;
  /** When the other transaction was committed. */
  conflictCommitTimestamp: bigint;
  /** How long the other's lock holds. */
  lockTtlMs: number;
}

/**
 * What every call of this package fails with, besides TypeError and the reason of an
 * AbortSignal. Each code has a class of its own; ask the predicates rather than listing codes: codes
 * are added over time, the predicates stay right.
 */
export class KvsError extends Error {
  /** Symbol of the code, "TIMEOUT" for example: include/kvs/error.h has the table. */
  readonly code: string;
  /** Number of the code, negative. */
  readonly errno: number;
  /** Nothing was done, and the same call may succeed later. */
  readonly retryable: boolean;
  /** The whole transaction may succeed when it is tried again from its begin; so of all that is retryable. */
  readonly retryTransaction: boolean;
  /** The write may or may not have happened. */
  readonly maybeCommitted: boolean;
  /** The connection that carried the call is gone. */
  readonly connectionDead: boolean;
  /** Of errors of transactions: which key, which other transaction. */
  readonly details: ErrorDetails | undefined;
  /** WrongExpectedVersionError: number of the stream's last event, -1n: it has none; undefined when
   * the other side did not tell. */
  readonly lastNumber: bigint | undefined;

  constructor(
    message: string,
    code: string,
    errno: number,
    bits: number,
    details?: ErrorDetails,
  ) {
    super(message);
    this.name = new.target.name;
    this.code = code;
    this.errno = errno;
    this.retryable = (bits & flags.RETRY) !== 0;
    this.retryTransaction = (bits & (flags.RETRY_TXN | flags.RETRY)) !== 0; // as kvs_error_retry_txn
    this.maybeCommitted = (bits & flags.MAYBE_COMMITTED) !== 0;
    this.connectionDead = (bits & flags.CONN_DEAD) !== 0;
    this.details = details;
  }
}

type ErrorClass = new (message?: string, details?: ErrorDetails) => KvsError;

/** Class of each number. */
export const classes = new Map<number, ErrorClass>();

/** The error of a number that libkvs gave; an empty message: the table's text. */
export function errorOf(
  errno: number,
  message: string,
  details?: ErrorDetails,
  lastNumber?: bigint,
): KvsError {
  const of = classes.get(errno);
  if (of === undefined) return new KvsError(message, "UNKNOWN", errno, 0, details);
  const error = message === "" ? new of(undefined, details) : new of(message, details);
  if (lastNumber !== undefined) (error as { lastNumber?: bigint }).lastNumber = lastNumber;
  return error;
}

/** What the addon has thrown before a call began: as an error of the table where it is one. */
export function asKvsError(thrown: unknown): unknown {
  if (thrown instanceof KvsError) return thrown;
  const code = (thrown as { code?: unknown }).code;
  for (const of of classes.values()) {
    const error = new of();
    if (error.code === code) return new of((thrown as Error).message);
  }
  return thrown;
}
