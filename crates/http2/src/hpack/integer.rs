//! Integers with a prefix (RFC 7541 §5.1).

use super::Malformed;

/// Appends `value` with a prefix of `bits` bits; `pattern` is what the octet's other bits hold.
#[inline]
pub(super) fn encode(value: usize, bits: u8, pattern: u8, out: &mut Vec<u8>) {
    let max = (1usize << bits) - 1;
    if value < max {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | max as u8);
    let mut rest = value - max;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Reads an integer whose prefix is the low `bits` bits of `first`; `rest` moves past it.
///
/// Four continuation octets hold all that a sane peer sends (2^28); a longer integer is an error, as §5.1 allows.
#[inline]
pub(super) fn decode(first: u8, bits: u8, rest: &mut &[u8]) -> Result<usize, Malformed> {
    let max = (1usize << bits) - 1;
    let mut value = usize::from(first) & max;
    if value < max {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let Some((&octet, tail)) = rest.split_first() else {
            return Err(Malformed("a header block ends within an integer (RFC 7541 §5.1)"));
        };
        *rest = tail;
        value += usize::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed("an HPACK integer is too long (RFC 7541 §5.1)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(value: usize, bits: u8, octets: &[u8]) {
        let mut out = Vec::new();
        encode(value, bits, 0, &mut out);
        assert_eq!(out, octets);
        let (first, mut rest) = out.split_first().unwrap();
        assert_eq!(decode(*first, bits, &mut rest).unwrap(), value);
        assert!(rest.is_empty());
    }

    /// RFC 7541 C.1.
    #[test]
    fn appendix_c1() {
        round(10, 5, &[0b01010]);
        round(1337, 5, &[0b11111, 0b1001_1010, 0b0000_1010]);
        round(42, 8, &[0b0010_1010]);
    }

    #[test]
    fn an_endless_integer_is_refused() {
        assert!(decode(0x7f, 7, &mut &[0xff; 4][..]).is_err());
        assert!(decode(0x7f, 7, &mut &[0x80, 0x80, 0x80, 0x80, 0][..]).is_err());
        assert!(decode(0x7f, 7, &mut &[0x80][..]).is_err());
    }
}
