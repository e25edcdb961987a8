import { InvalidArgumentError } from "./errors_table";

export * from "./errors_table";
export { asKvsError, errorOf, ErrorDetails, KvsError } from "./kvs_error";

/* The names that the errors had in the first TiKV client for Node.js. */
export {
  AlreadyExistsError as AlreadyExistError,
  OutcomeUnknownError as UndertminedError,
} from "./errors_table";

/** A call of a transaction that was committed or rolled back; its name is the first client's, too. */
export class OperationAfterCommitError extends InvalidArgumentError {
  constructor(message: string = "the transaction has ended: it was committed or rolled back") {
    super(message);
  }
}
