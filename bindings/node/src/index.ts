/** TiKV, EventStoreDB and kvs from Node.js. */
export * from "./errors";
export { ColumnFamily, FamilyOptions, RawClient, TikvOptions } from "./raw_client";
export { Change, KvsClient, KvsOptions } from "./kvs_client";
export {
  CallOptions,
  Checksum,
  LocalOptions,
  Pair,
  ReadOptions,
  ScanOptions,
  TlsOptions,
  Value,
  WriteOptions,
} from "./store_client";
export { Bytes, Keys } from "./native";
export { KeyRange } from "./ranges";
export {
  Mutation,
  RunOptions,
  Snapshot,
  Transaction,
  TransactionClient,
  TransactionClientOptions,
  TransactionOptions,
} from "./transaction_client";
export {
  EventOfAll,
  ExpectedVersion,
  jsonEvent,
  NewEvent,
  PlainEvent,
  Position,
  RecordedEvent,
  ResolvedEvent,
} from "./event";
export {
  AppendOptions,
  AppendResult,
  Credentials,
  EventFilter,
  EventsCallOptions,
  EventsClient,
  EventsOptions,
  EventTransaction,
  NewUser,
  ReadAllOptions,
  ReadEventOptions,
  ReadStreamOptions,
  StreamMetadata,
  SubscribeAllOptions,
  SubscribeGroupOptions,
  SubscribeOptions,
  User,
} from "./events_client";
export { GroupConnection, GroupInfo, GroupSettings, GroupStrategy, GroupSummary } from "./groups";
export { CloseOptions } from "./calls";
export { Connection, ConnectionChange, ConnectionState } from "./connection";
export { Pages } from "./pages";
export { GroupSubscription, Subscription, SubscriptionState } from "./subscription";
