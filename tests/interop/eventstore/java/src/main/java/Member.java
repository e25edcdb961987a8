import akka.actor.AbstractActor;
import akka.actor.ActorRef;
import akka.actor.Identify;
import akka.actor.Props;
import akka.pattern.Patterns;
import eventstore.akka.PersistentSubscriptionActor;
import eventstore.akka.tcp.ConnectionActor;
import eventstore.core.Event;
import eventstore.core.EventStream;
import eventstore.core.PersistentSubscription;
import java.time.Duration;
import java.util.UUID;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import scala.Option;

/** A member of a group, for which the client has only actors: with a connection of its own. */
final class Member {
    private final LinkedBlockingQueue<Event> events = new LinkedBlockingQueue<>();
    private final ActorRef connection;
    private final ActorRef subscription;

    private final class Client extends AbstractActor {
        @Override
        public Receive createReceive() {
            return receiveBuilder().match(Event.class, events::add).build();
        }
    }

    Member(Interop interop, String stream, String group) {
        connection = interop.system.actorOf(ConnectionActor.getProps(interop.settings));
        ActorRef client = interop.system.actorOf(Props.create(Client.class, Client::new));
        subscription = interop.system.actorOf(PersistentSubscriptionActor.props(connection, client,
                (EventStream.Id) EventStream.Id$.MODULE$.apply(stream), group, Option.empty(), interop.settings, false));
    }

    Event next() throws InterruptedException {
        Event event = events.poll(Interop.SECONDS_MAX, TimeUnit.SECONDS);
        if (event == null) {
            throw new IllegalStateException("no event came");
        }
        return event;
    }

    private static UUID id(Event event) {
        return event.record().data().eventId();
    }

    void acknowledge(Event event) {
        subscription.tell(new PersistentSubscriptionActor.ManualAck(id(event)), ActorRef.noSender());
    }

    void refuse(Event event) {
        subscription.tell(new PersistentSubscriptionActor.ManualNak(id(event)), ActorRef.noSender());
    }

    /** Gives it an answer from the server to what it asks now: all acknowledgements went before it. */
    ActorRef flushed() throws Exception {
        Patterns.ask(subscription, new Identify(0), Duration.ofSeconds(Interop.SECONDS_MAX)).toCompletableFuture().get();
        return connection;
    }
}
