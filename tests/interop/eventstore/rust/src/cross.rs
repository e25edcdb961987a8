//! What one client leaves and others find: events, links, metadata, a group, a transaction; and events
//! that others follow as they come.
use crate::{append, equal, number_of, numbers, original_number, said, Outcome, Tests};
use bytes::Bytes;
use eventstore::{
    Connection, EventData, ExpectedVersion, LinkTos, LocatedEvents, PersistActionResult, PersistentSubscriptionSettings,
    Position, ReadStreamStatus, RecordedEvent, ResolvedEvent, Slice, StreamMetadata, StreamMetadataResult, SubEvent,
};
use futures::stream::{Stream, StreamExt, TryStreamExt};
use serde_json::json;

const SHARED: usize = 300;
const LINKS: usize = 10;

type Names<'a> = &'a dyn Fn(&str) -> String;

fn shared(i: usize) -> (bool, Vec<u8>) {
    if i % 2 == 0 {
        (true, format!("{{\"i\":{},\"text\":\"é€{}\"}}", i, i).into_bytes())
    } else {
        (false, (0..i).map(|k| ((i * 7 + k) & 255) as u8).collect())
    }
}

async fn write(c: &Connection, stream: &str) -> Outcome {
    for i in 0..SHARED {
        let (is_json, data) = shared(i);
        let kind = format!("Type{}", i % 5);
        let event = if is_json {
            EventData::json(kind, serde_json::from_slice::<serde_json::Value>(&data).unwrap()).unwrap()
        } else {
            EventData::binary(kind, Bytes::from(data))
        };
        let event = event.metadata_as_binary(Bytes::from(format!("m{}", i)));
        let expected = if i == 0 { ExpectedVersion::NoStream } else { ExpectedVersion::Exact(i as i64 - 1) };
        append(c, stream, expected, vec![event]).await.map_err(said)?;
    }
    Ok(())
}

fn is_shared(got: &RecordedEvent, i: usize) -> Outcome {
    let (is_json, data) = shared(i);
    equal((got.event_number, got.is_json), (i as i64, is_json), "event")?;
    equal(got.event_type.to_string(), format!("Type{}", i % 5), "type")?;
    equal(&got.data[..], &data[..], "data")?;
    equal(&got.metadata[..], format!("m{}", i).as_bytes(), "metadata")
}

async fn read(c: &Connection, stream: &str) -> Outcome {
    let all: Vec<ResolvedEvent> =
        c.read_stream(stream).start_from_beginning().max_count(50).iterate_over().try_collect().await.map_err(said)?;
    equal(all.len(), SHARED, "events")?;
    all.iter().enumerate().try_for_each(|(i, event)| is_shared(event.get_original_event(), i))
}

async fn leave(c: &Connection, s: Names<'_>) -> Outcome {
    let targets = (0..LINKS).map(|i| i * 7).chain(std::iter::once(999));
    let links = targets.map(|n| EventData::binary("$>", Bytes::from(format!("{}@{}", n, s("shared"))))).collect();
    append(c, &s("links"), ExpectedVersion::NoStream, links).await.map_err(said)?;
    let metadata = StreamMetadata::builder().max_count(1000).insert_custom_property("of".to_owned(), "interop").build();
    c.write_stream_metadata(s("shared"), metadata).execute().await.map_err(said)?;
    let mut settings = PersistentSubscriptionSettings::default();
    settings.start_from = 0;
    let create = c.create_persistent_subscription(s("shared"), "g".to_string()).settings(settings).execute();
    equal(create.await.map_err(said)?, PersistActionResult::Success, "group")?;
    let transaction = c.start_transaction(s("open")).expected_version(ExpectedVersion::NoStream).execute().await.map_err(said)?;
    transaction.write(numbers(0, 2)).await.map_err(said)?;
    println!("transaction {}", transaction.get_id().0);
    Ok(())
}

async fn find(c: &Connection, s: Names<'_>) -> Outcome {
    let links = c.read_stream(s("links")).start_from_beginning().max_count(100).resolve_link_tos(LinkTos::ResolveLink);
    let links = match links.execute().await.map_err(said)? {
        ReadStreamStatus::Success(slice) => match slice.events() {
            LocatedEvents::Events { events, .. } => events,
            LocatedEvents::EndOfStream => vec![],
        },
        ReadStreamStatus::Error(error) => return Err(said(error)),
    };
    equal(links.len(), LINKS + 1, "links")?;
    for i in 0..LINKS {
        is_shared(links[i].event.as_ref().ok_or("a link leads nowhere")?, i * 7)?;
        equal(links[i].link.as_ref().map(|link| link.event_number), Some(i as i64), "link")?;
    }
    equal(links[LINKS].event.is_none(), true, "the link to nothing")?;
    match c.read_stream_metadata(s("shared")).execute().await.map_err(said)? {
        StreamMetadataResult::Success(got) => {
            equal(got.metadata.max_count, Some(1000), "$maxCount")?;
            equal(got.metadata.custom_properties.get("of"), Some(&json!("interop")), "metadata")?;
        }
        other => return Err(said(other)),
    }
    let open: Vec<ResolvedEvent> = c.read_stream(s("open")).start_from_beginning().iterate_over().try_collect().await.map_err(said)?;
    equal(open.iter().map(original_number).collect::<Vec<_>>(), (0..5).collect(), "the transaction")
}

/// A share of a group's events; nothing that was acknowledged comes to anybody again.
async fn take(c: &Connection, s: Names<'_>, count: usize) -> Outcome {
    let (mut read, mut write) = c.connect_persistent_subscription(s("shared"), "g".to_string()).execute();
    for _ in 0..count {
        let event = read.read_next().await.ok_or("the end")?;
        let number = event.inner.get_original_event().event_number;
        is_shared(event.inner.get_original_event(), number as usize)?;
        write.ack_event(event).await;
        println!("took {}", number);
    }
    // Requests are carried out in order: with this answer the acknowledgements have been, too.
    c.read_event(s("shared"), 0).execute().await.map_err(said)?;
    Ok(())
}

/// Passes over what was there before.
async fn confirmed(events: &mut (impl Stream<Item = SubEvent> + Unpin)) -> Outcome {
    loop {
        match events.next().await {
            Some(SubEvent::Confirmed) => return Ok(()),
            Some(SubEvent::EventAppeared { .. }) => (),
            _ => return Err("not confirmed".to_string()),
        }
    }
}

async fn numbers_of(mut events: impl Stream<Item = SubEvent> + Unpin, stream: String, count: usize) -> Outcome {
    let mut got = vec![];
    while got.len() < count {
        match events.next().await {
            Some(SubEvent::EventAppeared { event, .. }) if event.get_original_stream_id() == stream => {
                got.push(number_of(event.get_original_event()))
            }
            Some(SubEvent::EventAppeared { .. }) | Some(SubEvent::Confirmed) => (),
            _ => return Err(format!("it ends after {}", got.len())),
        }
    }
    equal(got, (0..count as i64).collect(), "events")
}

/// By its stream, by the log, and only what is new.
async fn follow(c: &Connection, s: Names<'_>, count: usize) -> Outcome {
    let mut by_stream = c.subscribe_to_stream_from(s("follow")).execute_with_sub_events();
    let mut by_all = c.subscribe_to_all_from().start_position(Position::start()).execute_with_sub_events();
    let mut live = c.subcribe_to_stream(s("follow")).execute_with_sub_events();
    confirmed(&mut by_stream).await?;
    confirmed(&mut by_all).await?;
    confirmed(&mut live).await?;
    println!("ready");
    let (a, b, c) = futures::join!(
        numbers_of(by_stream, s("follow"), count),
        numbers_of(by_all, s("follow"), count),
        numbers_of(live, s("follow"), count)
    );
    a.and(b).and(c)
}

async fn feed(c: &Connection, s: Names<'_>, from: usize, count: usize) -> Outcome {
    for n in from..from + count {
        let expected = if n == 0 { ExpectedVersion::NoStream } else { ExpectedVersion::Exact(n as i64 - 1) };
        append(c, &s("follow"), expected, numbers(n, 1)).await.map_err(said)?;
    }
    Ok(())
}

/// HOST:PORT was asked by HTTP where to go.
async fn discover(c: &Connection, s: Names<'_>) -> Outcome {
    append(c, &s("found"), ExpectedVersion::NoStream, numbers(7, 1)).await.map_err(said)?;
    let found: Vec<ResolvedEvent> = c.read_stream(s("found")).start_from_beginning().iterate_over().try_collect().await.map_err(said)?;
    equal(found.iter().map(original_number).collect::<Vec<_>>(), vec![7], "events")
}

pub async fn run(t: &mut Tests, c: &Connection, command: &str, s: Names<'_>, words: &[String]) {
    let word = |i: usize| words[i].parse::<usize>().unwrap();
    match command {
        "write" => {
            t.test("write what others read", write(c, &s("shared"))).await;
            t.test("leave links, metadata, a group and an open transaction", leave(c, s)).await;
        }
        "read" => {
            t.test("read what others wrote", read(c, &s("shared"))).await;
            t.test("links, metadata and a transaction of others", find(c, s)).await;
        }
        "take" => t.test("take events of a group", take(c, s, word(0))).await,
        "follow" => t.test("follow what others append", follow(c, s, word(0))).await,
        "feed" => t.test("append what others follow", feed(c, s, word(0), word(1))).await,
        "discover" => t.test("found by gossip", discover(c, s)).await,
        _ => panic!("there is no command {}", command),
    }
}
