//! The contract that every store keeps, as tests that run on every engine.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::{HandClock, Place};
use oxgrpc_gateway::state::{
    Condition, Error, MAX_KEY_BYTES, MAX_SERVICE_BYTES, MAX_VALUE_BYTES, Store, Write, system_clock,
};

contract!(Place: memory, directory, nats => {
    a_value_is_read_as_it_was_written,
    etags_never_repeat,
    an_etag_that_is_stale_changes_nothing,
    one_of_64_creates_a_key,
    one_of_8_writers_wins_each_round,
    a_transaction_is_all_or_nothing,
    a_transaction_may_write_a_key_twice,
    any_text_is_a_key,
    keys_and_services_out_of_bounds_are_refused,
    values_have_one_limit,
    a_value_expires,
    an_expiry_survives_a_restart,
    keys_are_listed_in_pages,
    services_do_not_see_each_other,
    all_entries_are_bounded,
    state_and_registered_keys_survive_a_restart,
    it_is_healthy,
});

fn put(key: &str, value: &[u8]) -> Write {
    Write {
        key: key.into(),
        value: Some(value.to_vec().into()),
        condition: Condition::Always,
        ttl: None,
    }
}

fn remove(key: &str) -> Write {
    Write { key: key.into(), value: None, condition: Condition::Always, ttl: None }
}

trait Conditional {
    /// The same write, if the condition holds.
    fn when(self, condition: Condition) -> Self;
}

impl Conditional for Write {
    fn when(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }
}

/// Writes one key and returns its etag.
async fn save(store: &dyn Store, write: Write) -> Result<String, Error> {
    Ok(store.transact("orders", vec![write]).await?.remove(0).unwrap_or_default())
}

async fn value(store: &dyn Store, key: &str) -> Option<Vec<u8>> {
    store.get("orders", key).await.unwrap().map(|entry| entry.value.to_vec())
}

fn conflict(key: &str) -> Error {
    Error::Conflict { key: key.into() }
}

async fn opened(place: &Place) -> Arc<dyn Store> {
    place.open(system_clock()).await.unwrap()
}

async fn a_value_is_read_as_it_was_written(place: Place) {
    let store = opened(&place).await;
    assert_eq!(store.get("orders", "a").await.unwrap(), None);
    for octets in [&b""[..], b"\0\xff\xfe", "voilà".as_bytes()] {
        let etag = save(&*store, put("a", octets)).await.unwrap();
        let entry = store.get("orders", "a").await.unwrap().unwrap();
        assert_eq!((&entry.value[..], entry.etag, entry.expires), (octets, etag, None));
    }
    assert_eq!(store.transact("orders", vec![remove("a")]).await.unwrap(), [None]);
    assert_eq!(store.get("orders", "a").await.unwrap(), None);
    assert_eq!(store.transact("orders", vec![remove("a")]).await.unwrap(), [None]);
}

async fn etags_never_repeat(place: Place) {
    let store = opened(&place).await;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..20 {
        assert!(seen.insert(save(&*store, put("a", b"same")).await.unwrap()));
        assert!(seen.insert(save(&*store, put("a", b"same")).await.unwrap()));
        save(&*store, remove("a")).await.unwrap();
    }
}

async fn an_etag_that_is_stale_changes_nothing(place: Place) {
    let store = opened(&place).await;
    let first = save(&*store, put("a", b"1")).await.unwrap();
    let matching = |etag: &str| Condition::Match(etag.into());
    let second = save(&*store, put("a", b"2").when(matching(&first))).await.unwrap();
    for stale in [first.as_str(), "", "0", "no etag at all", "-1", " "] {
        let write = put("a", b"3").when(matching(stale));
        assert_eq!(save(&*store, write).await, Err(conflict("a")), "{stale:?}");
        let write = remove("a").when(matching(stale));
        assert_eq!(save(&*store, write).await, Err(conflict("a")), "{stale:?}");
    }
    assert_eq!(value(&*store, "a").await.as_deref(), Some(&b"2"[..]));
    save(&*store, remove("a").when(matching(&second))).await.unwrap();
    // A key that is gone matches no etag, not even its last.
    assert_eq!(save(&*store, put("a", b"3").when(matching(&second))).await, Err(conflict("a")));
    save(&*store, put("a", b"4")).await.unwrap();
    assert_eq!(save(&*store, put("a", b"3").when(matching(&second))).await, Err(conflict("a")));
}

async fn one_of_64_creates_a_key(place: Place) {
    let store = opened(&place).await;
    for _ in 0..3 {
        let writers: Vec<_> = (0..64)
            .map(|writer: u8| {
                let store = store.clone();
                tokio::spawn(async move {
                    let write = put("new", &[writer]).when(Condition::Absent);
                    store.transact("orders", vec![write]).await.map(|_| writer)
                })
            })
            .collect();
        let mut winners = Vec::new();
        for writer in writers {
            match writer.await.unwrap() {
                Ok(winner) => winners.push(winner),
                Err(error) => assert_eq!(error, conflict("new")),
            }
        }
        assert_eq!(winners.len(), 1);
        assert_eq!(value(&*store, "new").await, Some(winners));
        // And again, where the key has been before.
        save(&*store, remove("new")).await.unwrap();
    }
}

async fn one_of_8_writers_wins_each_round(place: Place) {
    let stores = [opened(&place).await];
    count_up(&stores, 8, 25).await;
}

/// Each writer adds one to a counter so many times, by etag: nothing may be lost.
async fn count_up(stores: &[Arc<dyn Store>], writers: usize, times: usize) {
    save(&*stores[0], put("counter", b"0")).await.unwrap();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let store = stores[writer % stores.len()].clone();
            tokio::spawn(async move {
                let mut done = 0;
                while done < times {
                    let entry = store.get("orders", "counter").await.unwrap().unwrap();
                    let count: usize =
                        String::from_utf8(entry.value.to_vec()).unwrap().parse().unwrap();
                    let write = put("counter", (count + 1).to_string().as_bytes());
                    match save(&*store, write.when(Condition::Match(entry.etag))).await {
                        Ok(_) => done += 1,
                        Err(error) => assert_eq!(error, conflict("counter")),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for store in stores {
        let count = value(&**store, "counter").await.unwrap();
        assert_eq!(String::from_utf8(count).unwrap(), (writers * times).to_string());
    }
}

async fn a_transaction_is_all_or_nothing(place: Place) {
    let store = opened(&place).await;
    let etag = save(&*store, put("a", b"1")).await.unwrap();
    save(&*store, put("b", b"1")).await.unwrap();
    for condition in [Condition::Match("1".into()), Condition::Absent] {
        let writes = vec![
            put("c", b"2"),
            put("a", b"2").when(Condition::Match(etag.clone())),
            remove("b").when(condition),
        ];
        assert_eq!(store.transact("orders", writes).await, Err(conflict("b")));
        assert_eq!(value(&*store, "a").await.as_deref(), Some(&b"1"[..]));
        assert_eq!(value(&*store, "b").await.as_deref(), Some(&b"1"[..]));
        assert_eq!(value(&*store, "c").await, None);
    }
    let writes = vec![
        put("a", b"2").when(Condition::Match(etag.clone())),
        remove("b"),
        put("c", b"2").when(Condition::Absent),
    ];
    let etags = store.transact("orders", writes).await.unwrap();
    assert_eq!(etags[1], None);
    for (key, etag) in [("a", &etags[0]), ("c", &etags[2])] {
        let entry = store.get("orders", key).await.unwrap().unwrap();
        assert_eq!((&entry.value[..], Some(&entry.etag)), (&b"2"[..], etag.as_ref()));
    }
    assert_eq!(value(&*store, "b").await, None);
}

async fn a_transaction_may_write_a_key_twice(place: Place) {
    let store = opened(&place).await;
    // Conditions are about what was before: both hold.
    let writes = vec![
        put("a", b"1").when(Condition::Absent),
        put("a", b"2").when(Condition::Absent),
        put("b", b"1"),
        remove("b"),
    ];
    let etags = store.transact("orders", writes).await.unwrap();
    let entry = store.get("orders", "a").await.unwrap().unwrap();
    assert_eq!((&entry.value[..], Some(&entry.etag)), (&b"2"[..], etags[1].as_ref()));
    assert_eq!(value(&*store, "b").await, None);
    assert_eq!(store.transact("orders", vec![]).await.unwrap(), []);
}

async fn any_text_is_a_key(place: Place) {
    let store = opened(&place).await;
    let long = "k".repeat(MAX_KEY_BYTES);
    let emoji = "🦀".repeat(MAX_KEY_BYTES / 4);
    let mut keys: BTreeMap<String, Vec<u8>> = [
        "a",
        " ",
        ".",
        "..",
        "a.b",
        "a..b",
        "a*",
        ">",
        "$",
        "/",
        "//",
        "a/b/c",
        "a||b",
        "a:b",
        "a b",
        "\t",
        "\n",
        "\0",
        "a\0b",
        "\u{7f}",
        "=",
        "_",
        "-",
        "ä",
        "é",
        "e\u{301}",
        "日本語",
        "🦀",
        "\u{10ffff}",
        "A",
        "%2F",
        "\\",
        "\"",
        "'",
        &long,
        &emoji,
    ]
    .iter()
    .enumerate()
    .map(|(number, key)| ((*key).to_owned(), number.to_string().into_bytes()))
    .collect();
    for (key, octets) in &keys {
        save(&*store, put(key, octets)).await.unwrap();
    }
    for (key, octets) in &keys {
        assert_eq!(value(&*store, key).await.as_ref(), Some(octets), "{key:?}");
    }
    let entries = store.entries("orders", usize::MAX).await.unwrap();
    let found: Vec<_> =
        entries.into_iter().map(|(key, entry)| (key, entry.value.to_vec())).collect();
    assert_eq!(found, keys.clone().into_iter().collect::<Vec<_>>());
    let listed = store.list_keys("orders", "", None, 1000).await.unwrap();
    assert_eq!(listed.keys, keys.keys().cloned().collect::<Vec<_>>());
    save(&*store, remove("a\0b")).await.unwrap();
    keys.remove("a\0b");
    assert_eq!(store.entries("orders", usize::MAX).await.unwrap().len(), keys.len());
}

async fn keys_and_services_out_of_bounds_are_refused(place: Place) {
    let store = opened(&place).await;
    let long = "k".repeat(MAX_KEY_BYTES + 1);
    let huge = "k".repeat(10 * 1024 * 1024);
    for key in ["", &long, &huge] {
        for error in [
            store.get("orders", key).await.unwrap_err(),
            save(&*store, put(key, b"")).await.unwrap_err(),
            save(&*store, remove(key)).await.unwrap_err(),
            store.register_keys("orders", vec![key.into()]).await.unwrap_err(),
        ] {
            let Error::Invalid(message) = error else { panic!("{error:?}") };
            assert!(message.contains("key") && message.len() < 200, "{message}");
        }
    }
    let long = "s".repeat(MAX_SERVICE_BYTES + 1);
    for service in ["", "a\0b", &long] {
        for error in [
            store.get(service, "a").await.unwrap_err(),
            store.transact(service, vec![put("a", b"")]).await.unwrap_err(),
            store.register_keys(service, vec![]).await.unwrap_err(),
            store.registered_keys(service).await.unwrap_err(),
            store.entries(service, 1000).await.unwrap_err(),
            store.list_keys(service, "", None, 1).await.unwrap_err(),
        ] {
            let Error::Invalid(message) = error else { panic!("{error:?}") };
            assert!(message.contains("service"), "{message}");
        }
    }
    assert_eq!(store.entries("orders", 1000).await.unwrap(), []);
}

async fn values_have_one_limit(place: Place) {
    let store = opened(&place).await;
    let mut large: Vec<u8> = (0..MAX_VALUE_BYTES).map(|octet| (octet % 251) as u8).collect();
    let etag = save(&*store, put("large", &large)).await.unwrap();
    assert_eq!(value(&*store, "large").await.as_ref(), Some(&large));
    large.push(0);
    let error = save(&*store, put("large", &large)).await.unwrap_err();
    let Error::Exhausted(message) = error else { panic!("{error:?}") };
    for part in ["large", &MAX_VALUE_BYTES.to_string(), &large.len().to_string()] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(store.get("orders", "large").await.unwrap().unwrap().etag, etag);
    // Two at the limit in one transaction, and one more that has to go with them.
    large.pop();
    let writes = vec![put("x", &large), put("y", &large), put("z", b"small")];
    store.transact("orders", writes).await.unwrap();
    assert_eq!(value(&*store, "y").await, Some(large));
    assert_eq!(value(&*store, "z").await.as_deref(), Some(&b"small"[..]));
}

async fn a_value_expires(place: Place) {
    let clock = HandClock::new();
    let store = place.open(clock.clock()).await.unwrap();
    let minute = Duration::from_secs(60);
    let mut write = put("a", b"1");
    write.ttl = Some(minute);
    let etag = save(&*store, write.clone()).await.unwrap();
    save(&*store, put("b", b"1")).await.unwrap();
    let expires = store.get("orders", "a").await.unwrap().unwrap().expires.unwrap();
    let expected = clock.now() + minute;
    let off = expires.duration_since(expected).or_else(|_| expected.duration_since(expires));
    assert!(off.unwrap() < Duration::from_secs(1));
    clock.advance(minute - Duration::from_secs(1));
    assert_eq!(value(&*store, "a").await.as_deref(), Some(&b"1"[..]));
    clock.advance(Duration::from_secs(2));
    assert_eq!(value(&*store, "a").await, None);
    assert_eq!(store.list_keys("orders", "", None, 10).await.unwrap().keys, ["b"]);
    assert_eq!(store.entries("orders", 1000).await.unwrap().len(), 1);
    let stale = put("a", b"2").when(Condition::Match(etag));
    assert_eq!(save(&*store, stale).await, Err(conflict("a")));
    // It is as if it had never been: it can be created.
    save(&*store, write.when(Condition::Absent)).await.unwrap();
    // A write without a limit takes it away.
    save(&*store, put("a", b"3")).await.unwrap();
    clock.advance(minute * 2);
    assert_eq!(value(&*store, "a").await.as_deref(), Some(&b"3"[..]));
}

async fn an_expiry_survives_a_restart(place: Place) {
    if !place.survives() {
        return;
    }
    let clock = HandClock::new();
    let store = place.open(clock.clock()).await.unwrap();
    let mut write = put("a", b"1");
    write.ttl = Some(Duration::from_secs(60));
    save(&*store, write).await.unwrap();
    drop(store);
    let store = place.open(clock.clock()).await.unwrap();
    assert_eq!(value(&*store, "a").await.as_deref(), Some(&b"1"[..]));
    drop(store);
    clock.advance(Duration::from_secs(61));
    let store = place.open(clock.clock()).await.unwrap();
    assert_eq!(value(&*store, "a").await, None);
    save(&*store, put("a", b"2").when(Condition::Absent)).await.unwrap();
}

async fn keys_are_listed_in_pages(place: Place) {
    let store = opened(&place).await;
    let empty = store.list_keys("orders", "x/", None, 10).await.unwrap();
    assert_eq!((empty.keys.len(), empty.next), (0, None));
    let writes = (0..25).map(|number| put(&format!("x/{number:02}"), b"v")).collect();
    store.transact("orders", writes).await.unwrap();
    store.transact("orders", vec![put("w", b""), put("x", b""), put("x0", b"")]).await.unwrap();
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = store.list_keys("orders", "x/", after.as_deref(), 10).await.unwrap();
        pages.push(page.keys);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
    let expected: Vec<_> = (0..25).map(|number| format!("x/{number:02}")).collect();
    assert_eq!(pages.concat(), expected);
    // The last page may be full, and a page may begin after a key that is gone.
    let page = store.list_keys("orders", "x/", Some("x/14"), 10).await.unwrap();
    assert_eq!((page.keys.len(), page.next), (10, None));
    save(&*store, remove("x/14")).await.unwrap();
    assert_eq!(store.list_keys("orders", "x/", Some("x/14"), 1).await.unwrap().keys, ["x/15"]);
    // A place before the prefix is its beginning.
    assert_eq!(store.list_keys("orders", "x/", Some("a"), 1).await.unwrap().keys, ["x/00"]);
    assert_eq!(store.list_keys("orders", "", None, 1).await.unwrap().keys, ["w"]);
}

async fn services_do_not_see_each_other(place: Place) {
    let store = opened(&place).await;
    let names = ["a", "a.b", "a b", "ab", "a/", "A", "ä", "a||b", "*", ">"];
    for name in names {
        store.transact(name, vec![put("key", name.as_bytes())]).await.unwrap();
        store.register_keys(name, vec![format!("{name} registered")]).await.unwrap();
    }
    for name in names {
        let entries = store.entries(name, 1000).await.unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(&entries[0].1.value[..], name.as_bytes());
        assert_eq!(store.list_keys(name, "", None, 10).await.unwrap().keys, ["key"]);
        assert_eq!(store.registered_keys(name).await.unwrap(), [format!("{name} registered")]);
    }
}

async fn all_entries_are_bounded(place: Place) {
    let store = opened(&place).await;
    let writes = (0..10).map(|number| put(&number.to_string(), &[0; 1000])).collect();
    store.transact("orders", writes).await.unwrap();
    assert_eq!(store.entries("orders", 20_000).await.unwrap().len(), 10);
    let error = store.entries("orders", 5_000).await.unwrap_err();
    let Error::Exhausted(message) = error else { panic!("{error:?}") };
    assert!(message.contains("orders") && message.contains("5000"), "{message}");
}

async fn state_and_registered_keys_survive_a_restart(place: Place) {
    if !place.survives() {
        return;
    }
    let mut store = opened(&place).await;
    let etag = save(&*store, put("a", b"1")).await.unwrap();
    save(&*store, put("b", b"1")).await.unwrap();
    save(&*store, remove("b")).await.unwrap();
    store.register_keys("orders", vec!["z".into(), "y".into()]).await.unwrap();
    for _ in 0..3 {
        drop(store);
        store = opened(&place).await;
        let entry = store.get("orders", "a").await.unwrap().unwrap();
        assert_eq!((&entry.value[..], &entry.etag), (&b"1"[..], &etag));
        assert_eq!(value(&*store, "b").await, None);
        assert_eq!(store.registered_keys("orders").await.unwrap(), ["y", "z"]);
        assert_ne!(save(&*store, put("c", b"1")).await.unwrap(), etag);
    }
}

async fn it_is_healthy(place: Place) {
    let store = opened(&place).await;
    store.health().await.unwrap();
}
