// Compiled, never run: what the types of the package promise to its users.
import { KvsClient, RawClient, KvsError, WriteConflictError } from "..";

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
  await client.batch([{ set: "k", value: new Uint8Array(3) }, { remove: Buffer.of(1) }]);
  // @ts-expect-error a number is no key
  await client.get(5);
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
