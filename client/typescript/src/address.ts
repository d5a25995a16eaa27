/** This module parses the address of a server and opens sockets to the server. */

import { connect as connectSocket, type NetConnectOpts, type Socket } from "node:net";

import { Code, ConnectError } from "@connectrpc/connect";

import { RunhubError } from "./errors.js";

const CONNECT_TIMEOUT_MS = 5_000;

/** The address of a server, in the form that the HTTP client needs. */
export interface Address {
  /** The address as the caller passed it, for error texts. */
  readonly server: string;
  /**
   * The base URL of all requests. If the address is a unix socket, the URL has the placeholder host `localhost`,
   * because HTTP requires a host.
   */
  readonly baseUrl: string;
  readonly socket: NetConnectOpts;
}

/**
 * Returns the Address for `HOST:PORT`, `http://HOST:PORT` or `unix:PATH`.
 *
 * @throws RunhubError with INVALID_ARGUMENT if `server` is not HOST:PORT, http://HOST:PORT or unix:PATH.
 */
export function parseAddress(server: string): Address {
  const [, path] = /^unix:(.+)$/s.exec(server) ?? [];
  if (path !== undefined) {
    return { server, baseUrl: "http://localhost", socket: { path } };
  }
  const [, host, port] = /^(?:http:\/\/)?([^/:@?#\s]+|\[[\da-f:.]+\]):(\d+)\/?$/i.exec(server) ?? [];
  if (host === undefined || port === undefined || Number(port) > 65_535) {
    throw new RunhubError(
      `"${server}" is not a valid server address: use HOST:PORT, http://HOST:PORT or unix:PATH`,
      Code.InvalidArgument,
    );
  }
  const plainHost = host.replace(/^\[|\]$/g, "");
  return { server, baseUrl: `http://${host}:${port}`, socket: { host: plainHost, port: Number(port), noDelay: true } };
}

/**
 * Opens a socket to the server and returns the socket. If the server does not accept the connection within
 * CONNECT_TIMEOUT_MS (5 s), the socket fails. Without this timeout, the socket would fail only after the timeout of the
 * operating system.
 */
export function openSocket(address: Address): Socket {
  const socket = connectSocket(address.socket);
  socket.setTimeout(CONNECT_TIMEOUT_MS, () => {
    socket.destroy(
      new ConnectError(
        `the server at "${address.server}" accepted no connection within ${CONNECT_TIMEOUT_MS} ms: check the address`,
        Code.Unavailable,
      ),
    );
  });
  socket.once("connect", () => socket.setTimeout(0));
  return socket;
}
