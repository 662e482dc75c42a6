//! What a data directory may do to a gateway: be taken, be damaged, be full, not be writable.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use oxgrpc_gateway::config::Storage;
use oxgrpc_gateway::state::{self, Condition, EmbeddedStore, Error, Store, Write, system_clock};

fn write(key: &str, value: Vec<u8>) -> Write {
    Write { key: key.into(), value: Some(value.into()), condition: Condition::Always, ttl: None }
}

fn open(directory: &Path) -> Result<EmbeddedStore, Error> {
    EmbeddedStore::in_directory(directory, system_clock())
}

fn message(result: Result<EmbeddedStore, Error>) -> String {
    match result {
        Ok(_) => panic!("it opened"),
        Err(Error::Unavailable(message)) => message,
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn two_gateways_do_not_share_one() {
    let directory = tempfile::tempdir().unwrap();
    let storage = Storage::Directory(directory.path().join("made/on/demand"));
    let first = state::open(&storage).await.unwrap();
    let Err(Error::Unavailable(message)) = state::open(&storage).await else { panic!("opened") };
    let process = format!("process {}", std::process::id());
    for part in ["made/on/demand", &process, "--data"] {
        assert!(message.contains(part), "{message}");
    }
    first.transact("orders", vec![write("a", vec![1])]).await.unwrap();
    drop(first);
    let again = state::open(&storage).await.unwrap();
    assert!(again.get("orders", "a").await.unwrap().is_some());
}

#[tokio::test]
async fn a_damaged_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.redb");
    {
        let store = open(directory.path()).unwrap();
        for key in 0..50 {
            store.transact("orders", vec![write(&key.to_string(), vec![7; 5000])]).await.unwrap();
        }
    }
    let whole = fs::read(&file).unwrap();
    let damaged: [(&str, Vec<u8>); 5] = [
        ("not redb", b"this is a text, and no database".repeat(1000)),
        ("cut short", whole[..whole.len() / 3].to_vec()),
        ("only its beginning", whole[..100].to_vec()),
        ("no magic", [&[0; 64], &whole[64..]].concat()),
        ("zeroes", vec![0; whole.len()]),
    ];
    for (kind, octets) in damaged {
        fs::write(&file, octets).unwrap();
        let message = message(open(directory.path()));
        assert!(message.contains("state.redb") && message.contains("damaged"), "{kind}: {message}");
    }
    // Nothing was made worse: a backup put back is whole.
    fs::write(&file, whole).unwrap();
    let store = open(directory.path()).unwrap();
    assert_eq!(store.entries("orders", usize::MAX).await.unwrap().len(), 50);
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for place in [file.as_path(), &file.join("below"), Path::new("/proc/none")] {
        let message = message(open(place));
        assert!(message.contains(&place.display().to_string()), "{message}");
    }
}

/// A file system of its own, mounted for one test; only root may mount.
struct Mount(tempfile::TempDir);

impl Mount {
    fn tmpfs(options: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(directory.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            Some(Self(directory))
        } else {
            eprintln!("skipped: mounting a tmpfs takes root");
            None
        }
    }

    fn remount(&self, options: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(self.0.path())
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_read_only_directory_is_named() {
    let Some(mount) = Mount::tmpfs("size=2m") else { return };
    drop(open(mount.0.path()).unwrap());
    mount.remount("ro");
    let message = message(open(mount.0.path()));
    let path = mount.0.path().display().to_string();
    assert!(message.contains(&path) && message.contains("Read-only"), "{message}");
    mount.remount("rw");
    open(mount.0.path()).unwrap();
}

#[tokio::test]
async fn a_full_disk_is_named_and_writes_go_on_when_it_is_freed() {
    let Some(mount) = Mount::tmpfs("size=2m") else { return };
    let store = open(mount.0.path()).unwrap();
    let ballast = mount.0.path().join("ballast");
    fs::write(&ballast, vec![1; 1_000_000]).unwrap();
    let mut written = 0;
    let error = loop {
        match store.transact("orders", vec![write(&written.to_string(), vec![7; 50_000])]).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    let Error::Exhausted(message) = error else { panic!("{error:?}") };
    assert!(message.contains("state.redb") && message.contains("no space"), "{message}");
    assert_eq!(store.entries("orders", usize::MAX).await.unwrap().len(), written);
    fs::remove_file(ballast).unwrap();
    store.transact("orders", vec![write("last", vec![7; 50_000])]).await.unwrap();
    store.health().await.unwrap();
    assert_eq!(store.entries("orders", usize::MAX).await.unwrap().len(), written + 1);
}
