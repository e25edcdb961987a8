/*
 * Appends and subscriptions of every kind while the server is killed and started again, together with
 * other clients that do the same on the same stream.
 *
 * At the end: every acknowledged event is there, with its number; the catch-up subscriptions had every
 * event once, in order; each volatile one had what came while it lasted, without gaps, and the last one
 * goes to the end; the members of this client's group had every event.
 */
'use strict';
const {admin, equal, es, int, json, prefix, rest, test} = require('./common');

const WORKERS = 8, END_SECONDS_MAX = 60, STOPPED_SECONDS_MAX = 150;
const stream = `${prefix}-load`;

/*
 * What the client gives up its user has to begin again; what it takes up by itself as well must not
 * be counted twice. `begin(turn, from, appeared, dropped)` subscribes.
 */
class Lasting {
    constructor(begin) {
        this.begin = begin;
        this.turns = 0;
        this.over = false;
        this.again();
    }

    again() {
        const turn = ++this.turns;
        const mine = (what) => (...words) => { if (turn === this.turns && !this.over) what(...words); };
        const dropped = mine(() => {
            this.turns++; /* until then nothing is taken: what it takes up by itself may have a gap */
            setTimeout(() => this.again(), 50);
        });
        Promise.resolve(this.begin(turn, mine, dropped)).catch(dropped);
    }
}

function catchUp(c, seen, of = stream) {
    return new Lasting((_, mine, dropped) => {
        const last = seen.length > 0 ? seen[seen.length - 1].number : null;
        c.subscribeToStreamFrom(of, last, false, mine((_, e) => seen.push(record(e))), () => {}, dropped);
    });
}

function catchUpAll(c, seen) {
    let last = null;
    return new Lasting((_, mine, dropped) => {
        c.subscribeToAllFrom(last, false, mine((_, e) => {
            last = e.originalPosition;
            if (e.originalStreamId === stream)
                seen.push(record(e));
        }), () => {}, dropped, admin);
    });
}

/* The runs of numbers that each subscription saw; `last` is what was there before or came. */
function live(c, runs) {
    return new Lasting(async (_, mine, dropped) => {
        const run = {numbers: [], last: -1};
        runs.push(run);
        const began = await c.subscribeToStream(stream, false, mine((_, e) => {
            run.last = record(e).number;
            run.numbers.push(run.last);
        }), dropped);
        run.last = Math.max(run.last, int(began.lastEventNumber ?? -1));
    });
}

function member(c, group, given) {
    return new Lasting((_, mine, dropped) => c.connectToPersistentSubscription(
        stream, group, mine((sub, e) => {
            given.add(record(e).number);
            sub.acknowledge([e]);
        }), dropped, admin, 50, false));
}

function record(resolved) {
    const e = resolved.originalEvent;
    return {number: int(e.eventNumber), id: e.eventId, ends: e.eventType === 'End'};
}

async function append(c, acknowledged, type) {
    const event = json({}, type);
    for (;;) {
        try {
            const wrote = await c.appendToStream(stream, es.expectedVersion.any, event);
            acknowledged.set(event.eventId, int(wrote.nextExpectedVersion));
            return;
        } catch (error) {
            if (!/retries|Retries|closed|timed/.test(error.message))
                throw error;
            if (type !== 'End')
                return;
        }
    }
}

async function until(condition, what, secondsMax = END_SECONDS_MAX) {
    const deadline = Date.now() + secondsMax * 1000;
    while (!condition()) {
        if (Date.now() > deadline)
            throw new Error(`not within ${secondsMax} s: ${what()}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
}

function inOrder(seen, count, what) {
    equal(seen.length, count, what);
    equal(seen.findIndex((e, i) => e.number !== i), -1, `${what}: the first out of order`);
}

function withoutGaps(runs, count) {
    for (const {numbers} of runs)
        equal(numbers.findIndex((number, i) => number !== numbers[0] + i), -1, 'the first behind a gap');
    equal(runs[runs.length - 1].last, count - 1, 'the last live event');
}

/* SECONDS PARTIES: so many clients append; each ends with an event of its own. */
async function load(c) {
    const [seconds, parties] = rest.map(Number);
    const group = `group-${process.pid}`;
    const seen = [], seenOfAll = [], runs = [], given = new Set(), acknowledged = new Map();
    const settings = es.PersistentSubscriptionSettings.create();
    settings.startFrom = 0;
    await c.createPersistentSubscription(stream, group, settings, admin);
    const lasting = [catchUp(c, seen), catchUpAll(c, seenOfAll), live(c, runs), member(c, group, given)];
    console.log('ready');
    await test('appends and subscriptions through restarts', async () => {
        const end = Date.now() + seconds * 1000;
        await Promise.all(Array.from({length: WORKERS}, async () => {
            while (Date.now() < end)
                await append(c, acknowledged, 'Happened');
        }));
        await append(c, acknowledged, 'End');
        await until(() => seen.filter((e) => e.ends).length >= parties, () => 'the end of all');
        const count = int((await c.readEvent(stream, -1)).event.originalEvent.eventNumber) + 1;
        const lastLive = () => runs[runs.length - 1].last;
        await until(() => seen.length >= count && seenOfAll.length >= count && given.size >= count &&
                          lastLive() >= count - 1,
                    () => `${count} events, seen ${seen.length}, of all ${seenOfAll.length}, given ${given.size}, ` +
                          `live ${lastLive()}`);
        inOrder(seen, count, 'of the stream');
        inOrder(seenOfAll, count, 'of the log');
        withoutGaps(runs, count);
        const at = new Map(seen.map((e) => [e.id, e.number]));
        equal(at.size, count, 'different ids');
        for (const [id, number] of acknowledged)
            equal(at.get(id), number, 'an acknowledged event');
        console.log(`# ${count} events, ${acknowledged.size} acknowledged here, ${runs.length} live subscriptions`);
    }, seconds + 2 * END_SECONDS_MAX);
    for (const one of lasting)
        one.over = true;
}

/* COUNT: a catch-up subscription, whatever becomes of its connection. */
async function outlast(c) {
    const count = Number(rest[0]), seen = [];
    const lasting = catchUp(c, seen, `${prefix}-follow`);
    console.log('ready');
    await test('a catch-up subscription of a process that was stopped', async () => {
        await until(() => seen.length >= count, () => `${seen.length} of ${count}`, STOPPED_SECONDS_MAX);
        inOrder(seen, count, 'events');
    }, 2 * STOPPED_SECONDS_MAX);
    lasting.over = true;
}

module.exports = {load, outlast};
