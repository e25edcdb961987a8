// A kvs-server for a test: on ports of the system's choice, in a folder of its own, gone at the end.
//
// One that restarts has ports that nobody else is given while it is away: a process beside it has bound them and does not
// listen, as tests/held_port.h says. Node.js itself binds only what listens.
"use strict";
const { spawn } = require("node:child_process");
const { mkdtempSync, readdirSync, readFileSync, rmSync } = require("node:fs");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { setImmediate: turn } = require("node:timers/promises");

const program = join(process.env.KVS_BUILD_DIR ?? join(__dirname, "../build/meson"), "kvs-server");

const HOLDER = `
import socket, sys
held = [socket.socket() for _ in range(int(sys.argv[1]))]
for one in held:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("127.0.0.1", 0))
print(*("%s:%d" % one.getsockname() for one in held), flush=True)
sys.stdin.read()
`;

// So many addresses, and the process that holds them.
async function holdPorts(count) {
  const env = { ...process.env, LD_PRELOAD: "" }; // python3 does not start with a sanitizer's runtime (scripts/sanitize.mjs)
  const holder = spawn("python3", ["-c", HOLDER, String(count)], { stdio: ["pipe", "pipe", "inherit"], env });
  let said = "";
  for await (const text of holder.stdout) {
    said += text;
    if (said.endsWith("\n")) break;
  }
  return { holder, addresses: said.trim().split(" ") };
}

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

  // Starts again at the addresses it had: for one that was started with `restarts`.
  async restart(signal = "SIGKILL") {
    await this.stop(signal);
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
    this.holder?.stdin.end();
    if (this.own) rmSync(this.directory, { recursive: true, force: true });
  }
}

// startServer({ tikv: true }, "--engine", "memory")
async function startServer({ tikv = false, eventstore = false, http = false, restarts = false } = {}, ...rest) {
  const directory = mkdtempSync(join(tmpdir(), "kvs-node-"));
  const { holder, addresses } = restarts ? await holdPorts(6) : { addresses: Array(6).fill("127.0.0.1:0") };
  const args = [
    "--addr", addresses[0],
    ...(tikv ? [`--tikv=${addresses.slice(1, 4).join()}`] : []),
    // A client that a busy machine keeps from answering for a second is not what a test is about.
    ...(eventstore ? [`--eventstore=${addresses[4]}`, "--heartbeat-timeout", "600"] : []),
    ...(http ? [`--http=${addresses[5]}`] : []),
    ...rest,
  ];
  const server = new Server(directory, true, args);
  server.holder = holder;
  return server.start();
}

module.exports = { startServer };
