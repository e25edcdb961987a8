// What a connection goes through, TLS, clusters, and what a server does by HTTP.
"use strict";
const assert = require("node:assert/strict");
const { spawnSync } = require("node:child_process");
const { once } = require("node:events");
const { mkdtempSync, rmSync } = require("node:fs");
const { connect } = require("node:net");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { after, before, describe, it } = require("node:test");
const kvs = require("..");
const { startServer } = require("./server");

const portOf = (address) => Number(address.split(":")[1]);

// A client that is closed when the test is over.
async function open(t, url, options) {
  const client = await kvs.EventsClient.connect(url, options);
  t.after(() => client.close());
  return client;
}

describe("connection", () => {
  let server, url;
  before(async () => {
    server = await startServer({ eventstore: true, http: true, tikv: true, restarts: true }, "--sync", "never");
    url = `esdb://admin:changeit@${server.eventstore}`;
  });
  after(() => server[Symbol.asyncDispose]());

  it("tells when it is there, lost, there again and closed, and why", async () => {
    const client = (await kvs.EventsClient.connect(url)).ref();
    const changes = [];
    for (const state of ["connecting", "connected", "disconnected", "closed"])
      client.connection.on(state, (change) => changes.push(change));
    await once(client.connection, "connected");
    assert.deepEqual(changes.map(({ state }) => state), ["connecting", "connected"]);
    assert.deepEqual([client.connection.state, client.connection.node], ["connected", server.eventstore]);
    const lost = once(client.connection, "disconnected");
    await server.stop("SIGKILL");
    const [{ error, node, failures }] = await lost;
    assert.ok(error instanceof kvs.KvsError && error.message.length > 10, String(error));
    assert.deepEqual([node, failures], [server.eventstore, 1]);
    const again = once(client.connection, "connected");
    await server.restart("SIGKILL");
    await again;
    await client.ping();
    assert.equal(changes.at(-1).state, "connected");
    const closed = once(client.connection, "closed");
    await client.close();
    assert.equal((await closed)[0].error, undefined);
    assert.equal(client.connection.state, "closed");
  });

  it("gives up after so many attempts, and says so", async () => {
    const own = await startServer({ eventstore: true }, "--sync", "never");
    const client = await kvs.EventsClient.connect(`esdb://admin:changeit@${own.eventstore}`, { reconnectsMax: 2 });
    client.ref();
    const closed = once(client.connection, "closed");
    await own[Symbol.asyncDispose]();
    const [{ error }] = await closed;
    assert.ok(error instanceof kvs.ConnectError, String(error));
    await assert.rejects(client.ping(), kvs.KvsError);
    await client.close();
  });

  it("has what listeners throw as an uncaught exception, and a listener that leaves", async () => {
    const text = `
      const kvs = require(${JSON.stringify(require.resolve(".."))});
      process.on("uncaughtException", (error) => { console.log(error.message); process.exit(3); });
      kvs.EventsClient.connect(process.argv[1]).then((client) => {
        const never = () => console.log("never");
        client.connection.on("connected", never).off("connected", never);
        client.connection.once("connected", () => { throw new Error("thrown by a listener"); });
        client.ref();
      });`;
    const { status, stdout } = spawnSync(process.execPath, ["-e", text, url], { encoding: "utf8", timeout: 600000 });
    assert.deepEqual({ status, stdout }, { status: 3, stdout: "thrown by a listener\n" });
  });

  it("does not keep the process alive by listening", async () => {
    const text = `
      const kvs = require(${JSON.stringify(require.resolve(".."))});
      kvs.EventsClient.connect(process.argv[1]).then((client) => client.connection.on("disconnected", () => {}));`;
    const { status, signal } = spawnSync(process.execPath, ["-e", text, url], { timeout: 600000 });
    assert.deepEqual({ status, signal }, { status: 0, signal: null });
  });

  it("finds a node by gossip", async (t) => {
    const client = await open(t, `esdb+discover://admin:changeit@${server.http}`, { nodePreference: "leader" });
    await client.append("gossiped", { type: "t" }, { expectedVersion: "noStream" });
    assert.equal((await client.readEvent("gossiped", 0)).event.type, "t");
    assert.equal(client.connection.node, server.eventstore);
    await assert.rejects(
      kvs.EventsClient.connect("esdb+discover://127.0.0.1:1", { discoverAttemptsMax: 1, gossipTimeoutMs: 200 }), kvs.KvsError);
  });

  it("replays what was parked, by HTTP", async (t) => {
    const client = await open(t, url, { httpPort: portOf(server.http) });
    await client.createGroup("parking", "lot", { startFrom: "start", messageTimeoutMs: 0 });
    await client.append("parking", kvs.jsonEvent({ type: "t", data: 1 }));
    const member = client.subscribeToGroup("parking", "lot", { manualAck: true });
    const first = (await member.next()).value;
    member.nak("park", "not now", first);
    const parked = client.subscribe("$persistentsubscription-parking::lot-parked");
    await parked.next(); // it is there
    await parked.close();
    await client.replayParked("parking", "lot");
    const again = (await member.next()).value;
    assert.equal(again.event.id, first.event.id);
    assert.equal(again.original.stream, "$persistentsubscription-parking::lot-parked");
    member.ack(again);
    await member.close();
    await assert.rejects(client.replayParked("parking", "none"), kvs.NotFoundError);
    await assert.rejects(client.replayParked("parking", "lot", { credentials: { login: "admin", password: "wrong" } }), kvs.KvsError);
  });

  it("scavenges, on a server and in this process", async (t) => {
    const remote = await open(t, url);
    const local = await open(t, "memory:");
    for (const client of [remote, local]) {
      await client.append("gone", Array.from({ length: 100 }, () => ({ type: "t", data: Buffer.alloc(1000) })));
      await client.setMetadata("gone", { $maxCount: 1 });
      assert.equal(typeof (await client.scavenge()), "string");
      assert.deepEqual((await client.readStream("gone").next()).value.event.number, 99n);
    }
  });
});

describe("TLS", () => {
  const directory = mkdtempSync(join(tmpdir(), "kvs-node-tls-"));
  const file = (name) => join(directory, name);
  let server, tls;
  const openssl = (...args) => spawnSync("openssl", args, { cwd: directory, encoding: "utf8" });
  const isThere = openssl("version").status === 0;

  before(async () => {
    if (!isThere) return;
    const fresh = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    const made = [openssl(...fresh, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")];
    for (const name of ["server", "client"])
      made.push(openssl(...fresh, "-subj", `/CN=${name}`, "-addext", "subjectAltName=IP:127.0.0.1",
        "-addext", "basicConstraints=critical,CA:FALSE", "-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", `${name}.key`, "-out", `${name}.pem`));
    for (const { status, stderr } of made) assert.equal(status, 0, stderr);
    tls = { ca: file("ca.pem"), certificate: file("client.pem"), key: file("client.key") };
    server = await startServer({ tikv: true, eventstore: true }, "--sync", "never", "--tls-cert", file("server.pem"),
      "--tls-key", file("server.key"), "--tls-ca", file("ca.pem"));
  });
  after(async () => {
    await server?.[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  });

  // Each client with a certificate that the server trusts, without one, and without trust in the server.
  const clients = {
    KvsClient: { open: (tls) => kvs.KvsClient.connect(`kvs://${server.address}`, { tls }),
      use: async (c) => { await c.set("k", "v"); return c.get("k", { encoding: "utf8" }); } },
    RawClient: { open: (tls) => kvs.RawClient.connect(server.pd, { tls }),
      use: async (c) => { await c.put("r", "v"); return c.get("r", { encoding: "utf8" }); } },
    TransactionClient: { open: (tls) => kvs.TransactionClient.connect(server.pd, { tls }),
      use: (c) => c.run(async (txn) => { await txn.put("t", "v"); return txn.get("t", { encoding: "utf8" }); }) },
    EventsClient: {
      open: ({ ca, certificate, key } = {}) => kvs.EventsClient.connect(`esdb://admin:changeit@${server.eventstore}`,
        { tls: true, tlsCa: ca, tlsCertificate: certificate, tlsKey: key, reconnectsMax: 1 }),
      use: async (c) => { await c.append("s", { type: "t", data: "v" }); return (await c.readEvent("s", 0)).event.data.toString(); } },
  };
  for (const [name, { open, use }] of Object.entries(clients)) {
    it(`carries ${name}`, { skip: !isThere }, async () => {
      const client = await open(tls);
      assert.equal(await use(client), "v");
      await client.close();
      await assert.rejects(open({ certificate: tls.certificate, key: tls.key }), kvs.KvsError); // who is the server?
      await assert.rejects(async () => use(await open({ ca: tls.ca })), kvs.KvsError); // who is the client?
      await assert.rejects(open({ ...tls, ca: file("none.pem") }), kvs.KvsError);
    });
  }

  it("is all that the port speaks", { skip: !isThere }, async () => {
    const socket = connect(portOf(server.address), "127.0.0.1");
    socket.end("in the clear\n");
    socket.resume();
    await once(socket, "close");
  });
});
