//! The octets on their way to the socket.
//!
//! Small things are copied into one buffer. A large piece of a message is spliced in by reference, so that it is copied
//! once, by the kernel. The caller takes both as one list of slices and says how much of it was written.

use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::IoSlice;

/// Pieces shorter than this are copied: a slice of its own costs the kernel as much as a copy of 4 KiB costs us.
const MIN_SPLICE: usize = 4096;

/// Memory that an emptied buffer keeps.
const KEPT_CAPACITY: usize = 64 << 10;

#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Copied octets; those before `written` are gone.
    buffer: Vec<u8>,
    written: usize,
    /// Spliced pieces, each with the place in `buffer` it comes before.
    splices: VecDeque<(usize, Bytes)>,
    spliced: usize,
}

impl Output {
    /// The buffer to append to.
    #[inline]
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Appends a piece, by reference if it is large.
    pub(crate) fn append(&mut self, piece: Bytes) {
        if piece.len() < MIN_SPLICE {
            self.buffer.extend_from_slice(&piece);
        } else {
            self.spliced += piece.len();
            self.splices.push_back((self.buffer.len(), piece));
        }
    }

    /// Octets that wait.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.buffer.len() - self.written + self.spliced
    }

    /// Fills `slices` from the front of the output; returns how many were filled.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        let mut from = self.written;
        let mut push = |slice: &'a [u8]| {
            if !slice.is_empty() && count < slices.len() {
                slices[count] = IoSlice::new(slice);
                count += 1;
            }
        };
        for (at, piece) in &self.splices {
            push(&self.buffer[from..*at]);
            push(piece);
            from = *at;
        }
        push(&self.buffer[from..]);
        count
    }

    /// The first `octets` octets have been written.
    pub(crate) fn advance(&mut self, mut octets: usize) {
        while let Some((at, piece)) = self.splices.front_mut() {
            let before = *at - self.written;
            if octets < before {
                break;
            }
            octets -= before;
            self.written = *at;
            let taken = octets.min(piece.len());
            octets -= taken;
            self.spliced -= taken;
            if taken < piece.len() {
                piece.advance(taken);
                return;
            }
            self.splices.pop_front();
        }
        self.written += octets;
        if self.written == self.buffer.len() && self.splices.is_empty() {
            self.buffer.clear();
            self.buffer.shrink_to(KEPT_CAPACITY);
            self.written = 0;
        } else if self.written > KEPT_CAPACITY && self.written * 2 > self.buffer.len() {
            self.compact();
        }
    }

    /// Drops the written part of the buffer.
    fn compact(&mut self) {
        self.buffer.drain(..self.written);
        for (at, _) in &mut self.splices {
            *at -= self.written;
        }
        self.written = 0;
    }

    /// Drops everything that waits.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Takes all out, `step` octets at a time.
    fn drain(output: &mut Output, step: usize) -> Vec<u8> {
        let mut seen = Vec::new();
        while output.len() > 0 {
            let mut slices = [IoSlice::new(&[]); 3];
            let count = output.slices(&mut slices);
            let joined: Vec<u8> = slices[..count].iter().flat_map(|s| s.iter().copied()).collect();
            let taken = joined.len().min(step);
            seen.extend_from_slice(&joined[..taken]);
            output.advance(taken);
        }
        seen
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            pieces in prop::collection::vec((any::<bool>(), 0usize..9000), 1..20),
            step in 1usize..20_000,
        ) {
            let mut output = Output::default();
            let mut expected = Vec::new();
            for (i, (shared, len)) in pieces.into_iter().enumerate() {
                let piece: Vec<u8> = (0..len).map(|j| (i + j) as u8).collect();
                expected.extend_from_slice(&piece);
                if shared {
                    output.append(piece.into());
                } else {
                    output.buffer().extend_from_slice(&piece);
                }
                if i % 3 == 0 {
                    let mut slices = [IoSlice::new(&[]); 8];
                    let count = output.slices(&mut slices);
                    let first: Vec<u8> =
                        slices[..count.min(1)].iter().flat_map(|s| s.to_vec()).collect();
                    let taken = first.len() / 2;
                    prop_assert_eq!(&first[..taken], &expected[..taken]);
                    output.advance(taken);
                    expected.drain(..taken);
                }
            }
            prop_assert_eq!(output.len(), expected.len());
            prop_assert_eq!(drain(&mut output, step), expected);
        }
    }
}
