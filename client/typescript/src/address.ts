/** The address of the server. */

import { connect as connectSocket, type NetConnectOpts, type Socket } from "node:net";

import { Code, ConnectError } from "@connectrpc/connect";

import { RunhubError } from "./errors.js";

const CONNECT_TIMEOUT_MS = 5_000;

/** The address of a server, as the HTTP client needs it. */
export interface Address {
  /** The URL of requests. HTTP requires a host name; for a unix socket the server does not use it. */
  readonly baseUrl: string;
  readonly socket: NetConnectOpts;
}

/**
 * Parses `HOST:PORT`, `http://HOST:PORT` or `unix:PATH`.
 *
 * @throws RunhubError with INVALID_ARGUMENT if the address has none of these forms.
 */
export function parseAddress(server: string): Address {
  const [, path] = /^unix:(.+)$/s.exec(server) ?? [];
  if (path !== undefined) {
    return { baseUrl: "http://localhost", socket: { path } };
  }
  const [, host, port] = /^(?:http:\/\/)?([^/:@?#\s]+|\[[\da-f:.]+\]):(\d+)\/?$/i.exec(server) ?? [];
  if (host === undefined || port === undefined || Number(port) > 65_535) {
    throw new RunhubError(
      `"${server}" is not a valid server address: use HOST:PORT, http://HOST:PORT or unix:PATH`,
      Code.InvalidArgument,
    );
  }
  const plainHost = host.replace(/^\[|\]$/g, "");
  return { baseUrl: `http://${host}:${port}`, socket: { host: plainHost, port: Number(port), noDelay: true } };
}

/** Opens a socket to the server. The socket fails after 5 s without an answer; by default that takes minutes. */
export function dial(address: Address): Socket {
  const socket = connectSocket(address.socket);
  socket.setTimeout(CONNECT_TIMEOUT_MS, () => {
    socket.destroy(new ConnectError(`no connection within ${CONNECT_TIMEOUT_MS} ms`, Code.Unavailable));
  });
  socket.once("connect", () => socket.setTimeout(0));
  return socket;
}
