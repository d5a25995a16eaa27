/** The server that a scenario is played against. */

import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const BUILD = ["build", "--release", "--locked", "--bin", "runhub", "--example", "stage"];

/** The server that a scenario is played against. */
export interface Server {
  /** The address to which clients connect. */
  readonly address: string;
  /** The server's own address, for the verb `cli`. It bypasses the stage's proxy. */
  readonly direct: string;
  /** The `runhub` binary for the verb `cli`. */
  readonly binary: string;
  /** Sends a command to the stage and waits until it is done. Throws if the command fails or there is no stage. */
  execute(command: string): Promise<void>;
}

/** Returns whether RUNHUB_STAGE names a stage or cargo can build one. */
export function canHaveStage(): boolean {
  return process.env.RUNHUB_STAGE !== undefined || spawnSync("cargo", ["--version"]).status === 0;
}

let file: string | undefined;

/** Returns the path of the stage's executable. Builds it once, unless RUNHUB_STAGE names one. */
export function stageFile(): string {
  file ??= process.env.RUNHUB_STAGE ?? build();
  return file;
}

function build(): string {
  execFileSync("cargo", BUILD, { cwd: ROOT, stdio: ["ignore", "ignore", "inherit"] });
  return `${ROOT}target/release/examples/stage`;
}

/** A process that runs a server behind a proxy and takes commands, until it is disposed. */
export class Stage implements Server, AsyncDisposable {
  private constructor(
    readonly address: string,
    readonly direct: string,
    readonly binary: string,
    readonly process: ChildProcess,
    readonly lines: AsyncIterator<string>,
  ) {}

  /** Starts a stage. Throws if the stage does not get ready. */
  static async open(file: string): Promise<Stage> {
    const stage = spawn(file, { stdio: ["pipe", "pipe", "ignore"] });
    const lines = createInterface(stage.stdout)[Symbol.asyncIterator]();
    const line = (await lines.next()).value ?? "";
    const [ready, address, binary, direct] = line.split(" ");
    if (ready !== "ready" || address === undefined || binary === undefined || direct === undefined) {
      throw new Error(`the stage ${file} printed "${line}", not \`ready ADDRESS BINARY DIRECT\``);
    }
    return new Stage(address, direct, binary, stage, lines);
  }

  async execute(command: string): Promise<void> {
    this.process.stdin?.write(`${command}\n`);
    const { value: answer } = await this.lines.next();
    if (answer !== "ok") {
      throw new Error(`the stage answered ${command} with: ${answer ?? "nothing, because it has ended"}`);
    }
  }

  /** Ends the stage and waits until it has ended. The stage ends its server when its input ends. */
  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.process, "close");
    this.process.stdin?.end();
    await ended;
  }
}

/** Returns a server that is running already. It takes no commands. */
export function runningServer(address: string): Server {
  return {
    address,
    direct: address,
    binary: process.env.RUNHUB_BIN ?? "runhub",
    async execute(command) {
      throw new Error(`the command ${command} needs a stage, but --server names a server without one`);
    },
  };
}
