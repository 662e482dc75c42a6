//! What retries and hedging have in common: sets of status codes and what a server has to say about another attempt (gRFC A6,
//! "Server Pushback").

use oxgrpc_core::Code;
use std::time::Duration;

/// No call has more attempts, whatever its policy says (gRFC A6, "Maximum Number of Retries").
pub const MAX_ATTEMPTS: u32 = 5;

/// The trailing metadata that tells when a client may try again, in milliseconds.
pub const PUSHBACK: &[u8] = b"grpc-retry-pushback-ms";

/// A set of status codes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Codes(u32);

impl Codes {
    /// Adds a code.
    pub fn insert(&mut self, code: Code) {
        self.0 |= 1 << code as u8;
    }

    /// Whether the code is in the set.
    pub fn contains(self, code: Code) -> bool {
        self.0 & 1 << code as u8 != 0
    }

    /// Whether there is no code in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Code> for Codes {
    fn from_iter<I: IntoIterator<Item = Code>>(codes: I) -> Self {
        let mut set = Self::default();
        codes.into_iter().for_each(|code| set.insert(code));
        set
    }
}

/// What the server of a failed attempt says about another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pushback {
    /// Nothing.
    Unsaid,
    /// To be made after this time.
    After(Duration),
    /// Not to be made.
    Never,
}

impl Pushback {
    /// Reads the value of [`PUSHBACK`]. One that is negative or no number asks not to try again.
    pub fn read(value: Option<&[u8]>) -> Self {
        let Some(value) = value else { return Self::Unsaid };
        let milliseconds: Option<i32> =
            std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        match milliseconds.and_then(|milliseconds| u64::try_from(milliseconds).ok()) {
            Some(milliseconds) => Self::After(Duration::from_millis(milliseconds)),
            None => Self::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushback_is_milliseconds_or_a_no() {
        let read = |text: &str| Pushback::read(Some(text.as_bytes()));
        assert_eq!(Pushback::read(None), Pushback::Unsaid);
        assert_eq!(read("0"), Pushback::After(Duration::ZERO));
        assert_eq!(read("1500"), Pushback::After(Duration::from_millis(1500)));
        for no in ["-1", "", "soon", "1.5", " 1", "99999999999", "\u{ff}"] {
            assert_eq!(read(no), Pushback::Never, "{no}");
        }
        assert_eq!(Pushback::read(Some(b"\xff")), Pushback::Never);
    }

    #[test]
    fn a_set_holds_what_was_put_into_it() {
        let codes: Codes =
            [Code::Ok, Code::Unavailable, Code::Unauthenticated].into_iter().collect();
        for code in Code::ALL {
            let is_in = matches!(code, Code::Ok | Code::Unavailable | Code::Unauthenticated);
            assert_eq!(codes.contains(code), is_in, "{code}");
        }
        assert!(Codes::default().is_empty() && !codes.is_empty());
    }
}
