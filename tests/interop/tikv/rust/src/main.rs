//! The calls of the published Rust client, made against a server: README.md has the commands.
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tikv_client::{ColumnFamily, Config, Key, KvPair, RawClient};

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

const SHARED_COUNT: usize = 300;
const CALL_SECONDS_MAX: u64 = 300; // a bound on what hangs, also on a busy machine
const MIB: usize = 1024 * 1024;

macro_rules! check {
    ($condition:expr, $($format:tt)+) => {
        if !$condition {
            return Err(format!($($format)+).into());
        }
    };
}

mod history;
mod txn;

struct Test {
    client: RawClient,
    space: String,
    prefix: String,
    failed: AtomicBool,
}

impl Test {
    async fn run<F: Future<Output = Outcome>>(&self, name: &str, test: F) {
        match tokio::time::timeout(Duration::from_secs(CALL_SECONDS_MAX), test).await {
            Ok(Ok(())) => println!("ok - {name}"),
            Ok(Err(error)) => self.fail(name, &error.to_string()),
            Err(_) => self.fail(name, &format!("still running after {CALL_SECONDS_MAX} s")),
        }
    }

    fn fail(&self, name: &str, why: &str) {
        self.failed.store(true, Ordering::Relaxed);
        println!("not ok - {name}: {}", why.replace('\n', " "));
    }

    fn key(&self, name: &str) -> Vec<u8> {
        [self.prefix.as_bytes(), name.as_bytes()].concat()
    }

    /// The keys of one test: everything that begins with its name.
    fn range(&self, name: &str) -> std::ops::Range<Vec<u8>> {
        self.key(&format!("{name}/"))..self.key(&format!("{name}0"))
    }

    async fn fill(&self, name: &str, count: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>, tikv_client::Error> {
        let pairs: Vec<_> = (0..count)
            .map(|i| (self.key(&format!("{name}/{i:05}")), format!("value {i}").into_bytes()))
            .collect();
        self.client.batch_put(pairs.clone()).await?;
        Ok(pairs)
    }
}

fn plain(pairs: Vec<KvPair>) -> Vec<(Vec<u8>, Vec<u8>)> {
    pairs.into_iter().map(|pair| (pair.0.into(), pair.1)).collect()
}

fn plain_keys(keys: Vec<Key>) -> Vec<Vec<u8>> {
    keys.into_iter().map(Into::into).collect()
}

fn config(space: &str) -> Config {
    let config = Config::default()
        .with_timeout(Duration::from_secs(10))
        .with_grpc_max_decoding_message_size(64 * MIB);
    #[cfg(feature = "surrealdb")]
    let config = config.with_grpc_max_encoding_message_size(64 * MIB);
    let config = match std::env::var("KVS_TLS") {
        Ok(folder) => {
            let file = |name| format!("{folder}/{name}.pem");
            config.with_security(file("ca"), file("certificate"), file("key"))
        }
        Err(_) => config,
    };
    if space == "v2" { config.with_default_keyspace() } else { config }
}

// What every client does.

async fn one_key(t: &Test) -> Outcome {
    let key = t.key("one");
    check!(t.client.get(key.clone()).await?.is_none(), "a key that was never put is there");
    t.client.put(key.clone(), "first").await?;
    check!(t.client.get(key.clone()).await? == Some(b"first".to_vec()), "not what was put");
    t.client.put(key.clone(), "second").await?;
    check!(t.client.get(key.clone()).await? == Some(b"second".to_vec()), "not overwritten");
    t.client.delete(key.clone()).await?;
    check!(t.client.get(key.clone()).await?.is_none(), "there after delete");
    t.client.delete(key).await?;
    Ok(())
}

async fn empty_value(t: &Test) -> Outcome {
    t.client.put(t.key("empty"), "").await?;
    check!(t.client.get(t.key("empty")).await? == Some(vec![]), "the empty value is missing");
    Ok(())
}

async fn batches(t: &Test) -> Outcome {
    let pairs = t.fill("batch", 1500).await?;
    let mut keys: Vec<_> = pairs.iter().map(|pair| pair.0.clone()).collect();
    keys.push(t.key("batch/missing"));
    check!(plain(t.client.batch_get(keys.clone()).await?) == pairs, "batch get differs");
    t.client.batch_delete(keys.clone()).await?;
    check!(t.client.batch_get(keys).await?.is_empty(), "there after batch delete");
    Ok(())
}

async fn scans(t: &Test) -> Outcome {
    let pairs = t.fill("scan", 1200).await?;
    check!(plain(t.client.scan(t.range("scan"), 5000).await?) == pairs, "scan differs");
    check!(plain(t.client.scan(t.range("scan"), 7).await?) == pairs[..7], "scan with a limit differs");
    let middle = pairs[10].0.clone()..=pairs[20].0.clone();
    check!(plain(t.client.scan(middle, 100).await?) == pairs[10..=20], "scan from key to key differs");
    let keys = plain_keys(t.client.scan_keys(t.range("scan"), 3).await?);
    check!(keys.iter().eq(pairs[..3].iter().map(|pair| &pair.0)), "scan of keys differs");
    check!(t.client.scan(t.range("scan"), 10241).await.is_err(), "a limit over the limit is taken");
    Ok(())
}

async fn reverse_scans(t: &Test) -> Outcome {
    let mut pairs = t.fill("reverse", 600).await?;
    pairs.reverse();
    check!(plain(t.client.scan_reverse(t.range("reverse"), 5000).await?) == pairs, "all differs");
    let last = plain_keys(t.client.scan_keys_reverse(t.range("reverse"), 4).await?);
    check!(last.iter().eq(pairs[..4].iter().map(|pair| &pair.0)), "the last four differ");
    Ok(())
}

async fn batch_scans(t: &Test) -> Outcome {
    let one = t.fill("ranges-a", 20).await?;
    let two = t.fill("ranges-b", 20).await?;
    let found = t.client.batch_scan([t.range("ranges-a"), t.range("ranges-b")], 5).await?;
    check!(plain(found) == [&one[..5], &two[..5]].concat(), "batch scan differs");
    let keys = t.client.batch_scan_keys([t.range("ranges-b")], 100).await?;
    check!(keys.len() == 20, "batch scan of keys found {}", keys.len());
    Ok(())
}

async fn delete_range(t: &Test) -> Outcome {
    let pairs = t.fill("delete", 500).await?;
    t.client.delete_range(pairs[100].0.clone()..pairs[400].0.clone()).await?;
    let left = plain(t.client.scan(t.range("delete"), 1000).await?);
    check!(left == [&pairs[..100], &pairs[400..]].concat(), "{} pairs are left", left.len());
    t.client.delete_range(t.range("delete")).await?;
    check!(t.client.scan(t.range("delete"), 1).await?.is_empty(), "pairs are left");
    Ok(())
}

async fn times_to_live(t: &Test) -> Outcome {
    t.client.put(t.key("ttl/for-ever"), "v").await?;
    let began = Instant::now();
    t.client.put_with_ttl(t.key("ttl/long"), "v", 100).await?;
    let ttl = |name: &str| t.client.get_key_ttl_secs(t.key(name));
    check!(ttl("ttl/for-ever").await? == Some(0), "a key without an end has one");
    check!(ttl("ttl/missing").await?.is_none(), "a missing key has an end");
    let left = ttl("ttl/long").await?;
    let least = 98u64.saturating_sub(began.elapsed().as_secs());
    check!(left.is_some_and(|left| left >= least && left <= 100), "100 s became {left:?}");
    let short = [t.key("ttl/short"), t.key("ttl/other")];
    let began = Instant::now(); // before it is asked for: from the answer on it lives for what is left
    t.client.batch_put_with_ttl(short.clone().map(|key| (key, "v")), [2, 100]).await?;
    while t.client.get(short[0].clone()).await?.is_some() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    check!(began.elapsed().as_secs() >= 1, "gone after {:?}", began.elapsed());
    check!(t.client.scan(t.range("ttl"), 10).await?.len() == 3, "the scan does not have three keys");
    t.client.put(t.key("ttl/long"), "v").await?;
    check!(ttl("ttl/long").await? == Some(0), "a put without an end keeps the old one");
    Ok(())
}

async fn compare_and_swap(t: &Test) -> Outcome {
    let client = t.client.with_atomic_for_cas();
    let key = t.key("cas");
    let swap = |previous: Option<&str>, new: &'static str| {
        client.compare_and_swap(key.clone(), previous.map(|p| p.as_bytes().to_vec()), new)
    };
    check!(swap(Some("x"), "1").await? == (None, false), "swapped a missing key");
    check!(swap(None, "1").await? == (None, true), "did not put a missing key");
    check!(swap(None, "2").await? == (Some(b"1".to_vec()), false), "swapped a key that is there");
    check!(swap(Some("9"), "2").await? == (Some(b"1".to_vec()), false), "swapped another value");
    check!(swap(Some("1"), "2").await? == (Some(b"1".to_vec()), true), "did not swap");
    check!(client.get(key.clone()).await? == Some(b"2".to_vec()), "another value than swapped in");
    client.delete(key).await?;
    Ok(())
}

async fn swaps_of_many(t: &Test) -> Outcome {
    let mut workers = Vec::new();
    for _ in 0..8 {
        let (client, key) = (t.client.with_atomic_for_cas(), t.key("counter"));
        workers.push(tokio::spawn(async move {
            let mut done = 0;
            let mut seen: Option<Vec<u8>> = None;
            while done < 25 {
                let number: u64 = seen.as_ref().map_or(0, |v| String::from_utf8_lossy(v).parse().unwrap());
                let next = (number + 1).to_string().into_bytes();
                let (previous, swapped) = client.compare_and_swap(key.clone(), seen, next.clone()).await?;
                done += swapped as u32;
                seen = if swapped { Some(next) } else { previous };
            }
            Ok::<(), tikv_client::Error>(())
        }));
    }
    for worker in workers {
        worker.await??;
    }
    let sum = t.client.get(t.key("counter")).await?;
    check!(sum == Some(b"200".to_vec()), "200 swaps gave {sum:?}");
    Ok(())
}

async fn column_families(t: &Test) -> Outcome {
    let key = t.key("family");
    for (family, name) in [(ColumnFamily::Write, "write"), (ColumnFamily::Lock, "lock")] {
        t.client.with_cf(family).put(key.clone(), name).await?;
    }
    check!(t.client.get(key.clone()).await?.is_none(), "families are not apart");
    t.client.with_cf(ColumnFamily::Default).put(key.clone(), "default").await?;
    check!(t.client.get(key.clone()).await? == Some(b"default".to_vec()), "default is not the default");
    let write = t.client.with_cf(ColumnFamily::Write);
    check!(write.get(key.clone()).await? == Some(b"write".to_vec()), "not what was put");
    write.delete(key.clone()).await?;
    let lock = t.client.with_cf(ColumnFamily::Lock).get(key).await?;
    check!(lock == Some(b"lock".to_vec()), "deleted in another family, too");
    Ok(())
}

async fn sizes(t: &Test) -> Outcome {
    for size in [64 * 1024, MIB, 8 * MIB - 64 * 1024] {
        let value = shared_value(size);
        t.client.put(t.key("size"), value.clone()).await?;
        check!(t.client.get(t.key("size")).await? == Some(value), "{size} bytes differ");
    }
    t.client.delete(t.key("size")).await?;
    let own_prefix = if t.space == "v2" { 4 } else { 0 };
    let mut key = t.key("long-key/");
    key.resize(8192 - own_prefix, b'k');
    t.client.put(key.clone(), "v").await?;
    check!(t.client.get(key.clone()).await? == Some(b"v".to_vec()), "a key of the limit is missing");
    t.client.delete(key).await?;
    Ok(())
}

async fn oversizes(t: &Test) -> Outcome {
    let mut key = t.key("too-long/");
    key.resize(8193, b'k');
    check!(t.client.put(key, "v").await.is_err(), "a key over the limit is taken");
    let value = vec![0; 17 * MIB];
    check!(t.client.put(t.key("too-big"), value).await.is_err(), "a value over the limit is taken");
    check!(t.client.get(t.key("too-big")).await?.is_none(), "there all the same");
    Ok(())
}

async fn workers(t: &Test) -> Outcome {
    let mut workers = Vec::new();
    for worker in 0..64 {
        let (client, key) = (t.client.clone(), t.key(&format!("worker/{worker:02}-")));
        workers.push(tokio::spawn(async move {
            for i in 0..50 {
                let key = [key.clone(), i.to_string().into_bytes()].concat();
                client.put(key.clone(), key.clone()).await?;
                check!(client.get(key.clone()).await? == Some(key), "worker {worker} lost {i}");
            }
            Outcome::Ok(())
        }));
    }
    for worker in workers {
        worker.await??;
    }
    let count = t.client.scan_keys(t.range("worker"), 5000).await?.len();
    check!(count == 64 * 50, "{count} keys instead of {}", 64 * 50);
    Ok(())
}

async fn list(t: &Test) {
    t.run("a key is put, got and deleted", one_key(t)).await;
    t.run("an empty value is a value", empty_value(t)).await;
    t.run("batches are put, got and deleted", batches(t)).await;
    t.run("scans", scans(t)).await;
    if t.space == "v1-regions" {
        println!("ok - scans backward # SKIP this client's are right within one region only");
        println!("ok - scans of several ranges # SKIP this client's limit holds for each region anew");
    } else {
        t.run("scans backward", reverse_scans(t)).await;
        t.run("scans of several ranges", batch_scans(t)).await;
    }
    t.run("a range is deleted", delete_range(t)).await;
    t.run("keys live as long as told", times_to_live(t)).await;
    t.run("values are compared and swapped", compare_and_swap(t)).await;
    t.run("many swap one value", swaps_of_many(t)).await;
    if t.space == "v2" {
        println!("ok - column families are apart # SKIP API V2 has none");
    } else {
        t.run("column families are apart", column_families(t)).await;
    }
    t.run("sizes up to the limits", sizes(t)).await;
    t.run("sizes over the limits are errors", oversizes(t)).await;
    t.run("64 workers", workers(t)).await;
}

// What one client writes for all others to read.

fn shared_key(prefix: &str, number: usize) -> Vec<u8> {
    [format!("{prefix}{number:04}").as_bytes(), &[0, 0xff, number as u8]].concat()
}

fn shared_value(number: usize) -> Vec<u8> {
    let size = if number < SHARED_COUNT { 1 + number * 37 % 500 } else { number };
    (0..size).map(|at| (number * 31 + at * 7) as u8).collect()
}

fn shared(prefix: &str) -> BTreeMap<Vec<u8>, Vec<u8>> {
    (0..SHARED_COUNT).map(|i| (shared_key(prefix, i), shared_value(i))).collect()
}

async fn write_shared(t: &Test) -> Outcome {
    for (number, (key, value)) in shared(&t.prefix).into_iter().enumerate() {
        if number < 10 {
            t.client.put(key, value).await?;
        } else {
            t.client.batch_put([(key, value)]).await?;
        }
    }
    Ok(())
}

async fn read_shared(t: &Test) -> Outcome {
    let expected: Vec<_> = shared(&t.prefix).into_iter().collect();
    let range = t.prefix.clone().into_bytes()..t.key("~");
    check!(plain(t.client.scan(range.clone(), 1000).await?) == expected, "scan differs");
    let backward: Vec<_> = expected.iter().rev().cloned().collect();
    check!(plain(t.client.scan_reverse(range, 1000).await?) == backward, "scan backward differs");
    let keys: Vec<_> = expected.iter().map(|pair| pair.0.clone()).collect();
    check!(plain(t.client.batch_get(keys).await?) == expected, "batch get differs");
    for (key, value) in expected.into_iter().step_by(29) {
        check!(t.client.get(key).await? == Some(value), "get differs");
    }
    Ok(())
}

// Load while the server is started anew, and to measure.

async fn until_done<T, F: Future<Output = tikv_client::Result<T>>>(
    errors: &AtomicU64,
    call: impl Fn() -> F,
) -> Result<T, Box<dyn std::error::Error + Send + Sync>> {
    let started = Instant::now();
    loop {
        match call().await {
            Ok(value) => return Ok(value),
            Err(error) if started.elapsed().as_secs() > CALL_SECONDS_MAX => return Err(error.into()),
            Err(error) => {
                if errors.fetch_add(1, Ordering::Relaxed) < 3 {
                    println!("# {}", error.to_string().replace('\n', " "));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn load_one(client: RawClient, prefix: String, seconds: u64, errors: Arc<AtomicU64>) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
    let started = Instant::now();
    let mut count = 0;
    let key = |number: usize| format!("{prefix}{number:06}").into_bytes();
    while started.elapsed().as_secs() < seconds {
        until_done(&errors, || client.put(key(count), key(count))).await?;
        let read = until_done(&errors, || client.get(key(count / 2))).await?;
        check!(read == Some(key(count / 2)), "number {} of {count} is {read:?}", count / 2);
        count += 1;
    }
    for first in (0..count).step_by(1000) {
        let keys = || (first..count.min(first + 1000)).map(key);
        let read = until_done(&errors, || client.batch_get(keys())).await?;
        check!(read.len() == keys().len(), "{} of {} are left", read.len(), keys().len());
        check!(read.iter().all(|pair| Vec::from(pair.0.clone()) == pair.1), "values differ");
    }
    Ok(count)
}

async fn load(t: &Test, workers: usize, seconds: u64) -> Outcome {
    let errors = Arc::new(AtomicU64::new(0));
    let running: Vec<_> = (0..workers)
        .map(|w| load_one(t.client.clone(), format!("{}{w:03}-", t.prefix), seconds, errors.clone()))
        .map(tokio::spawn)
        .collect();
    println!("started");
    let mut count = 0;
    for worker in running {
        count += worker.await??;
    }
    println!("# {count} puts, each read again; {} calls failed meanwhile", errors.load(Ordering::Relaxed));
    Ok(())
}

async fn measure(t: &Test, put: bool, workers: usize, seconds: u64) -> Outcome {
    const KEYS: usize = 10_000;
    let pairs = |from: usize| (from..from + 500).map(|i| (format!("{}{i:08}", t.prefix), vec![b'v'; 100]));
    for from in (0..KEYS).step_by(500) {
        t.client.batch_put(pairs(from)).await?;
    }
    let started = Instant::now();
    let mut running = Vec::new();
    for worker in 0..workers {
        let (client, prefix) = (t.client.clone(), t.prefix.clone());
        running.push(tokio::spawn(async move {
            let mut count = 0;
            while started.elapsed().as_secs() < seconds {
                let key = format!("{prefix}{:08}", (worker * 7919 + count * 31) % KEYS);
                if put {
                    client.put(key, vec![b'v'; 100]).await?;
                } else {
                    client.get(key).await?;
                }
                count += 1;
            }
            Ok::<usize, tikv_client::Error>(count)
        }));
    }
    let mut count = 0;
    for worker in running {
        count += worker.await??;
    }
    println!("rate {:.0}", count as f64 / started.elapsed().as_secs_f64());
    Ok(())
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = |at: usize| arguments.get(at).cloned().unwrap_or_default();
    let number = |at: usize, usual: u64| text(at).parse().unwrap_or(usual);
    let (command, space) = (text(0), text(2));
    if command.starts_with("txn-") {
        let (workers, seconds) = (number(4, 16) as usize, number(5, 5));
        std::process::exit(txn::main(&command, &text(1), &space, text(3), &text(4), workers, seconds).await);
    }
    let client = match RawClient::new_with_config(vec![text(1)], config(&space)).await {
        Ok(client) => client,
        Err(error) => {
            println!("not ok - connect: {error}");
            std::process::exit(1);
        }
    };
    let t = Test { client, space, prefix: text(3), failed: AtomicBool::new(false) };
    let (workers, seconds) = (number(4, 16) as usize, number(5, 5));
    let outcome = match command.as_str() {
        "list" => {
            list(&t).await;
            Ok(())
        }
        "write" => write_shared(&t).await,
        "read" => read_shared(&t).await,
        "load" => load(&t, workers, seconds).await,
        "get" | "put" => measure(&t, command == "put", workers, seconds).await,
        _ => Err("unknown command".into()),
    };
    match outcome {
        Err(error) => t.fail(&command, &error.to_string()),
        Ok(()) if command != "list" => println!("ok - {command}"),
        Ok(()) => {}
    }
    std::process::exit(t.failed.load(Ordering::Relaxed) as i32);
}
