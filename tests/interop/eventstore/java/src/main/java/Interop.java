import akka.actor.ActorSystem;
import com.typesafe.config.ConfigFactory;
import eventstore.akka.Settings;
import eventstore.akka.SubscriptionObserver;
import eventstore.core.Content;
import eventstore.core.Event;
import eventstore.core.EventData;
import eventstore.core.EventNumber;
import eventstore.core.EventNumber$;
import eventstore.core.ExpectedVersion;
import eventstore.core.IndexedEvent;
import eventstore.core.Position;
import eventstore.core.UserCredentials;
import eventstore.j.EsConnection;
import eventstore.j.EsConnectionFactory;
import eventstore.j.EsTransaction;
import eventstore.j.EventDataBuilder;
import eventstore.j.PersistentSubscriptionSettingsBuilder;
import java.io.Closeable;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import scala.concurrent.Await;
import scala.concurrent.Future;
import scala.concurrent.duration.Duration;

/**
 * EventStore.JVM, as published, against a server of the EventStoreDB TCP protocol.
 *
 * <p>Arguments: COMMAND HOST:PORT PREFIX [WORD ...]; ../../../../../README.md has the commands.
 */
public final class Interop {
    static final int SECONDS_MAX = 60;
    static final UserCredentials NOBODY = null; // those of the connection

    final ActorSystem system;
    final Settings settings;
    final EsConnection connection;
    private final String prefix;
    private int counted;
    private int failed;

    private Interop(ActorSystem system, Settings settings, String prefix) {
        this.system = system;
        this.settings = settings;
        this.connection = EsConnectionFactory.create(system, settings);
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

    static <T> T wait(Future<T> future) throws Exception {
        return Await.result(future, Duration.create(SECONDS_MAX, TimeUnit.SECONDS));
    }

    static void fails(Callable<?> call, String name) throws Exception {
        try {
            call.call();
        } catch (Throwable error) {
            if (!error.getClass().getName().contains(name) && !String.valueOf(error.getMessage()).contains(name)) {
                throw new IllegalStateException("another error: " + error);
            }
            return;
        }
        throw new IllegalStateException("no " + name);
    }

    // --- events --------------------------------------------------------------------------------

    static ExpectedVersion any() {
        return ExpectedVersion.apply(-2);
    }

    static ExpectedVersion exact(long version) {
        return ExpectedVersion.apply(version);
    }

    static EventNumber number(long number) {
        return EventNumber$.MODULE$.apply(number);
    }

    static EventNumber.Exact exactNumber(long number) {
        return (EventNumber.Exact) number(number);
    }

    static List<EventData> numbers(int from, int count) {
        return IntStream.range(from, from + count)
                .mapToObj(n -> new EventDataBuilder("Happened").eventId(UUID.randomUUID()).jsonData("{\"n\":" + n + "}")
                        .jsonMetadata("{\"by\":\"interop\"}").build())
                .collect(Collectors.toList());
    }

    static List<Integer> range(int from, int to) {
        return IntStream.range(from, to).boxed().collect(Collectors.toList());
    }

    static byte[] bytes(Content content) {
        return content.value().toArray();
    }

    static int n(Event event) {
        String text = new String(bytes(event.data().data()), StandardCharsets.UTF_8);
        return Integer.parseInt(text.replaceAll("[^0-9]", ""));
    }

    long append(String stream, ExpectedVersion expected, List<EventData> events) throws Exception {
        return wait(connection.writeEvents(stream, expected, events, NOBODY)).nextExpectedVersion().value();
    }

    /** As an event that is marked as JSON: setStreamMetadata takes bytes, and does not. */
    void metadata(String stream, String json) throws Exception {
        append("$$" + stream, any(), List.of(new EventDataBuilder("$metadata").eventId(UUID.randomUUID()).jsonData(json)
                .build()));
    }

    List<Integer> page(String stream, long from, int count) throws Exception {
        return wait(connection.readStreamEventsForward(stream, exactNumber(from), count, false, NOBODY)).eventsJava()
                .stream().map(Interop::n).collect(Collectors.toList());
    }

    // --- every call ----------------------------------------------------------------------------

    private void writes() {
        test("append and read one event back", () -> {
            EventData data = numbers(7, 1).get(0);
            equal(append(s("one"), exact(-1), List.of(data)), 0L, "version");
            Event event = wait(connection.readEvent(s("one"), number(0), false, NOBODY));
            equal(event.data(), data, "the event");
        });
        test("expected versions", () -> {
            append(s("versions"), exact(-1), numbers(0, 3));
            for (long wrong : new long[] {-1, 1, 7}) {
                fails(() -> append(s("versions"), exact(wrong), numbers(9, 1)), "WrongExpectedVersion");
            }
            equal(append(s("versions"), exact(2), numbers(3, 1)), 3L, "version");
        });
        test("no events at all", () -> wait(connection.writeEvents(s("none"), any(), List.of(), NOBODY)));
        test("a soft and a hard delete", () -> {
            append(s("soft"), any(), numbers(0, 2));
            wait(connection.deleteStream(s("soft"), (ExpectedVersion.Existing) any(), false, NOBODY));
            fails(() -> page(s("soft"), 0, 10), "StreamNotFound");
            equal(append(s("soft"), any(), numbers(2, 1)), 2L, "numbers go on");
            wait(connection.deleteStream(s("soft"), (ExpectedVersion.Existing) any(), true, NOBODY));
            fails(() -> page(s("soft"), 0, 10), "StreamDeleted");
            fails(() -> append(s("soft"), any(), numbers(3, 1)), "StreamDeleted");
        });
        test("metadata of a stream", () -> {
            String text = "{\"$maxCount\":2}";
            append(s("meta"), any(), numbers(0, 5));
            wait(connection.setStreamMetadata(s("meta"), exact(-1), text.getBytes(StandardCharsets.UTF_8), NOBODY));
            equal(new String(wait(connection.getStreamMetadataBytes(s("meta"), NOBODY)), StandardCharsets.UTF_8), text,
                    "read back");
            equal(page(s("meta"), 0, 10), List.of(0, 1, 2, 3, 4), "bytes that are not marked as JSON");
            metadata(s("meta"), text);
            equal(page(s("meta"), 0, 10), List.of(3, 4), "$maxCount");
        });
        test("a transaction", () -> {
            EsTransaction transaction = wait(connection.startTransaction(s("transaction"), exact(-1), NOBODY));
            wait(transaction.write(numbers(0, 2)));
            wait(connection.continueTransaction(transaction.getId(), NOBODY).write(numbers(2, 1)));
            wait(transaction.commit());
            equal(page(s("transaction"), 0, 10), range(0, 3), "events");
        });
    }

    private void reads() {
        test("pages forward and backward", () -> {
            append(s("pages"), any(), numbers(0, 25));
            equal(page(s("pages"), 0, 10), range(0, 10), "first");
            equal(page(s("pages"), 20, 10), range(20, 25), "last");
            List<Integer> back = wait(connection.readStreamEventsBackward(s("pages"), null, 10, false, NOBODY))
                    .eventsJava().stream().map(Interop::n).collect(Collectors.toList());
            equal(back, Arrays.asList(24, 23, 22, 21, 20, 19, 18, 17, 16, 15), "from the end");
        });
        test("a stream that is not there", () -> fails(() -> page(s("nowhere"), 0, 1), "StreamNotFound"));
        test("an event that is not there", () -> fails(
                () -> wait(connection.readEvent(s("pages"), number(25), false, NOBODY)), "EventNotFound"));
        test("the log", () -> {
            Position position = Position.apply(0, 0);
            List<Integer> mine = new ArrayList<>();
            for (;;) {
                var page = wait(connection.readAllEventsForward(position, 100, false, NOBODY));
                if (page.eventsJava().isEmpty()) {
                    break;
                }
                for (IndexedEvent event : page.eventsJava()) {
                    if (event.event().streamId().streamId().equals(s("pages"))) {
                        mine.add(n(event.event()));
                    }
                }
                position = page.nextPosition();
            }
            equal(mine, range(0, 25), "the events of a stream, in order");
        });
    }

    static final class Inbox<T> implements SubscriptionObserver<T> {
        final LinkedBlockingQueue<T> events = new LinkedBlockingQueue<>();
        final LinkedBlockingQueue<String> live = new LinkedBlockingQueue<>();
        volatile Throwable error;

        @Override
        public void onLiveProcessingStart(Closeable subscription) {
            live.add("live");
        }

        @Override
        public void onEvent(T event, Closeable subscription) {
            events.add(event);
        }

        @Override
        public void onError(Throwable why) {
            error = why;
        }

        @Override
        public void onClose() {}

        List<T> take(int count) throws Exception {
            List<T> taken = new ArrayList<>();
            while (taken.size() < count) {
                T event = events.poll(SECONDS_MAX, TimeUnit.SECONDS);
                if (event == null) {
                    throw new IllegalStateException("only " + taken.size() + " came; " + error);
                }
                taken.add(event);
            }
            return taken;
        }
    }

    static List<Integer> numbersOf(List<Event> events) {
        return events.stream().map(Interop::n).collect(Collectors.toList());
    }

    private void subscriptions() {
        test("a volatile subscription", () -> {
            Inbox<Event> inbox = new Inbox<>();
            try (Closeable subscription = connection.subscribeToStream(s("live"), inbox, false, NOBODY)) {
                equal(inbox.live.poll(SECONDS_MAX, TimeUnit.SECONDS), "live", "confirmed");
                append(s("live"), any(), numbers(0, 30));
                equal(numbersOf(inbox.take(30)), range(0, 30), "events");
            }
        });
        test("a volatile subscription to the log", () -> {
            Inbox<IndexedEvent> inbox = new Inbox<>();
            try (Closeable subscription = connection.subscribeToAll(inbox, false, NOBODY)) {
                equal(inbox.live.poll(SECONDS_MAX, TimeUnit.SECONDS), "live", "confirmed");
                append(s("live-all"), any(), numbers(0, 30));
                List<Integer> mine = new ArrayList<>();
                while (mine.size() < 30) {
                    Event event = inbox.take(1).get(0).event();
                    if (event.streamId().streamId().equals(s("live-all"))) {
                        mine.add(n(event));
                    }
                }
                equal(mine, range(0, 30), "events");
            }
        });
        test("a catch-up subscription", () -> {
            append(s("catch-up"), any(), numbers(0, 700));
            Inbox<Event> inbox = new Inbox<>();
            try (Closeable subscription = connection.subscribeToStreamFrom(s("catch-up"), inbox, null, false, NOBODY)) {
                equal(numbersOf(inbox.take(700)), range(0, 700), "history");
                append(s("catch-up"), any(), numbers(700, 50));
                equal(numbersOf(inbox.take(50)), range(700, 750), "what came after");
            }
        });
        test("a catch-up subscription to the log", () -> {
            Inbox<IndexedEvent> inbox = new Inbox<>();
            try (Closeable subscription = connection.subscribeToAllFrom(inbox, null, false, NOBODY)) {
                List<Integer> mine = new ArrayList<>();
                while (mine.size() < 750) {
                    Event event = inbox.take(1).get(0).event();
                    if (event.streamId().streamId().equals(s("catch-up"))) {
                        mine.add(n(event));
                    }
                }
                equal(mine, range(0, 750), "events");
            }
        });
    }

    private void groups() {
        test("a group is made, changed and deleted", () -> {
            var settings = new PersistentSubscriptionSettingsBuilder().startFromBeginning().build();
            Callable<?> create = () -> wait(connection.createPersistentSubscription(s("group"), "g", settings, NOBODY));
            Callable<?> delete = () -> wait(connection.deletePersistentSubscription(s("group"), "g", NOBODY));
            create.call();
            fails(create, "already exists");
            wait(connection.updatePersistentSubscription(s("group"), "g", settings, NOBODY));
            delete.call();
            fails(delete, "not exist");
        });
    }

    private void access() {
        test("events of a group are given, acknowledged, and given again when refused", () -> {
            var settings = new PersistentSubscriptionSettingsBuilder().startFromBeginning().build();
            wait(connection.createPersistentSubscription(s("given"), "g", settings, NOBODY));
            append(s("given"), any(), numbers(0, 25));
            Member member = new Member(this, s("given"), "g");
            List<Integer> got = new ArrayList<>();
            while (got.size() < 26) {
                Event event = member.next();
                if (n(event) == 3 && !got.contains(3)) {
                    member.refuse(event);
                } else {
                    member.acknowledge(event);
                }
                got.add(n(event));
            }
            got.sort(null);
            List<Integer> expected = range(0, 25);
            expected.add(3, 3);
            equal(got, expected, "events");
        });
        UserCredentials wrong = UserCredentials.apply("admin", "wrong");
        UserCredentials ops = UserCredentials.apply("ops", "changeit");
        test("a wrong password is refused, and nothing else", () -> {
            fails(() -> wait(connection.readEvent(s("pages"), number(0), false, wrong)), "NotAuthenticated");
            wait(connection.readEvent(s("pages"), number(0), false, NOBODY));
        });
        test("rights of a stream", () -> {
            metadata(s("secret"), "{\"$acl\":{\"$r\":\"admin\",\"$w\":\"admin\"}}");
            append(s("secret"), any(), numbers(0, 1));
            fails(() -> wait(connection.writeEvents(s("secret"), any(), numbers(1, 1), ops)), "AccessDenied");
            fails(() -> wait(connection.readEvent(s("secret"), number(0), false, ops)), "AccessDenied");
        });
        test("heartbeats keep a connection that says nothing", () -> {
            // The subscription would miss what is appended while it is made again.
            Inbox<Event> inbox = new Inbox<>();
            try (Closeable subscription = connection.subscribeToStream(s("quiet"), inbox, false, NOBODY)) {
                equal(inbox.live.poll(SECONDS_MAX, TimeUnit.SECONDS), "live", "confirmed");
                Thread.sleep(4000); // longer than the server waits for an answer of ours
                append(s("quiet"), any(), numbers(0, 1));
                equal(numbersOf(inbox.take(1)), range(0, 1), "events");
            }
        });
    }

    public static void main(String[] words) {
        int tls = List.of(words).indexOf("tls"); // the certificate to trust comes behind it
        int colon = words[1].lastIndexOf(':');
        String config = "akka.loglevel = OFF\n"
                + (words[0].equals("discover") ? "eventstore.cluster.gossip-seeds = [\"" + words[1] + "\"]\n"
                        : "eventstore.address { host = \"" + words[1].substring(0, colon) + "\", port = "
                                + words[1].substring(colon + 1) + " }\n")
                + (tls < 0 ? "" : "eventstore.enable-tcp-tls = true\neventstore.ssl-config.trustManager.stores = "
                        + "[{ type = PEM, path = \"" + words[tls + 1] + "\" }]\n");
        ActorSystem system = ActorSystem.create("interop",
                ConfigFactory.parseString(config).withFallback(ConfigFactory.load()));
        Interop interop = new Interop(system, Settings.apply(system.settings().config()), words[2]);
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
