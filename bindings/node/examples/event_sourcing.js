// Event sourcing: orders are streams of events; what is to be known of them is read off the events.
//
//   1. A command is decided on what the order's events say, and appends what has happened, expecting that
//      nothing has happened meanwhile: of two at once the second is decided again.
//   2. A catch-up subscription keeps a view of all orders. It keeps its position, and goes on from there.
//   3. A persistent group has two workers, which send each order once it is paid.
//
// node examples/event_sourcing.js [URL]: memory: (the default), log:DIR, or
// esdb://admin:changeit@127.0.0.1:1113 (kvs-server --eventstore, or EventStoreDB).
"use strict";
const { EventsClient, jsonEvent, NoStreamError, WrongExpectedVersionError } = require("kvs-client");

const ORDERS = 20;
const run = Date.now().toString(36); // streams of this run

async function loadOrder(client, id) {
  const order = { status: "none", total: 0, version: "noStream" };
  try {
    for await (const { event } of client.readStream(id)) {
      if (event.type === "itemAdded") Object.assign(order, { status: "open", total: order.total + event.json().price });
      if (event.type === "paid") order.status = "paid";
      order.version = event.number;
    }
  } catch (error) {
    if (!(error instanceof NoStreamError)) throw error;
  }
  return order;
}

// `command` says what has happened to an order as it is; tried again when something else has.
async function handle(client, id, command) {
  for (;;) {
    const order = await loadOrder(client, id);
    try {
      return await client.append(id, command(order), { expectedVersion: order.version });
    } catch (error) {
      if (!(error instanceof WrongExpectedVersionError)) throw error;
    }
  }
}

const addItem = (price) => () => jsonEvent({ type: "itemAdded", data: { price } });
const pay = (order) => {
  if (order.status !== "open") throw new Error(`an order that is ${order.status} cannot be paid`);
  return jsonEvent({ type: "paid", data: { total: order.total } });
};

// A view: what has been paid in all. Returns where to go on.
async function watchRevenue(client, view, from, untilPaid) {
  const filter = { on: "stream", prefixes: [`order-${run}-`] };
  for await (const { event, position } of client.subscribeToAll({ from, filter })) {
    if (event.type === "paid") {
      view.paid++;
      view.revenue += event.json().total;
    }
    from = { after: position };
    if (view.paid === untilPaid) break; // closes the subscription
  }
  return from;
}

// One of the group's workers. Links in the queue point to the orders' events.
async function work(member, sent) {
  for await (const { event, original } of member) {
    if (sent.has(event.stream)) throw new Error(`${event.stream} was sent before`);
    sent.set(event.stream, original.number); // acknowledged when the loop asks for the next one
    if (sent.size === ORDERS) sent.done();
  }
}

async function main(url) {
  const client = await EventsClient.connect(url);
  const queue = `to-send-${run}`;
  await client.createGroup(queue, "senders", { startFrom: "start", resolveLinks: true });

  const sent = new Map();
  const allSent = new Promise((resolve) => (sent.done = resolve));
  const members = [1, 2].map(() => client.subscribeToGroup(queue, "senders"));
  const workers = members.map((member) => work(member, sent));

  const view = { paid: 0, revenue: 0 };
  const firstHalf = watchRevenue(client, view, "start", ORDERS / 2);
  for (let i = 0; i < ORDERS; i++) {
    const id = `order-${run}-${i}`;
    await Promise.all([handle(client, id, addItem(i)), handle(client, id, addItem(100))]); // one is decided twice
    const { nextExpectedVersion } = await handle(client, id, pay);
    await client.append(queue, { type: "$>", data: `${nextExpectedVersion}@${id}` });
  }
  const from = await firstHalf; // a program would keep it, and begin here the next time
  await watchRevenue(client, view, from, ORDERS);
  await allSent;
  await Promise.all(members.map((member) => member.close()));
  await Promise.all(workers);
  await client.close();
  console.log(`paid ${view.paid}, revenue ${view.revenue}, sent ${sent.size}`);
}

main(process.argv[2] ?? "memory:").catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
