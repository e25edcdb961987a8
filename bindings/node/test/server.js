// A kvs-server for a test: on ports of the system's choice, in a folder of its own, gone at the end.
"use strict";
const { spawn } = require("node:child_process");
const { mkdtempSync, readdirSync, readFileSync, rmSync } = require("node:fs");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { setImmediate: turn } = require("node:timers/promises");

const program = join(process.env.KVS_BUILD_DIR ?? join(__dirname, "../build/meson"), "kvs-server");

class Server {
  constructor(directory, own, args) {
    this.directory = directory;
    this.own = own;
    this.args = args;
    this.log = "";
  }

  // Starts, and waits until it tells its addresses.
  async start() {
    this.process = spawn(program, ["--dir", this.directory, ...this.args], { stdio: ["ignore", "ignore", "pipe"] });
    this.exited = new Promise((resolve) => this.process.on("exit", (status, signal) => resolve({ status, signal })));
    this.log = "";
    await new Promise((resolve, reject) => {
      this.process.on("error", reject);
      this.process.on("exit", () => reject(new Error(`kvs-server ended:\n${this.log}`)));
      this.process.stderr.on("data", (text) => {
        this.log += text;
        if (this.isReady()) resolve();
      });
    });
    return this;
  }

  isReady() {
    this.address = this.log.match(/listening on (?:kvs:\/\/)?([\d.]+:\d+)/)?.[1];
    this.pd = this.log.match(/PD on ([\d.]+:\d+)/)?.[1];
    this.store = this.log.match(/store on ([\d.]+:\d+)/)?.[1];
    this.status = this.log.match(/status on ([\d.]+:\d+)/)?.[1];
    this.eventstore = this.log.match(/EventStoreDB's clients on ([\d.]+:\d+)/)?.[1];
    this.http = this.log.match(/serving HTTP on ([\d.]+:\d+)/)?.[1];
    const wants_events = this.args.some((arg) => arg.startsWith("--eventstore"));
    const wants_tikv = this.args.some((arg) => arg.startsWith("--tikv"));
    const wants_http = this.args.some((arg) => arg.startsWith("--http"));
    return (
      this.address !== undefined &&
      (!wants_http || this.http !== undefined) &&
      (!wants_tikv || this.status !== undefined) &&
      (!wants_events || this.eventstore !== undefined)
    );
  }

  // Starts again at the addresses it had.
  async restart(signal = "SIGKILL") {
    await this.stop(signal);
    this.args = [
      "--addr", this.address,
      ...(this.pd ? [`--tikv=${this.pd},${this.store},${this.status}`] : []),
      ...(this.eventstore ? [`--eventstore=${this.eventstore}`] : []),
      ...(this.http ? [`--http=${this.http}`] : []),
      ...this.rest,
    ];
    return this.start();
  }

  // From now on it does not answer; until `process.kill("SIGCONT")`.
  async silence() {
    this.process.kill("SIGSTOP");
    const tasks = `/proc/${this.process.pid}/task`;
    const runs = (task) => !/\) T /.test(readFileSync(`${tasks}/${task}/stat`, "latin1"));
    while (readdirSync(tasks).some(runs)) await turn(); // each thread stops when it is its turn
  }

  async stop(signal = "SIGTERM") {
    this.process.kill(signal);
    return this.exited;
  }

  async [Symbol.asyncDispose]() {
    if (this.process.exitCode === null && this.process.signalCode === null) await this.stop("SIGKILL");
    if (this.own) rmSync(this.directory, { recursive: true, force: true });
  }
}

// startServer({ tikv: true }, "--engine", "memory")
async function startServer({ tikv = false, eventstore = false, http = false } = {}, ...rest) {
  const directory = mkdtempSync(join(tmpdir(), "kvs-node-"));
  const args = [
    "--addr", "127.0.0.1:0",
    ...(tikv ? ["--tikv=127.0.0.1:0,127.0.0.1:0,127.0.0.1:0"] : []),
    ...(eventstore ? ["--eventstore=127.0.0.1:0"] : []),
    ...(http ? ["--http=127.0.0.1:0"] : []),
    ...rest,
  ];
  const server = new Server(directory, true, args);
  server.rest = rest;
  return server.start();
}

module.exports = { startServer };
