/** This module starts and controls the server against which a scenario runs. */

import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const BUILD = ["build", "--release", "--locked", "--bin", "runhub", "--example", "test_server"];

/** Describes the server against which a scenario runs. */
export interface Server {
  /** The address to which the clients of the scenario connect. */
  readonly address: string;
  /** The server's own address, which bypasses the test server's proxy. The verb `cli` uses this address. */
  readonly direct: string;
  /** The path of the `runhub` binary that the verb `cli` runs. */
  readonly binary: string;
  /**
   * Sends a command to the test server and waits until the test server has executed the command. Throws an Error if
   * the command fails or there is no test server.
   */
  execute(command: string): Promise<void>;
}

/** Returns whether RUNHUB_TEST_SERVER is set or cargo is installed. Otherwise no test server can be started. */
export function isTestServerAvailable(): boolean {
  return process.env.RUNHUB_TEST_SERVER !== undefined || spawnSync("cargo", ["--version"]).status === 0;
}

let file: string | undefined;

/**
 * Returns the path of the test server's executable. If the environment variable RUNHUB_TEST_SERVER contains a path, the
 * function returns that path. Otherwise, the function builds the executable on the first call and returns the path of
 * the built file. Throws an Error if the build fails.
 */
export function findOrBuildTestServer(): string {
  file ??= process.env.RUNHUB_TEST_SERVER ?? buildTestServer();
  return file;
}

function buildTestServer(): string {
  execFileSync("cargo", BUILD, { cwd: ROOT, stdio: ["ignore", "ignore", "inherit"] });
  return `${ROOT}target/release/examples/test_server`;
}

/** Controls a process that runs a server behind a proxy. If the TestServer is disposed, the process ends. */
export class TestServer implements Server, AsyncDisposable {
  private constructor(
    readonly address: string,
    readonly direct: string,
    readonly binary: string,
    readonly process: ChildProcess,
    readonly lines: AsyncIterator<string>,
  ) {}

  /**
   * Starts a test server and waits until the test server is ready. Throws an Error if the test server does not print a
   * `ready` line.
   */
  static async open(file: string): Promise<TestServer> {
    const process = spawn(file, { stdio: ["pipe", "pipe", "ignore"] });
    const lines = createInterface(process.stdout)[Symbol.asyncIterator]();
    const line = (await lines.next()).value ?? "";
    const [ready, address, binary, direct] = line.split(" ");
    if (ready !== "ready" || address === undefined || binary === undefined || direct === undefined) {
      throw new Error(
        `the program ${file} printed "${line}", but must print "ready ADDRESS BINARY DIRECT": rebuild the program`,
      );
    }
    return new TestServer(address, direct, binary, process, lines);
  }

  async execute(command: string): Promise<void> {
    this.process.stdin?.write(`${command}\n`);
    const { value: answer } = await this.lines.next();
    if (answer !== "ok") {
      const cause = answer ?? "the program has exited";
      throw new Error(`"test_server" did not execute the command ${command} (${cause}): run "test_server" by hand`);
    }
  }

  /**
   * Closes the standard input of the test server and waits until the test server has exited. If the standard input is
   * closed, the test server ends the server.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.process, "close");
    this.process.stdin?.end();
    await ended;
  }
}

/**
 * Returns a description of the running server at `address`. There is no test server, so `execute` always throws an
 * Error.
 */
export function describeRunningServer(address: string): Server {
  return {
    address,
    direct: address,
    binary: process.env.RUNHUB_BIN ?? "runhub",
    async execute(command) {
      throw new Error(`the command ${command} needs the program "test_server": run the scenario without --server`);
    },
  };
}
