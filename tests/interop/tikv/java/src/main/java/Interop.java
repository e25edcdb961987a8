import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.tikv.common.TiConfiguration;
import org.tikv.common.TiSession;
import org.tikv.common.exception.RawCASConflictException;
import org.tikv.common.util.Pair;
import org.tikv.common.util.ScanOption;
import org.tikv.kvproto.Kvrpcpb.KvPair;
import org.tikv.raw.RawKVClient;
import org.tikv.shade.com.google.protobuf.ByteString;

/** The calls of the published Java client, made against a server: README.md has the commands. */
public final class Interop {
    private static final int SHARED_COUNT = 300;
    private static final int CALL_SECONDS_MAX = 300; // a bound on what hangs, also on a busy machine
    // Longer than any answer takes: the client asks again after that, also for what may have been done.
    private static final int CLIENT_MS = 60_000;
    private static final int REFUSED_MS = 3000; // for so long it asks again for what the server refuses
    private static final int MIB = 1024 * 1024;

    private static TiConfiguration configuration;

    private final RawKVClient client;
    private final String space;
    private final String prefix;
    private final ExecutorService threads = Executors.newCachedThreadPool();
    private boolean failed;

    private Interop(RawKVClient client, String space, String prefix) {
        this.client = client;
        this.space = space;
        this.prefix = prefix;
    }

    interface Body {
        void run() throws Exception;
    }

    static void check(boolean condition, String otherwise, Object... arguments) {
        if (!condition) {
            throw new AssertionError(String.format(otherwise, arguments));
        }
    }

    static void say(String line) {
        System.out.println(line.replaceAll("\\s+", " "));
        System.out.flush();
    }

    void run(String name, Body body) {
        Future<Void> done = threads.submit(() -> {
            body.run();
            return null;
        });
        try {
            done.get(CALL_SECONDS_MAX, TimeUnit.SECONDS);
            say("ok - " + name);
        } catch (Exception error) {
            failed = true;
            done.cancel(true);
            Throwable cause = error.getCause() == null ? error : error.getCause();
            while (cause.getCause() != null) {
                cause = cause.getCause();
            }
            say("not ok - " + name + ": " + cause);
        }
    }

    private static ByteString text(String text) {
        return ByteString.copyFromUtf8(text);
    }

    ByteString key(String name) {
        return text(prefix + name);
    }

    /** The keys of one test are those that begin with its name: the first one. */
    private ByteString from(String name) {
        return key(name + "/");
    }

    private ByteString to(String name) {
        return key(name + "0");
    }

    private List<KvPair> fill(String name, int count) {
        List<KvPair> pairs = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            pairs.add(pair(key(String.format("%s/%05d", name, i)), text("value " + i)));
        }
        put(pairs);
        return pairs;
    }

    private void put(List<KvPair> pairs) {
        Map<ByteString, ByteString> map = new LinkedHashMap<>();
        pairs.forEach(pair -> map.put(pair.getKey(), pair.getValue()));
        client.batchPut(map);
    }

    private static KvPair pair(ByteString key, ByteString value) {
        return KvPair.newBuilder().setKey(key).setValue(value).build();
    }

    private static List<ByteString> keys(List<KvPair> pairs) {
        List<ByteString> keys = new ArrayList<>();
        pairs.forEach(pair -> keys.add(pair.getKey()));
        return keys;
    }

    private static List<KvPair> sorted(List<KvPair> pairs) {
        List<KvPair> sorted = new ArrayList<>(pairs);
        sorted.sort((a, b) ->
            ByteString.unsignedLexicographicalComparator().compare(a.getKey(), b.getKey()));
        return sorted;
    }

    // What every client does.

    private void oneKey() {
        ByteString key = key("one");
        check(client.get(key).isEmpty(), "a key that was never put is there");
        client.put(key, text("first"));
        check(client.get(key).equals(Optional.of(text("first"))), "not what was put");
        client.put(key, text("second"));
        check(client.get(key).equals(Optional.of(text("second"))), "not overwritten");
        client.delete(key);
        check(client.get(key).isEmpty(), "there after delete");
        client.delete(key);
    }

    private void emptyValue() {
        client.put(key("empty"), ByteString.EMPTY);
        check(client.get(key("empty")).equals(Optional.of(ByteString.EMPTY)), "the empty value is missing");
    }

    private void batches() {
        List<KvPair> pairs = fill("batch", 1500);
        List<ByteString> keys = keys(pairs);
        keys.add(key("batch/missing"));
        check(sorted(client.batchGet(keys)).equals(pairs), "batch get differs");
        client.batchDelete(keys);
        check(client.batchGet(keys).isEmpty(), "there after batch delete");
    }

    private void scans() {
        List<KvPair> pairs = fill("scan", 1200);
        check(client.scan(from("scan"), to("scan")).equals(pairs), "scan differs");
        check(client.scan(from("scan"), to("scan"), 7).equals(pairs.subList(0, 7)),
            "scan with a limit differs");
        check(client.scan(keys(pairs).get(10), keys(pairs).get(20), 100).equals(pairs.subList(10, 20)),
            "scan from key to key differs");
        check(keys(client.scan(from("scan"), to("scan"), 3, true)).equals(keys(pairs).subList(0, 3)),
            "scan of keys differs");
        check(client.scanPrefix(from("scan")).equals(pairs), "scan of a prefix differs");
        List<KvPair> one = new ArrayList<>();
        client.scan0(from("scan"), to("scan"), 5000).forEachRemaining(one::add);
        check(one.equals(pairs), "scan one by one differs");
    }

    private void batchScans() {
        List<KvPair> one = fill("ranges-a", 20);
        List<KvPair> two = fill("ranges-b", 20);
        List<ScanOption> ranges = new ArrayList<>();
        for (String name : List.of("ranges-a", "ranges-b")) {
            ranges.add(ScanOption.newBuilder().setStartKey(from(name)).setEndKey(to(name)).setLimit(5)
                .setKeyOnly(false).build());
        }
        check(client.batchScan(ranges).equals(List.of(one.subList(0, 5), two.subList(0, 5))),
            "batch scan differs");
        check(client.batchScanKeys(List.of(Pair.create(from("ranges-b"), to("ranges-b"))), 100)
            .equals(List.of(keys(two))), "batch scan of keys differs");
    }

    private void deleteRange() {
        List<KvPair> pairs = fill("delete", 500);
        client.deleteRange(keys(pairs).get(100), keys(pairs).get(400));
        List<KvPair> left = new ArrayList<>(pairs.subList(0, 100));
        left.addAll(pairs.subList(400, 500));
        check(client.scan(from("delete"), to("delete"), 1000).equals(left), "what is left differs");
        client.deletePrefix(from("delete"));
        check(client.scan(from("delete"), to("delete"), 1).isEmpty(), "pairs are left");
    }

    private static long secondsSince(long began) {
        return (System.nanoTime() - began) / 1_000_000_000L;
    }

    private void timesToLive() throws Exception {
        client.put(key("ttl/for-ever"), text("v"));
        long began = System.nanoTime();
        client.put(key("ttl/long"), text("v"), 100);
        check(client.getKeyTTL(key("ttl/for-ever")).equals(Optional.of(0L)), "a key without an end has one");
        check(client.getKeyTTL(key("ttl/missing")).isEmpty(), "a missing key has an end");
        long left = client.getKeyTTL(key("ttl/long")).get();
        check(left <= 100 && left >= 98 - secondsSince(began), "100 s became %d after %d", left, secondsSince(began));
        client.put(key("ttl/other"), text("v"), 100);
        began = System.nanoTime(); // before it is asked for: from the answer on it lives for what is left
        client.batchPut(Map.of(key("ttl/short"), text("v")), 2);
        while (client.get(key("ttl/short")).isPresent()) { // bounded by run
            Thread.sleep(50);
        }
        check(secondsSince(began) >= 1, "gone too early");
        check(client.scan(from("ttl"), to("ttl"), 10).size() == 3, "the scan does not have three keys");
        client.put(key("ttl/long"), text("v"));
        check(client.getKeyTTL(key("ttl/long")).equals(Optional.of(0L)),
            "a put without an end keeps the old one");
    }

    private boolean swap(ByteString key, String previous, String value, String wantPrevious) {
        try {
            client.compareAndSet(key, Optional.ofNullable(previous).map(Interop::text), text(value));
            return true;
        } catch (RawCASConflictException conflict) {
            Optional<ByteString> want = Optional.ofNullable(wantPrevious).map(Interop::text);
            check(conflict.getPrevValue().equals(want), "%s to %s: found %s", previous, value,
                conflict.getPrevValue());
            return false;
        }
    }

    private void compareAndSwap() {
        ByteString key = key("cas");
        check(!swap(key, "x", "1", null), "swapped a missing key");
        check(swap(key, null, "1", null), "did not put a missing key");
        check(!swap(key, null, "2", "1"), "swapped a key that is there");
        check(!swap(key, "9", "2", "1"), "swapped another value");
        check(swap(key, "1", "2", "1"), "did not swap");
        check(client.get(key).equals(Optional.of(text("2"))), "another value than swapped in");
        check(client.putIfAbsent(key, text("3")).equals(Optional.of(text("2"))), "put over a value");
        client.delete(key);
        check(client.putIfAbsent(key, text("3"), 100).isEmpty(), "did not put where nothing was");
        check(client.getKeyTTL(key).get() > 90, "a value put if absent has no end");
    }

    private void swapsOfMany() throws Exception {
        inParallel(8, worker -> {
            ByteString key = key("counter");
            Optional<ByteString> seen = Optional.empty();
            for (int done = 0; done < 25;) {
                long number = seen.map(value -> Long.parseLong(value.toStringUtf8())).orElse(0L);
                ByteString next = text(Long.toString(number + 1));
                try {
                    client.compareAndSet(key, seen, next);
                    seen = Optional.of(next);
                    done++;
                } catch (RawCASConflictException conflict) {
                    seen = conflict.getPrevValue();
                }
            }
        });
        check(client.get(key("counter")).equals(Optional.of(text("200"))), "200 swaps gave %s",
            client.get(key("counter")));
    }

    private void sizes() {
        for (int size : new int[] {64 * 1024, MIB, 8 * MIB - 64 * 1024}) {
            ByteString value = sharedValue(size);
            client.put(key("size"), value);
            check(client.get(key("size")).equals(Optional.of(value)), "%d bytes differ", size);
        }
        client.delete(key("size"));
        ByteString key = padded("long-key/", space.equals("v2") ? 8188 : 8192);
        client.put(key, text("v"));
        check(client.get(key).equals(Optional.of(text("v"))), "a key of the limit is missing");
        client.delete(key);
    }

    private ByteString padded(String name, int size) {
        ByteString start = key(name);
        return start.concat(text("k".repeat(size - start.size())));
    }

    private static boolean refuses(Runnable call) {
        try {
            call.run();
            return false;
        } catch (Exception error) {
            return true;
        }
    }

    private void oversizes() {
        configuration.setRawKVWriteTimeoutInMS(REFUSED_MS);
        check(refuses(() -> client.put(padded("too-long/", 8193), text("v"))),
            "a key over the limit is taken");
        ByteString value = ByteString.copyFrom(new byte[17 * MIB]);
        check(refuses(() -> client.put(key("too-big"), value)), "a value over the limit is taken");
        check(client.get(key("too-big")).isEmpty(), "there all the same");
        configuration.setRawKVWriteTimeoutInMS(CLIENT_MS);
    }

    private interface Work {
        void run(int worker) throws Exception;
    }

    private void inParallel(int count, Work work) throws Exception {
        List<Future<Void>> running = new ArrayList<>();
        for (int worker = 0; worker < count; worker++) {
            int number = worker;
            running.add(threads.submit((Callable<Void>) () -> {
                work.run(number);
                return null;
            }));
        }
        for (Future<Void> one : running) {
            one.get();
        }
    }

    private void workers() throws Exception {
        inParallel(64, worker -> {
            for (int i = 0; i < 50; i++) {
                ByteString key = key(String.format("worker/%02d-%d", worker, i));
                client.put(key, key);
                check(client.get(key).equals(Optional.of(key)), "worker %d lost %d", worker, i);
            }
        });
        int count = client.scan(from("worker"), to("worker"), 5000, true).size();
        check(count == 64 * 50, "%d keys instead of %d", count, 64 * 50);
    }

    private void list() {
        run("a key is put, got and deleted", this::oneKey);
        run("an empty value is a value", this::emptyValue);
        run("batches are put, got and deleted", this::batches);
        run("scans", this::scans);
        run("scans of several ranges", this::batchScans);
        run("a range is deleted", this::deleteRange);
        run("keys live as long as told", this::timesToLive);
        run("values are compared and swapped", this::compareAndSwap);
        run("many swap one value", this::swapsOfMany);
        run("sizes up to the limits", this::sizes);
        run("sizes over the limits are errors", this::oversizes);
        run("64 workers", this::workers);
    }

    // What one client writes for all others to read.

    private static ByteString sharedValue(int number) {
        byte[] value = new byte[number < SHARED_COUNT ? 1 + number * 37 % 500 : number];
        for (int at = 0; at < value.length; at++) {
            value[at] = (byte) (number * 31 + at * 7);
        }
        return ByteString.copyFrom(value);
    }

    List<KvPair> shared() {
        List<KvPair> pairs = new ArrayList<>();
        for (int i = 0; i < SHARED_COUNT; i++) {
            ByteString end = ByteString.copyFrom(new byte[] {0, (byte) 0xff, (byte) i});
            pairs.add(pair(key(String.format("%04d", i)).concat(end), sharedValue(i)));
        }
        return pairs;
    }

    private void writeShared() {
        List<KvPair> pairs = shared();
        pairs.subList(0, 10).forEach(pair -> client.put(pair.getKey(), pair.getValue()));
        put(pairs.subList(10, SHARED_COUNT));
    }

    private void readShared() {
        List<KvPair> pairs = shared();
        check(client.scan(key(""), key("~"), 1000).equals(pairs), "scan differs");
        check(sorted(client.batchGet(keys(pairs))).equals(pairs), "batch get differs");
        for (int i = 0; i < SHARED_COUNT; i += 29) {
            check(client.get(pairs.get(i).getKey()).equals(Optional.of(pairs.get(i).getValue())),
                "get %d differs", i);
        }
    }

    // Load while the server is started anew.

    private <T> T untilDone(AtomicLong errors, Callable<T> call) throws Exception {
        long started = System.nanoTime();
        while (true) {
            try {
                return call.call();
            } catch (Exception error) {
                if (System.nanoTime() - started > CALL_SECONDS_MAX * 1_000_000_000L) {
                    throw error;
                }
                if (errors.incrementAndGet() <= 3) {
                    say("# " + error);
                }
                Thread.sleep(50);
            }
        }
    }

    private int loadOne(int worker, int seconds, AtomicLong errors) throws Exception {
        long started = System.nanoTime();
        int count = 0;
        for (; System.nanoTime() - started < seconds * 1_000_000_000L; count++) {
            ByteString key = key(String.format("%03d-%06d", worker, count));
            ByteString old = key(String.format("%03d-%06d", worker, count / 2));
            untilDone(errors, () -> {
                client.put(key, key);
                return null;
            });
            Optional<ByteString> read = untilDone(errors, () -> client.get(old));
            check(read.equals(Optional.of(old)), "%s is %s", old, read);
        }
        for (int first = 0; first < count; first += 1000) {
            List<KvPair> pairs = new ArrayList<>();
            for (int number = first; number < Math.min(count, first + 1000); number++) {
                ByteString key = key(String.format("%03d-%06d", worker, number));
                pairs.add(pair(key, key));
            }
            List<KvPair> read = untilDone(errors, () -> client.batchGet(keys(pairs)));
            check(sorted(read).equals(pairs), "of %d puts some are lost", count);
        }
        return count;
    }

    private void load(int workers, int seconds) throws Exception {
        AtomicLong errors = new AtomicLong();
        AtomicLong puts = new AtomicLong();
        say("started");
        inParallel(workers, worker -> puts.addAndGet(loadOne(worker, seconds, errors)));
        say("# " + puts + " puts, each read again; " + errors + " calls failed meanwhile");
    }

    public static void main(String[] arguments) throws Exception {
        String command = arguments[0];
        String space = arguments[2];
        boolean isTxn = command.startsWith("txn-");
        configuration = isTxn ? TiConfiguration.createDefault(arguments[1])
            : TiConfiguration.createRawDefault(arguments[1]);
        String folder = System.getenv("KVS_TLS");
        if (folder != null) {
            configuration.setTlsEnable(true);
            configuration.setTrustCertCollectionFile(folder + "/ca.pem");
            configuration.setKeyCertChainFile(folder + "/certificate.pem");
            configuration.setKeyFile(folder + "/key.pem");
        }
        configuration.setEnableAtomicForCAS(true);
        configuration.setTimeout(CLIENT_MS);
        configuration.setRawKVReadTimeoutInMS(CLIENT_MS);
        configuration.setRawKVBatchWriteTimeoutInMS(CLIENT_MS);
        configuration.setRawKVBatchReadTimeoutInMS(CLIENT_MS);
        configuration.setRawKVScanTimeoutInMS(CLIENT_MS);
        // The warm-up puts the empty key. kvs has none, so with API V1 it lasts as long as a write may.
        configuration.setWarmUpEnable(command.equals("list"));
        configuration.setRawKVWriteTimeoutInMS(REFUSED_MS);
        configuration.setApiVersion(
            space.equals("v2") ? TiConfiguration.ApiVersion.V2 : TiConfiguration.ApiVersion.V1);
        int workers = !isTxn && arguments.length > 4 ? Integer.parseInt(arguments[4]) : 16;
        int seconds = !isTxn && arguments.length > 5 ? Integer.parseInt(arguments[5]) : 5;
        Interop interop;
        try {
            TiSession session = TiSession.create(configuration);
            configuration.setRawKVWriteTimeoutInMS(CLIENT_MS);
            interop = new Interop(isTxn ? null : session.createRawClient(), space, arguments[3]);
            if (isTxn) {
                Txns.run(command, session, interop, arguments.length > 4 ? arguments[4] : "");
                System.exit(interop.failed ? 1 : 0);
            }
        } catch (Exception error) {
            say("not ok - connect: " + error);
            System.exit(1);
            return;
        }
        switch (command) {
            case "list": interop.list(); break;
            case "write": interop.run(command, interop::writeShared); break;
            case "read": interop.run(command, interop::readShared); break;
            case "load": interop.run(command, () -> interop.load(workers, seconds)); break;
            default: say("not ok - " + command + ": unknown command"); interop.failed = true;
        }
        System.exit(interop.failed ? 1 : 0);
    }
}
