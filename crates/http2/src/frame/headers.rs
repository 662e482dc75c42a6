//! HEADERS and the CONTINUATION frames that follow it (RFC 9113 §6.2, §6.10).

use super::priority::Priority;
use super::{Head, flag, kind, strip_padding};
use crate::error::{ErrorCode, Fault};

/// A HEADERS frame; `fragment` is the start of the field block, or all of it.
pub(crate) struct Headers<'a> {
    pub(crate) stream: u32,
    pub(crate) fragment: &'a [u8],
    pub(crate) end_stream: bool,
    pub(crate) end_headers: bool,
    /// The stream names itself as its dependency: a stream error, but the block must still be decoded.
    pub(crate) depends_on_itself: bool,
}

impl<'a> Headers<'a> {
    pub(crate) fn parse(head: Head, payload: &'a [u8]) -> Result<Self, Fault> {
        let stream = head.stream_id("HEADERS on stream 0 (RFC 9113 §6.2)")?;
        let mut fragment = strip_padding(head, payload)?;
        let mut depends_on_itself = false;
        if head.has(flag::PRIORITY) {
            let Some((priority, rest)) = fragment.split_at_checked(Priority::LEN) else {
                return Err(Fault::connection(
                    ErrorCode::FRAME_SIZE_ERROR,
                    "HEADERS is too short for its priority fields (RFC 9113 §6.2)",
                ));
            };
            depends_on_itself = Priority::parse_fields(priority).depends_on == stream;
            fragment = rest;
        }
        Ok(Self {
            stream,
            fragment,
            end_stream: head.has(flag::END_STREAM),
            end_headers: head.has(flag::END_HEADERS),
            depends_on_itself,
        })
    }
}

/// Writes a field block that starts at `at` in `out` as HEADERS and, where it is longer than `max_frame_size`,
/// CONTINUATION frames. The caller has left room for one head at `at`.
pub(crate) fn frame_block(
    out: &mut Vec<u8>,
    at: usize,
    stream: u32,
    end_stream: bool,
    max_frame_size: u32,
) {
    let end_stream = if end_stream { flag::END_STREAM } else { 0 };
    let block_at = at + super::HEAD_LEN;
    let len = out.len() - block_at;
    let max = max_frame_size as usize;
    if len <= max {
        let flags = flag::END_HEADERS | end_stream;
        patch(out, at, Head { len: len as u32, kind: kind::HEADERS, flags, stream });
        return;
    }
    // A block over 16 KiB is rare: it is taken out and written again in pieces.
    let block = out.split_off(block_at);
    patch(out, at, Head { len: max as u32, kind: kind::HEADERS, flags: end_stream, stream });
    let mut pieces = block.chunks(max);
    out.extend_from_slice(pieces.next().unwrap_or_default());
    let mut left = block.len() - max;
    for piece in pieces {
        left -= piece.len();
        let flags = if left == 0 { flag::END_HEADERS } else { 0 };
        Head { len: piece.len() as u32, kind: kind::CONTINUATION, flags, stream }.write(out);
        out.extend_from_slice(piece);
    }
}

/// Leaves room for a head that [`frame_block`] fills in; returns where it is.
pub(crate) fn reserve_head(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; super::HEAD_LEN]);
    at
}

fn patch(out: &mut [u8], at: usize, head: Head) {
    let [_, a, b, c] = head.len.to_be_bytes();
    let [s0, s1, s2, s3] = head.stream.to_be_bytes();
    out[at..at + super::HEAD_LEN]
        .copy_from_slice(&[a, b, c, head.kind, head.flags, s0, s1, s2, s3]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::HEAD_LEN;

    #[test]
    fn a_long_block_becomes_continuations() {
        let mut out = b"before".to_vec();
        let at = reserve_head(&mut out);
        let block: Vec<u8> = (0..40).collect();
        out.extend_from_slice(&block);
        frame_block(&mut out, at, 5, true, 16);

        let mut rest = &out[6..];
        let mut seen = Vec::new();
        let mut heads = Vec::new();
        while !rest.is_empty() {
            let head = Head::parse(rest[..HEAD_LEN].try_into().unwrap());
            let (payload, tail) = rest[HEAD_LEN..].split_at(head.len as usize);
            seen.extend_from_slice(payload);
            heads.push((head.kind, head.flags, head.len));
            rest = tail;
        }
        assert_eq!(seen, block);
        assert_eq!(
            heads,
            [
                (kind::HEADERS, flag::END_STREAM, 16),
                (kind::CONTINUATION, 0, 16),
                (kind::CONTINUATION, flag::END_HEADERS, 8),
            ]
        );
    }
}
