//! Messages (PROTOCOL-HTTP2.md, "Length-Prefixed-Message"): cut out of a stream's content, held until they are read.

use crate::status::{Code, Status};

/// Octets of a message's prefix: a flag and the length.
pub(crate) const PREFIX_LEN: usize = 5;

/// A message of at least this length is assembled in a buffer of its own, so that it is not copied once more.
const LARGE: usize = 32 << 10;

/// A longer message grows with what has come.
const CLAIMED: usize = 64 << 20;

/// Nor is memory claimed for more than so many times what has come of a message: ten thousand prefixes of 4 MiB, with
/// nothing behind them, would otherwise claim 40 GiB, and take up a page each (measured: 134 MiB).
const CLAIM_FACTOR: usize = 16;

/// What a received message is delivered in: the caller's own kind of memory, so that a message is copied once.
pub trait MessageBuffer: Sized {
    /// A message that is there as a whole.
    fn copy_of(octets: &[u8]) -> Self;
    /// An empty buffer with room for a message of `len` octets.
    fn with_capacity(len: usize) -> Self;
    /// Adds the next octets; never more than there is room for.
    fn append(&mut self, octets: &[u8]);
    /// What has been added.
    fn octets(&self) -> &[u8];
}

impl MessageBuffer for Vec<u8> {
    fn copy_of(octets: &[u8]) -> Self {
        octets.to_vec()
    }
    fn with_capacity(len: usize) -> Self {
        Self::with_capacity(len)
    }
    fn append(&mut self, octets: &[u8]) {
        self.extend_from_slice(octets);
    }
    fn octets(&self) -> &[u8] {
        self
    }
}

/// Whether a message of `len` octets, of which `come` are there, gets a buffer of its own.
fn has_own_buffer(len: usize, come: usize) -> bool {
    (LARGE..=CLAIMED).contains(&len) && come >= len / CLAIM_FACTOR
}

/// The prefix of a message to send.
#[inline]
pub(crate) fn prefix(compressed: bool, len: usize) -> [u8; PREFIX_LEN] {
    let [a, b, c, d] = (len as u32).to_be_bytes();
    [u8::from(compressed), a, b, c, d]
}

/// Reads a prefix, if all of it is there.
#[inline]
fn parse_prefix(octets: &[u8], max: usize) -> Result<Option<(bool, usize)>, Status> {
    let Some(&[flag, a, b, c, d]) = octets.first_chunk::<PREFIX_LEN>() else { return Ok(None) };
    if flag > 1 {
        return Err(Status::new(Code::Internal, "A message's compressed flag is neither 0 nor 1"));
    }
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    if len > max {
        let text = format!("Received message larger than max ({len} vs. {max})");
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    Ok(Some((flag == 1, len)))
}

/// A message in a buffer of its own, whole or not.
#[derive(Debug)]
struct Assembly<B> {
    compressed: bool,
    len: usize,
    buffer: B,
}

impl<B: MessageBuffer> Assembly<B> {
    fn missing(&self) -> usize {
        self.len - self.buffer.octets().len()
    }
}

/// The received and unread content of one call.
///
/// Unread messages are kept as they came, in one buffer, so that a thousand messages of one octet take up what the
/// flow-control window says and not a thousand objects. Only the first message has a buffer of its own.
#[derive(Debug)]
pub(crate) struct Inbox<B> {
    head: Option<Assembly<B>>,
    /// What came behind the head, from `read` on.
    rest: Vec<u8>,
    read: usize,
    /// Where in `rest` the first incomplete message begins.
    scanned: usize,
    /// Whole messages in `rest`.
    complete: usize,
}

/// A message taken out of the inbox.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken<B> {
    pub(crate) compressed: bool,
    pub(crate) message: B,
    /// Octets of the stream's content that it took.
    pub(crate) content_len: usize,
}

impl<B: MessageBuffer> Inbox<B> {
    pub(crate) fn new() -> Self {
        Self { head: None, rest: Vec::new(), read: 0, scanned: 0, complete: 0 }
    }

    /// Adds content; returns how many messages it completes. An error is the call's end.
    pub(crate) fn push(&mut self, mut content: &[u8], max: usize) -> Result<usize, Status> {
        let mut completed = 0;
        loop {
            if let Some(head) = self.head.as_mut().filter(|head| head.missing() > 0) {
                let (now, later) = content.split_at(head.missing().min(content.len()));
                head.buffer.append(now);
                content = later;
                if head.missing() > 0 {
                    return Ok(completed);
                }
                completed += 1;
            }
            if content.is_empty() {
                return Ok(completed);
            }
            if self.head.is_some() || self.read < self.rest.len() {
                self.rest.extend_from_slice(content);
                break;
            }
            let Some((compressed, len)) = parse_prefix(content, max)? else {
                self.rest.extend_from_slice(content);
                break;
            };
            let body = &content[PREFIX_LEN..];
            if let Some((message, later)) = body.split_at_checked(len) {
                self.head = Some(Assembly { compressed, len, buffer: B::copy_of(message) });
                content = later;
                completed += 1;
            } else if has_own_buffer(len, body.len()) {
                self.head = Some(Assembly { compressed, len, buffer: B::with_capacity(len) });
                content = body;
            } else {
                self.rest.extend_from_slice(content);
                break;
            }
        }
        Ok(completed + self.scan(max)?)
    }

    /// Counts whole messages in `rest`; a large one that stands first moves into a buffer of its own.
    fn scan(&mut self, max: usize) -> Result<usize, Status> {
        let mut completed = 0;
        while let Some((compressed, len)) = parse_prefix(&self.rest[self.scanned..], max)? {
            let body = self.scanned + PREFIX_LEN;
            if self.rest.len() - body < len {
                let is_first = self.head.is_none() && self.complete == 0;
                if is_first && has_own_buffer(len, self.rest.len() - body) {
                    let mut buffer = B::with_capacity(len);
                    buffer.append(&self.rest[body..]);
                    self.head = Some(Assembly { compressed, len, buffer });
                    self.clear_rest();
                }
                break;
            }
            self.scanned = body + len;
            self.complete += 1;
            completed += 1;
        }
        Ok(completed)
    }

    /// Takes the first message, if it is whole.
    pub(crate) fn take(&mut self) -> Option<Taken<B>> {
        if let Some(head) = self.head.take_if(|head| head.missing() == 0) {
            let content_len = PREFIX_LEN + head.len;
            return Some(Taken { compressed: head.compressed, message: head.buffer, content_len });
        }
        if self.complete == 0 {
            return None;
        }
        // `scan` has seen this prefix, so it is whole and within the limit.
        let (compressed, len) = parse_prefix(&self.rest[self.read..], usize::MAX).ok()??;
        let body = self.read + PREFIX_LEN;
        let message = B::copy_of(&self.rest[body..body + len]);
        self.read = body + len;
        self.complete -= 1;
        if self.read == self.rest.len() {
            self.clear_rest();
        } else if self.read >= LARGE && self.read * 2 >= self.rest.len() {
            self.rest.drain(..self.read);
            self.scanned -= self.read;
            self.read = 0;
        }
        Some(Taken { compressed, message, content_len: PREFIX_LEN + len })
    }

    /// Whether the next message is whole and was sent compressed.
    pub(crate) fn next_is_compressed(&self) -> bool {
        match &self.head {
            Some(head) => head.missing() == 0 && head.compressed,
            None => self.complete > 0 && self.rest[self.read] == 1,
        }
    }

    /// Whether a whole message is there.
    pub(crate) fn has_message(&self) -> bool {
        self.messages() > 0
    }

    /// How many messages are whole.
    pub(crate) fn messages(&self) -> usize {
        let is_whole = |head: &Assembly<B>| head.missing() == 0;
        self.complete + usize::from(self.head.as_ref().is_some_and(is_whole))
    }

    /// Whether the content ends within a message.
    pub(crate) fn ends_within_message(&self) -> bool {
        self.scanned < self.rest.len() || self.head.as_ref().is_some_and(|head| head.missing() > 0)
    }

    /// Of an incomplete message at the front whose length is known: that length and the octets missing.
    pub(crate) fn incomplete(&self) -> Option<(usize, usize)> {
        if let Some(head) = &self.head {
            return (head.missing() > 0).then(|| (head.len, head.missing()));
        }
        if self.complete > 0 {
            return None;
        }
        let rest = &self.rest[self.read..];
        let (_, len) = parse_prefix(rest, usize::MAX).ok()??;
        Some((len, len + PREFIX_LEN - rest.len()))
    }

    /// Octets of content that are held.
    pub(crate) fn held(&self) -> usize {
        let head = self.head.as_ref().map_or(0, |head| PREFIX_LEN + head.buffer.octets().len());
        head + self.rest.len() - self.read
    }

    fn clear_rest(&mut self) {
        if self.rest.capacity() > LARGE {
            self.rest = Vec::new();
        } else {
            self.rest.clear();
        }
        self.read = 0;
        self.scanned = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        [&prefix(false, message.len())[..], message].concat()
    }

    #[test]
    fn limits_are_named() {
        let mut inbox = Inbox::<Vec<u8>>::new();
        let status = inbox.push(&framed(&[0; 11]), 10).unwrap_err();
        assert_eq!(status.code, Code::ResourceExhausted);
        assert_eq!(status.message, "Received message larger than max (11 vs. 10)");
        // Also behind an unread message, and with nothing but the prefix there.
        let mut inbox = Inbox::<Vec<u8>>::new();
        assert_eq!(inbox.push(&framed(b"a"), 10), Ok(1));
        assert_eq!(
            inbox.push(&prefix(false, 2 << 30), 10).unwrap_err().code,
            Code::ResourceExhausted
        );
    }

    #[test]
    fn a_wrong_flag_is_refused() {
        let mut inbox = Inbox::<Vec<u8>>::new();
        assert_eq!(inbox.push(&[2, 0, 0, 0, 0], 10).unwrap_err().code, Code::Internal);
    }

    #[test]
    fn a_prefix_claims_no_memory() {
        let mut inbox = Inbox::<Vec<u8>>::new();
        inbox.push(&prefix(false, 2 << 30), usize::MAX).unwrap();
        assert_eq!(inbox.incomplete(), Some((2 << 30, 2 << 30)));
        assert!(inbox.head.is_none() && inbox.rest.capacity() < 100);
    }

    #[test]
    fn a_large_message_behind_others_moves_to_its_own_buffer_when_it_is_first() {
        let mut inbox = Inbox::<Vec<u8>>::new();
        let large = vec![7; 3 * LARGE];
        let content = [framed(b"a"), framed(b"b"), framed(&large)].concat();
        let (start, end) = content.split_at(content.len() - LARGE);
        assert_eq!(inbox.push(start, usize::MAX), Ok(2));
        assert!(inbox.ends_within_message());
        assert_eq!(inbox.take().unwrap().message, b"a");
        assert_eq!(inbox.take().unwrap().message, b"b");
        assert_eq!(inbox.take(), None);
        let (middle, end) = end.split_at(10);
        assert_eq!(inbox.push(middle, usize::MAX), Ok(0));
        assert!(inbox.head.is_some());
        assert_eq!(inbox.incomplete(), Some((3 * LARGE, end.len())));
        assert_eq!(inbox.push(end, usize::MAX), Ok(1));
        assert_eq!(inbox.take().unwrap().message, large);
        assert_eq!(inbox.held(), 0);
    }

    proptest! {
        #[test]
        fn messages_survive_any_cuts_and_reads(
            sizes in prop::collection::vec(
                prop_oneof![0usize..20, 100usize..5000, LARGE - 2..LARGE * 3], 1..12),
            cuts in prop::collection::vec(1usize..40_000, 1..20),
            reads in prop::collection::vec(any::<bool>(), 1..20),
        ) {
            let messages: Vec<Vec<u8>> =
                sizes.iter().enumerate().map(|(i, &len)| vec![i as u8; len]).collect();
            let content: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
            let mut inbox = Inbox::<Vec<u8>>::new();
            let (mut seen, mut rest, mut ready) = (Vec::new(), &content[..], 0);
            let (mut pushed, mut taken) = (0, 0);
            for (cut, read) in cuts.iter().cycle().zip(reads.iter().cycle()) {
                let (now, later) = rest.split_at(rest.len().min(*cut));
                ready += inbox.push(now, usize::MAX).unwrap();
                pushed += now.len();
                rest = later;
                if *read || rest.is_empty() {
                    while let Some(message) = inbox.take() {
                        taken += message.content_len;
                        ready -= 1;
                        seen.push(message.message);
                    }
                }
                prop_assert_eq!(inbox.has_message(), ready > 0);
                prop_assert_eq!(inbox.held(), pushed - taken);
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(seen, messages);
            prop_assert!(!inbox.ends_within_message());
        }
    }
}
