/**
 * This module copies messages, so that the client does not change a message of the caller. The module also reads the
 * `wait` of requests.
 */

import { clone, create, type DescMessage, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { type Duration, durationMs } from "@bufbuild/protobuf/wkt";

/**
 * Returns a new message that the client can change. If `init` is a message, the function clones the message, because a
 * change would otherwise be visible to the caller.
 */
export function copyMessage<T extends DescMessage>(schema: T, init: MessageInitShape<T>): MessageShape<T> {
  const message = create(schema, init);
  return message === init ? clone(schema, message) : message;
}

/** The field of a request that sets how long the server may hold the call. A request may lack the field. */
export interface RequestWithWait {
  wait?: Duration;
}

/** Returns the `wait` of a request, in milliseconds. If the request has no `wait`, the function returns 0. */
export function readWaitMs(request: RequestWithWait): number {
  return request.wait === undefined ? 0 : durationMs(request.wait);
}
