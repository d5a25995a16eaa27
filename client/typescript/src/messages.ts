/** Copies of messages. */

import { clone, create, type DescMessage, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";

/**
 * Returns a message that the client may change. `create` alone would return the caller's own message if `init` is a message,
 * and the caller may use that message again.
 */
export function ownCopy<T extends DescMessage>(schema: T, init: MessageInitShape<T>): MessageShape<T> {
  const message = create(schema, init);
  return message === init ? clone(schema, message) : message;
}
