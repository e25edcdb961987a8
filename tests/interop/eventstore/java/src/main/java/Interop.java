import akka.actor.ActorSystem;
import com.typesafe.config.ConfigFactory;
import eventstore.akka.Settings;
import eventstore.akka.SubscriptionObserver;
import eventstore.core.Content;
import eventstore.core.ContentType;
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
import eventstore.j.SettingsBuilder;
import java.io.Closeable;
import java.net.InetSocketAddress;
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
 * <p>Arguments: COMMAND HOST:PORT PREFIX. list: every call of the client, and what it says of what cannot be; write:
 * 300 events to PREFIX-shared; read compares all that write wrote. Prints TAP.
 */
public final class Interop {
    private static final int SHARED = 300;
    private static final int SECONDS_MAX = 20;
    private static final UserCredentials NOBODY = null; // those of the connection

    private final EsConnection connection;
    private final String prefix;
    private int counted;
    private int failed;

    private Interop(EsConnection connection, String prefix) {
        this.connection = connection;
        this.prefix = prefix;
    }

    private String s(String name) {
        return prefix + "-" + name;
    }

    private interface Body {
        void run() throws Exception;
    }

    private void test(String name, Body body) {
        counted++;
        try {
            body.run();
            System.out.println("ok - " + name);
        } catch (Throwable error) {
            failed++;
            System.out.println("not ok - " + name + ": " + error.toString().replace('\n', ' '));
        }
    }

    private static void equal(Object got, Object expected, String what) {
        if (!Objects.equals(got, expected)) {
            throw new IllegalStateException(what + ": " + got + ", not " + expected);
        }
    }

    private static <T> T wait(Future<T> future) throws Exception {
        return Await.result(future, Duration.create(SECONDS_MAX, TimeUnit.SECONDS));
    }

    private static void fails(Callable<?> call, String name) throws Exception {
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

    private static ExpectedVersion any() {
        return ExpectedVersion.apply(-2);
    }

    private static ExpectedVersion exact(long version) {
        return ExpectedVersion.apply(version);
    }

    private static EventNumber number(long number) {
        return EventNumber$.MODULE$.apply(number);
    }

    private static EventNumber.Exact exactNumber(long number) {
        return (EventNumber.Exact) number(number);
    }

    private static List<EventData> numbers(int from, int count) {
        return IntStream.range(from, from + count)
                .mapToObj(n -> new EventDataBuilder("Happened").eventId(UUID.randomUUID()).jsonData("{\"n\":" + n + "}")
                        .jsonMetadata("{\"by\":\"interop\"}").build())
                .collect(Collectors.toList());
    }

    private static List<Integer> range(int from, int to) {
        return IntStream.range(from, to).boxed().collect(Collectors.toList());
    }

    private static byte[] bytes(Content content) {
        return content.value().toArray();
    }

    private static int n(Event event) {
        String text = new String(bytes(event.data().data()), StandardCharsets.UTF_8);
        return Integer.parseInt(text.replaceAll("[^0-9]", ""));
    }

    private long append(String stream, ExpectedVersion expected, List<EventData> events) throws Exception {
        return wait(connection.writeEvents(stream, expected, events, NOBODY)).nextExpectedVersion().value();
    }

    private List<Integer> page(String stream, long from, int count) throws Exception {
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
            byte[] metadata = "{\"$maxCount\":2}".getBytes(StandardCharsets.UTF_8);
            wait(connection.setStreamMetadata(s("meta"), exact(-1), metadata, NOBODY));
            append(s("meta"), any(), numbers(0, 5));
            equal(page(s("meta"), 0, 10), List.of(3, 4), "$maxCount");
            equal(new String(wait(connection.getStreamMetadataBytes(s("meta"), NOBODY)), StandardCharsets.UTF_8),
                    "{\"$maxCount\":2}", "read back");
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

    private static final class Inbox<T> implements SubscriptionObserver<T> {
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

    private static List<Integer> numbersOf(List<Event> events) {
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

    // --- crosswise -----------------------------------------------------------------------------

    private static boolean isJson(int i) {
        return i % 2 == 0;
    }

    private static byte[] shared(int i) {
        if (isJson(i)) {
            return ("{\"i\":" + i + ",\"text\":\"é€" + i + "\"}").getBytes(StandardCharsets.UTF_8);
        }
        byte[] data = new byte[i];
        for (int k = 0; k < i; k++) {
            data[k] = (byte) (i * 7 + k);
        }
        return data;
    }

    private void write() {
        test("write what others read", () -> {
            for (int i = 0; i < SHARED; i++) {
                EventDataBuilder builder = new EventDataBuilder("Type" + i % 5).eventId(UUID.randomUUID())
                        .metadata(("m" + i).getBytes(StandardCharsets.UTF_8));
                if (isJson(i)) {
                    builder.jsonData(new String(shared(i), StandardCharsets.UTF_8));
                } else {
                    builder.data(shared(i));
                }
                append(s("shared"), exact(i - 1), List.of(builder.build()));
            }
        });
    }

    private void read() {
        test("read what others wrote", () -> {
            List<Event> all = wait(connection.readStreamEventsForward(s("shared"), exactNumber(0), SHARED, false, NOBODY))
                    .eventsJava();
            equal(all.size(), SHARED, "events");
            for (int i = 0; i < SHARED; i++) {
                EventData data = all.get(i).data();
                equal(data.eventType(), "Type" + i % 5, "type");
                equal(data.data().contentType().toString(),
                        isJson(i) ? ContentType.Json$.MODULE$.toString() : ContentType.Binary$.MODULE$.toString(), "kind");
                if (!Arrays.equals(bytes(data.data()), shared(i))) {
                    throw new IllegalStateException("data of event " + i);
                }
                equal(new String(bytes(data.metadata()), StandardCharsets.UTF_8), "m" + i, "metadata");
            }
        });
    }

    public static void main(String[] words) {
        ActorSystem system = ActorSystem.create("interop", ConfigFactory.parseString("akka.loglevel = OFF")
                .withFallback(ConfigFactory.load()));
        int colon = words[1].lastIndexOf(':');
        Settings settings = new SettingsBuilder()
                .address(new InetSocketAddress(words[1].substring(0, colon), Integer.parseInt(words[1].substring(colon + 1))))
                .defaultCredentials("admin", "changeit").connectionName("interop").build();
        Interop interop = new Interop(EsConnectionFactory.create(system, settings), words[2]);
        switch (words[0]) {
            case "list" -> {
                interop.writes();
                interop.reads();
                interop.subscriptions();
                interop.groups();
            }
            case "write" -> interop.write();
            case "read" -> interop.read();
            default -> throw new IllegalArgumentException(words[0]);
        }
        System.out.println("1.." + interop.counted);
        System.exit(interop.failed > 0 ? 1 : 0);
    }
}
