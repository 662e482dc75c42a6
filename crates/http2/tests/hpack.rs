//! How we write field blocks: what is indexed, what is prepared, and how the table follows the peer's settings
//! (RFC 7541 §4, §6; RFC 9113 §4.3.1).

mod common;

use common::Peer;
use oxgrpc_http2::{HeaderList, Indexing, NO_TAG, Prepared};
use oxgrpc_testkit::block::{indexed, indexing, integer, size_update};
use oxgrpc_testkit::frame::*;

use Indexing::{Always, Literal, Never, WhenRepeated};

/// A client that writes a block for each stream it opens; each is also read by the other implementation.
struct Writer {
    peer: Peer,
    reader: BlockReader,
}

impl Writer {
    fn new() -> Self {
        Self { peer: Peer::client(), reader: BlockReader::default() }
    }

    fn table(&mut self, size: u32) -> &mut Self {
        self.peer.send(settings(&[(setting::HEADER_TABLE_SIZE, size)]));
        self.peer.frames();
        self
    }

    fn write(&mut self, fields: &[(&str, &str, Indexing)]) -> Vec<u8> {
        self.write_with(None, fields)
    }

    fn write_with(
        &mut self,
        prepared: Option<(&mut Prepared, &[(&str, &str)])>,
        fields: &[(&str, &str, Indexing)],
    ) -> Vec<u8> {
        let octets: Vec<_> =
            fields.iter().map(|(n, v, indexing)| (n.as_bytes(), v.as_bytes(), *indexing)).collect();
        let (prepared, mut expected) = match prepared {
            Some((prepared, fields)) => (Some(prepared), fields.to_vec()),
            None => (None, vec![]),
        };
        let list = HeaderList { prepared, fields: &octets };
        self.peer.engine.open(list, true, NO_TAG).expect("a stream can be opened");
        let block = self.peer.frames().remove(0).payload;
        expected.extend(fields.iter().map(|(name, value, _)| (*name, *value)));
        let expected: Vec<_> =
            expected.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        assert_eq!(self.reader.read(&block), expected);
        block
    }
}

fn prepare(fields: &[(&'static str, &'static str)]) -> Prepared {
    Prepared::new(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
}

#[test]
fn what_comes_always_is_indexed_at_once() {
    let mut writer = Writer::new();
    assert_eq!(writer.write(&[("!", "!", Always)]), indexing(b"!", b"!"));
    assert_eq!(writer.write(&[("!", "!", Always)]), indexed(62));
    // A new value refers to the known name.
    assert_eq!(writer.write(&[("!", "?", Always)])[0], 0x40 | 62);
}

#[test]
fn what_may_come_again_is_indexed_when_it_does() {
    let mut writer = Writer::new();
    let field = [("!", "1", WhenRepeated)];
    assert_eq!(writer.write(&field)[0], 0x00);
    assert_eq!(writer.write(&field)[0], 0x40);
    assert_eq!(writer.write(&field), indexed(62));
}

#[test]
fn a_literal_is_never_remembered_but_may_use_what_is() {
    let mut writer = Writer::new();
    let field = [("!", "1", Literal)];
    let first = writer.write(&field);
    assert_eq!(first[0], 0x00);
    assert_eq!(writer.write(&field), first);
    writer.write(&[("!", "1", Always)]);
    assert_eq!(writer.write(&field), indexed(62));
}

#[test]
fn a_secret_is_written_as_one_even_if_the_table_has_it() {
    let mut writer = Writer::new();
    let secret = [("!", "1", Never)];
    let first = writer.write(&secret);
    assert_eq!(first[0], 0x10);
    assert_eq!(writer.write(&secret), first);
    // The name may be an index (authorization is 23 of the static table), the value never.
    assert_eq!(writer.write(&[("authorization", "!", Never)])[..2], integer(23, 4, 0x10));
    writer.write(&[("!", "1", Always)]);
    assert_eq!(writer.write(&secret)[..2], integer(62, 4, 0x10));
    // A static field with its value: accept-encoding is 16.
    assert_eq!(writer.write(&[("accept-encoding", "gzip, deflate", Never)])[..2], [0x1f, 1]);
}

#[test]
fn the_static_table_is_preferred() {
    let mut writer = Writer::new();
    assert_eq!(writer.write(&[(":method", "POST", Literal), (":path", "/", Always)]), [0x83, 0x84]);
    assert_eq!(writer.write(&[(":status", "299", Always)])[0], 0x48);
    assert_eq!(writer.write(&[(":status", "298", Always)])[0], 0x48);
}

#[test]
fn a_field_larger_than_the_table_does_not_empty_it() {
    let mut writer = Writer::new();
    writer.write(&[("!", "1", Always)]);
    let large = "x".repeat(4096);
    for _ in 0..2 {
        assert_eq!(writer.write(&[("large", &large, Always)])[0], 0x00);
    }
    assert_eq!(writer.write(&[("!", "1", Always)]), indexed(62));
}

#[test]
fn strings_are_huffman_coded_only_where_that_is_shorter() {
    let mut writer = Writer::new();
    // 'a' has five bits, '!' ten: two of the one fit in two octets either way.
    assert_eq!(writer.write(&[("!", "aaaaaaaa", Literal)])[3], 0x80 | 5);
    assert_eq!(writer.write(&[("!", "aa", Literal)])[3..], [2, b'a', b'a']);
    assert_eq!(writer.write(&[("!", "!!", Literal)])[3..], [2, b'!', b'!']);
}

#[test]
fn prepared_fields_become_a_few_octets() {
    let fields = [(":method", "POST"), ("content-type", "application/grpc"), ("te", "trailers")];
    let mut prepared = prepare(&fields);
    let mut writer = Writer::new();
    let mut lengths = vec![];
    for _ in 0..4 {
        let path = [(":path", "/s/m", Always)];
        lengths.push(writer.write_with(Some((&mut prepared, &fields)), &path).len());
    }
    assert!(lengths[0] > 20);
    assert_eq!(lengths[1..], [4; 3]);
}

#[test]
fn prepared_fields_stay_right_when_the_table_changes() {
    let fields = [("one", "1"), ("two", "2")];
    let mut prepared = prepare(&fields);
    let mut writer = Writer::new();
    let large = "x".repeat(1000);
    for i in 0..50 {
        // New entries shift the indexes, large ones evict, and so do the peer's settings.
        let value = format!("{large}{}", i / 3);
        writer.write_with(Some((&mut prepared, &fields)), &[("large", &value, Always)]);
        if i % 7 == 0 {
            writer.table(i * 10);
        }
        writer.write_with(Some((&mut prepared, &fields)), &[]);
    }
}

#[test]
fn two_prepared_lists_do_not_disturb_each_other() {
    let (one, two) = ([("a", "1"), ("b", "2")], [("b", "2"), ("c", "3")]);
    let (mut first, mut second) = (prepare(&one), prepare(&two));
    let mut writer = Writer::new();
    for _ in 0..4 {
        writer.write_with(Some((&mut first, &one)), &[]);
        writer.write_with(Some((&mut second, &two)), &[]);
    }
    assert_eq!(writer.write_with(Some((&mut first, &one)), &[]).len(), 2);
}

#[test]
fn prepared_fields_that_do_not_fit_the_table_are_written_out() {
    let fields = [("one", "1"), ("two", "2")];
    let mut prepared = prepare(&fields);
    let mut writer = Writer::new();
    writer.table(40); // room for one of them
    for _ in 0..4 {
        writer.write_with(Some((&mut prepared, &fields)), &[("three", "3", Always)]);
    }
}

#[test]
fn a_smaller_table_is_announced_with_the_next_block() {
    let mut writer = Writer::new();
    writer.write(&[("!", "1", Always)]);
    writer.table(100);
    let expected = [size_update(100), indexed(62)].concat();
    assert_eq!(writer.write(&[("!", "1", Always)]), expected);
    // Once.
    assert_eq!(writer.write(&[("!", "1", Always)]), indexed(62));
}

#[test]
fn a_table_that_went_to_nothing_and_back_is_empty() {
    let mut writer = Writer::new();
    writer.write(&[("!", "1", Always)]);
    writer.table(0).table(4096);
    let expected = [size_update(0), size_update(4096), indexing(b"!", b"1")].concat();
    assert_eq!(writer.write(&[("!", "1", Always)]), expected);
}

#[test]
fn the_least_and_the_last_of_many_sizes_are_announced() {
    let mut writer = Writer::new();
    writer.table(500).table(100).table(300);
    let block = writer.write(&[("!", "1", Always)]);
    assert_eq!(block, [size_update(100), size_update(300), indexing(b"!", b"1")].concat());
    writer.table(200).table(150);
    let block = writer.write(&[("!", "1", Always)]);
    assert_eq!(block, [size_update(150), indexed(62)].concat());
}

#[test]
fn a_larger_table_than_the_default_is_not_used() {
    let mut writer = Writer::new();
    writer.table(1 << 20);
    assert_eq!(writer.write(&[("!", "1", Always)]), indexing(b"!", b"1"));
}

#[test]
fn without_a_table_nothing_is_indexed() {
    let mut writer = Writer::new();
    writer.table(0);
    assert_eq!(writer.write(&[("!", "1", Always)])[..2], [size_update(0)[0], 0x00]);
    assert_eq!(writer.write(&[("!", "1", Always)])[0], 0x00);
}
