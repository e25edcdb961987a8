import com.github.msemys.esjc.CatchUpSubscription;
import com.github.msemys.esjc.CatchUpSubscriptionSettings;
import com.github.msemys.esjc.EventData;
import com.github.msemys.esjc.EventReadStatus;
import com.github.msemys.esjc.EventStore;
import com.github.msemys.esjc.EventStoreBuilder;
import com.github.msemys.esjc.ExpectedVersion;
import com.github.msemys.esjc.PersistentSubscription;
import com.github.msemys.esjc.PersistentSubscriptionSettings;
import com.github.msemys.esjc.Position;
import com.github.msemys.esjc.ResolvedEvent;
import com.github.msemys.esjc.SliceReadStatus;
import com.github.msemys.esjc.StreamEventsSlice;
import com.github.msemys.esjc.StreamMetadata;
import com.github.msemys.esjc.Subscription;
import com.github.msemys.esjc.Transaction;
import com.github.msemys.esjc.UserCredentials;
import com.github.msemys.esjc.subscription.PersistentSubscriptionNakEventAction;
import java.io.File;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Iterator;
import java.util.List;
import java.util.Objects;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/**
 * esjc, as published, against a server of the EventStoreDB TCP protocol.
 *
 * <p>Arguments: COMMAND HOST:PORT PREFIX [WORD ...]; ../../../../../README.md has the commands.
 */
public final class Interop {
    static final int SECONDS_MAX = 60;

    final EventStore store;
    private final String prefix;
    private int counted;
    private int failed;

    private Interop(EventStore store, String prefix) {
        this.store = store;
        this.prefix = prefix;
    }

    String s(String name) {
        return prefix + "-" + name;
    }

    interface Body {
        void run() throws Exception;
    }

    void test(String name, Body body) {
        counted++;
        try {
            body.run();
            System.out.println("ok - " + name);
        } catch (Throwable error) {
            failed++;
            System.out.println("not ok - " + name + ": " + error.toString().replace('\n', ' '));
        }
    }

    static void equal(Object got, Object expected, String what) {
        if (!Objects.equals(got, expected)) {
            throw new IllegalStateException(what + ": " + got + ", not " + expected);
        }
    }

    static <T> T wait(CompletableFuture<T> future) throws Exception {
        return future.get(SECONDS_MAX, TimeUnit.SECONDS);
    }

    static void fails(Callable<?> call, String name) throws Exception {
        try {
            call.call();
        } catch (Exception error) {
            if (!error.toString().contains(name)) {
                throw new IllegalStateException("another error: " + error);
            }
            return;
        }
        throw new IllegalStateException("no " + name);
    }

    // --- events --------------------------------------------------------------------------------

    static EventData number(int n) {
        return EventData.newBuilder().eventId(UUID.randomUUID()).type("Happened").jsonData("{\"n\":" + n + "}")
                .jsonMetadata("{\"by\":\"interop\"}").build();
    }

    static List<EventData> numbers(int from, int count) {
        return IntStream.range(from, from + count).mapToObj(Interop::number).collect(Collectors.toList());
    }

    static List<Integer> range(int from, int to) {
        return IntStream.range(from, to).boxed().collect(Collectors.toList());
    }

    static int n(ResolvedEvent event) {
        String text = new String(event.originalEvent().data, StandardCharsets.UTF_8);
        return Integer.parseInt(text.replaceAll("[^0-9]", ""));
    }

    static List<Integer> ns(List<ResolvedEvent> events) {
        return events.stream().map(Interop::n).collect(Collectors.toList());
    }

    long append(String stream, long expected, List<EventData> events) throws Exception {
        return wait(store.appendToStream(stream, expected, events)).nextExpectedVersion;
    }

    long append(String stream, int from, int count) throws Exception {
        return wait(store.appendToStream(stream, ExpectedVersion.ANY, numbers(from, count))).nextExpectedVersion;
    }

    StreamEventsSlice slice(String stream) throws Exception {
        return wait(store.readStreamEventsForward(stream, 0, 1000, false));
    }

    List<Integer> page(String stream, long from, int count) throws Exception {
        return ns(wait(store.readStreamEventsForward(stream, from, count, false)).events);
    }

    // --- every call ----------------------------------------------------------------------------

    private void writes() {
        test("append and read one event back", () -> {
            EventData data = number(7);
            equal(append(s("one"), -1, List.of(data)), 0L, "version");
            var event = wait(store.readEvent(s("one"), 0, false)).event.originalEvent();
            equal(event.eventId, data.eventId, "id");
            equal(event.eventType, "Happened", "type");
            equal(event.isJson, true, "kind");
            equal(new String(event.data, StandardCharsets.UTF_8), "{\"n\":7}", "data");
            equal(new String(event.metadata, StandardCharsets.UTF_8), "{\"by\":\"interop\"}", "metadata");
        });
        test("expected versions", () -> {
            append(s("versions"), -1, numbers(0, 3));
            for (long wrong : new long[] {-1, 1, 7}) {
                fails(() -> append(s("versions"), wrong, numbers(9, 1)), "WrongExpectedVersion");
            }
            equal(append(s("versions"), 2, numbers(3, 1)), 3L, "version");
            fails(() -> wait(store.appendToStream(s("none"), ExpectedVersion.STREAM_EXISTS, numbers(0, 1))),
                    "WrongExpectedVersion");
            var tried = wait(store.tryAppendToStream(s("versions"), 1, numbers(9, 1)));
            equal(tried.status.toString(), "WrongExpectedVersion", "what is tried");
        });
        test("no events at all", () -> wait(store.appendToStream(s("none"), ExpectedVersion.ANY, List.of())));
        test("a soft and a hard delete", () -> {
            append(s("soft"), 0, 2);
            wait(store.deleteStream(s("soft"), 1));
            equal(slice(s("soft")).status, SliceReadStatus.StreamNotFound, "soft");
            equal(append(s("soft"), 2, 1), 2L, "numbers go on");
            wait(store.deleteStream(s("soft"), ExpectedVersion.ANY, true));
            equal(slice(s("soft")).status, SliceReadStatus.StreamDeleted, "hard");
            fails(() -> append(s("soft"), 3, 1), "StreamDeleted");
        });
        test("metadata of a stream", () -> {
            append(s("meta"), 0, 5);
            var metadata = StreamMetadata.newBuilder().maxCount(2L).customProperty("of", "interop").build();
            wait(store.setStreamMetadata(s("meta"), ExpectedVersion.NO_STREAM, metadata));
            var got = wait(store.getStreamMetadata(s("meta")));
            equal(got.metastreamVersion, 0L, "version");
            equal(got.streamMetadata.maxCount, 2L, "$maxCount");
            equal(got.streamMetadata.getCustomProperty("of").toString(), "interop", "our own");
            equal(page(s("meta"), 0, 10), List.of(3, 4), "events");
        });
        test("a transaction", () -> {
            Transaction transaction = wait(store.startTransaction(s("transaction"), ExpectedVersion.NO_STREAM));
            wait(transaction.write(numbers(0, 2)));
            wait(store.continueTransaction(transaction.transactionId).write(numbers(2, 1)));
            equal(slice(s("transaction")).status, SliceReadStatus.StreamNotFound, "before the commit");
            wait(transaction.commit());
            equal(page(s("transaction"), 0, 10), range(0, 3), "events");
        });
    }

    private void reads() {
        test("pages forward and backward", () -> {
            append(s("pages"), 0, 25);
            equal(page(s("pages"), 0, 10), range(0, 10), "first");
            equal(page(s("pages"), 20, 10), range(20, 25), "last");
            equal(ns(wait(store.readStreamEventsBackward(s("pages"), -1, 10, false)).events),
                    List.of(24, 23, 22, 21, 20, 19, 18, 17, 16, 15), "from the end");
            equal(store.streamEventsForward(s("pages"), 0, 7, false).map(Interop::n).collect(Collectors.toList()),
                    range(0, 25), "all, page by page");
        });
        test("a stream that is not there",
                () -> equal(slice(s("nowhere")).status, SliceReadStatus.StreamNotFound, "status"));
        test("an event that is not there", () -> equal(wait(store.readEvent(s("pages"), 25, false)).status,
                EventReadStatus.NotFound, "status"));
        test("the log, both ways", () -> {
            List<Integer> forward = mine(store.streamAllEventsForward(Position.START, 100, false).iterator());
            List<Integer> backward = mine(store.streamAllEventsBackward(Position.END, 100, false).iterator());
            equal(forward, range(0, 25), "the events of a stream, in order");
            Collections.reverse(backward);
            equal(backward, range(0, 25), "backward");
        });
    }

    private List<Integer> mine(Iterator<ResolvedEvent> events) {
        List<Integer> got = new ArrayList<>();
        events.forEachRemaining(event -> {
            if (event.originalStreamId().equals(s("pages"))) {
                got.add(n(event));
            }
        });
        return got;
    }

    // --- subscriptions -------------------------------------------------------------------------

    private void subscriptions() {
        test("a volatile subscription", () -> {
            Inbox inbox = new Inbox();
            try (Subscription subscription = wait(store.subscribeToStream(s("live"), false, inbox.fresh()))) {
                append(s("live"), 0, 30);
                equal(inbox.take(30), range(0, 30), "events");
            }
            inbox.isClosed();
        });
        test("a volatile subscription to the log", () -> {
            Inbox inbox = new Inbox();
            try (Subscription subscription = wait(store.subscribeToAll(false, inbox.fresh()))) {
                append(s("live-all"), 0, 30);
                equal(inbox.takeOf(s("live-all"), 30), range(0, 30), "events");
            }
        });
        test("a catch-up subscription", () -> {
            append(s("catch-up"), 0, 700);
            Inbox inbox = new Inbox();
            try (CatchUpSubscription subscription = store.subscribeToStreamFrom(s("catch-up"), null, SETTINGS,
                    inbox.catchUp())) {
                equal(inbox.take(700), range(0, 700), "history");
                inbox.isLive();
                append(s("catch-up"), 700, 50);
                equal(inbox.take(50), range(700, 750), "what came after");
            }
            Inbox rest = new Inbox();
            try (CatchUpSubscription subscription = store.subscribeToStreamFrom(s("catch-up"), 740L, SETTINGS,
                    rest.catchUp())) {
                equal(rest.take(9), range(741, 750), "behind a number");
            }
        });
        test("a catch-up subscription to the log", () -> {
            Inbox inbox = new Inbox();
            try (CatchUpSubscription subscription = store.subscribeToAllFrom(null, SETTINGS, inbox.catchUp())) {
                equal(inbox.takeOf(s("catch-up"), 750), range(0, 750), "events");
            }
        });
        test("heartbeats while nothing is said", () -> {
            Inbox inbox = new Inbox();
            try (Subscription subscription = wait(store.subscribeToStream(s("quiet"), false, inbox.fresh()))) {
                Thread.sleep(4000); // longer than the server waits for an answer of ours
                append(s("quiet"), 0, 1);
                equal(inbox.take(1), range(0, 1), "events");
            }
        });
    }

    private void groups() {
        var settings = PersistentSubscriptionSettings.newBuilder().startFromBeginning().build();
        test("a group is made, changed and deleted", () -> {
            Callable<?> create = () -> wait(store.createPersistentSubscription(s("group"), "g", settings));
            Callable<?> delete = () -> wait(store.deletePersistentSubscription(s("group"), "g"));
            create.call();
            fails(create, "already exists");
            wait(store.updatePersistentSubscription(s("group"), "g", settings));
            delete.call();
            fails(delete, "does not exist");
        });
        test("events of a group are given, acknowledged, and given again when refused", () -> {
            wait(store.createPersistentSubscription(s("given"), "g", settings));
            append(s("given"), 0, 25);
            Inbox inbox = new Inbox();
            PersistentSubscription member = wait(store.subscribeToPersistent(s("given"), "g", inbox.member(), 10, false));
            List<Integer> got = new ArrayList<>();
            while (got.size() < 26) {
                ResolvedEvent event = inbox.next();
                if (n(event) == 3 && !got.contains(3)) {
                    member.fail(event, PersistentSubscriptionNakEventAction.Retry, "once more");
                } else {
                    member.acknowledge(event);
                }
                got.add(n(event));
            }
            member.close();
            got.sort(null);
            List<Integer> expected = range(0, 25);
            expected.add(3, 3);
            equal(got, expected, "events");
        });
    }

    private void access() {
        UserCredentials ops = new UserCredentials("ops", "changeit");
        UserCredentials wrong = new UserCredentials("admin", "wrong");
        test("a wrong password is refused, and nothing else", () -> {
            fails(() -> wait(store.readStreamEventsForward(s("pages"), 0, 1, false, wrong)), "NotAuthenticated");
            equal(page(s("pages"), 0, 1), List.of(0), "with the right one");
        });
        test("rights of a stream", () -> {
            append(s("closed"), 0, 1);
            var mine = StreamMetadata.newBuilder().aclReadRoles(List.of("admin")).build();
            wait(store.setStreamMetadata(s("closed"), ExpectedVersion.ANY, mine));
            wait(store.readStreamEventsForward(s("pages"), 0, 1, false, ops));
            fails(() -> wait(store.readStreamEventsForward(s("closed"), 0, 1, false, ops)), "AccessDenied");
            equal(page(s("closed"), 0, 1), List.of(0), "for its reader");
        });
    }

    static final CatchUpSubscriptionSettings SETTINGS =
            CatchUpSubscriptionSettings.newBuilder().resolveLinkTos(false).readBatchSize(100).build();

    private static EventStore connect(String[] words) {
        int tls = List.of(words).indexOf("tls"); // the certificate to trust comes behind it
        int colon = words[1].lastIndexOf(':');
        String host = words[1].substring(0, colon);
        int port = Integer.parseInt(words[1].substring(colon + 1));
        EventStoreBuilder builder = EventStoreBuilder.newBuilder().userCredentials("admin", "changeit").maxReconnections(-1);
        if (words[0].equals("discover")) {
            builder.clusterNodeUsingGossipSeeds(cluster -> cluster.gossipSeedEndpoints(
                    List.of(new InetSocketAddress(host, port))));
        } else {
            builder.singleNodeAddress(host, port);
        }
        if (tls >= 0) {
            builder.useSslConnection(new File(words[tls + 1]));
        }
        return builder.build();
    }

    public static void main(String[] words) {
        Interop interop = new Interop(connect(words), words[2]);
        Cross cross = new Cross(interop);
        switch (words[0]) {
            case "list" -> {
                interop.writes();
                interop.reads();
                interop.subscriptions();
                interop.groups();
                interop.access();
            }
            case "write" -> cross.write();
            case "read" -> cross.read();
            case "finish" -> cross.finish(Long.parseLong(words[3]));
            case "take" -> cross.take(Integer.parseInt(words[3]));
            case "follow" -> cross.follow(Integer.parseInt(words[3]));
            case "discover" -> cross.discover();
            case "feed" -> cross.feed(Integer.parseInt(words[3]), Integer.parseInt(words[4]));
            default -> throw new IllegalArgumentException(words[0]);
        }
        System.out.println("1.." + interop.counted);
        System.exit(interop.failed > 0 ? 1 : 0);
    }
}
