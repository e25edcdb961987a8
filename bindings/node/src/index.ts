/** TiKV, EventStoreDB and kvs from Node.js. */
export * from "./errors";
export { ColumnFamily, FamilyOptions, RawClient, TikvOptions } from "./raw_client";
export { KvsClient, KvsOptions, Change } from "./kvs_client";
export {
  CallOptions,
  Pair,
  ReadOptions,
  ScanOptions,
  Value,
  WriteOptions,
} from "./store_client";
export { KeyRange } from "./ranges";
export {
  RunOptions,
  Snapshot,
  Transaction,
  TransactionClient,
  TransactionOptions,
} from "./transaction_client";
