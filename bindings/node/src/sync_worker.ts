/** The worker thread of a blocking client (sync.ts): has the client, and carries out calls one after the other. */
import { MessagePort, workerData } from "node:worker_threads";
import type { KvsError } from "./errors";
import { Answer, Request, SentError, Word } from "./sync_messages";

const BEAT_MS = 100;

const { port, words } = workerData as { port: MessagePort; words: Int32Array };
const kept = new Map<number, any>(); // 0: the client

async function open(kind: "RawClient" | "TransactionClient", where: string, options: object): Promise<void> {
  const kvs = await import("./index"); // here, so that the caller hears what is amiss with the addon
  kept.set(0, await kvs[kind].connect(where, { ...options, encoding: "utf8" }));
}

async function carryOut({ of, method, args, keepAs }: Request): Promise<unknown> {
  if (method === "open") return open(...(args as Parameters<typeof open>));
  const result = await kept.get(of)[method](...args);
  if (keepAs === undefined) return result;
  kept.set(keepAs, result);
  return undefined;
}

/** A transaction that the caller has no more is rolled back, and not only when memory runs short here. */
function forget(which: number): void {
  const one = kept.get(which);
  kept.delete(which);
  one?.[Symbol.asyncDispose]?.().catch(() => {});
}

function sendable(thrown: unknown): SentError {
  const { name, message, errno, details } = thrown as KvsError;
  return { name, message, errno, details };
}

port.on("message", async (request: Request) => {
  if (request.method === "forget") return forget(request.of);
  const beat = setInterval(() => Atomics.add(words, Word.Beats, 1), BEAT_MS);
  const answer: Answer = { id: request.id };
  try {
    answer.result = await carryOut(request);
  } catch (thrown) {
    answer.error = sendable(thrown);
  }
  clearInterval(beat);
  port.postMessage(answer);
  Atomics.add(words, Word.Answers, 1);
  Atomics.notify(words, Word.Answers);
});

process.on("exit", () => {
  Atomics.store(words, Word.Ended, 1);
  Atomics.add(words, Word.Answers, 1);
  Atomics.notify(words, Word.Answers);
});
