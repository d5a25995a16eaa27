/** The stage: a server of a scenario's own, to be killed and started. */

import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const BUILD = ["build", "--release", "--locked", "--bin", "runhub", "--example", "stage"];

/** Where a scenario is played. */
export interface Venue {
  readonly address: string;
  /** Where the server itself is, without the stage's proxy. */
  readonly direct: string;
  /** The command line `runhub`. */
  readonly binary: string;
  /** Tells the stage to do something to its server, and waits until it is done. */
  tell(order: string): Promise<void>;
}

/** Whether there is a stage, or cargo to build one. */
export function canStage(): boolean {
  return process.env.RUNHUB_STAGE !== undefined || spawnSync("cargo", ["--version"]).status === 0;
}

let built: string | undefined;

/** The stage's file; built first, once, unless RUNHUB_STAGE says where it is. */
export function stageFile(): string {
  built ??= process.env.RUNHUB_STAGE ?? build();
  return built;
}

function build(): string {
  execFileSync("cargo", BUILD, { cwd: ROOT, stdio: ["ignore", "ignore", "inherit"] });
  return `${ROOT}target/release/examples/stage`;
}

/** A running stage, until it is disposed. */
export class Stage implements Venue, AsyncDisposable {
  private constructor(
    readonly address: string,
    readonly direct: string,
    readonly binary: string,
    readonly process: ChildProcess,
    readonly lines: AsyncIterator<string>,
  ) {}

  static async open(file: string): Promise<Stage> {
    const stage = spawn(file, { stdio: ["pipe", "pipe", "ignore"] });
    const lines = createInterface(stage.stdout)[Symbol.asyncIterator]();
    const [ready, address, binary, direct] = ((await lines.next()).value ?? "").split(" ");
    if (ready !== "ready" || address === undefined || binary === undefined || direct === undefined) {
      throw new Error(`the stage at ${file} did not get ready`);
    }
    return new Stage(address, direct, binary, stage, lines);
  }

  async tell(order: string): Promise<void> {
    this.process.stdin?.write(`${order}\n`);
    const { value: answer } = await this.lines.next();
    if (answer !== "ok") {
      throw new Error(`the stage, told to ${order}: ${answer ?? "it is gone"}`);
    }
  }

  /** It ends with its input, and takes its server with it. */
  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.process, "close");
    this.process.stdin?.end();
    await ended;
  }
}

/** A server that was there before, which nobody here may kill. */
export function givenServer(address: string): Venue {
  return {
    address,
    direct: address,
    binary: process.env.RUNHUB_BIN ?? "runhub",
    tell: (order) => Promise.reject(new Error(`there is no stage to ${order} the server with --server`)),
  };
}
