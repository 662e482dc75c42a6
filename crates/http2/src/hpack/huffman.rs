//! The Huffman code of RFC 7541 Appendix B.
//!
//! The code is canonical: within a length, codes ascend with the symbol. So the table of lengths is all there is to
//! write down, and everything else is computed from it at compile time.

use super::Malformed;

/// The end-of-string symbol. It must not occur in a string (§5.2).
const EOS: usize = 256;

/// Bits of each symbol's code.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
     6, 10, 10, 12, 13,  6,  8, 11, 10, 10,  8, 11,  8,  6,  6,  6,
     5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8, 15,  6, 12, 10,
    13,  6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,
     7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8, 13, 19, 13, 14,  6,
    15,  5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,
     6,  7,  6,  5,  5,  6,  7,  7,  7,  7,  7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const MAX_LEN: usize = 30;
const SHORTEST: u32 = 5;
/// Codes of up to this many bits are decoded by one look into [`Tables::short`]: all of printable ASCII that headers
/// commonly hold.
const SHORT: u32 = 9;

struct Tables {
    /// Each symbol's code, in the low bits.
    codes: [u32; 257],
    /// Symbols ordered by their codes.
    ordered: [u16; 257],
    /// By length: the first code of that length, left-aligned in 32 bits.
    first: [u32; MAX_LEN + 2],
    /// By length: where its symbols begin in `ordered`.
    offset: [u16; MAX_LEN + 1],
    /// By the next [`SHORT`] bits: the symbol and its length, or length 0 where the code is longer.
    short: [(u8, u8); 1 << SHORT],
}

static TABLES: Tables = build();

const fn build() -> Tables {
    let mut tables = Tables {
        codes: [0; 257],
        ordered: [0; 257],
        first: [u32::MAX; MAX_LEN + 2],
        offset: [0; MAX_LEN + 1],
        short: [(0, 0); 1 << SHORT],
    };
    let mut code: u64 = 0;
    let mut count = 0;
    let mut len = 1;
    while len <= MAX_LEN {
        code <<= 1;
        tables.first[len] = (code << (32 - len)) as u32;
        tables.offset[len] = count;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == len {
                tables.codes[symbol] = code as u32;
                tables.ordered[count as usize] = symbol as u16;
                if len as u32 <= SHORT {
                    let spare = SHORT - len as u32;
                    let from = (code as usize) << spare;
                    let mut i = 0;
                    while i < 1 << spare {
                        tables.short[from + i] = (symbol as u8, len as u8);
                        i += 1;
                    }
                }
                code += 1;
                count += 1;
            }
            symbol += 1;
        }
        len += 1;
    }
    tables
}

/// Octets that `text` takes when encoded.
pub(super) fn encoded_len(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|&octet| usize::from(LENGTHS[usize::from(octet)])).sum();
    bits.div_ceil(8)
}

/// Appends the code of `text`, filled up with ones (§5.2).
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let mut bits: u64 = 0;
    let mut held = 0;
    for &octet in text {
        let symbol = usize::from(octet);
        let len = u32::from(LENGTHS[symbol]);
        bits = bits << len | u64::from(TABLES.codes[symbol]);
        held += len;
        while held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    if held > 0 {
        let fill = 8 - held;
        out.push((bits << fill) as u8 | ((1u16 << fill) - 1) as u8);
    }
}

/// Appends the text that `coded` stands for.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    // A code has at least five bits, so this is an upper bound: the text is written into it and cut.
    out.reserve(coded.len() * 8 / SHORTEST as usize + 1);
    let mut window: u64 = 0; // the next bits, left-aligned
    let mut held: u32 = 0;
    let mut rest = coded;
    loop {
        while held <= 56 {
            let Some((&octet, tail)) = rest.split_first() else { break };
            rest = tail;
            window |= u64::from(octet) << (56 - held);
            held += 8;
        }
        if held < SHORTEST {
            break;
        }
        let (symbol, len) = TABLES.short[(window >> (64 - SHORT)) as usize];
        let (symbol, len) = match len {
            0 => match long_symbol((window >> 32) as u32) {
                Some(found) => found,
                None => return Err(Malformed("a Huffman string holds EOS (RFC 7541 §5.2)")),
            },
            len => (symbol, u32::from(len)),
        };
        if len > held {
            break;
        }
        out.push(symbol);
        window <<= len;
        held -= len;
    }
    // What is left is padding: fewer than eight bits, all ones.
    if held >= 8 || window.leading_ones() < held {
        return Err(Malformed("a Huffman string is padded wrongly (RFC 7541 §5.2)"));
    }
    Ok(())
}

/// The symbol whose code, longer than [`SHORT`] bits, begins `bits`; `None` for EOS.
fn long_symbol(bits: u32) -> Option<(u8, u32)> {
    let mut len = SHORT as usize + 1;
    while len < MAX_LEN && bits >= TABLES.first[len + 1] {
        len += 1;
    }
    let index = (bits - TABLES.first[len]) >> (32 - len);
    let symbol = TABLES.ordered[usize::from(TABLES.offset[len]) + index as usize];
    if usize::from(symbol) == EOS { None } else { Some((symbol as u8, len as u32)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn codes_are_those_of_appendix_b() {
        assert_eq!(TABLES.codes[usize::from(b'0')], 0x0);
        assert_eq!(TABLES.codes[usize::from(b'a')], 0x3);
        assert_eq!(TABLES.codes[usize::from(b'Z')], 0xfd);
        assert_eq!(TABLES.codes[usize::from(b'~')], 0x1ffd);
        assert_eq!(TABLES.codes[0], 0x1ff8);
        assert_eq!(TABLES.codes[249], 0xfff_fffe);
        assert_eq!(TABLES.codes[22], 0x3fff_fffe);
        assert_eq!(TABLES.codes[EOS], 0x3fff_ffff);
    }

    #[test]
    fn every_octet_survives() {
        let text: Vec<u8> = (0..=255).collect();
        let mut coded = Vec::new();
        encode(&text, &mut coded);
        assert_eq!(coded.len(), encoded_len(&text));
        let mut out = Vec::new();
        decode(&coded, &mut out).unwrap();
        assert_eq!(out, text);
    }

    #[test]
    fn wrong_padding_is_refused() {
        let refused = |coded: &[u8]| decode(coded, &mut Vec::new()).is_err();
        assert!(refused(&[0b0001_1000])); // 'a' and zeros
        assert!(refused(&[0xff])); // eight bits of padding
        assert!(refused(&[0b0001_1111, 0xff])); // 'a' and eleven ones
        assert!(refused(&[0xff, 0xff, 0xff, 0xff])); // EOS
        assert!(!refused(&[]));
        assert!(!refused(&[0b0001_1111]));
    }

    proptest! {
        #[test]
        fn any_text_survives(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut coded = Vec::new();
            encode(&text, &mut coded);
            prop_assert_eq!(coded.len(), encoded_len(&text));
            let mut out = Vec::new();
            decode(&coded, &mut out).unwrap();
            prop_assert_eq!(out, text);
        }

        #[test]
        fn any_octets_are_decoded_or_refused(coded in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut text = Vec::new();
            if decode(&coded, &mut text).is_ok() {
                let mut again = Vec::new();
                encode(&text, &mut again);
                prop_assert_eq!(again, coded);
            }
        }
    }
}
