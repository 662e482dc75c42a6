//! Where random conversations come from.

use super::{Body, Call, Kind, Knobs, Order, Pairs, Script};
use oxgrpc_core::{Code, Encoding};
use proptest::prelude::*;
use proptest::sample::select;

fn pairs() -> impl Strategy<Value = Pairs> {
    // White space around a value may be stripped on the way.
    let text = prop_oneof![
        4 => "[!-~]{0,12}",
        1 => "[!-~][ -~]{0,200}[!-~]",
    ];
    let pair = prop_oneof![
        2 => (select(vec!["x-a", "x-b", "authorization"]).prop_map(str::to_string),
              text.clone().prop_map(String::into_bytes)),
        1 => ("x-[a-z0-9_.-]{1,20}[a-z]", text.prop_map(String::into_bytes))
            .prop_filter("a binary key", |(key, _)| !key.ends_with("-bin")),
        1 => (select(vec!["x-c-bin", "x-d-bin"]).prop_map(str::to_string),
              prop::collection::vec(any::<u8>(), 0..40)),
    ];
    prop_oneof![Just(Vec::new()), prop::collection::vec(pair, 0..6)]
}

fn body() -> impl Strategy<Value = Body> {
    let len = prop_oneof![
        2 => Just(0usize),
        8 => 1usize..100,
        4 => 100usize..5000,
        2 => 5000usize..70_000,
        1 => 70_000usize..200_000,
    ];
    (len, prop::bool::weighted(0.3)).prop_map(|(len, compress)| Body { len, compress })
}

fn encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![
        2 => Just(Encoding::Identity),
        1 => Just(Encoding::Gzip),
        1 => Just(Encoding::Deflate),
    ]
}

/// How a call ends, if it is not with success.
fn failure() -> impl Strategy<Value = (Code, String)> {
    let message = prop_oneof![Just(String::new()), "[ -~]{1,30}", "[!-~]\\PC{0,20}[!-~]"];
    (select(Code::ALL[1..].to_vec()), message)
}

fn call() -> impl Strategy<Value = Call> {
    let stream = || prop::collection::vec(body(), 0..6);
    let order = select(vec![Order::Last, Order::First, Order::Alternating]);
    (
        select(Kind::ALL.to_vec()),
        (pairs(), pairs(), pairs()),
        (stream(), body(), encoding()),
        (stream(), body(), encoding()),
        (order, prop::option::weighted(0.2, 0usize..4)),
        prop::option::weighted(0.3, failure()),
        prop::option::weighted(0.15, 0usize..12),
    )
        .prop_map(|(kind, metadata, requests, responses, (order, reads), failure, cancel)| {
            let (metadata, initial, trailing) = metadata;
            let failed = failure.is_some();
            let (code, message) = failure.unwrap_or((Code::Ok, String::new()));
            let mut call = Call {
                kind,
                metadata,
                requests: requests.0,
                reads,
                order,
                initial,
                responses: responses.0,
                trailing,
                code,
                message,
                request_encoding: requests.2,
                response_encoding: responses.2,
                cancel,
            };
            if !kind.streams_requests() {
                call.requests = vec![requests.1];
            }
            if !kind.streams_responses() {
                // A call that fails may have no response.
                let count = if failed { call.responses.len().min(1) } else { 1 };
                call.responses = vec![responses.1; count];
            }
            call.reads = reads.filter(|reads| *reads <= call.requests.len());
            call
        })
}

fn knobs() -> impl Strategy<Value = Knobs> {
    (
        select(vec![500u32, 5000, 16_384, 65_535, 1 << 20]),
        select(vec![65_535u32, 100_000, 4 << 20]),
        select(vec![1usize, 5000, 256 << 10]),
        prop::option::weighted(0.4, 1u32..5),
    )
        .prop_map(|(stream_window, connection_window, output, streams)| Knobs {
            stream_window,
            connection_window,
            output,
            streams,
        })
}

/// Any conversation.
pub fn script() -> impl Strategy<Value = Script> {
    let cut = prop_oneof![1 => 1usize..40, 2 => 40usize..3000, 3 => 3000usize..40_000];
    (knobs(), knobs(), prop::collection::vec(call(), 1..10), prop::collection::vec(cut, 1..10))
        .prop_map(|(client, server, calls, cuts)| Script { client, server, calls, cuts })
}
