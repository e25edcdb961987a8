/*
 * node-eventstore-client, as published, against a server of the EventStoreDB TCP protocol.
 *
 *   node client.js PACKAGE COMMAND HOST:PORT PREFIX [tls]
 *
 * PACKAGE is node-eventstore-client or node-eventstore-client-0.2. Commands:
 *   list     every call of the client, and what it says of what cannot be; TAP
 *   write    events of many kinds to PREFIX-shared; read compares all that `write` wrote; TAP
 *   load     SECONDS as a sixth word: appends, and a catch-up subscription, while the server is
 *            restarted; at the end every acknowledged event was seen once, in order; TAP
 *   append, batch, forward   how many events a second, one line each
 * The server's users are those of a fresh one: admin, changeit.
 */
'use strict';
const crypto = require('crypto');

const [, , packageName, command, address, prefix, ...rest] = process.argv;
const es = require(packageName);
const Long = require(require.resolve('long', {paths: [require.resolve(packageName)]}));
const [host, port] = address.split(/:(?=\d+$)/);
const admin = new es.UserCredentials('admin', 'changeit');
const SECONDS_MAX = 20;

/* --- connections and events ------------------------------------------------------------------- */

function open(more = {}) {
    return new Promise((resolve, reject) => {
        const settings = {maxReconnections: -1, ...more};
        if (rest.includes('tls'))
            Object.assign(settings, {useSslConnection: true, targetHost: host, validateServer: false});
        const connection = es.createConnection(settings, {host, port: Number(port)}, 'interop');
        connection.once('connected', () => resolve(connection));
        connection.on('error', () => {});
        connection.once('closed', (reason) => reject(new Error('closed: ' + reason)));
        connection.connect().catch(reject);
    });
}

function json(data, type = 'Happened', metadata = {by: 'interop'}) {
    return es.createJsonEventData(crypto.randomUUID(), data, metadata, type);
}

function numbers(count, from = 0) {
    return Array.from({length: count}, (_, i) => json({n: from + i}));
}

const dataOf = (resolved) => JSON.parse(resolved.originalEvent.data.toString());
const int = (value) => Number(value.toString());

/* --- tests ------------------------------------------------------------------------------------ */

let counted = 0;
let failed = 0;

async function test(name, body, secondsMax = SECONDS_MAX) {
    const line = (ok, why = '') => console.log(`${ok ? 'ok' : 'not ok'} - ${name}${why}`);
    let timer;
    counted++;
    try {
        const late = new Promise((_, reject) => {
            timer = setTimeout(() => reject(new Error('took too long')), secondsMax * 1000);
        });
        await Promise.race([body(), late]);
        line(true);
    } catch (error) {
        failed++;
        line(false, ': ' + String(error && error.message || error).replace(/\s+/g, ' '));
    }
    clearTimeout(timer);
}

function equal(got, expected, what) {
    const a = JSON.stringify(got), b = JSON.stringify(expected);
    if (a !== b)
        throw new Error(`${what}: ${a}, not ${b}`);
}

async function fails(promise, name) {
    try {
        await promise;
    } catch (error) {
        equal(error.name, name, 'the error');
        return error;
    }
    throw new Error(`no ${name}`);
}

/* A place to wait for things that come by themselves. */
class Inbox {
    constructor() {
        this.items = [];
        this.waiting = [];
    }

    put(item) {
        this.items.push(item);
        this.waiting = this.waiting.filter((waiter) => !waiter());
    }

    until(count) {
        return new Promise((resolve) => {
            const waiter = () => this.items.length >= count && (resolve(this.items), true);
            if (!waiter())
                this.waiting.push(waiter);
        });
    }
}

/* --- every call ------------------------------------------------------------------------------- */

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
    await test('a group that is not there, and one that is deleted', async () => {
        await failsWith(c.connectToPersistentSubscription(s('group'), 'missing', () => {}, () => {}, admin), /not found|notFound|exist/i);
        equal((await c.deletePersistentSubscription(s('group'), 'g', admin)).status, 'success', 'delete');
        await failsWith(c.deletePersistentSubscription(s('group'), 'g', admin), /exist/i);
    });
}

async function failsWith(promise, pattern) {
    try {
        await promise;
    } catch (error) {
        if (pattern.test(error.message) || pattern.test(error.name))
            return;
        throw new Error('another error: ' + error.message);
    }
    throw new Error('no error');
}

async function listAccess(c, s) {
    await test('the log is for admins', async () => {
        const stranger = await open();
        await fails(stranger.readAllEventsForward(es.positions.start, 10), 'AccessDeniedError');
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

async function list(c) {
    const s = (name) => `${prefix}-${name}`;
    await listAppends(c, s);
    await listReads(c, s);
    await listDeletes(c, s);
    await listTransactions(c, s);
    await listSubscriptions(c, s);
    await listGroups(c, s);
    if (!rest.includes('insecure'))
        await listAccess(c, s);
}

/* --- crosswise -------------------------------------------------------------------------------- */

const SHARED = 300;

function shared(i) {
    const data = Buffer.from(Array.from({length: i}, (_, k) => (i * 7 + k) & 255));
    return i % 2 === 0 ? {isJson: true, data: Buffer.from(JSON.stringify({i, text: 'é€' + i}))} : {isJson: false, data};
}

async function write(c) {
    await test('write what others read', async () => {
        for (let i = 0; i < SHARED; i++) {
            const {isJson, data} = shared(i);
            await c.appendToStream(`${prefix}-shared`, i - 1,
                                   es.createEventData(crypto.randomUUID(), `Type${i % 5}`, isJson, data, Buffer.from(`m${i}`)));
        }
    });
}

async function read(c) {
    await test('read what others wrote', async () => {
        for (let i = 0; i < SHARED; i += 100) {
            const page = await c.readStreamEventsForward(`${prefix}-shared`, i, 100);
            page.events.forEach(({originalEvent: got}, k) => {
                const {isJson, data} = shared(i + k);
                equal([int(got.eventNumber), got.eventType, got.isJson, got.data.toString('hex'), got.metadata.toString()],
                      [i + k, `Type${(i + k) % 5}`, isJson, data.toString('hex'), `m${i + k}`], 'event');
            });
            equal(page.events.length, 100, 'events');
        }
    });
}

/* --- through restarts ------------------------------------------------------------------------- */

async function load(c) {
    const seconds = Number(rest[0]);
    const until = Date.now() + seconds * 1000;
    const stream = `${prefix}-load`;
    const seen = [], acknowledged = new Map();
    let subscription, over = false, turn = 0;
    /* What the client gives up while it still catches up, its user has to begin again; what it takes up again by itself
     * as well must not be counted twice. */
    const subscribe = () => {
        const mine = ++turn;
        const last = seen.length > 0 ? seen[seen.length - 1].eventNumber : null;
        const appeared = (_, e) => { if (mine === turn) seen.push(e.originalEvent); };
        const dropped = () => { if (!over && mine === turn) setTimeout(subscribe, 100); };
        subscription = c.subscribeToStreamFrom(stream, last, false, appeared, () => {}, dropped);
    };
    subscribe();
    let next = 0;
    const worker = async () => {
        while (Date.now() < until) {
            const event = json({n: next++});
            try {
                const wrote = await c.appendToStream(stream, es.expectedVersion.any, event);
                acknowledged.set(event.eventId, int(wrote.nextExpectedVersion));
            } catch (error) {
                if (!/retries|Retries|closed|timed/.test(error.message))
                    throw error;
            }
        }
    };
    await test('appends and a catch-up subscription through restarts', async () => {
        await Promise.all(Array.from({length: 8}, worker));
        const last = await c.readEvent(stream, -1);
        const count = int(last.event.originalEventNumber) + 1;
        const deadline = Date.now() + 30000;
        while (seen.length < count && Date.now() < deadline)
            await new Promise((resolve) => setTimeout(resolve, 20));
        equal(seen.length, count, 'events seen');
        const wrong = seen.findIndex((e, i) => int(e.eventNumber) !== i);
        equal(wrong, -1, 'an event out of order');
        const at = new Map(seen.map((e) => [e.eventId, int(e.eventNumber)]));
        for (const [id, number] of acknowledged)
            equal(at.get(id), number, 'an acknowledged event');
        equal(at.size, count, 'different ids');
    }, seconds + 60);
    console.log(`# ${acknowledged.size} events were acknowledged`);
    over = true;
    subscription.stop();
}

/* --- rates ------------------------------------------------------------------------------------ */

async function rate(name, count, body) {
    const begin = process.hrtime.bigint();
    await body();
    const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
    console.log(`${name} ${Math.round(count / seconds)} events/s`);
}

function event256() {
    return es.createEventData(crypto.randomUUID(), 'Happened', false, Buffer.alloc(256));
}

async function append(c) {
    const count = 40000;
    let next = 0;
    await rate('append', count, () => Promise.all(Array.from({length: 64}, async () => {
        while (next++ < count)
            await c.appendToStream(`${prefix}-append`, -2, event256());
    })));
}

async function batch(c) {
    const count = 2000;
    let next = 0;
    await rate('batch', count * 100, () => Promise.all(Array.from({length: 8}, async () => {
        while (next++ < count)
            await c.appendToStream(`${prefix}-batch`, -2, Array.from({length: 100}, event256));
    })));
}

async function forward(c) {
    let from = Long.fromNumber(0), count = 0;
    const begin = process.hrtime.bigint();
    for (;;) {
        const page = await c.readStreamEventsForward(`${prefix}-batch`, from, 512);
        count += page.events.length;
        if (page.isEndOfStream)
            break;
        from = page.nextEventNumber;
    }
    console.log(`forward ${Math.round(count / (Number(process.hrtime.bigint() - begin) / 1e9))} events/s`);
}

async function main() {
    const commands = {list, write, read, load, append, batch, forward};
    const connection = await open();
    await commands[command](connection);
    connection.removeAllListeners('closed');
    connection.close();
    if (counted > 0)
        console.log(`1..${counted}`);
    process.exit(failed > 0 ? 1 : 0);
}

main().catch((error) => {
    console.log('not ok - ' + command + ': ' + error.message);
    process.exit(1);
});
