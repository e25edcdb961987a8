/*
 * geteventstore-promise's TCP client, as published, against a server of the EventStoreDB TCP protocol.
 *
 *   node promise.js list HOST:PORT PREFIX
 *
 * Every call of it that goes over TCP. Prints TAP.
 */
'use strict';
const assert = require('assert');
const crypto = require('crypto');
const {TCPClient} = require('geteventstore-promise');

const [, , , address, prefix] = process.argv;
const [host, port] = address.split(/:(?=\d+$)/);
const client = new TCPClient({hostname: host, port: Number(port), credentials: {username: 'admin', password: 'changeit'}});
const s = (name) => `${prefix}-${name}`;
const numbers = (count, type = 'Happened') =>
    Array.from({length: count}, (_, n) => ({eventId: crypto.randomUUID(), eventType: type, data: {n}}));
const range = (from, to) => Array.from({length: to - from}, (_, i) => from + i);
const ns = (events) => events.map((event) => event.data.n);
let counted = 0, failed = 0;

async function test(name, body) {
    counted++;
    try {
        await Promise.race([body(), new Promise((_, reject) => setTimeout(reject, 20000, new Error('took too long')))]);
        console.log(`ok - ${name}`);
    } catch (error) {
        failed++;
        console.log(`not ok - ${name}: ${String(error.message || error).replace(/\s+/g, ' ')}`);
    }
}

async function list() {
    await test('write and read', async () => {
        await client.writeEvent(s('one'), 'Happened', {n: 7}, {by: 'interop'}, {expectedVersion: -1});
        const [event] = await client.getEvents(s('one'));
        assert.deepStrictEqual([event.eventNumber, event.eventType, event.data, event.metadata],
                               [0, 'Happened', {n: 7}, {by: 'interop'}]);
        await assert.rejects(client.writeEvent(s('one'), 'Happened', {}, {}, {expectedVersion: 5}), {name: 'WrongExpectedVersionError'});
    });
    await test('is there a stream', async () => {
        assert.strictEqual(await client.checkStreamExists(s('one')), true);
        assert.strictEqual(await client.checkStreamExists(s('nowhere')), false);
    });
    await test('pages, and all of them', async () => {
        await client.writeEvents(s('many'), numbers(2500));
        assert.deepStrictEqual(ns(await client.getEvents(s('many'), 10, 20, 'forward')), range(10, 30));
        assert.deepStrictEqual(ns(await client.getEvents(s('many'), 29, 20, 'backward')), range(10, 30).reverse());
        assert.deepStrictEqual(ns(await client.getAllStreamEvents(s('many'), 400)), range(0, 2500));
        const page = await client.readEventsForward(s('many'), 2490, 100);
        assert.deepStrictEqual([page.events.length, page.isEndOfStream], [10, true]);
        assert.strictEqual((await client.readEventsBackward(s('many'), 5, 100)).events.length, 6);
    });
    await test('events of a type', async () => {
        await client.writeEvents(s('types'), [...numbers(3, 'A'), ...numbers(2, 'B')]);
        assert.deepStrictEqual(ns(await client.getEventsByType(s('types'), ['B'])), [0, 1]);
    });
    await test('an enumerator', async () => {
        const enumerator = client.eventEnumerator(s('many'));
        assert.deepStrictEqual(ns((await enumerator.first(10)).events), range(0, 10));
        assert.deepStrictEqual(ns((await enumerator.next(10)).events), range(10, 20));
        assert.deepStrictEqual(ns((await enumerator.last(10)).events), range(2490, 2500));
    });
    await test('subscriptions, live and from the begin', async () => {
        const live = [], all = [];
        const both = new Promise((resolve) => {
            const look = () => live.length >= 5 && all.length >= 2505 && resolve();
            client.subscribeToStream(s('many'), (_, event) => { live.push(event); look(); }, () => {}, false)
                .then(() => client.subscribeToStreamFrom(s('many'), undefined, (_, event) => { all.push(event); look(); }))
                .then(() => client.writeEvents(s('many'), numbers(5)));
        });
        await both;
        assert.deepStrictEqual(ns(live), range(0, 5));
        assert.deepStrictEqual(all.map((event) => event.eventNumber), range(0, 2505));
    });
    await test('soft and hard deletes', async () => {
        await client.deleteStream(s('one'));
        assert.strictEqual(await client.checkStreamExists(s('one')), false);
        await client.deleteStream(s('types'), true);
        await assert.rejects(client.writeEvent(s('types'), 'Happened', {}), {name: 'StreamDeletedError'});
    });
}

list().then(async () => {
    console.log(`1..${counted}`);
    process.exit(failed > 0 ? 1 : 0);
});
