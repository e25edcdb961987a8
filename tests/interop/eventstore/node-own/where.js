"use strict";
// Read before the tests of event-store-client: where they find their servers.

const folder = "event-store-client/test/common";
const places = [[require(`${folder}/dbconn`), "EVENTSTORE_PORT"], [require(`${folder}/tls_dbconn`), "EVENTSTORE_TLS_PORT"]];
for (const [place, name] of places) {
    place.defaultHostName = "127.0.0.1";
    place.port = Number(process.env[name]);
}
