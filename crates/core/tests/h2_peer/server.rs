//! `h2` as the server of a conversation.

use super::{Reader, add, add_status, frame, received, text};
use crate::script::{Call, Script, SeenByServer, Step, take_number};
use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use std::cell::RefCell;
use std::rc::Rc;
use tokio::io::DuplexStream;
use tokio::task::{JoinSet, yield_now};

/// What has been seen of each call.
pub(crate) type Seens = Rc<RefCell<Vec<SeenByServer>>>;

/// Notes what has been seen of one call.
type Note<'a> = &'a dyn Fn(&dyn Fn(&mut SeenByServer));

/// Serves all calls, and never ends.
pub(crate) async fn serve(wire: DuplexStream, script: Rc<Script>, seens: Seens) {
    let mut builder = Builder::new();
    builder
        .initial_window_size(script.server.stream_window)
        .initial_connection_window_size(script.server.connection_window);
    if let Some(limit) = script.server.streams {
        builder.max_concurrent_streams(limit);
    }
    let mut connection = builder.handshake::<_, Bytes>(wire).await.expect("a handshake");
    let mut calls = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            Some(call) = calls.join_next() => {
                call.expect("a call does not panic");
                continue;
            }
        };
        let (request, respond) = accepted.expect("the connection lives").expect("a request");
        let (script, seens) = (script.clone(), seens.clone());
        calls.spawn_local(async move {
            let headers = request.headers();
            check_request(&request);
            let mut metadata = received(headers);
            let number = take_number(&mut metadata);
            let call = &script.calls[number];
            assert_eq!(request.uri().path(), call.kind.path());
            let seen = |change: &dyn Fn(&mut SeenByServer)| change(&mut seens.borrow_mut()[number]);
            seen(&|seen| {
                seen.accepted = true;
                seen.metadata = metadata.clone();
            });
            let reader = Reader::new(&headers.clone(), request.into_body());
            match play(call, number, reader, respond, &seen).await {
                Ok(()) => seen(&|seen| seen.finished = true),
                Err(_) => seen(&|seen| seen.cancelled = true),
            }
        });
    }
}

/// What every request of ours says.
fn check_request(request: &Request<RecvStream>) {
    let headers = request.headers();
    assert_eq!(request.method(), "POST");
    assert_eq!(text(headers, "te"), Some("trailers"));
    assert_eq!(text(headers, "content-type"), Some("application/grpc"));
    assert_eq!(text(headers, "user-agent"), Some("script/1"));
    assert_eq!(text(headers, "grpc-accept-encoding"), Some("identity, deflate, gzip"));
}

/// Answers one call. The error is that the client has cancelled it.
async fn play(
    call: &Call,
    number: usize,
    mut reader: Reader,
    mut respond: SendResponse<Bytes>,
    seen: Note<'_>,
) -> Result<(), h2::Error> {
    let mut sender: Option<SendStream<Bytes>> = None;
    let (mut read, mut read_all, mut written) = (0, false, 0);
    if !call.initial.is_empty() {
        sender = Some(respond.send_response(head(call), false)?);
    }
    loop {
        match call.next_step(read, read_all, written) {
            Step::Read => match reader.next().await? {
                Some(message) => {
                    read += 1;
                    seen(&|seen| seen.requests.push(message.clone()));
                }
                None => {
                    read_all = true;
                    seen(&|seen| seen.read_all = true);
                }
            },
            Step::Write => {
                if sender.is_none() {
                    sender = Some(respond.send_response(head(call), false)?);
                }
                let compress = call.responses[written].compress;
                let message = call.response(number, written);
                written += 1;
                if let Some(sender) = &mut sender {
                    let octets = frame(message, compress, call.response_encoding);
                    sender.send_data(octets.into(), false)?;
                }
                yield_now().await;
            }
            Step::Finish => {
                let mut map = HeaderMap::new();
                add_status(&mut map, call.code as u32, &call.message);
                add(&mut map, &call.trailing);
                return match &mut sender {
                    Some(sender) => sender.send_trailers(map),
                    None => {
                        let mut response = head(call);
                        response.headers_mut().extend(map);
                        respond.send_response(response, true).map(drop)
                    }
                };
            }
        }
    }
}

fn head(call: &Call) -> Response<()> {
    let mut response = Response::new(());
    let map = response.headers_mut();
    map.insert("content-type", HeaderValue::from_static("application/grpc+proto"));
    map.insert("grpc-encoding", HeaderValue::from_static(call.response_encoding.name()));
    add(map, &call.initial);
    response
}
