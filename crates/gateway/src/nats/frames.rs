//! How a record becomes messages: NATS takes 1 MiB at most, a record may be several. The last message makes it a record;
//! without that one, the others are nothing.
//!
//! A message is the record's id (16 octets), its number among the record's messages and how many these are (4 octets each,
//! big-endian), and its part of the record.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use uuid::Uuid;

const HEADER_BYTES: usize = 24;

/// Parts whose last message has not come for so long, by the server's time, never become a record.
const ABANDONED: Duration = Duration::from_secs(120);

/// Returns the messages of a record.
pub(super) fn split(id: Uuid, record: &Bytes, max_message_bytes: usize) -> Vec<Bytes> {
    let part = max_message_bytes.saturating_sub(HEADER_BYTES).max(1);
    let count = record.len().div_ceil(part).max(1);
    (0..count)
        .map(|index| {
            let content = record.slice(index * part..record.len().min((index + 1) * part));
            let mut message = BytesMut::with_capacity(HEADER_BYTES + content.len());
            message.put_slice(id.as_bytes());
            message.put_u32(u32::try_from(index).unwrap_or(u32::MAX));
            message.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
            message.put(content);
            message.freeze()
        })
        .collect()
}

/// Puts records together again. Every reader of the same messages gets the same records.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    unfinished: HashMap<Uuid, (SystemTime, Vec<Bytes>)>,
}

impl Assembly {
    /// Takes the next message; returns a record if it was the last of one.
    pub(super) fn take(&mut self, mut message: Bytes, time: SystemTime) -> Option<(Uuid, Bytes)> {
        self.unfinished
            .retain(|_, (begun, _)| time.duration_since(*begun).unwrap_or_default() < ABANDONED);
        if message.len() < HEADER_BYTES {
            tracing::warn!("a message in the log that is not the gateway's");
            return None;
        }
        let id = Uuid::from_slice(&message.split_to(16)).ok()?;
        let (index, count) = (message.get_u32() as usize, message.get_u32() as usize);
        if count == 1 {
            return Some((id, message));
        }
        let (_, parts) = self.unfinished.entry(id).or_insert_with(|| (time, Vec::new()));
        if parts.len() != index {
            // A part is missing: its writer has failed.
            self.unfinished.remove(&id);
            return None;
        }
        parts.push(message);
        if parts.len() < count {
            return None;
        }
        let (_, parts) = self.unfinished.remove(&id)?;
        Some((id, parts.concat().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in() {
        let now = SystemTime::now();
        for size in [0, 1, 75, 76, 77, 152, 153, 1000] {
            let record = Bytes::from_iter((0..size).map(|octet: u32| octet as u8));
            let id = Uuid::new_v4();
            let messages = split(id, &record, 100);
            assert!(messages.iter().all(|message| message.len() <= 100));
            let mut assembly = Assembly::default();
            let mut records: Vec<_> =
                messages.into_iter().map(|message| assembly.take(message, now)).collect();
            assert_eq!(records.pop().flatten(), Some((id, record)));
            assert!(records.iter().all(Option::is_none) && assembly.unfinished.is_empty());
        }
    }

    #[test]
    fn parts_of_several_may_mix_and_may_be_abandoned() {
        let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
        let (first, second) = (Bytes::from(vec![1; 50]), Bytes::from(vec![2; 50]));
        let ones = split(one, &first, 50);
        let twos = split(two, &second, 50);
        let now = SystemTime::now();
        let mut assembly = Assembly::default();
        assert_eq!(assembly.take(ones[0].clone(), now), None);
        assert_eq!(assembly.take(twos[0].clone(), now), None);
        assert_eq!(assembly.take(twos[1].clone(), now), Some((two, second)));
        // The first writer has died; its last part comes too late, or is all that comes.
        assert_eq!(assembly.take(ones[1].clone(), now + ABANDONED), None);
        assert_eq!(assembly.take(ones[1].clone(), now), None);
        assert_eq!(assembly.take(Bytes::from_static(b"short"), now), None);
        assert!(assembly.unfinished.is_empty());
    }
}
