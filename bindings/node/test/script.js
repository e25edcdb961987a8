// Programs that a test runs, and turns that it waits for what is forgotten to be collected.
"use strict";
const { spawn } = require("node:child_process");
const { setImmediate: turn } = require("node:timers/promises");

const TURNS_MAX = 5000;

// Collects until it is so: what the addon closes in the background takes some turns.
async function collectUntil(isSo) {
  for (let i = 0; i < TURNS_MAX && !(await isSo()); i++) {
    await turn(); // what a WeakRef has given is not collected before
    globalThis.gc();
    await turn();
  }
}

// Runs a program's text, which has its arguments from process.argv[1] on, to its end.
function runScript(text, ...args) {
  const child = spawn(process.execPath, ["--expose-gc", "-e", text, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 600000,
    killSignal: "SIGKILL",
  });
  let out = "", err = "";
  child.stdout.on("data", (text) => (out += text));
  child.stderr.on("data", (text) => (err += text));
  return new Promise((resolve) => child.on("close", (status, signal) => resolve({ status, signal, out, err })));
}

module.exports = { collectUntil, runScript };
