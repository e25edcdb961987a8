export * from "./errors_table";
export { asKvsError, errorOf, ErrorDetails, KvsError } from "./kvs_error";

/* The names that the errors had in the first TiKV client for Node.js. */
export {
  AlreadyExistsError as AlreadyExistError,
  OutcomeUnknownError as UndertminedError,
} from "./errors_table";
