import com.github.msemys.esjc.EventData;
import com.github.msemys.esjc.ExpectedVersion;
import com.github.msemys.esjc.PersistentSubscription;
import com.github.msemys.esjc.PersistentSubscriptionSettings;
import com.github.msemys.esjc.RecordedEvent;
import com.github.msemys.esjc.ResolvedEvent;
import com.github.msemys.esjc.StreamMetadata;
import com.github.msemys.esjc.Transaction;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.UUID;

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

    private static void isShared(RecordedEvent event, int n) {
        Interop.equal(event.eventNumber, (long) n, "number");
        Interop.equal(event.eventType, "Type" + n % 5, "type");
        Interop.equal(event.isJson, isJson(n), "kind");
        if (!Arrays.equals(event.data, shared(n))) {
            throw new IllegalStateException("data of event " + n);
        }
        Interop.equal(new String(event.metadata, StandardCharsets.UTF_8), "m" + n, "metadata");
    }

    void write() {
        i.test("write what others read", () -> {
            for (int n = 0; n < SHARED; n++) {
                var builder = EventData.newBuilder().eventId(UUID.randomUUID()).type("Type" + n % 5);
                if (isJson(n)) {
                    builder.jsonData(shared(n));
                } else {
                    builder.data(shared(n));
                }
                i.append(i.s("shared"), n - 1, List.of(builder.metadata("m" + n).build()));
            }
        });
        i.test("leave links, metadata, a group and an open transaction", () -> {
            List<EventData> links = new ArrayList<>();
            for (int n = 0; n <= LINKS; n++) {
                links.add(EventData.newBuilder().linkTo(n < LINKS ? n * 7 : 999, i.s("shared")).build());
            }
            i.append(i.s("links"), -1, links);
            var metadata = StreamMetadata.newBuilder().maxCount(1000L).customProperty("of", "interop").build();
            Interop.wait(i.store.setStreamMetadata(i.s("shared"), ExpectedVersion.NO_STREAM, metadata));
            var settings = PersistentSubscriptionSettings.newBuilder().startFromBeginning().build();
            Interop.wait(i.store.createPersistentSubscription(i.s("shared"), "g", settings));
            Transaction transaction = Interop.wait(i.store.startTransaction(i.s("open"), ExpectedVersion.NO_STREAM));
            Interop.wait(transaction.write(Interop.numbers(0, 2)));
            System.out.println("transaction " + transaction.transactionId);
        });
    }

    private List<ResolvedEvent> page(String stream, boolean resolve) throws Exception {
        return Interop.wait(i.store.readStreamEventsForward(i.s(stream), 0, SHARED, resolve)).events;
    }

    void read() {
        i.test("read what others wrote", () -> {
            List<ResolvedEvent> all = page("shared", false);
            Interop.equal(all.size(), SHARED, "events");
            for (int n = 0; n < SHARED; n++) {
                isShared(all.get(n).event, n);
            }
        });
        i.test("links, metadata and a transaction of others", () -> {
            List<ResolvedEvent> links = page("links", true);
            Interop.equal(links.size(), LINKS + 1, "links");
            for (int n = 0; n < LINKS; n++) {
                isShared(links.get(n).event, n * 7);
                Interop.equal(links.get(n).link.eventNumber, (long) n, "link");
            }
            Interop.equal(links.get(LINKS).event, null, "the link to nothing");
            var metadata = Interop.wait(i.store.getStreamMetadata(i.s("shared"))).streamMetadata;
            Interop.equal(metadata.maxCount, 1000L, "$maxCount");
            Interop.equal(metadata.getCustomProperty("of").toString(), "interop", "our own");
            Interop.equal(i.page(i.s("open"), 0, 10), Interop.range(0, 5), "the transaction");
        });
    }

    void finish(long id) {
        i.test("finish a transaction that another has begun", () -> {
            Transaction transaction = i.store.continueTransaction(id);
            Interop.wait(transaction.write(Interop.numbers(2, 3)));
            Interop.wait(transaction.commit());
        });
    }

    /** A share of a group's events; nothing that was acknowledged comes to anybody again. */
    void take(int count) {
        i.test("take events of a group", () -> {
            Inbox inbox = new Inbox();
            PersistentSubscription member =
                    Interop.wait(i.store.subscribeToPersistent(i.s("shared"), "g", inbox.member(), 10, false));
            for (int k = 0; k < count; k++) {
                ResolvedEvent event = inbox.next();
                isShared(event.originalEvent(), (int) event.originalEvent().eventNumber);
                member.acknowledge(event);
                System.out.println("took " + event.originalEvent().eventNumber);
            }
            i.page(i.s("open"), 0, 1); // requests are carried out in order: with this answer they have been, too
        });
    }

    /** By its stream, by the log, and only what is new. */
    void follow(int count) {
        i.test("follow what others append", () -> {
            Inbox byStream = new Inbox(), byAll = new Inbox(), fresh = new Inbox();
            i.store.subscribeToStreamFrom(i.s("follow"), null, Interop.SETTINGS, byStream.catchUp());
            i.store.subscribeToAllFrom(null, Interop.SETTINGS, byAll.catchUp());
            Interop.wait(i.store.subscribeToStream(i.s("follow"), false, fresh.fresh()));
            byStream.isLive();
            byAll.isLive();
            System.out.println("ready");
            Interop.equal(byAll.takeOf(i.s("follow"), count), Interop.range(0, count), "of the log");
            Interop.equal(byStream.take(count), Interop.range(0, count), "of the stream");
            Interop.equal(fresh.take(count), Interop.range(0, count), "live");
        });
    }

    void feed(int from, int count) {
        i.test("append what others follow", () -> {
            for (int n = from; n < from + count; n++) {
                i.append(i.s("follow"), n - 1, Interop.numbers(n, 1));
            }
        });
    }

    /** HOST:PORT was asked by HTTP where to go. */
    void discover() {
        i.test("found by gossip", () -> {
            i.append(i.s("found"), -1, Interop.numbers(7, 1));
            Interop.equal(i.page(i.s("found"), 0, 10), List.of(7), "events");
        });
    }
}
