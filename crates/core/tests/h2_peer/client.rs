//! `h2` as the client of a conversation.

use super::{Reader, add, frame, message, number as status, received};
use crate::script::{Call, Octets, Script, SeenByClient};
use bytes::Bytes;
use h2::SendStream;
use h2::client::{Builder, ResponseFuture};
use http::{HeaderValue, Request};
use oxgrpc_core::Code;
use std::cell::RefCell;
use std::future::pending;
use std::rc::Rc;
use tokio::io::DuplexStream;
use tokio::task::{JoinSet, spawn_local, yield_now};

/// What has been seen of each call.
pub(crate) type Seens = Rc<RefCell<Vec<SeenByClient>>>;

/// Makes all calls, and never ends.
pub(crate) async fn call(wire: DuplexStream, script: Rc<Script>, seens: Seens) {
    let limit = script.server.streams.map_or(usize::MAX >> 1, |limit| limit as usize);
    let (requests, connection) = Builder::new()
        .initial_window_size(script.client.stream_window)
        .initial_connection_window_size(script.client.connection_window)
        .initial_max_send_streams(limit)
        .enable_push(false)
        .handshake::<_, Bytes>(wire)
        .await
        .expect("a handshake");
    spawn_local(connection);
    let mut calls = JoinSet::new();
    for number in 0..script.calls.len() {
        let mut requests = requests.clone().ready().await.expect("the connection lives");
        let (response, sender) = requests
            .send_request(request(&script.calls[number], number), false)
            .expect("a stream can be opened");
        let (script, seens) = (script.clone(), seens.clone());
        calls.spawn_local(async move {
            let call = &script.calls[number];
            let both = async {
                // A server may answer before it has all requests.
                let (_, ()) = tokio::join!(
                    send(sender, call, number),
                    receive(response, |change| change(&mut seens.borrow_mut()[number])),
                );
            };
            let cancelled = async {
                match call.cancel {
                    Some(turns) => {
                        for _ in 0..turns * 4 {
                            yield_now().await;
                        }
                    }
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = both => {}
                () = cancelled => seens.borrow_mut()[number].cancelled = true,
            }
        });
    }
    while let Some(call) = calls.join_next().await {
        call.expect("a call does not panic");
    }
    // The connection ends with its last handle.
    let _requests = requests;
    pending().await
}

fn request(call: &Call, number: usize) -> Request<()> {
    let mut request = Request::builder()
        .method("POST")
        .uri(format!("http://localhost{}", call.kind.path()))
        .body(())
        .expect("a valid request");
    let map = request.headers_mut();
    map.insert("te", HeaderValue::from_static("trailers"));
    map.insert("content-type", HeaderValue::from_static("application/grpc+proto"));
    map.insert("user-agent", HeaderValue::from_static("h2-peer/1"));
    map.insert("grpc-encoding", HeaderValue::from_static(call.request_encoding.name()));
    map.insert("grpc-accept-encoding", HeaderValue::from_static("gzip, deflate"));
    add(map, &call.request_metadata(number));
    request
}

/// Sends all requests, or as many as the server lets through.
async fn send(mut sender: SendStream<Bytes>, call: &Call, number: usize) -> Result<(), h2::Error> {
    let last = call.requests.len().checked_sub(1);
    for (i, body) in call.requests.iter().enumerate() {
        let octets = frame(call.request(number, i), body.compress, call.request_encoding);
        let end = !call.kind.streams_requests() && Some(i) == last;
        sender.send_data(octets.into(), end)?;
        yield_now().await;
    }
    if call.kind.streams_requests() {
        sender.send_data(Bytes::new(), true)?;
    }
    Ok(())
}

async fn receive(response: ResponseFuture, seen: impl Fn(&dyn Fn(&mut SeenByClient))) {
    let response = response.await.expect("a response");
    assert_eq!(response.status(), 200);
    let (head, body) = response.into_parts();
    let end = |map: &http::HeaderMap| {
        let code = Code::from_number(status(map)).expect("a code");
        seen(&|seen| seen.end(code, &message(map), received(map)));
    };
    if head.headers.contains_key("grpc-status") {
        assert!(body.is_end_stream());
        return end(&head.headers);
    }
    seen(&|seen| seen.initial = received(&head.headers));
    let mut reader = Reader::new(&head.headers, body);
    while let Some(Octets(message)) = reader.next().await.expect("a message or the end") {
        seen(&|seen| seen.responses.push(Octets(message.clone())));
    }
    let trailers = reader.body.trailers().await.expect("trailers").expect("trailers");
    end(&trailers);
}
