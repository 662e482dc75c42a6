//! `grpc-timeout` (PROTOCOL-HTTP2.md, "Requests"): at most eight digits and a unit.

use std::time::Duration;

/// The largest number of eight digits.
const MAX: u128 = 99_999_999;

/// Writes a timeout in the finest unit that holds it, rounded up: the server must not give up before the client.
pub(crate) fn encode(timeout: Duration) -> String {
    let nanos = timeout.as_nanos();
    for (unit, length) in [
        ('n', 1),
        ('u', 1_000),
        ('m', 1_000_000),
        ('S', 1_000_000_000),
        ('M', 60_000_000_000),
        ('H', 3_600_000_000_000),
    ] {
        let count = nanos.div_ceil(length);
        if count <= MAX {
            return format!("{count}{unit}");
        }
    }
    format!("{MAX}H")
}

/// Reads a timeout; `None` for what is none.
pub(crate) fn decode(wire: &[u8]) -> Option<Duration> {
    let (unit, digits) = wire.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'n' => Duration::from_nanos(count),
        b'u' => Duration::from_micros(count),
        b'm' => Duration::from_millis(count),
        b'S' => Duration::from_secs(count),
        b'M' => Duration::from_secs(count * 60),
        b'H' => Duration::from_secs(count * 3600),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_finest_unit_is_used() {
        assert_eq!(encode(Duration::ZERO), "0n");
        assert_eq!(encode(Duration::from_millis(99)), "99000000n");
        assert_eq!(encode(Duration::from_millis(100)), "100000u");
        assert_eq!(encode(Duration::from_secs(100)), "100000m");
        assert_eq!(encode(Duration::from_secs(100_000)), "100000S");
        assert_eq!(encode(Duration::MAX), "99999999H");
    }

    #[test]
    fn nonsense_is_refused() {
        for wire in [&b""[..], b"n", b"1", b"123456789n", b"1x", b"-1S", b"1.5S", b" 1S"] {
            assert_eq!(decode(wire), None, "{}", wire.escape_ascii());
        }
        assert_eq!(decode(b"00000001H"), Some(Duration::from_secs(3600)));
    }

    proptest! {
        #[test]
        fn a_timeout_is_never_shortened(nanos in 0u64..u64::MAX) {
            let timeout = Duration::from_nanos(nanos);
            let read = decode(encode(timeout).as_bytes()).unwrap();
            prop_assert!(read >= timeout);
            prop_assert!(read.as_secs_f64() <= timeout.as_secs_f64() * 1.000_1 + 1e-9);
        }
    }
}
