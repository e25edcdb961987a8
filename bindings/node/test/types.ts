// Compiled, never run: what the types of the package promise to its users.
import { EventsClient, GroupSummary, jsonEvent, Keys, KvsClient, Mutation, RawClient, KvsError, Position, RecordedEvent, TransactionClient, WriteConflictError } from "..";
import * as blocking from "../dist/sync";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function same<A, B>(_: Same<A, B>): void {}

export async function uses(options: { encoding: "utf8"; timeoutMs: number }): Promise<void> {
  await using client = await KvsClient.connect("memory:", { sync: "never" });
  const bytes = await client.get("k");
  same<typeof bytes, Buffer | undefined>(true);
  const text = await client.get("k", options);
  same<typeof text, string | undefined>(true);
  const bytes2 = await client.get("k", { timeoutMs: 5 });
  same<typeof bytes2, Buffer | undefined>(true);
  for await (const [key, value] of client.scan({ prefix: "k", encoding: "utf8" })) {
    same<typeof key, string>(true);
    same<typeof value, string>(true);
  }
  for await (const key of client.scanKeys()) same<typeof key, Buffer>(true);
  await client.close({ timeoutMs: 5, signal: new AbortController().signal });
  // @ts-expect-error a string is no time
  await client.close({ timeoutMs: "5" });
  await client.batch([{ set: "k", value: new Uint8Array(3) }, { remove: Buffer.of(1) }]);
  // @ts-expect-error a number is no key
  await client.get(5);
  // @ts-expect-error one string is not many
  await client.batchGet("abc");
  await client.batchGet(new Set(["a", "b"]).values());
  // @ts-expect-error one change does one thing
  await client.batch([{ remove: "a", removeRange: { prefix: "b" } }]);
  // @ts-expect-error options are an object
  await client.get("k", "utf8");
  // @ts-expect-error no such policy
  await KvsClient.connect("memory:", { sync: "sometimes" });

  const raw = await RawClient.connect(["127.0.0.1:2379"], { keyspace: "DEFAULT" });
  const { swapped, previous } = await raw.compareAndSwap("k", undefined, "v", { encoding: "utf8" });
  same<typeof swapped, boolean>(true);
  same<typeof previous, string | undefined>(true);
  // @ts-expect-error no such family
  await raw.put("k", "v", { family: "other" });
  const old = await new RawClient("127.0.0.1:2379");
  const found: [string, string][] = await old.scan("a", "b", 10, true, false, "default");
  void found;
  const error: KvsError = new WriteConflictError();
  const retryable: boolean = error.retryable;
  void retryable;
}

export async function usesTransactions(): Promise<void> {
  const client = await TransactionClient.connect("log:data", { sync: "interval", syncIntervalMs: 5, mustExist: true });
  const keys: Keys = [Buffer.of(1), "k"];
  const mutations: Mutation[] = [{ put: "k", value: "v" }, { delete: Buffer.of(1) }];
  const length = await client.run(async (txn) => {
    await txn.mutate(mutations);
    // @ts-expect-error one mutation does one thing
    await txn.mutate([{ put: "k", value: "v", delete: "k" }]);
    // @ts-expect-error one string is not many
    await txn.lockKeys("k");
    return (await txn.batchGet(keys)).length;
  });
  same<typeof length, number>(true);
  const timestamp = await client.currentTimestamp();
  same<typeof timestamp, bigint>(true);
  // @ts-expect-error a word is no timestamp
  client.snapshot("now");
}

export async function usesEvents(signal: AbortSignal): Promise<void> {
  await using client = await EventsClient.connect("memory:", { credentials: { login: "a", password: "b" }, mustExist: true });
  const { nextExpectedVersion, position } = await client.append("s", jsonEvent({ type: "t", data: { a: 1 } }));
  same<typeof nextExpectedVersion, bigint>(true);
  same<typeof position, Position | undefined>(true);
  await client.append("s", [{ type: "t", data: Buffer.of(1) }], { expectedVersion: nextExpectedVersion, signal });
  for await (const { event } of client.readStream("s", { maxCount: 3 })) same<typeof event, RecordedEvent>(true);
  same<Awaited<ReturnType<typeof client.readEvent>>["event"], RecordedEvent | undefined>(true);
  const last = await client.readEvent("s", "last");
  same<typeof last.event, RecordedEvent>(true);
  for await (const { event, position } of client.readAll()) {
    same<typeof event, RecordedEvent>(true);
    same<typeof position, Position>(true);
  }
  for await (const { event, position } of client.subscribeToAll({ resolveLinks: true })) {
    same<typeof event, RecordedEvent | undefined>(true);
    same<typeof position, Position>(true);
  }
  for await (const { event } of client.subscribe("s", { from: "end" })) same<typeof event, RecordedEvent>(true);
  const read = { from: 3n, direction: "backward", resolveLinks: true } as const;
  for await (const { event, link, original } of client.readStream("s", read)) {
    same<typeof original.number, bigint>(true);
    same<typeof original.data, Buffer>(true);
    if (event === undefined) void link!.created.getTime();
    else void event.json<{ a: number }>().a;
  }
  await client.close({ signal });
  const subscription = client.subscribe("s", { from: { after: 5 }, onState: (state) => state === "live" });
  for await (const event of subscription) void event.position?.commit;
  await subscription.close({ timeoutMs: 5 });
  const member = client.subscribeToGroup("s", "g", { manualAck: true });
  for await (const event of member) member.nak("park", "why", event);
  const { settings, lastKnown, connections } = await client.group("s", "g", { signal });
  same<typeof lastKnown, bigint | undefined>(true);
  await client.updateGroup("s", "g", { ...settings, retriesMax: connections.length });
  const listed: GroupSummary[] = await client.groups();
  void listed;
  // @ts-expect-error a summary has no settings
  void (await client.groups("s"))[0]!.settings;
  // @ts-expect-error no such strategy
  await client.createGroup("s", "g", { strategy: "Random" });
  // @ts-expect-error a position is no event number
  client.subscribe("s", { from: { after: { commit: 1n, prepare: 1n } } });
  // @ts-expect-error no such expectation
  await client.append("s", [], { expectedVersion: "some" });
  // @ts-expect-error an object is no data: jsonEvent makes data of it
  await client.append("s", { type: "t", data: { a: 1 } });
  // @ts-expect-error no such action
  member.nak("forget", "why");
}

export function usesBlocking(): void {
  using client = new blocking.RawClient("127.0.0.1:2379", { timeoutMs: 5 });
  client.put("k", "v", "default");
  const value = client.get("k");
  same<typeof value, string | undefined>(true);
  client.close({ timeoutMs: 5 });
  // @ts-expect-error nobody could abort it: the thread waits
  client.close({ signal: new AbortController().signal });
  const pairs = client.scan("a", undefined, 10, true, false, "default");
  same<typeof pairs, [string, string][]>(true);
  // @ts-expect-error strings are given anyway
  new blocking.TransactionClient("memory:", { encoding: "hex" });
  const txn: blocking.Transaction = new blocking.TransactionClient("memory:").begin(true);
  const timestamp = txn.commit();
  same<typeof timestamp, bigint | undefined>(true);
  const error: KvsError = new blocking.WriteConflictError();
  void error;
}
