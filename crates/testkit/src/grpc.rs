//! gRPC's framing of messages and its text encodings, by hand (PROTOCOL-HTTP2.md, "Length-Prefixed-Message" and
//! "Responses").

/// A message that is not compressed, with its prefix.
pub fn message(content: impl AsRef<[u8]>) -> Vec<u8> {
    flagged(0, content)
}

/// A message with this compressed flag.
pub fn flagged(flag: u8, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [&[flag][..], &(content.len() as u32).to_be_bytes(), content].concat()
}

/// A stream's content, cut into messages: flag and text of each.
#[derive(Debug, Default)]
pub struct Messages(Vec<u8>);

impl Messages {
    /// Takes more content.
    pub fn push(&mut self, content: &[u8]) {
        self.0.extend_from_slice(content);
    }

    /// The next message, if it is whole.
    pub fn pop(&mut self) -> Option<(u8, Vec<u8>)> {
        let (prefix, rest) = self.0.split_first_chunk::<5>()?;
        let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        let message = (prefix[0], rest.get(..len)?.to_vec());
        self.0.drain(..5 + len);
        Some(message)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The messages of content that holds nothing else.
pub fn messages(content: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut messages = Messages(content.to_vec());
    let all = std::iter::from_fn(|| messages.pop()).collect();
    assert!(messages.is_empty(), "the content ends within a message");
    all
}

/// `grpc-message` with every octet escaped, which is allowed if not usual.
pub fn percent_encode(text: &str) -> String {
    text.bytes().map(|octet| format!("%{octet:02x}")).collect()
}

/// Reads a `grpc-message` that is rightly encoded.
pub fn percent_decode(wire: &[u8]) -> String {
    let mut text = Vec::new();
    let mut rest = wire.iter().copied();
    while let Some(octet) = rest.next() {
        assert!((b' '..=b'~').contains(&octet), "{octet:#x} must be escaped");
        if octet == b'%' {
            let digits = [rest.next().expect("a digit"), rest.next().expect("another digit")];
            let digits = std::str::from_utf8(&digits).expect("digits");
            text.push(u8::from_str_radix(digits, 16).expect("hexadecimal digits"));
        } else {
            text.push(octet);
        }
    }
    String::from_utf8(text).expect("UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_back() {
        let content = [message("a"), flagged(1, [7; 300]), message("")].concat();
        assert_eq!(messages(&content), [(0, b"a".to_vec()), (1, vec![7; 300]), (0, vec![])]);
    }

    #[test]
    fn texts_are_read_back() {
        assert_eq!(percent_encode("é%"), "%c3%a9%25");
        assert_eq!(percent_decode(percent_encode("é % a").as_bytes()), "é % a");
        assert_eq!(percent_decode(b"no such key: %C3%A9"), "no such key: é");
    }
}
