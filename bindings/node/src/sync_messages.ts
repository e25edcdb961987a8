/** What a blocking client (sync.ts) and its worker thread (sync_worker.ts) say to each other. */

/** A call of a method of an object, 0 being the client. What it gives stays with the worker under `keepAs`, where
 * that is given. "open" and "forget" are the worker's own. */
export interface Request {
  id: number;
  of: number;
  method: string;
  args: unknown[];
  keepAs?: number | undefined;
}

/** An error as it crosses threads: its class is made anew of it. */
export interface SentError {
  name: string;
  message: string;
  errno?: number | undefined;
  details?: any;
}

export interface Answer {
  id: number;
  result?: unknown;
  error?: SentError;
}

/** Words of the memory that both see. */
export const enum Word {
  Answers, // how many were given; the caller sleeps on it
  Beats, // grows while the worker lives and a call is under way
  Ended, // 1: the worker has ended
  Count,
}
