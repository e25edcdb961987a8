/*
 * What one client leaves and others find: events, links, metadata, a group, a transaction; and events
 * that others follow as they come.
 */
'use strict';
const crypto = require('crypto');
const {Inbox, Long, admin, dataOf, equal, es, int, json, numbers, prefix, rest, test} = require('./common');

const SHARED = 300, LINKS = 10, FOLLOW_SECONDS_MAX = 120;
const s = (name) => `${prefix}-${name}`;

function shared(i) {
    const data = Buffer.from(Array.from({length: i}, (_, k) => (i * 7 + k) & 255));
    return i % 2 === 0 ? {isJson: true, data: Buffer.from(JSON.stringify({i, text: 'é€' + i}))} : {isJson: false, data};
}

/* Is it the event that every writer writes as its i-th? */
function isShared(got, i) {
    const {isJson, data} = shared(i);
    equal([int(got.eventNumber), got.eventType, got.isJson, got.data.toString('hex'), got.metadata.toString()],
          [i, `Type${i % 5}`, isJson, data.toString('hex'), `m${i}`], 'event');
}

async function write(c) {
    await test('write what others read', async () => {
        for (let i = 0; i < SHARED; i++) {
            const {isJson, data} = shared(i);
            await c.appendToStream(s('shared'), i - 1,
                                   es.createEventData(crypto.randomUUID(), `Type${i % 5}`, isJson, data, Buffer.from(`m${i}`)));
        }
    });
    await test('leave links, metadata, a group and an open transaction', async () => {
        const targets = [...Array.from({length: LINKS}, (_, i) => i * 7), 999];
        await c.appendToStream(s('links'), -1, targets.map((n) =>
            es.createEventData(crypto.randomUUID(), '$>', false, Buffer.from(`${n}@${s('shared')}`))));
        await c.setStreamMetadataRaw(s('shared'), -1, {$maxCount: 1000, of: 'interop'});
        const settings = es.PersistentSubscriptionSettings.create();
        settings.startFrom = 0;
        await c.createPersistentSubscription(s('shared'), 'g', settings, admin);
        const transaction = await c.startTransaction(s('open'), -1);
        await transaction.write(numbers(2));
        console.log(`transaction ${transaction.transactionId}`);
    });
}

async function read(c) {
    await test('read what others wrote', async () => {
        for (let i = 0; i < SHARED; i += 100) {
            const page = await c.readStreamEventsForward(s('shared'), i, 100);
            equal(page.events.length, 100, 'events');
            page.events.forEach((event, k) => isShared(event.originalEvent, i + k));
        }
    });
    await test('links, metadata and a transaction of others', async () => {
        const {events} = await c.readStreamEventsForward(s('links'), 0, 100, true);
        equal(events.length, LINKS + 1, 'links');
        events.slice(0, LINKS).forEach((link, i) => isShared(link.event, i * 7));
        equal([events[LINKS].isResolved, int(events[LINKS].link.eventNumber)], [false, LINKS], 'the link to nothing');
        const got = await c.getStreamMetadataRaw(s('shared'));
        equal(Buffer.isBuffer(got.streamMetadata) ? JSON.parse(got.streamMetadata) : got.streamMetadata,
              {$maxCount: 1000, of: 'interop'}, 'metadata');
        const open = await c.readStreamEventsForward(s('open'), 0, 10);
        equal(open.events.map((e) => dataOf(e).n), [0, 1, 2, 3, 4], 'the transaction');
    });
}

async function finish(c) {
    await test('finish a transaction that another has begun', async () => {
        const transaction = c.continueTransaction(Long.fromString(rest[0]));
        await transaction.write(numbers(3, 2));
        equal(int((await transaction.commit()).nextExpectedVersion), 4, 'version');
    });
}

/* A share of a group's events; nothing that was acknowledged comes to anybody again. */
async function take(c) {
    const count = Number(rest[0]);
    await test(`take ${count} events of a group`, async () => {
        const taken = new Inbox(), dropped = new Inbox();
        const subscription = await c.connectToPersistentSubscription(s('shared'), 'g', (sub, e) => {
            if (taken.items.length === count)
                return;
            isShared(e.originalEvent, int(e.originalEventNumber));
            sub.acknowledge([e]);
            taken.put(int(e.originalEventNumber));
        }, (_, reason) => dropped.put(reason), admin, 10, false);
        (await taken.until(count)).forEach((number) => console.log(`took ${number}`));
        await subscription.stop();
        equal(await dropped.until(1), ['userInitiated'], 'dropped');
    });
}

async function follow(c) {
    const count = Number(rest[0]), all = Array.from({length: count}, (_, i) => i);
    await test('follow what others append', async () => {
        const live = new Inbox(), inboxes = Array.from({length: 3}, () => new Inbox());
        const put = (inbox) => (_, e) => { if (e.originalStreamId === s('follow')) inbox.put(dataOf(e).n); };
        c.subscribeToStreamFrom(s('follow'), null, false, put(inboxes[0]), () => live.put(1));
        c.subscribeToAllFrom(null, false, put(inboxes[1]), () => live.put(1), () => {}, admin);
        await c.subscribeToStream(s('follow'), false, put(inboxes[2]));
        await live.until(2);
        console.log('ready');
        for (const inbox of inboxes)
            equal(await inbox.until(count), all, 'events');
    }, FOLLOW_SECONDS_MAX);
}

async function feed(c) {
    const [from, count] = rest.map(Number);
    await test('append what others follow', async () => {
        for (let n = from; n < from + count; n++)
            await c.appendToStream(s('follow'), n - 1, json({n}));
    });
}

/* HOST:PORT was asked by HTTP where to go. */
async function discover(c) {
    await test('found by gossip', async () => {
        await c.appendToStream(s('found'), -1, json({n: 7}));
        equal(dataOf((await c.readEvent(s('found'), 0)).event).n, 7, 'data');
    });
}

module.exports = {write, read, finish, take, follow, feed, discover};
