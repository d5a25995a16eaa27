/** Messages that the client changes. */

import { clone, create, type DescMessage, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";

/** A message to change freely. `create` alone would give back what is a message already, which the caller may use again. */
export function ownCopy<T extends DescMessage>(schema: T, init: MessageInitShape<T>): MessageShape<T> {
  const message = create(schema, init);
  return message === init ? clone(schema, message) : message;
}
