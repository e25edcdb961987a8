/*
 * What every part of the program needs: the package, a connection, events, tests in TAP.
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
        const there = {host, port: Number(port)};
        const where = command === 'discover' ? [new es.GossipSeed(there)] : there;
        const connection = es.createConnection(settings, where, 'interop');
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

const score = {counted: 0, failed: 0};

async function test(name, body, secondsMax = SECONDS_MAX) {
    const line = (ok, why = '') => console.log(`${ok ? 'ok' : 'not ok'} - ${name}${why}`);
    let timer;
    score.counted++;
    try {
        const late = new Promise((_, reject) => {
            timer = setTimeout(() => reject(new Error('took too long')), secondsMax * 1000);
        });
        await Promise.race([body(), late]);
        line(true);
    } catch (error) {
        score.failed++;
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

module.exports = {Inbox, SECONDS_MAX, Long, admin, command, dataOf, equal, es, fails, failsWith, int, json, numbers, open, prefix,
                  rest, score, test};
