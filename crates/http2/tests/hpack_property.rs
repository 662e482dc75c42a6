//! HPACK against an implementation that is not ours, in both directions, with evictions and changing tables (RFC 7541).

mod common;

use common::Peer;
use oxgrpc_http2::{Config, ErrorCode, HeaderList, Indexing, NO_TAG, Prepared, Role};
use oxgrpc_testkit::block::{BlockReader, BlockWriter, indexed, integer, size_update, string};
use oxgrpc_testkit::frame::*;
use oxgrpc_testkit::property::cases;
use proptest::prelude::*;

type Field = (Vec<u8>, Vec<u8>);

/// Few names, so that they come again; some of the static table.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let known = ["accept", "cookie", "x-one", "x-two", "grpc-timeout", "user-agent", "via"];
    prop_oneof![
        prop::sample::select(known.to_vec()).prop_map(|name| name.as_bytes().to_vec()),
        "x-[a-z0-9]{1,20}".prop_map(String::into_bytes),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::sample::select(vec!["", "1", "gzip", "trailers"])
            .prop_map(|value| value.as_bytes().to_vec()),
        2 => "[ -~]{0,40}".prop_map(String::into_bytes),
        1 => prop::collection::vec(32u8..=255, 0..700),
    ]
}

fn field() -> impl Strategy<Value = Field> {
    (name(), value())
}

/// One thing that the writer is told.
#[derive(Clone, Debug)]
enum Step {
    Table(u32),
    Block { prepared: Option<usize>, fields: Vec<(Field, u8)> },
}

fn step() -> impl Strategy<Value = Step> {
    let fields = prop::collection::vec((field(), 0u8..4), 0..8);
    prop_oneof![
        1 => prop_oneof![Just(0), 30u32..200, Just(4096), Just(u32::MAX)].prop_map(Step::Table),
        6 => (prop::option::of(0..3usize), fields)
            .prop_map(|(prepared, fields)| Step::Block { prepared, fields }),
    ]
}

const INDEXING: [Indexing; 4] =
    [Indexing::Always, Indexing::WhenRepeated, Indexing::Literal, Indexing::Never];

fn requests_with(fields: &[Field]) -> Vec<Field> {
    let pseudo = [(":method", "POST"), (":scheme", "http"), (":path", "/")];
    let pseudo = pseudo.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec()));
    pseudo.chain(fields.iter().cloned()).collect()
}

/// Sends a block as the next request; the fields that were read, or `None` if the block cannot be decoded.
fn read(peer: &mut Peer, stream: u32, block: &[u8]) -> Option<Vec<Field>> {
    let octets = Frame::new(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, block);
    let octets = octets.encode();
    let mut input = &octets[..];
    match peer.engine.receive(&mut input, peer.clock.now()) {
        Ok(Some(oxgrpc_http2::Event::Headers { fields, .. })) => {
            Some(fields.iter().map(|field| (field.name.to_vec(), field.value.to_vec())).collect())
        }
        Err(violation) if violation.code() == ErrorCode::COMPRESSION_ERROR => None,
        other => panic!("{other:?}"),
    }
}

fn server() -> Peer {
    Peer::server_with(Config { max_header_list_bytes: 1 << 20, ..Config::default() })
}

/// A piece of a block, with indexes that may or may not exist.
#[derive(Clone, Debug)]
enum Piece {
    Indexed(usize),
    Named { pattern: (u8, u8), name: usize, value: Vec<u8> },
    Literal { pattern: (u8, u8), field: Field },
}

impl Piece {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Indexed(index) => indexed(*index),
            Self::Named { pattern: (bits, mask), name, value } => {
                [integer(*name, *bits, *mask), string(value)].concat()
            }
            Self::Literal { pattern: (_, mask), field: (name, value) } => {
                [vec![*mask], string(name), string(value)].concat()
            }
        }
    }
}

fn piece() -> impl Strategy<Value = Piece> {
    // Pseudo-fields, content-length (28) and transfer-encoding (57) would break other rules than HPACK's.
    let index =
        || prop_oneof![3 => 15usize..28, 3 => 29usize..57, 1 => 58usize..62, 7 => 62usize..68];
    let pattern = || prop::sample::select(vec![(6, 0x40), (4, 0x00), (4, 0x10)]);
    prop_oneof![
        2 => index().prop_map(Piece::Indexed),
        2 => (pattern(), index(), value())
            .prop_map(|(pattern, name, value)| Piece::Named { pattern, name, value }),
        3 => (pattern(), field()).prop_map(|(pattern, field)| Piece::Literal { pattern, field }),
    ]
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn what_we_write_another_reads(
        lists in prop::collection::vec(prop::collection::vec(field(), 0..5), 3),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut peer = Peer::fresh(Role::Client, Config::default()).shake_hands(&[]);
        let mut reader = BlockReader::with_table_of(4096);
        let mut prepared: Vec<_> = lists
            .iter()
            .map(|list| Prepared::new(list.iter().map(|(name, value)| (&name[..], &value[..]))))
            .collect();
        let mut table = 4096;
        for step in steps {
            match step {
                Step::Table(size) => {
                    peer.send(settings(&[(setting::HEADER_TABLE_SIZE, size)]));
                    table = size as usize;
                }
                Step::Block { prepared: which, fields } => {
                    let borrowed: Vec<_> = fields
                        .iter()
                        .map(|((n, v), how)| (&n[..], &v[..], INDEXING[usize::from(*how)]))
                        .collect();
                    let list = HeaderList {
                        prepared: which.map(|which| &mut prepared[which]),
                        fields: &borrowed,
                    };
                    peer.engine.open(list, true, NO_TAG).unwrap();
                    let block: Vec<u8> = peer
                        .frames()
                        .into_iter()
                        .filter(|frame| matches!(frame.kind, kind::HEADERS | kind::CONTINUATION))
                        .flat_map(|frame| frame.payload)
                        .collect();
                    let mut expected = which.map_or(vec![], |which| lists[which].clone());
                    expected.extend(fields.into_iter().map(|(field, _)| field));
                    if expected.is_empty() {
                        // The other reader takes a block of nothing but size updates for an error.
                        let known = reader.read_octets(&[&block[..], &indexed(2)].concat());
                        prop_assert_eq!(known.map(|fields| fields.len()), Some(1));
                        continue;
                    }
                    prop_assert_eq!(reader.read_octets(&block), Some(expected), "table {}", table);
                }
            }
        }
    }

    #[test]
    fn what_another_writes_we_read(
        blocks in prop::collection::vec(
            (prop::option::weighted(0.2, 0usize..4097), prop::collection::vec(field(), 0..12)),
            1..40,
        ),
    ) {
        let mut peer = server();
        let mut writer = BlockWriter::default();
        for (i, (size, fields)) in blocks.iter().enumerate() {
            let update = size.map_or(vec![], |size| writer.resize(size));
            let fields = requests_with(fields);
            let block = [update, writer.write(&fields)].concat();
            prop_assert_eq!(read(&mut peer, 2 * i as u32 + 1, &block), Some(fields));
        }
    }

    #[test]
    fn any_block_means_the_same_to_us_and_to_another(
        blocks in prop::collection::vec(
            (prop::option::weighted(0.2, 0usize..4097), prop::collection::vec(piece(), 0..8)),
            1..20,
        ),
    ) {
        let mut peer = server();
        let mut reader = BlockReader::with_table_of(4096);
        for (i, (size, pieces)) in blocks.iter().enumerate() {
            let mut block = size.map_or(vec![], size_update);
            block.extend(BlockWriter::default().write(&requests_with(&[])));
            block.extend(pieces.iter().flat_map(Piece::encode));
            let theirs = reader.read_octets(&block);
            let ours = read(&mut peer, 2 * i as u32 + 1, &block);
            prop_assert_eq!(&ours, &theirs);
            if ours.is_none() {
                break;
            }
        }
    }
}
