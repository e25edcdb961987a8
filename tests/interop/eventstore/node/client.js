/*
 * node-eventstore-client, as published, against a server of the EventStoreDB TCP protocol.
 *
 *   node client.js PACKAGE COMMAND HOST:PORT PREFIX [WORD ...] [tls]
 *
 * PACKAGE is node-eventstore-client or node-eventstore-client-0.2; ../../README.md has the commands. The
 * server's users are those of a fresh one: admin, changeit.
 */
'use strict';
const {command, open, score} = require('./common');
const commands = {...require('./list'), ...require('./cross'), ...require('./load')};

async function main() {
    const connection = await open();
    await commands[command](connection);
    connection.removeAllListeners('closed');
    connection.close();
    if (score.counted > 0)
        console.log(`1..${score.counted}`);
    process.exit(score.failed > 0 ? 1 : 0);
}

main().catch((error) => {
    console.log('not ok - ' + command + ': ' + error.message);
    process.exit(1);
});
