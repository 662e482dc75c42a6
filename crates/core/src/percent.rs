//! The percent-encoding of `grpc-message` (PROTOCOL-HTTP2.md, "Responses").

use std::borrow::Cow;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Whether an octet stands for itself: printable ASCII but `%`.
fn is_plain(octet: u8) -> bool {
    matches!(octet, b' '..=b'~') && octet != b'%'
}

/// Encodes a message's UTF-8. A space at either end is encoded, too: a field's value must not have one there (RFC 9113
/// §8.2.1).
pub(crate) fn encode(message: &str) -> Cow<'_, [u8]> {
    let octets = message.as_bytes();
    let inner = message.trim_matches(' ').len();
    if inner == octets.len() && octets.iter().all(|&octet| is_plain(octet)) {
        return Cow::Borrowed(octets);
    }
    let start = octets.len() - message.trim_start_matches(' ').len();
    let mut out = Vec::with_capacity(octets.len() + 16);
    for (at, &octet) in octets.iter().enumerate() {
        if is_plain(octet) && (start..start + inner).contains(&at) {
            out.push(octet);
        } else {
            out.extend([b'%', HEX[usize::from(octet >> 4)], HEX[usize::from(octet & 15)]]);
        }
    }
    Cow::Owned(out)
}

/// Decodes a message. What is not encoded rightly is taken as it stands, and what is not UTF-8 is replaced: a broken
/// message must never hide a status.
pub(crate) fn decode(wire: &[u8]) -> String {
    if !wire.contains(&b'%') {
        return String::from_utf8_lossy(wire).into_owned();
    }
    let mut out = Vec::with_capacity(wire.len());
    let mut rest = wire;
    while let Some((&octet, tail)) = rest.split_first() {
        match (octet, tail) {
            (b'%', [high, low, after @ ..]) if let Some(decoded) = pair(*high, *low) => {
                out.push(decoded);
                rest = after;
            }
            _ => {
                out.push(octet);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn pair(high: u8, low: u8) -> Option<u8> {
    let digit = |octet: u8| char::from(octet).to_digit(16);
    Some((digit(high)? * 16 + digit(low)?) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_text_is_borrowed_and_the_rest_encoded() {
        assert!(matches!(encode("no such key"), Cow::Borrowed(b"no such key")));
        assert_eq!(&*encode("100 %\n"), b"100 %25%0A");
        assert_eq!(&*encode("  a b "), b"%20%20a b%20");
        assert_eq!(&*encode("  "), b"%20%20");
        assert_eq!(&*encode("é"), b"%C3%A9");
    }

    #[test]
    fn broken_encodings_are_taken_as_they_stand() {
        assert_eq!(decode(b"%"), "%");
        assert_eq!(decode(b"%4"), "%4");
        assert_eq!(decode(b"%zz%41"), "%zzA");
        assert_eq!(decode(b"%FF"), "\u{fffd}");
    }

    proptest! {
        #[test]
        fn any_message_survives(message: String) {
            let wire = encode(&message).into_owned();
            prop_assert!(wire.iter().all(|&octet| (b' '..=b'~').contains(&octet)));
            prop_assert_eq!(wire.trim_ascii(), &wire[..]);
            prop_assert_eq!(decode(&wire), message);
        }
    }
}
