/** This module copies messages, so that the client does not change a message of the caller. */

import { clone, create, type DescMessage, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";

/**
 * Returns a new message that the client can change. If `init` is a message, the function clones the message, because a
 * change would otherwise be visible to the caller.
 */
export function copyMessage<T extends DescMessage>(schema: T, init: MessageInitShape<T>): MessageShape<T> {
  const message = create(schema, init);
  return message === init ? clone(schema, message) : message;
}
