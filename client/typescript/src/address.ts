/** Finding the server. */

import { connect as connectSocket, type NetConnectOpts, type Socket } from "node:net";

import { Code, ConnectError } from "@connectrpc/connect";

import { RunhubError } from "./errors.js";

const CONNECT_TIMEOUT_MS = 5_000;

/** Where a server is. */
export interface Address {
  /** What requests are made to. HTTP needs a host, though with a unix socket nobody looks at it. */
  readonly baseUrl: string;
  readonly socket: NetConnectOpts;
}

/**
 * Reads `HOST:PORT`, `http://HOST:PORT` or `unix:PATH`.
 *
 * @throws RunhubError INVALID_ARGUMENT: it is none of these.
 */
export function parseAddress(server: string): Address {
  const [, path] = /^unix:(.+)$/s.exec(server) ?? [];
  if (path !== undefined) {
    return { baseUrl: "http://localhost", socket: { path } };
  }
  const [, host, port] = /^(?:http:\/\/)?([^/:@?#\s]+|\[[\da-f:.]+\]):(\d+)\/?$/i.exec(server) ?? [];
  if (host === undefined || port === undefined || Number(port) > 65_535) {
    throw new RunhubError(
      `"${server}" is no address of a server: it takes http://HOST:PORT, HOST:PORT or unix:PATH`,
      Code.InvalidArgument,
    );
  }
  const plainHost = host.replace(/^\[|\]$/g, "");
  return { baseUrl: `http://${host}:${port}`, socket: { host: plainHost, port: Number(port), noDelay: true } };
}

/** Connects, but does not try for minutes when nobody says a word. */
export function dial(address: Address): Socket {
  const socket = connectSocket(address.socket);
  socket.setTimeout(CONNECT_TIMEOUT_MS, () => {
    socket.destroy(new ConnectError(`no connection within ${CONNECT_TIMEOUT_MS} ms`, Code.Unavailable));
  });
  socket.once("connect", () => socket.setTimeout(0));
  return socket;
}
