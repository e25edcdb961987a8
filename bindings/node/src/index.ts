/** TiKV, EventStoreDB and kvs from Node.js. */
export * from "./errors";
export { ColumnFamily, FamilyOptions, RawClient, TikvOptions } from "./raw_client";
export { KvsClient, KvsOptions, Change } from "./kvs_client";
export {
  CallOptions,
  KeyRange,
  Pair,
  ReadOptions,
  ScanOptions,
  Value,
  WriteOptions,
} from "./store_client";
