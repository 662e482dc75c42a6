//! No acknowledged write is lost, whatever the disk does: errors and power cuts at every point, no space left, kill -9.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use common::disk::{Disk, Fault};
use oxgrpc_gateway::state::{Condition, EmbeddedStore, Error, Store, Write, system_clock};

/// Numbers for a test that has to be the same each time.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }

    fn coin(&mut self) -> bool {
        self.next().is_multiple_of(2)
    }
}

fn put(key: String, value: Vec<u8>) -> Write {
    Write { key, value: Some(value.into()), condition: Condition::Always, ttl: None }
}

fn on(disk: &Disk) -> Result<EmbeddedStore, Error> {
    let disk = disk.clone();
    EmbeddedStore::on("the test's disk", Box::new(move || disk.open()), system_clock())
}

/// The value of a key in a round: large enough for several pages, and telling.
fn content(key: usize, round: usize) -> Vec<u8> {
    format!("{key}:{round};").repeat(300 + 900 * (round % 4)).into_bytes()
}

const KEYS: usize = 3;

/// Writes all keys in one transaction.
async fn write(store: &EmbeddedStore, round: usize) -> Result<(), Error> {
    let writes = (0..KEYS).map(|key| put(key.to_string(), content(key, round))).collect();
    store.transact("s", writes).await.map(drop)
}

/// Returns the round whose values the store has: all keys are of one round, and whole.
async fn round(store: &EmbeddedStore) -> Option<usize> {
    let entries = store.entries("s", usize::MAX).await.unwrap();
    if entries.is_empty() {
        return None;
    }
    let text = std::str::from_utf8(&entries[0].1.value).unwrap();
    let round = text[2..text.find(';').unwrap()].parse().unwrap();
    let expected: Vec<_> = (0..KEYS).map(|key| (key.to_string(), content(key, round))).collect();
    let found: Vec<_> =
        entries.into_iter().map(|(key, entry)| (key, entry.value.to_vec())).collect();
    assert!(found == expected, "a transaction in parts: round {round}");
    Some(round)
}

const ROUNDS: usize = 8;

/// Runs all rounds, and returns the last that was acknowledged and whether any failed.
async fn run(store: &EmbeddedStore) -> (Option<usize>, bool) {
    let (mut acknowledged, mut failed) = (None, false);
    for round in 0..ROUNDS {
        match write(store, round).await {
            Ok(()) => acknowledged = Some(round),
            Err(Error::Unavailable(message)) => {
                assert!(message.contains("the test's disk"), "{message}");
                failed = true;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    (acknowledged, failed)
}

#[tokio::test]
async fn an_error_at_every_point_costs_at_most_that_write() {
    let mut operation = 0;
    let mut failures = 0;
    loop {
        let disk = Disk::default();
        let store = on(&disk).unwrap();
        disk.arm(operation, Fault::Error);
        let (acknowledged, failed) = run(&store).await;
        let happened = disk.disarm();
        failures += usize::from(failed);
        // The same store goes on, without a restart.
        let found = round(&store).await;
        assert!(found >= acknowledged, "operation {operation}: {acknowledged:?}, {found:?}");
        write(&store, ROUNDS).await.unwrap();
        assert_eq!(round(&store).await, Some(ROUNDS));
        drop(store);
        assert_eq!(round(&on(&disk).unwrap()).await, Some(ROUNDS), "operation {operation}");
        if !happened {
            break;
        }
        operation += 1;
    }
    assert!(operation > 50 && failures > 20, "{failures} of {operation} were noticed");
}

#[tokio::test]
async fn a_power_cut_at_every_point_loses_nothing_acknowledged() {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let mut operation = 0;
    loop {
        let disk = Disk::default();
        let store = on(&disk).unwrap();
        disk.arm(operation, Fault::PowerCut);
        let (acknowledged, _) = run(&store).await;
        drop(store);
        for _ in 0..4 {
            let disk = disk.after_power_cut(|| chance.coin());
            let store = on(&disk).unwrap_or_else(|error| panic!("operation {operation}: {error}"));
            let found = round(&store).await;
            assert!(found >= acknowledged, "operation {operation}: {acknowledged:?}, {found:?}");
            write(&store, ROUNDS).await.unwrap();
            assert_eq!(round(&store).await, Some(ROUNDS));
        }
        if !disk.disarm() {
            break;
        }
        operation += 1;
    }
    assert!(operation > 50);
}

#[tokio::test]
async fn a_full_disk_is_told_and_writes_go_on_when_it_is_freed() {
    let disk = Disk::default();
    let store = on(&disk).unwrap();
    let mut acknowledged = 0;
    for room in [200_000, 400_000, 900_000] {
        disk.set_capacity(Some(room));
        let error = loop {
            let key = acknowledged.to_string();
            match store.transact("s", vec![put(key, content(1, acknowledged))]).await {
                Ok(_) => acknowledged += 1,
                Err(error) => break error,
            }
        };
        let Error::Exhausted(message) = error else { panic!("{error:?}") };
        assert!(message.contains("no space is left for the test's disk"), "{message}");
        // What is there can be read meanwhile, and further writes are told the same.
        assert_eq!(store.entries("s", usize::MAX).await.unwrap().len(), acknowledged);
        let again = store.transact("s", vec![put("x".into(), vec![0; 3_000_000])]).await;
        assert!(matches!(again, Err(Error::Exhausted(_))), "{again:?}");
    }
    disk.set_capacity(None);
    store.transact("s", vec![put("last".into(), vec![0; 3_000_000])]).await.unwrap();
    assert_eq!(store.entries("s", usize::MAX).await.unwrap().len(), acknowledged + 1);
}

#[tokio::test]
async fn the_file_does_not_grow_where_values_are_overwritten() {
    let disk = Disk::default();
    let store = on(&disk).unwrap();
    for _ in 0..50 {
        write(&store, 3).await.unwrap();
    }
    let size = disk.len();
    for _ in 0..300 {
        write(&store, 3).await.unwrap();
    }
    assert!(disk.len() <= 2 * size, "{} octets after {size}", disk.len());
}

/// The directory of a child process that writes until it is killed.
const CHILD: &str = "OXGRPC_TEST_WRITES_TO";
const WRITERS: usize = 4;

/// Not a test by itself: what the killed process runs. It says which writes were acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes_until_it_is_killed() {
    let Ok(directory) = std::env::var(CHILD) else { return };
    let store = EmbeddedStore::in_directory(Path::new(&directory), system_clock()).unwrap();
    let store = Arc::new(store);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            let key = writer.to_string();
            let before = store.get("s", &key).await.unwrap();
            let mut count: u64 = before.map_or(0, |entry| text(&entry.value).parse().unwrap());
            while count < u64::MAX {
                count += 1;
                let twin = put(format!("twin of {key}"), count.to_string().into());
                let write = put(key.clone(), count.to_string().into());
                store.transact("s", vec![write, twin]).await.unwrap();
                let mut out = std::io::stdout().lock();
                writeln!(out, "acknowledged {writer} {count}").unwrap();
                out.flush().unwrap();
            }
        });
    }
    writers.join_all().await;
}

fn text(octets: &[u8]) -> &str {
    std::str::from_utf8(octets).unwrap()
}

#[tokio::test]
async fn kill_9_a_hundred_times_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeMap::new();
    let mut chance = Chance(7);
    for kill in 0..100 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture"])
            .env(CHILD, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledge = |line: String| {
            let mut words = line.split_whitespace();
            let found = words.any(|word| word == "acknowledged");
            if let (true, Some(writer), Some(Ok(count))) =
                (found, words.next(), words.next().map(str::parse::<u64>))
            {
                acknowledged.insert(writer.to_owned(), count);
            }
            found
        };
        // At any moment: a few times before the first write, later among many.
        let mut wanted = if kill < 5 { 0 } else { chance.next() % 40 };
        while wanted > 0 {
            let line = lines.next().expect("the child has ended by itself").unwrap();
            wanted -= u64::from(acknowledge(line));
        }
        child.kill().unwrap();
        // A last line may be cut off within its number; all whole ones were acknowledged.
        for line in lines.map_while(Result::ok) {
            if line.split_whitespace().count() == 3 {
                acknowledge(line);
            }
        }
        child.wait().unwrap();

        let store = EmbeddedStore::in_directory(directory.path(), system_clock())
            .unwrap_or_else(|error| panic!("after kill {kill}: {error}"));
        for (writer, count) in &acknowledged {
            let value = store.get("s", writer).await.unwrap().unwrap().value;
            let twin = store.get("s", &format!("twin of {writer}")).await.unwrap().unwrap().value;
            assert!(text(&value).parse::<u64>().unwrap() >= *count, "after kill {kill}");
            assert_eq!(value, twin, "after kill {kill}");
        }
    }
    assert_eq!(acknowledged.len(), WRITERS);
}
