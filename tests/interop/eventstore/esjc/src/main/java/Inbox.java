import com.github.msemys.esjc.CatchUpSubscription;
import com.github.msemys.esjc.CatchUpSubscriptionListener;
import com.github.msemys.esjc.PersistentSubscription;
import com.github.msemys.esjc.PersistentSubscriptionListener;
import com.github.msemys.esjc.ResolvedEvent;
import com.github.msemys.esjc.RetryableResolvedEvent;
import com.github.msemys.esjc.Subscription;
import com.github.msemys.esjc.SubscriptionDropReason;
import com.github.msemys.esjc.VolatileSubscriptionListener;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** What came of one subscription, of whichever kind. */
final class Inbox {
    private final LinkedBlockingQueue<ResolvedEvent> events = new LinkedBlockingQueue<>();
    private final CountDownLatch live = new CountDownLatch(1);
    private final CountDownLatch closed = new CountDownLatch(1);
    private volatile String why = "";

    private void close(SubscriptionDropReason reason, Exception error) {
        why = reason + " " + error;
        closed.countDown();
    }

    VolatileSubscriptionListener fresh() {
        return new VolatileSubscriptionListener() {
            @Override
            public void onEvent(Subscription subscription, ResolvedEvent event) {
                events.add(event);
            }

            @Override
            public void onClose(Subscription subscription, SubscriptionDropReason reason, Exception error) {
                close(reason, error);
            }
        };
    }

    CatchUpSubscriptionListener catchUp() {
        return new CatchUpSubscriptionListener() {
            @Override
            public void onEvent(CatchUpSubscription subscription, ResolvedEvent event) {
                events.add(event);
            }

            @Override
            public void onLiveProcessingStarted(CatchUpSubscription subscription) {
                live.countDown();
            }

            @Override
            public void onClose(CatchUpSubscription subscription, SubscriptionDropReason reason, Exception error) {
                close(reason, error);
            }
        };
    }

    PersistentSubscriptionListener member() {
        return new PersistentSubscriptionListener() {
            @Override
            public void onEvent(PersistentSubscription subscription, RetryableResolvedEvent event) {
                events.add(event);
            }

            @Override
            public void onClose(PersistentSubscription subscription, SubscriptionDropReason reason, Exception error) {
                close(reason, error);
            }
        };
    }

    private void await(CountDownLatch latch, String what) throws Exception {
        if (!latch.await(Interop.SECONDS_MAX, TimeUnit.SECONDS)) {
            throw new IllegalStateException("it is not " + what + "; " + why);
        }
    }

    void isLive() throws Exception {
        await(live, "live");
    }

    void isClosed() throws Exception {
        await(closed, "closed");
    }

    ResolvedEvent next() throws Exception {
        ResolvedEvent event = events.poll(Interop.SECONDS_MAX, TimeUnit.SECONDS);
        if (event == null) {
            throw new IllegalStateException("no more came; " + why);
        }
        return event;
    }

    List<Integer> take(int count) throws Exception {
        List<Integer> taken = new ArrayList<>();
        while (taken.size() < count) {
            taken.add(Interop.n(next()));
        }
        return taken;
    }

    List<Integer> takeOf(String stream, int count) throws Exception {
        List<Integer> taken = new ArrayList<>();
        while (taken.size() < count) {
            ResolvedEvent event = next();
            if (event.originalStreamId().equals(stream)) {
                taken.add(Interop.n(event));
            }
        }
        return taken;
    }
}
