//! The crate eventstore 0.8.1, as published, against a server of the EventStoreDB TCP protocol.
//!
//!     interop COMMAND HOST:PORT PREFIX [WORD ...]
//!
//! ../../README.md has the commands. With the feature tls it speaks TLS only: the crate, built with its own, makes
//! no connection without.
mod cross;

use bytes::Bytes;
use eventstore::{
    ClusterSettings, Connection, Credentials, EventData, ExpectedVersion, GossipSeed, LinkTos, LocatedEvents, NakAction, OperationError, Payload,
    PersistActionError, PersistActionResult, PersistentSubscriptionSettings, Position, ReadEventStatus, ReadStreamError,
    ReadStreamStatus, RecordedEvent, ResolvedEvent, Retry, StreamMetadata, StreamMetadataResult, SubEvent,
};
use futures::stream::{StreamExt, TryStreamExt};
use serde_json::json;
use std::future::Future;
use std::time::Duration;

const LATE: Duration = Duration::from_secs(60);

pub type Outcome = Result<(), String>;

pub struct Tests {
    counted: u32,
    failed: u32,
}

impl Tests {
    pub async fn test(&mut self, name: &str, body: impl Future<Output = Outcome>) {
        self.counted += 1;
        let outcome = match tokio::time::timeout(LATE, body).await {
            Ok(outcome) => outcome,
            Err(_) => Err("took too long".to_string()),
        };
        match outcome {
            Ok(()) => println!("ok - {}", name),
            Err(why) => {
                self.failed += 1;
                println!("not ok - {}: {}", name, why.replace('\n', " "));
            }
        }
    }
}

pub fn equal<T: PartialEq + std::fmt::Debug>(got: T, expected: T, what: &str) -> Outcome {
    if got == expected {
        return Ok(());
    }
    Err(format!("{}: {:?}, not {:?}", what, got, expected))
}

pub fn said<T: std::fmt::Debug>(thing: T) -> String {
    format!("{:?}", thing)
}

pub fn numbers(from: usize, count: usize) -> Vec<EventData> {
    (from..from + count).map(|n| EventData::json("Happened", json!({ "n": n })).unwrap()).collect()
}

pub fn number_of(event: &RecordedEvent) -> i64 {
    serde_json::from_slice::<serde_json::Value>(&event.data).unwrap()["n"].as_i64().unwrap()
}

pub fn original_number(event: &ResolvedEvent) -> i64 {
    number_of(event.get_original_event())
}

pub async fn append(c: &Connection, stream: &str, expected: ExpectedVersion, events: Vec<EventData>) -> Result<i64, OperationError> {
    let wrote = c.write_events(stream).append_events(events).expected_version(expected).execute().await?;
    Ok(wrote.next_expected_version)
}

async fn page(c: &Connection, stream: &str, from: i64, count: i32, backward: bool) -> Result<(Vec<i64>, Option<i64>), String> {
    let read = c.read_stream(stream).start_from(from).max_count(count);
    let read = if backward { read.backward() } else { read.forward() };
    match read.execute().await.map_err(said)? {
        ReadStreamStatus::Success(slice) => match eventstore::Slice::events(slice) {
            LocatedEvents::EndOfStream => Ok((vec![], None)),
            LocatedEvents::Events { events, next } => Ok((events.iter().map(original_number).collect(), next)),
        },
        ReadStreamStatus::Error(error) => Err(said(error)),
    }
}

async fn list_writes(t: &mut Tests, c: &Connection, s: &dyn Fn(&str) -> String) {
    t.test("append and read one event back", async {
        let event = EventData::json("Happened", json!({"n": 7})).unwrap().metadata_as_json(json!({"by": "interop"}));
        equal(append(c, &s("one"), ExpectedVersion::NoStream, vec![event]).await.map_err(said)?, 0, "version")?;
        match c.read_event(s("one"), 0).execute().await.map_err(said)? {
            ReadEventStatus::Success(read) => {
                let got = read.event.get_original_event();
                equal(number_of(got), 7, "data")?;
                equal((got.event_number, got.event_type.as_ref(), got.is_json), (0, "Happened", true), "event")?;
                equal(&got.metadata[..], br#"{"by":"interop"}"#, "metadata")
            }
            other => Err(said(other)),
        }
    })
    .await;
    t.test("expected versions", async {
        append(c, &s("versions"), ExpectedVersion::NoStream, numbers(0, 3)).await.map_err(said)?;
        for wrong in [ExpectedVersion::NoStream, ExpectedVersion::Exact(1), ExpectedVersion::Exact(7)].iter() {
            match append(c, &s("versions"), *wrong, numbers(9, 1)).await {
                Err(OperationError::WrongExpectedVersion(..)) => (),
                other => return Err(said(other)),
            }
        }
        equal(append(c, &s("versions"), ExpectedVersion::Exact(2), numbers(3, 1)).await.map_err(said)?, 3, "exact")?;
        equal(append(c, &s("versions"), ExpectedVersion::StreamExists, numbers(4, 1)).await.map_err(said)?, 4, "exists")
    })
    .await;
    t.test("a soft and a hard delete", async {
        append(c, &s("soft"), ExpectedVersion::Any, numbers(0, 2)).await.map_err(said)?;
        c.delete_stream(s("soft")).soft_delete().execute().await.map_err(said)?;
        match c.read_event(s("soft"), 0).execute().await.map_err(said)? {
            ReadEventStatus::NoStream => (),
            other => return Err(said(other)),
        }
        equal(append(c, &s("soft"), ExpectedVersion::Any, numbers(2, 1)).await.map_err(said)?, 2, "numbers go on")?;
        c.delete_stream(s("soft")).hard_delete().execute().await.map_err(said)?;
        match c.read_event(s("soft"), 0).execute().await.map_err(said)? {
            ReadEventStatus::Deleted => (),
            other => return Err(said(other)),
        }
        match append(c, &s("soft"), ExpectedVersion::Any, numbers(3, 1)).await {
            Err(OperationError::StreamDeleted(_)) => Ok(()),
            other => Err(said(other)),
        }
    })
    .await;
    t.test("metadata of a stream", async {
        match c.read_stream_metadata(s("meta")).execute().await.map_err(said)? {
            StreamMetadataResult::NotFound { .. } => (),
            other => return Err(said(other)),
        }
        let metadata = StreamMetadata::builder().max_count(2).insert_custom_property("mine".to_owned(), "x").build();
        c.write_stream_metadata(s("meta"), metadata).execute().await.map_err(said)?;
        append(c, &s("meta"), ExpectedVersion::Any, numbers(0, 5)).await.map_err(said)?;
        equal(page(c, &s("meta"), 0, 10, false).await?.0, vec![3, 4], "$maxCount")?;
        match c.read_stream_metadata(s("meta")).execute().await.map_err(said)? {
            StreamMetadataResult::Success(got) => equal(got.metadata.max_count, Some(2), "read back"),
            other => Err(said(other)),
        }
    })
    .await;
    t.test("a transaction", async {
        let transaction =
            c.start_transaction(s("transaction")).expected_version(ExpectedVersion::NoStream).execute().await.map_err(said)?;
        transaction.write(numbers(0, 2)).await.map_err(said)?;
        transaction.write_single(numbers(2, 1).remove(0)).await.map_err(said)?;
        equal(transaction.commit().await.map_err(said)?.next_expected_version, 2, "version")?;
        equal(page(c, &s("transaction"), 0, 10, false).await?.0, vec![0, 1, 2], "events")
    })
    .await;
}

async fn list_reads(t: &mut Tests, c: &Connection, s: &dyn Fn(&str) -> String) {
    t.test("pages forward and backward", async {
        append(c, &s("pages"), ExpectedVersion::Any, numbers(0, 25)).await.map_err(said)?;
        equal(page(c, &s("pages"), 0, 10, false).await?, ((0..10).collect(), Some(10)), "first")?;
        equal(page(c, &s("pages"), 20, 10, false).await?, ((20..25).collect(), None), "last")?;
        equal(page(c, &s("pages"), -1, 10, true).await?, ((15..25).rev().collect(), Some(14)), "from the end")?;
        equal(page(c, &s("pages"), 4, 10, true).await?, ((0..5).rev().collect(), None), "to the begin")
    })
    .await;
    t.test("from one page to the next", async {
        let all: Vec<ResolvedEvent> =
            c.read_stream(s("pages")).start_from_beginning().max_count(4).iterate_over().try_collect().await.map_err(said)?;
        equal(all.iter().map(original_number).collect::<Vec<_>>(), (0..25).collect(), "forward")?;
        let all: Vec<ResolvedEvent> =
            c.read_stream(s("pages")).start_from_end_of_stream().max_count(4).iterate_over().try_collect().await.map_err(said)?;
        equal(all.iter().map(original_number).collect::<Vec<_>>(), (0..25).rev().collect(), "backward")
    })
    .await;
    t.test("a stream that is not there", async {
        match c.read_stream(s("nowhere")).execute().await.map_err(said)? {
            ReadStreamStatus::Error(ReadStreamError::NoStream(_)) => Ok(()),
            ReadStreamStatus::Error(other) => Err(said(other)),
            ReadStreamStatus::Success(_) => Err("it is there".to_string()),
        }
    })
    .await;
    t.test("the log", async {
        let all: Vec<ResolvedEvent> =
            c.read_all().start_from_beginning().max_count(100).iterate_over().try_collect().await.map_err(said)?;
        let mine: Vec<i64> =
            all.iter().filter(|e| e.get_original_stream_id() == s("pages")).map(original_number).collect();
        equal(mine, (0..25).collect(), "the events of a stream, in order")
    })
    .await;
    t.test("links are resolved when it is asked for", async {
        let link = EventData::binary("$>", Bytes::from(format!("3@{}", s("pages"))));
        append(c, &s("links"), ExpectedVersion::Any, vec![link]).await.map_err(said)?;
        let read = c.read_event(s("links"), 0).resolve_link_tos(LinkTos::ResolveLink).execute().await.map_err(said)?;
        match read {
            ReadEventStatus::Success(read) => {
                equal(read.event.is_resolved(), true, "is_resolved")?;
                equal(number_of(read.event.event.as_ref().unwrap()), 3, "target")
            }
            other => Err(said(other)),
        }
    })
    .await;
}

async fn list_subscriptions(t: &mut Tests, c: &Connection, s: &dyn Fn(&str) -> String) {
    t.test("a volatile subscription", async {
        let mut events = c.subcribe_to_stream(s("live")).execute_with_sub_events();
        let mut got = vec![];
        while let Some(event) = events.next().await {
            match event {
                SubEvent::Confirmed { .. } => {
                    append(c, &s("live"), ExpectedVersion::Any, numbers(0, 30)).await.map_err(said)?;
                }
                SubEvent::EventAppeared { event, .. } => got.push(original_number(&event)),
                SubEvent::Dropped => return Err("dropped".to_string()),
            }
            if got.len() == 30 {
                break;
            }
        }
        equal(got, (0..30).collect(), "events")
    })
    .await;
    t.test("a catch-up subscription", async {
        append(c, &s("catch-up"), ExpectedVersion::Any, numbers(0, 700)).await.map_err(said)?;
        let mut events = c.subscribe_to_stream_from(s("catch-up")).execute();
        let mut got = vec![];
        while let Some(event) = events.next().await {
            got.push(original_number(&event));
            if got.len() == 700 {
                append(c, &s("catch-up"), ExpectedVersion::Any, numbers(700, 50)).await.map_err(said)?;
            }
            if got.len() == 750 {
                break;
            }
        }
        equal(got, (0..750).collect(), "events")
    })
    .await;
    t.test("a catch-up subscription to the log", async {
        let mut events = c.subscribe_to_all_from().start_position(Position::start()).execute();
        let mut got = vec![];
        while let Some(event) = events.next().await {
            if event.get_original_stream_id() == s("catch-up") {
                got.push(original_number(&event));
            }
            if got.len() == 750 {
                break;
            }
        }
        equal(got, (0..750).collect(), "events")
    })
    .await;
}

async fn list_groups(t: &mut Tests, c: &Connection, s: &dyn Fn(&str) -> String) {
    let mut settings = PersistentSubscriptionSettings::default();
    settings.start_from = 0;
    t.test("a group is made, changed and deleted", async {
        let create = || c.create_persistent_subscription(s("made"), "g".to_string()).settings(settings).execute();
        equal(create().await.map_err(said)?, PersistActionResult::Success, "create")?;
        equal(create().await.map_err(said)?, PersistActionResult::Failure(PersistActionError::AlreadyExists), "again")?;
        let update = c.update_persistent_subscription(s("made"), "g".to_string()).settings(settings).execute();
        equal(update.await.map_err(said)?, PersistActionResult::Success, "update")?;
        let delete = || c.delete_persistent_subscription(s("made"), "g".to_string()).execute();
        equal(delete().await.map_err(said)?, PersistActionResult::Success, "delete")?;
        equal(delete().await.map_err(said)?, PersistActionResult::Failure(PersistActionError::DoesNotExist), "twice")
    })
    .await;
    t.test("events are given, acknowledged, and given again when refused", async {
        let create = c.create_persistent_subscription(s("group"), "g".to_string()).settings(settings).execute();
        equal(create.await.map_err(said)?, PersistActionResult::Success, "create")?;
        append(c, &s("group"), ExpectedVersion::Any, numbers(0, 25)).await.map_err(said)?;
        let (mut read, mut write) = c.connect_persistent_subscription(s("group"), "g".to_string()).execute();
        let mut got = vec![];
        while got.len() < 26 {
            let event = read.read_next().await.ok_or("the end")?;
            let number = original_number(&event.inner);
            if number == 3 && !got.contains(&3) {
                write.nak_event(event, NakAction::Retry, "again").await;
            } else {
                write.ack_event(event).await;
            }
            got.push(number);
        }
        got.sort();
        let mut expected: Vec<i64> = (0..25).collect();
        expected.insert(3, 3);
        equal(got, expected, "events")
    })
    .await;
}

async fn list_access(t: &mut Tests, c: &Connection, s: &dyn Fn(&str) -> String) {
    t.test("a wrong password is refused, and nothing else", async {
        let wrong = c.read_event(s("pages"), 0).credentials(Credentials::new("admin", "wrong")).execute().await;
        match wrong {
            Err(OperationError::AuthenticationRequired) => (),
            other => return Err(said(other)),
        }
        match c.read_event(s("pages"), 0).execute().await.map_err(said)? {
            ReadEventStatus::Success(_) => Ok(()),
            other => Err(said(other)),
        }
    })
    .await;
    t.test("rights of a stream", async {
        let acl = json!({"$r": "admin", "$w": "admin"});
        let metadata = EventData::json("$metadata", json!({ "$acl": acl })).unwrap();
        append(c, &format!("$${}", s("secret")), ExpectedVersion::Any, vec![metadata]).await.map_err(said)?;
        let mine = c.write_events(s("secret")).append_events(numbers(0, 1)).execute().await;
        equal(mine.map_err(said)?.next_expected_version, 0, "for admin")?;
        let ops = Credentials::new("ops", "changeit");
        match c.write_events(s("secret")).append_events(numbers(1, 1)).credentials(ops).execute().await {
            Err(OperationError::AccessDenied(_)) => Ok(()),
            other => Err(said(other)),
        }
    })
    .await;
    t.test("heartbeats keep a connection that says nothing", async {
        // The subscription would end with its connection.
        let mut events = c.subcribe_to_stream(s("quiet")).execute_with_sub_events();
        match events.next().await {
            Some(SubEvent::Confirmed) => (),
            other => return Err(format!("{:?}", other.is_some())),
        }
        tokio::time::delay_for(Duration::from_secs(4)).await; // longer than the server waits for an answer of ours
        append(c, &s("quiet"), ExpectedVersion::Any, numbers(0, 1)).await.map_err(said)?;
        match events.next().await {
            Some(SubEvent::EventAppeared { event, .. }) => equal(original_number(&event), 0, "event"),
            _ => Err("dropped".to_string()),
        }
    })
    .await;
}

#[cfg(feature = "tls")]
struct AnyCertificate;

#[cfg(feature = "tls")]
impl rustls::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls::RootCertStore,
        _: &[rustls::Certificate],
        _: webpki::DNSNameRef,
        _: &[u8],
    ) -> Result<rustls::ServerCertVerified, rustls::TLSError> {
        Ok(rustls::ServerCertVerified::assertion())
    }
}

fn builder() -> eventstore::ConnectionBuilder {
    let builder = Connection::builder()
        .with_default_user(Credentials::new("admin", "changeit"))
        .with_connection_name("interop")
        .connection_retry(Retry::Only(3));
    #[cfg(feature = "tls")]
    let builder = {
        // This version of rustls knows no certificates for addresses.
        let name = webpki::DNSNameRef::try_from_ascii_str("localhost").unwrap().into();
        let mut settings = eventstore::SecureSettings::new(name);
        settings.rustls_config.dangerous().set_certificate_verifier(std::sync::Arc::new(AnyCertificate));
        builder.enable_secure_connection(settings)
    };
    builder
}

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().collect();
    let (command, address, prefix) = (&words[1], words[2].parse().unwrap(), &words[3]);
    let _ = Payload::Binary(Bytes::new()).is_json();
    let c = match command.as_str() {
        "discover" => {
            let seeds = vec1::vec1![GossipSeed::new(words[2].as_str()).unwrap()];
            builder().cluster_nodes_connection(ClusterSettings::from_seeds(seeds)).await
        }
        _ => builder().single_node_connection(address).await,
    };
    let mut t = Tests { counted: 0, failed: 0 };
    let s = |name: &str| format!("{}-{}", prefix, name);
    match command.as_str() {
        "list" => {
            list_writes(&mut t, &c, &s).await;
            list_reads(&mut t, &c, &s).await;
            list_subscriptions(&mut t, &c, &s).await;
            list_groups(&mut t, &c, &s).await;
            list_access(&mut t, &c, &s).await;
        }
        _ => cross::run(&mut t, &c, command, &s, &words[4..]).await,
    }
    println!("1..{}", t.counted);
    std::process::exit(if t.failed > 0 { 1 } else { 0 });
}
