/*
 * Every call of the client, and what it says of what cannot be.
 */
'use strict';
const crypto = require('crypto');
const {Inbox, admin, dataOf, equal, es, fails, failsWith, int, json, numbers, open, prefix, rest, test} = require('./common');

async function listAppends(c, s) {
    const any = es.expectedVersion.any;
    await test('append and read one event back', async () => {
        const event = json({a: 1});
        const wrote = await c.appendToStream(s('one'), es.expectedVersion.noStream, event);
        equal(int(wrote.nextExpectedVersion), 0, 'nextExpectedVersion');
        const read = await c.readEvent(s('one'), 0);
        equal(read.status, 'success', 'status');
        const got = read.event.originalEvent;
        equal([got.eventStreamId, int(got.eventNumber), got.eventId, got.eventType, got.isJson],
              [s('one'), 0, event.eventId, 'Happened', true], 'the event');
        equal(got.data.toString(), '{"a":1}', 'data');
        equal(got.metadata.toString(), '{"by":"interop"}', 'metadata');
        if (Math.abs(got.created - new Date()) > 3600e3 || Math.abs(got.createdEpoch - Date.now()) > 3600e3)
            throw new Error('created at ' + got.created);
    });
    await test('binary and empty data', async () => {
        const bytes = Buffer.from([0, 1, 128, 255]);
        await c.appendToStream(s('binary'), any, [
            es.createEventData(crypto.randomUUID(), 'Bytes', false, bytes, Buffer.from([9])),
            es.createEventData(crypto.randomUUID(), 'Nothing', false, Buffer.alloc(0)),
        ]);
        const read = await c.readStreamEventsForward(s('binary'), 0, 10);
        equal(read.events[0].event.data.toString('hex'), '000180ff', 'data');
        equal(read.events[0].event.isJson, false, 'isJson');
        equal(read.events[1].event.data.length, 0, 'empty data');
    });
    await test('expected versions', async () => {
        await c.appendToStream(s('versions'), es.expectedVersion.noStream, numbers(3));
        await fails(c.appendToStream(s('versions'), es.expectedVersion.noStream, json({})), 'WrongExpectedVersionError');
        await fails(c.appendToStream(s('versions'), 1, json({})), 'WrongExpectedVersionError');
        await fails(c.appendToStream(s('versions'), 7, json({})), 'WrongExpectedVersionError');
        equal(int((await c.appendToStream(s('versions'), 2, json({n: 3}))).nextExpectedVersion), 3, 'next');
        equal(int((await c.appendToStream(s('versions'), es.expectedVersion.streamExists, json({n: 4}))).nextExpectedVersion), 4, 'next');
        await fails(c.appendToStream(s('versions-none'), es.expectedVersion.streamExists, json({})), 'WrongExpectedVersionError');
    });
    await test('a retry is recognised by its ids', async () => {
        const events = numbers(3);
        const first = await c.appendToStream(s('retry'), any, events);
        const again = await c.appendToStream(s('retry'), any, events);
        equal(int(again.nextExpectedVersion), int(first.nextExpectedVersion), 'any');
        equal(int((await c.appendToStream(s('retry'), -1, events)).nextExpectedVersion), 2, 'noStream');
        equal(int((await c.readEvent(s('retry'), -1)).event.originalEvent.eventNumber), 2, 'last');
    });
    await test('no events at all', async () => {
        await c.appendToStream(s('none'), any, []);
        equal((await c.readEvent(s('none'), 0)).status, 'noStream', 'status');
    });
    await test('one event of 3 MB', async () => {
        const data = {text: 'x'.repeat(3000000)};
        await c.appendToStream(s('large'), any, json(data));
        equal(dataOf((await c.readEvent(s('large'), -1)).event).text.length, 3000000, 'length');
    });
    await test('1,000 appends at once keep nothing back', async () => {
        const all = await Promise.all(numbers(1000).map((event) => c.appendToStream(s('many'), any, event)));
        const got = new Set(all.map((wrote) => int(wrote.nextExpectedVersion)));
        equal(got.size, 1000, 'different numbers');
        equal(Math.max(...got), 999, 'the last number');
    });
}

async function listReads(c, s) {
    await test('pages forward and backward', async () => {
        await c.appendToStream(s('pages'), -1, numbers(25));
        let page = await c.readStreamEventsForward(s('pages'), 0, 10);
        equal([page.status, page.events.length, int(page.nextEventNumber), int(page.lastEventNumber), page.isEndOfStream],
              ['success', 10, 10, 24, false], 'first page');
        page = await c.readStreamEventsForward(s('pages'), 20, 10);
        equal([page.events.length, int(page.nextEventNumber), page.isEndOfStream], [5, 25, true], 'last page');
        page = await c.readStreamEventsForward(s('pages'), 25, 10);
        equal([page.events.length, int(page.nextEventNumber), page.isEndOfStream], [0, 25, true], 'behind the end');
        page = await c.readStreamEventsBackward(s('pages'), -1, 10);
        equal([page.events.map(dataOf).map((d) => d.n), int(page.nextEventNumber), page.isEndOfStream],
              [[24, 23, 22, 21, 20, 19, 18, 17, 16, 15], 14, false], 'from the end');
        page = await c.readStreamEventsBackward(s('pages'), 4, 10);
        equal([page.events.map(dataOf).map((d) => d.n), int(page.nextEventNumber), page.isEndOfStream],
              [[4, 3, 2, 1, 0], -1, true], 'to the begin');
    });
    await test('streams and events that are not there', async () => {
        equal((await c.readStreamEventsForward(s('nowhere'), 0, 10)).status, 'streamNotFound', 'forward');
        equal((await c.readStreamEventsBackward(s('nowhere'), -1, 10)).status, 'streamNotFound', 'backward');
        equal((await c.readEvent(s('nowhere'), 0)).status, 'noStream', 'event');
        equal((await c.readEvent(s('pages'), 25)).status, 'notFound', 'number');
    });
    await test('the log, forward and backward', async () => {
        let position = es.positions.start;
        const seen = [];
        for (;;) {
            const page = await c.readAllEventsForward(position, 500, false, admin);
            if (page.isEndOfStream)
                break;
            seen.push(...page.events);
            position = page.nextPosition;
        }
        const mine = seen.filter((e) => e.originalStreamId === s('pages')).map((e) => dataOf(e).n);
        equal(mine, Array.from({length: 25}, (_, i) => i), 'the events of a stream, in order');
        for (let i = 1; i < seen.length; i++)
            if (seen[i].originalPosition.compareTo(seen[i - 1].originalPosition) <= 0)
                throw new Error('positions do not grow');
        let back = 0;
        for (position = es.positions.end;;) {
            const page = await c.readAllEventsBackward(position, 500, false, admin);
            if (page.isEndOfStream)
                break;
            back += page.events.length;
            position = page.nextPosition;
        }
        if (back < seen.length)
            throw new Error(`${back} backward, ${seen.length} forward`);
    });
    await test('links are resolved when it is asked for', async () => {
        const link = (n, stream) => es.createEventData(crypto.randomUUID(), '$>', false, Buffer.from(`${n}@${stream}`));
        await c.appendToStream(s('links'), -1, [link(3, s('pages')), link(99, s('pages'))]);
        let page = await c.readStreamEventsForward(s('links'), 0, 10, true);
        equal([dataOf({originalEvent: page.events[0].event}).n, page.events[0].isResolved, page.events[0].originalStreamId,
               int(page.events[0].originalEventNumber)], [3, true, s('links'), 0], 'resolved');
        equal([page.events[1].isResolved, page.events[1].link.data.toString()], [false, `99@${s('pages')}`], 'nothing there');
        page = await c.readStreamEventsForward(s('links'), 0, 10, false);
        equal(page.events[0].event.eventType, '$>', 'not resolved');
    });
}

async function listDeletes(c, s) {
    const any = es.expectedVersion.any;
    await test('a soft delete, and writing again', async () => {
        await c.appendToStream(s('soft'), -1, numbers(2));
        await fails(c.deleteStream(s('soft'), 7, false), 'WrongExpectedVersionError');
        await c.deleteStream(s('soft'), 1, false);
        equal((await c.readStreamEventsForward(s('soft'), 0, 10)).status, 'streamNotFound', 'status');
        await c.appendToStream(s('soft'), any, numbers(1, 2));
        const page = await c.readStreamEventsForward(s('soft'), 0, 10);
        equal(page.events.map((e) => int(e.originalEventNumber)), [2], 'numbers go on');
    });
    await test('a hard delete is for ever', async () => {
        await c.appendToStream(s('hard'), -1, numbers(2));
        await c.deleteStream(s('hard'), any, true);
        equal((await c.readStreamEventsForward(s('hard'), 0, 10)).status, 'streamDeleted', 'status');
        equal((await c.readEvent(s('hard'), 0)).status, 'streamDeleted', 'event');
        await fails(c.appendToStream(s('hard'), any, json({})), 'StreamDeletedError');
        await fails(c.deleteStream(s('hard'), any, true), 'StreamDeletedError');
    });
    await test('metadata of a stream', async () => {
        equal((await c.getStreamMetadataRaw(s('meta'))).streamMetadata || null, null, 'none');
        await c.setStreamMetadataRaw(s('meta'), es.expectedVersion.noStream, {$maxCount: 2, mine: 'x'});
        await c.appendToStream(s('meta'), any, numbers(5));
        const got = await c.getStreamMetadataRaw(s('meta'));
        const metadata = Buffer.isBuffer(got.streamMetadata) ? JSON.parse(got.streamMetadata) : got.streamMetadata;
        equal(metadata, {$maxCount: 2, mine: 'x'}, 'metadata');
        equal(int(got.metastreamVersion), 0, 'version');
        const page = await c.readStreamEventsForward(s('meta'), 0, 10);
        equal(page.events.map((e) => dataOf(e).n), [3, 4], '$maxCount');
        await fails(c.setStreamMetadataRaw(s('meta'), es.expectedVersion.noStream, {}), 'WrongExpectedVersionError');
    });
}

async function listTransactions(c, s) {
    await test('a transaction of many writes', async () => {
        const transaction = await c.startTransaction(s('transaction'), es.expectedVersion.noStream);
        await transaction.write(numbers(2));
        const again = c.continueTransaction(transaction.transactionId);
        await again.write(numbers(3, 2));
        equal((await c.readStreamEventsForward(s('transaction'), 0, 10)).status, 'streamNotFound', 'before the commit');
        equal(int((await transaction.commit()).nextExpectedVersion), 4, 'nextExpectedVersion');
        const page = await c.readStreamEventsForward(s('transaction'), 0, 10);
        equal(page.events.map((e) => dataOf(e).n), [0, 1, 2, 3, 4], 'events');
    });
    await test('a transaction that expected another version', async () => {
        const transaction = await c.startTransaction(s('transaction'), es.expectedVersion.noStream);
        await transaction.write(json({late: true}));
        await fails(transaction.commit(), 'WrongExpectedVersionError');
    });
}

async function listSubscriptions(c, s) {
    const any = es.expectedVersion.any;
    await test('a volatile subscription', async () => {
        await c.appendToStream(s('live'), any, numbers(2));
        const inbox = new Inbox(), dropped = new Inbox();
        const subscription = await c.subscribeToStream(s('live'), false, (_, e) => inbox.put(e),
                                                       (_, reason) => dropped.put(reason));
        equal([int(subscription.lastEventNumber), subscription.isSubscribedToAll], [1, false], 'confirmed');
        await c.appendToStream(s('live'), any, numbers(50, 2));
        equal((await inbox.until(50)).map((e) => dataOf(e).n), Array.from({length: 50}, (_, i) => i + 2), 'events');
        await subscription.unsubscribe();
        equal(await dropped.until(1), ['userInitiated'], 'dropped');
    });
    await test('a volatile subscription to the log', async () => {
        const inbox = new Inbox();
        const subscription = await c.subscribeToAll(false, (_, e) => {
            if (e.originalStreamId === s('live-all'))
                inbox.put(e);
        }, () => {}, admin);
        equal(subscription.isSubscribedToAll, true, 'confirmed');
        await c.appendToStream(s('live-all'), any, numbers(3));
        const got = await inbox.until(3);
        if (got[0].originalPosition.compareTo(got[1].originalPosition) >= 0)
            throw new Error('positions do not grow');
        await subscription.close();
    });
    await test('a catch-up subscription goes from history to live', async () => {
        await c.appendToStream(s('catch-up'), any, numbers(1200));
        const inbox = new Inbox(), live = new Inbox();
        const subscription = c.subscribeToStreamFrom(s('catch-up'), null, false, (_, e) => inbox.put(e), () => live.put(1));
        await live.until(1);
        await c.appendToStream(s('catch-up'), any, numbers(100, 1200));
        equal((await inbox.until(1300)).map((e) => dataOf(e).n), Array.from({length: 1300}, (_, i) => i), 'events');
        subscription.stop();
        const late = new Inbox();
        const second = c.subscribeToStreamFrom(s('catch-up'), 1297, false, (_, e) => late.put(e));
        equal((await late.until(2)).map((e) => dataOf(e).n), [1298, 1299], 'behind the checkpoint');
        second.stop();
    });
    await test('a catch-up subscription to the log', async () => {
        const inbox = new Inbox(), live = new Inbox();
        const subscription = c.subscribeToAllFrom(null, false, (_, e) => {
            if (e.originalStreamId === s('catch-up'))
                inbox.put(e);
        }, () => live.put(1), () => {}, admin);
        await live.until(1);
        equal((await inbox.until(1300)).map((e) => dataOf(e).n), Array.from({length: 1300}, (_, i) => i), 'events');
        subscription.stop();
    });
    await test('a subscription to a stream that comes later', async () => {
        const inbox = new Inbox();
        const subscription = c.subscribeToStreamFrom(s('later'), null, false, (_, e) => inbox.put(e));
        await c.appendToStream(s('later'), any, numbers(2));
        equal((await inbox.until(2)).map((e) => dataOf(e).n), [0, 1], 'events');
        subscription.stop();
    });
}

/* The last event of a stream, with what it links to. */
async function untilThere(c, stream) {
    for (;;) {
        const page = await c.readStreamEventsBackward(stream, -1, 1, true, admin);
        if (page.events.length > 0)
            return page.events[0];
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
}

async function listGroups(c, s) {
    const settings = es.PersistentSubscriptionSettings.create();
    settings.startFrom = 0;
    settings.checkPointAfter = 100;
    await test('a group is made once', async () => {
        equal((await c.createPersistentSubscription(s('group'), 'g', settings, admin)).status, 'success', 'status');
        await failsWith(c.createPersistentSubscription(s('group'), 'g', settings, admin), /already exists|exist/i);
        equal((await c.updatePersistentSubscription(s('group'), 'g', settings, admin)).status, 'success', 'update');
    });
    await test('its events are given and acknowledged', async () => {
        await c.appendToStream(s('group'), es.expectedVersion.any, numbers(50));
        const inbox = new Inbox(), dropped = new Inbox();
        const subscription = await c.connectToPersistentSubscription(s('group'), 'g', (_, e) => inbox.put(e),
                                                                     (_, reason) => dropped.put(reason), admin);
        equal((await inbox.until(50)).map((e) => dataOf(e).n), Array.from({length: 50}, (_, i) => i), 'events');
        await subscription.stop();
        await dropped.until(1);
    });
    await test('what is refused comes again', async () => {
        const inbox = new Inbox();
        await c.createPersistentSubscription(s('again'), 'g', settings, admin);
        await c.appendToStream(s('again'), es.expectedVersion.any, numbers(1));
        const subscription = await c.connectToPersistentSubscription(s('again'), 'g', (sub, e) => {
            inbox.put(e);
            if (inbox.items.length === 1)
                sub.fail([e], es.PersistentSubscriptionNakEventAction ? es.PersistentSubscriptionNakEventAction.Retry : 2, 'again');
            else
                sub.acknowledge([e]);
        }, () => {}, admin, 10, false);
        equal((await inbox.until(2)).map((e) => dataOf(e).n), [0, 0], 'events');
        await subscription.stop();
    });
    await test('what is refused for good is parked, as a link to the event itself', async () => {
        const source = prefix.replace(/-/g, '') + 'parks-1', category = '$ce-' + source.split('-')[0];
        const parking = es.PersistentSubscriptionSettings.create();
        parking.startFrom = 0;
        parking.resolveLinkTos = true;
        await c.appendToStream(source, es.expectedVersion.any, numbers(1));
        await c.createPersistentSubscription(category, 'g', parking, admin);
        const subscription = await c.connectToPersistentSubscription(category, 'g', (sub, e) => {
            sub.fail([e], 1, 'no use');
        }, () => {}, admin, 10, false);
        const parked = await untilThere(c, `$persistentsubscription-${category}::g-parked`);
        equal([parked.event.eventStreamId, int(parked.event.eventNumber)], [source, 0], 'the event');
        equal(parked.link.data.toString(), '0@' + source, 'the link');
        equal(JSON.parse(parked.link.metadata.toString()).reason, "Client explicitly NAK'ed message.\nno use", 'why');
        await subscription.stop();
    });
    await test('an event at which connections break is parked in the end', async () => {
        const breaking = es.PersistentSubscriptionSettings.create();
        breaking.startFrom = 0;
        breaking.maxRetryCount = 1;
        await c.createPersistentSubscription(s('breaks'), 'g', breaking, admin);
        await c.appendToStream(s('breaks'), es.expectedVersion.any, numbers(1));
        for (let i = 0; i < 2; i++) {
            const own = await open(), inbox = new Inbox();
            await own.connectToPersistentSubscription(s('breaks'), 'g', () => inbox.put(1), () => {}, admin, 10, false);
            await inbox.until(1);
            own.close();
        }
        const parked = await untilThere(c, `$persistentsubscription-${s('breaks')}::g-parked`);
        equal([parked.event.eventStreamId, int(parked.event.eventNumber)], [s('breaks'), 0], 'the event');
    });
    await test('a group that is not there, and one that is deleted', async () => {
        await failsWith(c.connectToPersistentSubscription(s('group'), 'missing', () => {}, () => {}, admin), /not found|notFound|exist/i);
        equal((await c.deletePersistentSubscription(s('group'), 'g', admin)).status, 'success', 'delete');
        await failsWith(c.deletePersistentSubscription(s('group'), 'g', admin), /exist/i);
    });
}
async function listAccess(c, s) {
    await test('the log is for admins', async () => {
        const stranger = await open();
        await fails(stranger.readAllEventsForward(es.positions.start, 10), 'AccessDeniedError');
        stranger.close();
    });
    await test('streams of links are for everybody', async () => {
        const category = s('').replace(/-/g, '') + 'linked';
        await c.appendToStream(`${category}-1`, -1, numbers(1));
        await untilThere(c, `$ce-${category}`);
        const stranger = await open();
        const page = await stranger.readStreamEventsForward(`$ce-${category}`, 0, 10, true);
        equal(page.events[0].event.eventStreamId, `${category}-1`, 'the event');
        stranger.close();
    });
    await test('rights of a stream', async () => {
        await c.setStreamMetadataRaw(s('secret'), -1, {$acl: {$r: 'admin', $w: 'admin', $d: 'admin', $mr: 'admin', $mw: 'admin'}}, admin);
        await c.appendToStream(s('secret'), -2, numbers(1), admin);
        const stranger = await open();
        await fails(stranger.readStreamEventsForward(s('secret'), 0, 10), 'AccessDeniedError');
        await fails(stranger.appendToStream(s('secret'), -2, json({})), 'AccessDeniedError');
        await fails(stranger.deleteStream(s('secret'), -2), 'AccessDeniedError');
        equal((await c.readStreamEventsForward(s('secret'), 0, 10, false, admin)).events.length, 1, 'for admin');
        stranger.close();
    });
    await test('a wrong password is refused, and nothing else', async () => {
        const wrong = new es.UserCredentials('admin', 'wrong');
        await failsWith(c.readStreamEventsForward(s('pages'), 0, 10, false, wrong), /authenticat/i);
        equal((await c.readStreamEventsForward(s('pages'), 0, 10)).status, 'success', 'status');
    });
    await test('credentials of a connection', async () => {
        const own = await open({defaultUserCredentials: admin});
        equal((await own.readAllEventsForward(es.positions.start, 10)).events.length, 10, 'events');
        own.close();
    });
}

async function listHeartbeats(c, s) {
    await test('heartbeats keep a connection that says nothing', async () => {
        const beats = new Inbox(), lost = new Inbox();
        const quiet = await open({heartbeatInterval: 200, heartbeatTimeout: 400});
        quiet.on('heartbeatInfo', (info) => beats.put(info));
        quiet.on('disconnected', () => lost.put(1));
        await beats.until(18); // 4 s: longer than the server waits for an answer of ours
        equal(lost.items.length, 0, 'connections lost');
        equal((await quiet.readStreamEventsForward(s('pages'), 0, 10)).events.length, 10, 'events');
        quiet.close();
    });
}

async function list(c) {
    const s = (name) => `${prefix}-${name}`;
    await listAppends(c, s);
    await listReads(c, s);
    await listDeletes(c, s);
    await listTransactions(c, s);
    await listSubscriptions(c, s);
    await listGroups(c, s);
    await listHeartbeats(c, s);
    if (!rest.includes('insecure'))
        await listAccess(c, s);
}

module.exports = {list};
