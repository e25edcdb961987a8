//! Transactions of the published Rust client; README.md has the commands.
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tikv_client::transaction::{HeartbeatOption, ResolveLocksOptions};
use tikv_client::{
    Backoff, CheckLevel, Error, KvPair, RetryOptions, Snapshot, TimestampExt, Transaction, TransactionClient,
    TransactionOptions,
};

use crate::{config, history, shared, Outcome, CALL_SECONDS_MAX};

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

const CRASH_KEYS: usize = 10;

#[derive(Clone)]
pub struct Txns {
    client: Arc<TransactionClient>,
    space: String,
    prefix: String,
    failed: Arc<AtomicBool>,
}

/// Goes on for as long as a lock may live that nobody renews: by itself the client gives up after 2 s.
fn patient(options: TransactionOptions) -> TransactionOptions {
    let backoff = || Backoff::no_jitter_backoff(50, 400, 20);
    options.drop_check(CheckLevel::None).retry_options(RetryOptions::new(backoff(), backoff()))
}

pub fn optimistic() -> TransactionOptions {
    patient(TransactionOptions::new_optimistic())
}

pub fn pessimistic() -> TransactionOptions {
    TransactionOptions::new_pessimistic().drop_check(CheckLevel::None)
}

fn plain(pairs: impl Iterator<Item = KvPair>) -> Pairs {
    pairs.map(|pair| (pair.0.into(), pair.1)).collect()
}

#[derive(Clone, Copy)]
enum Reason {
    Deadlock,
    Conflict,
    Locked,
    Exists,
}

/// Is the reason somewhere within the failure?
fn has(error: &Error, reason: Reason) -> bool {
    match error {
        Error::KeyError(key_error) => match reason {
            Reason::Deadlock => key_error.deadlock.is_some(),
            Reason::Conflict => key_error.conflict.is_some(),
            Reason::Locked => key_error.locked.is_some(),
            Reason::Exists => key_error.already_exist.is_some(),
        },
        Error::ExtractedErrors(errors) | Error::MultipleKeyErrors(errors) => errors.iter().any(|e| has(e, reason)),
        Error::UndeterminedError(inner) => has(inner, reason),
        Error::PessimisticLockError { inner, .. } => has(inner, reason),
        _ => false,
    }
}

pub fn is_deadlock(error: &Error) -> bool {
    has(error, Reason::Deadlock)
}

pub fn is_conflict(error: &Error) -> bool {
    has(error, Reason::Conflict)
}

fn is_locked(error: &Error) -> bool {
    matches!(error, Error::ResolveLockError(_)) || has(error, Reason::Locked)
        || matches!(error, Error::PessimisticLockError { inner, .. } if is_locked(inner))
}

fn exists(error: &Error) -> bool {
    matches!(error, Error::DuplicateKeyInsertion) || has(error, Reason::Exists)
}

impl Txns {
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

    pub fn key(&self, name: &str) -> Vec<u8> {
        [self.prefix.as_bytes(), name.as_bytes()].concat()
    }

    fn range(&self, name: &str) -> std::ops::Range<Vec<u8>> {
        self.key(&format!("{name}/"))..self.key(&format!("{name}0"))
    }

    pub async fn begin(&self, options: TransactionOptions) -> tikv_client::Result<Transaction> {
        self.client.begin_with_options(options).await
    }

    async fn now(&self) -> tikv_client::Result<Snapshot> {
        Ok(self.client.snapshot(self.client.current_timestamp().await?, optimistic().read_only()))
    }

    async fn get(&self, name: &str) -> tikv_client::Result<Option<String>> {
        let value = self.now().await?.get(self.key(name)).await?;
        Ok(value.map(|v| String::from_utf8_lossy(&v).into_owned()))
    }

    async fn check_value(&self, name: &str, value: &str) -> Outcome {
        let there = self.get(name).await?;
        check!(there.as_deref().unwrap_or("") == value, "{name} is {there:?}, not {value:?}");
        Ok(())
    }

    /// Writes in one transaction; an empty value removes.
    async fn put(&self, writes: &[(&str, &str)]) -> Outcome {
        let mut txn = self.begin(optimistic()).await?;
        for (name, value) in writes {
            if value.is_empty() {
                txn.delete(self.key(name)).await?;
            } else {
                txn.put(self.key(name), *value).await?;
            }
        }
        txn.commit().await?;
        Ok(())
    }

    async fn fill(&self, name: &str, count: usize) -> Result<Pairs, Failure> {
        let pairs: Pairs = (0..count)
            .map(|i| (self.key(&format!("{name}/{i:05}")), format!("value {i}").into_bytes()))
            .collect();
        let mut txn = self.begin(optimistic()).await?;
        for (key, value) in &pairs {
            txn.put(key.clone(), value.clone()).await?;
        }
        txn.commit().await?;
        Ok(pairs)
    }

    async fn scan(&self, name: &str) -> Result<Pairs, Failure> {
        Ok(plain(self.now().await?.scan(self.range(name), 10_000).await?))
    }

    async fn scan_down(&self, name: &str) -> Result<Pairs, Failure> {
        Ok(plain(self.now().await?.scan_reverse(self.range(name), 10_000).await?))
    }

    /// Prewrites and goes no further.
    async fn leave_locks(&self, names: &[String]) -> Outcome {
        let mut txn = self.begin(optimistic().heartbeat_option(HeartbeatOption::NoHeartbeat)).await?;
        for name in names {
            txn.put(self.key(name), "locked").await?;
        }
        fail::cfg("after-prewrite", "return")?;
        let ended = txn.commit().await;
        fail::remove("after-prewrite");
        check!(ended.is_err(), "the commit went on");
        Ok(())
    }
}

fn reversed(pairs: &Pairs) -> Pairs {
    pairs.iter().rev().cloned().collect()
}

// What every client does.

async fn own_writes(t: &Txns) -> Outcome {
    let mut before = t.now().await?;
    let mut txn = t.begin(optimistic()).await?;
    txn.put(t.key("own/a"), "1").await?;
    check!(txn.get(t.key("own/a")).await? == Some(b"1".to_vec()), "a transaction does not read its own writes");
    check!(t.get("own/a").await?.is_none(), "another one reads them before the commit");
    txn.put(t.key("own/b"), "2").await?;
    let committed = txn.commit().await?.map(|ts| ts.version()).unwrap_or(0);
    check!(committed > txn.start_timestamp().version(), "the commit timestamp is {committed}");
    t.check_value("own/a", "1").await?;
    check!(before.get(t.key("own/a")).await?.is_none(), "a snapshot from before reads them");
    t.put(&[("own/a", ""), ("own/b", "3")]).await?;
    t.check_value("own/a", "").await?;
    t.check_value("own/b", "3").await?;
    t.put(&[("own/empty", "x")]).await?;
    let mut txn = t.begin(optimistic()).await?;
    txn.put(t.key("own/empty"), "").await?;
    txn.commit().await?;
    check!(t.get("own/empty").await?.as_deref() == Some(""), "the empty value is missing");
    Ok(())
}

async fn rollback(t: &Txns) -> Outcome {
    t.put(&[("rollback", "before")]).await?;
    for options in [optimistic(), pessimistic()] {
        let mut txn = t.begin(options).await?;
        txn.put(t.key("rollback"), "never").await?;
        txn.rollback().await?;
    }
    t.check_value("rollback", "before").await
}

async fn conflict(t: &Txns) -> Outcome {
    t.put(&[("conflict", "0")]).await?;
    let mut one = t.begin(optimistic()).await?;
    let mut two = t.begin(optimistic()).await?;
    one.put(t.key("conflict"), "1").await?;
    two.put(t.key("conflict"), "2").await?;
    one.commit().await?;
    let ended = two.commit().await;
    check!(matches!(&ended, Err(e) if is_conflict(e)), "the second commit ends with {ended:?}");
    t.check_value("conflict", "1").await
}

async fn large(t: &Txns) -> Outcome {
    let pairs = t.fill("large", 3000).await?;
    let mut keys: Vec<_> = pairs[..1500].iter().map(|pair| pair.0.clone()).collect();
    keys.push(t.key("large/missing"));
    let mut found = plain(t.now().await?.batch_get(keys).await?);
    found.sort();
    check!(found == pairs[..1500], "batch get differs");
    check!(t.scan("large").await? == pairs, "scan differs");
    Ok(())
}

async fn scans(t: &Txns) -> Outcome {
    let mut pairs = t.fill("scan", 1200).await?;
    check!(t.scan("scan").await? == pairs, "scan differs");
    check!(t.scan_down("scan").await? == reversed(&pairs), "scan backward differs");
    let first = plain(t.now().await?.scan(t.range("scan"), 7).await?);
    check!(first == pairs[..7], "scan with a limit differs");
    let last = plain(t.now().await?.scan_reverse(t.range("scan"), 7).await?);
    check!(last == reversed(&pairs)[..7], "scan backward with a limit differs");
    let keys = t.now().await?.scan_keys(t.range("scan"), 5000).await?.count();
    check!(keys == 1200, "scan of keys finds {keys}");
    let mut txn = t.begin(optimistic()).await?;
    txn.delete(pairs[0].0.clone()).await?;
    txn.put(pairs[1].0.clone(), "mine").await?;
    pairs[1].1 = b"mine".to_vec();
    pairs.remove(0);
    let mine = plain(txn.scan(t.range("scan"), 5000).await?);
    check!(mine == pairs, "scan over own writes differs");
    let mine = plain(txn.scan_reverse(t.range("scan"), 5000).await?);
    check!(mine == reversed(&pairs), "scan backward over own writes differs");
    txn.rollback().await?;
    Ok(())
}

async fn locks_in_the_way(t: &Txns) -> Outcome {
    let pairs = t.fill("way", 300).await?;
    let names: Vec<String> = (40..280).step_by(30).map(|i| format!("way/{i:05}")).collect();
    t.leave_locks(&names).await?;
    check!(t.scan_down("way").await? == reversed(&pairs), "scan backward differs");
    t.leave_locks(&names).await?;
    check!(t.scan("way").await? == pairs, "scan differs");
    t.leave_locks(&names).await?;
    t.check_value(&names[3], "value 130").await?;
    t.leave_locks(&names).await?;
    t.put(&[(&names[0], "again"), (&names[1], "again")]).await?;
    t.check_value(&names[1], "again").await
}

async fn duplicates(t: &Txns) -> Outcome {
    t.put(&[("insert/there", "1")]).await?;
    for options in [optimistic(), pessimistic()] {
        let mut txn = t.begin(options).await?;
        let mut ended = txn.insert(t.key("insert/there"), "2").await;
        if ended.is_ok() {
            ended = txn.commit().await.map(|_| ());
        } else {
            txn.rollback().await?;
        }
        check!(matches!(&ended, Err(e) if exists(e)), "an insert of what is there ends with {ended:?}");
        t.check_value("insert/there", "1").await?;
    }
    let mut txn = t.begin(optimistic()).await?;
    txn.insert(t.key("insert/new"), "new").await?;
    txn.commit().await?;
    t.check_value("insert/new", "new").await
}

async fn pessimistic_locks(t: &Txns) -> Outcome {
    t.put(&[("locked/a", "1")]).await?;
    let mut txn = t.begin(pessimistic()).await?;
    check!(txn.get_for_update(t.key("locked/a")).await? == Some(b"1".to_vec()), "get for update differs");
    check!(txn.get_for_update(t.key("locked/missing")).await?.is_none(), "a missing key is there");
    let keys = [t.key("locked/a"), t.key("locked/b"), t.key("locked/missing")];
    let found = txn.batch_get_for_update(keys).await?;
    check!(found.len() == 1, "batch get for update finds {}", found.len());
    txn.lock_keys([t.key("locked/c")]).await?;
    let mut other = t.begin(pessimistic().no_resolve_locks()).await?;
    let started = Instant::now();
    let ended = other.get_for_update(t.key("locked/a")).await;
    check!(matches!(&ended, Err(e) if is_locked(e)), "a lock of a locked key ends with {ended:?}");
    check!(started.elapsed().as_millis() > 800, "it waited {:?}, not 1 s", started.elapsed());
    other.rollback().await?;
    t.check_value("locked/a", "1").await?;
    txn.put(t.key("locked/a"), "2").await?;
    txn.commit().await?;
    t.check_value("locked/a", "2").await
}

async fn lock_wait(t: &Txns) -> Outcome {
    let mut holder = t.begin(pessimistic()).await?;
    holder.put(t.key("wait"), "holder").await?;
    let waiter = tokio::spawn({
        let t = t.clone();
        async move {
            loop {
                let mut txn = t.begin(pessimistic()).await?;
                match txn.get_for_update(t.key("wait")).await {
                    Err(error) if is_conflict(&error) || is_locked(&error) => txn.rollback().await?,
                    Err(error) => return Err(error),
                    Ok(value) => {
                        txn.put(t.key("wait"), "waiter").await?;
                        txn.commit().await?;
                        return Ok(value);
                    }
                }
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    check!(!waiter.is_finished(), "the lock did not wait");
    holder.commit().await?;
    let value = waiter.await??;
    check!(value == Some(b"holder".to_vec()), "the waiter found {value:?}");
    t.check_value("wait", "waiter").await
}

async fn deadlock(t: &Txns) -> Outcome {
    let mut one = t.begin(pessimistic()).await?;
    let mut two = t.begin(pessimistic()).await?;
    one.lock_keys([t.key("deadlock/a")]).await?;
    two.lock_keys([t.key("deadlock/b")]).await?;
    let key = t.key("deadlock/b");
    let waiting = tokio::spawn(async move {
        let ended = one.lock_keys([key]).await;
        (one, ended)
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let ended = two.lock_keys([t.key("deadlock/a")]).await;
    check!(matches!(&ended, Err(e) if is_deadlock(e)), "the circle ends with {ended:?}");
    two.rollback().await?;
    let (mut one, ended) = waiting.await?;
    check!(ended.is_ok(), "the other one ends with {ended:?}");
    one.put(t.key("deadlock/b"), "1").await?;
    one.commit().await?;
    t.check_value("deadlock/b", "1").await
}

/// Beyond the life of its locks, 20 s in this client, which renews them.
async fn heartbeats(t: &Txns) -> Outcome {
    let often = HeartbeatOption::FixedTime(Duration::from_secs(2));
    let mut txn = t.begin(pessimistic().heartbeat_option(often)).await?;
    txn.put(t.key("heart/a"), "alive").await?;
    tokio::time::sleep(Duration::from_secs(22)).await;
    let mut other = t.begin(pessimistic().no_resolve_locks()).await?;
    let ended = other.lock_keys([t.key("heart/a")]).await;
    check!(matches!(&ended, Err(e) if is_locked(e)), "the lock was lost: {ended:?}");
    other.rollback().await?;
    txn.put(t.key("heart/b"), "alive").await?;
    txn.commit().await?;
    t.check_value("heart/b", "alive").await
}

async fn own_timestamps(t: &Txns, name: &str, options: [TransactionOptions; 2]) -> Outcome {
    for (number, options) in options.into_iter().enumerate() {
        let mut txn = t.begin(options).await?;
        for i in 0..5 {
            txn.put(t.key(&format!("{name}/{number}/{i}")), "1").await?;
        }
        let committed = txn.commit().await?.map(|ts| ts.version()).unwrap_or(0);
        check!(committed > txn.start_timestamp().version(), "the commit timestamp is {committed}");
        t.check_value(&format!("{name}/{number}/4"), "1").await?;
    }
    Ok(())
}

async fn counter(t: &Txns, name: &'static str, options: fn() -> TransactionOptions) -> Outcome {
    const WORKERS: usize = 8;
    const EACH: usize = 12;
    let mut running = Vec::new();
    for worker in 0..WORKERS {
        let t = t.clone();
        running.push(tokio::spawn(async move {
            let mut done = 0;
            while done < EACH {
                let mut txn = t.begin(options()).await?;
                let key = t.key(name);
                let value = if options().is_pessimistic() { txn.get_for_update(key).await } else { txn.get(key).await };
                let ended = match value {
                    Ok(value) => {
                        let mut value = value.unwrap_or_default();
                        value.push(b'x');
                        txn.put(t.key(name), value).await?;
                        txn.commit().await.map(|_| ())
                    }
                    Err(error) => {
                        txn.rollback().await?;
                        Err(error)
                    }
                };
                match ended {
                    Ok(()) => done += 1,
                    Err(e) if is_conflict(&e) || is_locked(&e) => {
                        tokio::time::sleep(Duration::from_millis(worker as u64 * 3)).await
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok::<(), Error>(())
        }));
    }
    for worker in running {
        worker.await??;
    }
    let value = t.get(name).await?.unwrap_or_default();
    check!(value.len() == WORKERS * EACH, "{} increments gave {}", WORKERS * EACH, value.len());
    Ok(())
}

async fn cleanup(t: &Txns) -> Outcome {
    let pairs = t.fill("cleanup", 100).await?;
    let names: Vec<String> = (0..100).step_by(5).map(|i| format!("cleanup/{i:05}")).collect();
    t.leave_locks(&names).await?;
    tokio::time::sleep(Duration::from_millis(3200)).await; // until they have ended
    let safe_point = t.client.current_timestamp().await?;
    let found = t.client.scan_locks(&safe_point, t.range("cleanup"), 1024).await?;
    check!(found.len() == names.len(), "scan of locks finds {}", found.len());
    t.client.cleanup_locks(t.range("cleanup"), &safe_point, ResolveLocksOptions::default()).await?;
    let found = t.client.scan_locks(&safe_point, t.range("cleanup"), 1024).await?;
    check!(found.is_empty(), "{} locks are left", found.len());
    check!(t.scan("cleanup").await? == pairs, "pairs differ");
    t.client.unsafe_destroy_range(t.range("cleanup")).await?;
    check!(t.scan("cleanup").await?.is_empty(), "pairs are left");
    Ok(())
}

async fn gc(t: &Txns) -> Outcome {
    for i in 0..10 {
        t.put(&[("gc", &i.to_string())]).await?;
    }
    check!(t.client.gc(t.client.current_timestamp().await?).await?, "another safe point");
    t.check_value("gc", "9").await
}

async fn list(t: &Txns) {
    let heart = tokio::spawn({
        let t = t.clone();
        async move { t.run("heartbeats", heartbeats(&t)).await }
    });
    t.run("own writes and snapshots", own_writes(t)).await;
    t.run("rollback", rollback(t)).await;
    t.run("write conflict", conflict(t)).await;
    t.run("a large transaction", large(t)).await;
    t.run("scans", scans(t)).await;
    t.run("uncommitted locks in the way", locks_in_the_way(t)).await;
    t.run("insert of duplicates", duplicates(t)).await;
    t.run("pessimistic locks", pessimistic_locks(t)).await;
    t.run("lock wait", lock_wait(t)).await;
    t.run("deadlock", deadlock(t)).await;
    let options = [optimistic().use_async_commit(), pessimistic().use_async_commit()];
    t.run("async commit", own_timestamps(t, "async", options)).await;
    let options = [optimistic().try_one_pc(), pessimistic().try_one_pc()];
    t.run("one-phase commit", own_timestamps(t, "one-phase", options)).await;
    t.run("counter of many", counter(t, "counter/optimistic", optimistic)).await;
    t.run("counter of many, pessimistic", counter(t, "counter/pessimistic", pessimistic)).await;
    t.run("scan and cleanup of locks, destroyed range", cleanup(t)).await;
    if heart.await.is_err() {
        t.fail("heartbeats", "panicked");
    }
    t.run("garbage collection", gc(t)).await;
}

// What one client writes for all others to read.

async fn write_shared(t: &Txns) -> Outcome {
    let mut txn = t.begin(optimistic()).await?;
    for (key, value) in shared(&t.prefix) {
        txn.put(key, value).await?;
    }
    txn.commit().await?;
    Ok(())
}

async fn read_shared(t: &Txns) -> Outcome {
    let expected: Pairs = shared(&t.prefix).into_iter().collect();
    let range = t.prefix.clone().into_bytes()..t.key("~");
    check!(plain(t.now().await?.scan(range.clone(), 1000).await?) == expected, "scan differs");
    check!(plain(t.now().await?.scan_reverse(range, 1000).await?) == reversed(&expected), "scan backward differs");
    let keys: Vec<_> = expected.iter().map(|pair| pair.0.clone()).collect();
    let found: BTreeMap<_, _> = plain(t.now().await?.batch_get(keys).await?).into_iter().collect();
    check!(found.into_iter().collect::<Pairs>() == expected, "batch get differs");
    Ok(())
}

// A client that dies, and the next one.

async fn before(t: &Txns) -> Outcome {
    let names: Vec<String> = (0..CRASH_KEYS).map(|i| i.to_string()).collect();
    t.put(&names.iter().map(|name| (name.as_str(), "old")).collect::<Vec<_>>()).await
}

async fn crash(t: &Txns, stage: &str) -> Outcome {
    let names: Vec<String> = (0..CRASH_KEYS).map(|i| i.to_string()).collect();
    let mut txn = t.begin(pessimistic().heartbeat_option(HeartbeatOption::NoHeartbeat)).await?;
    match stage {
        "locked" => txn.lock_keys(names.iter().map(|name| t.key(name))).await?,
        "prewritten" => t.leave_locks(&names).await?,
        _ => return Err("there is no such stage".into()),
    }
    println!("stage reached");
    std::future::pending().await
}

async fn after(t: &Txns, value: &str) -> Outcome {
    let range = t.prefix.clone().into_bytes()..t.key("~");
    let pairs = plain(t.now().await?.scan(range, 100).await?);
    check!(pairs.len() == CRASH_KEYS, "{} keys", pairs.len());
    for (number, pair) in pairs.iter().enumerate() {
        check!(pair.1 == value.as_bytes(), "key {number} is {:?}", String::from_utf8_lossy(&pair.1));
    }
    Ok(())
}

async fn measure(t: &Txns, keys: usize, workers: usize, seconds: u64) -> Outcome {
    let started = Instant::now();
    let mut running = Vec::new();
    for worker in 0..workers {
        let t = t.clone();
        running.push(tokio::spawn(async move {
            let mut count = 0;
            while started.elapsed().as_secs() < seconds {
                let mut txn = t.begin(optimistic().heartbeat_option(HeartbeatOption::NoHeartbeat)).await?;
                for i in 0..keys {
                    let key = t.key(&format!("{worker:03}/{:06}", (count * keys + i) % 2000));
                    txn.put(key, vec![b'v'; 100]).await?;
                }
                txn.commit().await?;
                count += 1;
            }
            Ok::<usize, Error>(count)
        }));
    }
    let mut count = 0;
    for worker in running {
        count += worker.await??;
    }
    println!("rate {:.0}", count as f64 / started.elapsed().as_secs_f64());
    Ok(())
}

/// Runs a command; gives the exit status.
pub async fn main(command: &str, pd: &str, space: &str, prefix: String, stage: &str, workers: usize, seconds: u64) -> i32 {
    let client = match TransactionClient::new_with_config(vec![pd.to_string()], config(space)).await {
        Ok(client) => client,
        Err(error) => {
            println!("not ok - connect: {error}");
            return 1;
        }
    };
    let t = Txns { client: Arc::new(client), space: space.to_string(), prefix, failed: Arc::default() };
    let outcome = match command {
        "txn-list" => {
            list(&t).await;
            Ok(())
        }
        "txn-write" => write_shared(&t).await,
        "txn-read" => read_shared(&t).await,
        "txn-before" => before(&t).await,
        "txn-crash" => crash(&t, stage).await,
        "txn-after" => after(&t, stage).await,
        "txn-history" => history::run(&t, stage, seconds).await.map_err(|error| error.to_string().into()),
        "txn-one" => measure(&t, 1, workers, seconds).await,
        "txn-five" => measure(&t, 5, workers, seconds).await,
        _ => Err("unknown command".into()),
    };
    match outcome {
        Err(error) => t.fail(command, &error.to_string()),
        Ok(()) if command != "txn-list" => println!("ok - {command} {}", t.space),
        Ok(()) => {}
    }
    t.failed.load(Ordering::Relaxed) as i32
}
