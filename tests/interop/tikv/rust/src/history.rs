//! Random transactions, told as lines of JSON: ../../../history.py checks them, and ../../go/history.go is alike.
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tikv_client::{TimestampExt, Transaction};

use crate::txn::{is_conflict, is_deadlock, optimistic, pessimistic, Txns};

const ACCOUNTS: u64 = 12;
const REGISTERS: u64 = 6;
const WORKERS: u64 = 4;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Values = BTreeMap<String, String>;

/// xorshift: the same choices for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    /// Two different numbers.
    fn two(&mut self, bound: u64) -> (u64, u64) {
        let one = self.below(bound);
        (one, (one + 1 + self.below(bound - 1)) % bound)
    }
}

fn account(number: u64) -> String {
    format!("account/{number:02}")
}

fn register(number: u64) -> String {
    format!("register/{number}")
}

fn balance(value: &str) -> u64 {
    value.split(' ').next().unwrap_or_default().parse().unwrap_or(0)
}

fn now_us() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()
}

#[derive(Default)]
struct Told {
    start: u64,
    began: u128,
    reads: Values,
    locked: Values,
    writes: Values,
}

impl Told {
    fn tell(&self, outcome: &str, commit: u64) {
        let values = |values: &Values| {
            let fields: Vec<_> = values.iter().map(|(key, value)| format!("\"{key}\":\"{value}\"")).collect();
            format!("{{{}}}", fields.join(","))
        };
        println!(
            "{{\"start\":{},\"commit\":{commit},\"outcome\":\"{outcome}\",\"reads\":{},\"locked\":{},\"writes\":{},\"began\":{},\"ended\":{}}}",
            self.start, values(&self.reads), values(&self.locked), values(&self.writes), self.began, now_us()
        );
    }
}

async fn read(t: &Txns, txn: &mut Transaction, told: &mut Told, names: &[String], lock: bool) -> Result<(), Failure> {
    for name in names {
        let value = if lock { txn.get_for_update(t.key(name)).await? } else { txn.get(t.key(name)).await? };
        let value = String::from_utf8(value.unwrap_or_default())?;
        if lock { &mut told.locked } else { &mut told.reads }.insert(name.clone(), value);
    }
    Ok(())
}

/// Moves money, or writes a register after it has read some.
async fn body(t: &Txns, txn: &mut Transaction, told: &mut Told, random: &mut Random, lock: bool, id: &str) -> Result<(), Failure> {
    let kind = random.below(10);
    if kind < 2 {
        let all: Vec<_> = (0..ACCOUNTS).map(account).collect();
        return read(t, txn, told, &all, false).await;
    }
    let (one, two) = if kind < 5 { random.two(REGISTERS) } else { random.two(ACCOUNTS) };
    let name = if kind < 5 { register } else { account };
    let (one, two) = (name(one), name(two));
    read(t, txn, told, &[one.clone(), two.clone()], lock).await?;
    if kind < 5 {
        told.writes.insert(one, format!("0 {id}"));
    } else {
        let from = if lock { &told.locked } else { &told.reads };
        let (has, other) = (balance(&from[&one]), balance(&from[&two]));
        let amount = random.below(has + 1);
        told.writes.insert(one, format!("{} {id}", has - amount));
        told.writes.insert(two, format!("{} {id}", other + amount));
    }
    for (name, value) in &told.writes {
        txn.put(t.key(name), value.clone()).await?;
    }
    Ok(())
}

async fn one(t: &Txns, random: &mut Random, id: &str) {
    let lock = random.below(2) == 0;
    let mut options = if lock { pessimistic() } else { optimistic() };
    if random.below(2) == 0 {
        options = options.use_async_commit();
    }
    if random.below(3) == 0 {
        options = options.try_one_pc();
    }
    let mut told = Told { began: now_us(), ..Told::default() };
    let mut txn = match t.begin(options).await {
        Ok(txn) => txn,
        Err(_) => return tokio::time::sleep(Duration::from_millis(50)).await,
    };
    told.start = txn.start_timestamp().version();
    if body(t, &mut txn, &mut told, random, lock, id).await.is_err() {
        let _ = txn.rollback().await;
        return;
    }
    if told.writes.is_empty() {
        told.tell("read", 0);
        let _ = txn.rollback().await;
        return;
    }
    told.tell("begun", 0);
    let ended = txn.commit().await;
    let told = Told { start: told.start, began: told.began, ..Told::default() };
    match ended {
        Ok(commit) => told.tell("done", commit.map(|ts| ts.version()).unwrap_or(0)),
        Err(error) if is_conflict(&error) || is_deadlock(&error) => told.tell("failed", 0),
        Err(_) => told.tell("unknown", 0),
    }
}

pub async fn run(t: &Txns, seed: &str, seconds: u64) -> Result<(), Failure> {
    let number: u64 = seed.parse()?;
    let started = Instant::now();
    let mut running = Vec::new();
    for worker in 0..WORKERS {
        let (t, seed) = (t.clone(), seed.to_string());
        running.push(tokio::spawn(async move {
            let mut random = Random((number * 1000 + worker + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut count = 0;
            while started.elapsed().as_secs() < seconds {
                one(&t, &mut random, &format!("{seed}.{worker}.{count}")).await;
                count += 1;
            }
        }));
    }
    for worker in running {
        worker.await?;
    }
    Ok(())
}
