import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.tikv.common.BytePairWrapper;
import org.tikv.common.ByteWrapper;
import org.tikv.common.TiConfiguration;
import org.tikv.common.TiSession;
import org.tikv.common.util.BackOffer;
import org.tikv.common.util.ConcreteBackOffer;
import org.tikv.kvproto.Kvrpcpb.KvPair;
import org.tikv.shade.com.google.protobuf.ByteString;
import org.tikv.txn.KVClient;
import org.tikv.txn.TwoPhaseCommitter;

/**
 * Transactions of the published Java client; README.md has the commands. It has reads as of a timestamp, and the steps
 * of a two-phase commit one by one: what is below puts them together as its users do.
 */
final class Txns {
    private static final int CRASH_KEYS = 10;
    private static final int BACK_OFF_MS = 60_000;
    private static final int CONFLICT_MS = 300; // a prewrite in a conflict is tried for so long, in vain
    private static final int LOCK_MS = 2000;

    private final TiSession session;
    private final KVClient reader;
    private final Interop interop;

    Txns(TiSession session, Interop interop) {
        this.session = session;
        this.reader = session.createKVClient();
        this.interop = interop;
    }

    private static BackOffer backOff() {
        return ConcreteBackOffer.newCustomBackOff(BACK_OFF_MS);
    }

    private long now() {
        return session.getTimestamp().getVersion();
    }

    private byte[] key(String name) {
        return interop.key(name).toByteArray();
    }

    private static byte[] bytes(String text) {
        return text.getBytes(java.nio.charset.StandardCharsets.UTF_8);
    }

    private String get(String name, long version) {
        return reader.get(interop.key(name), version).toStringUtf8(); // empty: missing
    }

    private void checkValue(String name, String value) {
        String there = get(name, now());
        Interop.check(there.equals(value), "%s is '%s', not '%s'", name, there, value);
    }

    /** How far a commit goes. */
    private enum Stage { PREWRITTEN, COMMITTING, COMMITTED }

    private void commit(long startTs, Map<byte[], byte[]> writes, Stage stage) throws Exception {
        commit(startTs, writes, stage, BACK_OFF_MS);
    }

    private void commit(long startTs, Map<byte[], byte[]> writes, Stage stage, int patienceMs) throws Exception {
        List<BytePairWrapper> pairs = new ArrayList<>();
        List<ByteWrapper> keys = new ArrayList<>();
        writes.forEach((key, value) -> pairs.add(new BytePairWrapper(key, value)));
        byte[] primary = pairs.get(0).getKey();
        pairs.subList(1, pairs.size()).forEach(pair -> keys.add(new ByteWrapper(pair.getKey())));
        TwoPhaseCommitter committer = new TwoPhaseCommitter(session, startTs, LOCK_MS);
        committer.prewritePrimaryKey(ConcreteBackOffer.newCustomBackOff(patienceMs), primary, pairs.get(0).getValue());
        if (!keys.isEmpty()) {
            committer.prewriteSecondaryKeys(primary, pairs.subList(1, pairs.size()).iterator(), BACK_OFF_MS);
        }
        if (stage == Stage.PREWRITTEN) {
            return;
        }
        long commitTs = now();
        committer.commitPrimaryKey(backOff(), primary, commitTs);
        if (stage == Stage.COMMITTED && !keys.isEmpty()) {
            committer.commitSecondaryKeys(keys.iterator(), commitTs, BACK_OFF_MS);
        }
        if (stage == Stage.COMMITTED) {
            committer.close();
        }
    }

    private void put(Map<byte[], byte[]> writes) throws Exception {
        commit(now(), writes, Stage.COMMITTED);
    }

    private void put(String name, String value) throws Exception {
        put(Map.of(key(name), bytes(value)));
    }

    private Map<byte[], byte[]> numbered(String name, int from, int to, int step, String value) {
        Map<byte[], byte[]> writes = new LinkedHashMap<>();
        for (int i = from; i < to; i += step) {
            writes.put(key(String.format("%s/%05d", name, i)), bytes(value + i));
        }
        return writes;
    }

    private void checkPairs(List<KvPair> found, Map<byte[], byte[]> expected, String otherwise) {
        Interop.check(found.size() == expected.size(), "%s: %d pairs", otherwise, found.size());
        int i = 0;
        for (Map.Entry<byte[], byte[]> pair : expected.entrySet()) {
            Interop.check(Arrays.equals(found.get(i).getKey().toByteArray(), pair.getKey())
                && Arrays.equals(found.get(i).getValue().toByteArray(), pair.getValue()), "%s at %d", otherwise, i);
            i++;
        }
    }

    private List<KvPair> scan(String name) {
        return reader.scan(interop.key(name + "/"), interop.key(name + "0"), now());
    }

    // What every client does.

    private void snapshots() throws Exception {
        put("own/a", "1");
        long before = now();
        put("own/a", "2");
        checkValue("own/a", "2");
        Interop.check(get("own/a", before).equals("1"), "a snapshot from before reads what came later");
        Interop.check(get("own/missing", before).isEmpty(), "a missing key is there");
        put("own/a", ""); // this client cannot tell it from a missing one
        checkValue("own/a", "");
    }

    private void conflict() throws Exception {
        long startTs = now();
        put("conflict", "1");
        try {
            commit(startTs, Map.of(key("conflict"), bytes("2")), Stage.COMMITTED, CONFLICT_MS);
        } catch (Exception error) {
            checkValue("conflict", "1");
            return;
        }
        Interop.check(false, "the second commit did not end with an error");
    }

    private void scans() throws Exception {
        Map<byte[], byte[]> writes = numbered("scan", 0, 1200, 1, "value ");
        put(writes);
        checkPairs(scan("scan"), writes, "scan differs");
        List<ByteString> keys = new ArrayList<>();
        writes.keySet().forEach(key -> keys.add(ByteString.copyFrom(key)));
        Interop.check(reader.batchGet(backOff(), keys.subList(0, 500), now()).size() == 500, "batch get differs");
    }

    private void locksInTheWay() throws Exception {
        Map<byte[], byte[]> writes = numbered("way", 0, 300, 1, "value ");
        put(writes);
        commit(now(), numbered("way", 40, 280, 30, "locked "), Stage.PREWRITTEN);
        checkPairs(scan("way"), writes, "scan over locks differs");
        commit(now(), numbered("way", 40, 280, 30, "locked "), Stage.COMMITTING);
        Interop.check(get("way/00130", now()).equals("locked 130"), "a committed secondary is not seen");
    }

    private void counter() throws Exception {
        final int workers = 4;
        final int each = 6;
        ExecutorService threads = Executors.newFixedThreadPool(workers);
        List<Future<Void>> running = new ArrayList<>();
        Callable<Void> work = () -> {
            for (int done = 0; done < each; ) {
                long startTs = now();
                try {
                    String value = get("counter", startTs);
                    commit(startTs, Map.of(key("counter"), bytes(value + "x")), Stage.COMMITTED, CONFLICT_MS);
                    done++;
                } catch (Exception error) { // a conflict; the sum tells if it was more
                    Thread.sleep(5);
                }
            }
            return null;
        };
        for (int i = 0; i < workers; i++) {
            running.add(threads.submit(work));
        }
        for (Future<Void> one : running) {
            one.get();
        }
        threads.shutdown();
        int size = get("counter", now()).length();
        Interop.check(size == workers * each, "%d increments gave %d", workers * each, size);
    }

    private void list() {
        interop.run("snapshots", this::snapshots);
        interop.run("write conflict", this::conflict);
        interop.run("scans", this::scans);
        interop.run("uncommitted locks in the way", this::locksInTheWay);
        interop.run("counter of many", this::counter);
    }

    // What one client writes for all others to read; a client that dies, and the next one.

    private void writeShared() throws Exception {
        Map<byte[], byte[]> writes = new LinkedHashMap<>();
        interop.shared().forEach(pair -> writes.put(pair.getKey().toByteArray(), pair.getValue().toByteArray()));
        put(writes);
    }

    private void readShared() {
        Map<byte[], byte[]> expected = new LinkedHashMap<>();
        interop.shared().forEach(pair -> expected.put(pair.getKey().toByteArray(), pair.getValue().toByteArray()));
        checkPairs(reader.scan(interop.key(""), interop.key("~"), now()), expected, "scan differs");
    }

    private Map<byte[], byte[]> crashWrites(String value) {
        Map<byte[], byte[]> writes = new LinkedHashMap<>();
        for (int i = 0; i < CRASH_KEYS; i++) {
            writes.put(key(Integer.toString(i)), bytes(value));
        }
        return writes;
    }

    private void crash(String stage) throws Exception {
        commit(now(), crashWrites("locked"), Stage.valueOf(stage.toUpperCase()));
        Interop.say("stage reached");
        Thread.currentThread().join();
    }

    private void after(String value) {
        checkPairs(reader.scan(interop.key(""), interop.key("~"), now()), crashWrites(value), "scan differs");
    }

    static void run(String command, TiSession session, Interop interop, String stage) throws Exception {
        Txns txns = new Txns(session, interop);
        switch (command) {
            case "txn-list": txns.list(); break;
            case "txn-write": interop.run(command, txns::writeShared); break;
            case "txn-read": interop.run(command, txns::readShared); break;
            case "txn-before": interop.run(command, () -> txns.put(txns.crashWrites("old"))); break;
            case "txn-crash": txns.crash(stage); break;
            case "txn-after": interop.run(command, () -> txns.after(stage)); break;
            default: throw new IllegalArgumentException(command);
        }
    }
}
