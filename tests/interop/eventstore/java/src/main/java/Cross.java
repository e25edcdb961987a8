import akka.pattern.Patterns;
import eventstore.core.ContentType;
import eventstore.core.Event;
import eventstore.core.EventData;
import eventstore.core.EventNumber$;
import eventstore.core.EventRecord;
import eventstore.core.EventStream;
import eventstore.core.IndexedEvent;
import eventstore.core.ReadEvent;
import eventstore.core.ReadEventCompleted;
import eventstore.core.ResolvedEvent;
import eventstore.j.EsTransaction;
import eventstore.j.EventDataBuilder;
import eventstore.j.PersistentSubscriptionSettingsBuilder;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.TimeUnit;

/**
 * What one client leaves and others find: events, links, metadata, a group, a transaction; and events that others
 * follow as they come.
 */
final class Cross {
    private static final int SHARED = 300;
    private static final int LINKS = 10;

    private final Interop i;

    Cross(Interop interop) {
        i = interop;
    }

    private static boolean isJson(int n) {
        return n % 2 == 0;
    }

    private static byte[] shared(int n) {
        if (isJson(n)) {
            return ("{\"i\":" + n + ",\"text\":\"é€" + n + "\"}").getBytes(StandardCharsets.UTF_8);
        }
        byte[] data = new byte[n];
        for (int k = 0; k < n; k++) {
            data[k] = (byte) (n * 7 + k);
        }
        return data;
    }

    private static void isShared(EventRecord got, int n) {
        EventData data = got.data();
        Interop.equal(got.number().value(), (long) n, "number");
        Interop.equal(data.eventType(), "Type" + n % 5, "type");
        Interop.equal(data.data().contentType().toString(),
                isJson(n) ? ContentType.Json$.MODULE$.toString() : ContentType.Binary$.MODULE$.toString(), "kind");
        if (!Arrays.equals(Interop.bytes(data.data()), shared(n))) {
            throw new IllegalStateException("data of event " + n);
        }
        Interop.equal(new String(Interop.bytes(data.metadata()), StandardCharsets.UTF_8), "m" + n, "metadata");
    }

    void write() {
        i.test("write what others read", () -> {
            for (int n = 0; n < SHARED; n++) {
                EventDataBuilder builder = new EventDataBuilder("Type" + n % 5).eventId(UUID.randomUUID())
                        .metadata(("m" + n).getBytes(StandardCharsets.UTF_8));
                if (isJson(n)) {
                    builder.jsonData(new String(shared(n), StandardCharsets.UTF_8));
                } else {
                    builder.data(shared(n));
                }
                i.append(i.s("shared"), Interop.exact(n - 1), List.of(builder.build()));
            }
        });
        i.test("leave links, metadata, a group and an open transaction", () -> {
            List<EventData> links = new ArrayList<>();
            for (int n = 0; n <= LINKS; n++) {
                links.add(new EventDataBuilder("$>").eventId(UUID.randomUUID())
                        .data(((n < LINKS ? n * 7 : 999) + "@" + i.s("shared")).getBytes(StandardCharsets.UTF_8)).build());
            }
            i.append(i.s("links"), Interop.exact(-1), links);
            byte[] metadata = "{\"$maxCount\":1000,\"of\":\"interop\"}".getBytes(StandardCharsets.UTF_8);
            Interop.wait(i.connection.setStreamMetadata(i.s("shared"), Interop.exact(-1), metadata, Interop.NOBODY));
            var settings = new PersistentSubscriptionSettingsBuilder().startFromBeginning().build();
            Interop.wait(i.connection.createPersistentSubscription(i.s("shared"), "g", settings, Interop.NOBODY));
            EsTransaction transaction =
                    Interop.wait(i.connection.startTransaction(i.s("open"), Interop.exact(-1), Interop.NOBODY));
            Interop.wait(transaction.write(Interop.numbers(0, 2)));
            System.out.println("transaction " + transaction.getId());
        });
    }

    private List<Event> page(String stream, boolean resolve) throws Exception {
        return Interop.wait(i.connection.readStreamEventsForward(i.s(stream), Interop.exactNumber(0), SHARED, resolve,
                Interop.NOBODY)).eventsJava();
    }

    void read() {
        i.test("read what others wrote", () -> {
            List<Event> all = page("shared", false);
            Interop.equal(all.size(), SHARED, "events");
            for (int n = 0; n < SHARED; n++) {
                isShared(all.get(n).record(), n);
            }
        });
        i.test("links, metadata and a transaction of others", () -> {
            List<Event> links = page("links", true);
            Interop.equal(links.size(), LINKS + 1, "links");
            for (int n = 0; n < LINKS; n++) {
                ResolvedEvent link = (ResolvedEvent) links.get(n);
                isShared(link.linkedEvent(), n * 7);
                Interop.equal(link.linkEvent().number().value(), (long) n, "link");
            }
            ResolvedEvent nothing = (ResolvedEvent) links.get(LINKS);
            Interop.equal(nothing.linkedEvent().streamId().toString(), "Undefined", "the link to nothing");
            String metadata = new String(Interop.wait(i.connection.getStreamMetadataBytes(i.s("shared"), Interop.NOBODY)),
                    StandardCharsets.UTF_8).replaceAll("\\s", "");
            if (!metadata.contains("\"$maxCount\":1000") || !metadata.contains("\"of\":\"interop\"")) {
                throw new IllegalStateException("metadata " + metadata);
            }
            Interop.equal(i.page(i.s("open"), 0, 10), Interop.range(0, 5), "the transaction");
        });
    }

    void finish(long id) {
        i.test("finish a transaction that another has begun", () -> {
            EsTransaction transaction = i.connection.continueTransaction(id, Interop.NOBODY);
            Interop.wait(transaction.write(Interop.numbers(2, 3)));
            Interop.wait(transaction.commit());
        });
    }

    /** A share of a group's events; nothing that was acknowledged comes to anybody again. */
    void take(int count) {
        i.test("take events of a group", () -> {
            Member member = new Member(i, i.s("shared"), "g");
            for (int k = 0; k < count; k++) {
                Event event = member.next();
                isShared(event.record(), (int) event.number().value());
                member.acknowledge(event);
                System.out.println("took " + event.number().value());
            }
            // Requests are carried out in order: with this answer the acknowledgements have been, too.
            Object answer = Patterns.ask(member.flushed(),
                    ReadEvent.apply(EventStream.Id$.MODULE$.apply(i.s("shared")), EventNumber$.MODULE$.apply(0L), false, true),
                    Duration.ofSeconds(Interop.SECONDS_MAX)).toCompletableFuture().get();
            Interop.equal(answer.getClass(), ReadEventCompleted.class, "answer");
        });
    }

    /** By its stream, by the log, and only what is new. */
    void follow(int count) {
        i.test("follow what others append", () -> {
            Interop.Inbox<Event> byStream = new Interop.Inbox<>(), fresh = new Interop.Inbox<>();
            Interop.Inbox<IndexedEvent> byAll = new Interop.Inbox<>();
            i.connection.subscribeToStreamFrom(i.s("follow"), byStream, null, false, Interop.NOBODY);
            i.connection.subscribeToAllFrom(byAll, null, false, Interop.NOBODY);
            i.connection.subscribeToStream(i.s("follow"), fresh, false, Interop.NOBODY);
            for (var inbox : List.of(byStream, byAll, fresh)) {
                Interop.equal(inbox.live.poll(Interop.SECONDS_MAX, TimeUnit.SECONDS), "live", "confirmed");
            }
            System.out.println("ready");
            List<Integer> ofAll = new ArrayList<>();
            while (ofAll.size() < count) {
                Event event = byAll.take(1).get(0).event();
                if (event.streamId().streamId().equals(i.s("follow"))) {
                    ofAll.add(Interop.n(event));
                }
            }
            Interop.equal(ofAll, Interop.range(0, count), "of the log");
            Interop.equal(Interop.numbersOf(byStream.take(count)), Interop.range(0, count), "of the stream");
            Interop.equal(Interop.numbersOf(fresh.take(count)), Interop.range(0, count), "live");
        });
    }

    void feed(int from, int count) {
        i.test("append what others follow", () -> {
            for (int n = from; n < from + count; n++) {
                i.append(i.s("follow"), Interop.exact(n - 1), Interop.numbers(n, 1));
            }
        });
    }

    /** HOST:PORT was asked by HTTP where to go. */
    void discover() {
        i.test("found by gossip", () -> {
            i.append(i.s("found"), Interop.exact(-1), Interop.numbers(7, 1));
            Interop.equal(i.page(i.s("found"), 0, 10), List.of(7), "events");
        });
    }
}
