//! The `h2` crate playing one side of a script.

use crate::script::{Call, End, Ending, Fields, Knobs, Message, Script, Seen, content};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use std::cell::RefCell;
use std::future::pending;
use std::rc::Rc;
use tokio::io::DuplexStream;
use tokio::task::{JoinSet, spawn_local, yield_now};

/// What has been seen of each call.
pub(crate) type Seens = Rc<RefCell<Vec<Seen>>>;

/// Makes all calls, and never ends.
pub(crate) async fn client(wire: DuplexStream, script: Rc<Script>, seens: Seens) {
    let Knobs { stream_window, connection_window, frame, table, .. } = script.client;
    let limit = script.server.streams.map_or(usize::MAX >> 1, |limit| limit as usize);
    let (requests, connection) = h2::client::Builder::new()
        .initial_window_size(stream_window)
        .initial_connection_window_size(connection_window)
        .max_frame_size(frame)
        .header_table_size(table)
        .initial_max_send_streams(limit)
        .enable_push(false)
        .handshake::<_, Bytes>(wire)
        .await
        .expect("a handshake");
    spawn_local(connection);
    let mut calls = JoinSet::new();
    for i in 0..script.calls.len() {
        let mut request =
            Request::builder().method("POST").uri(format!("http://localhost/call/{i}"));
        let Call { request: message, .. } = script.calls[i].clone();
        request.headers_mut().expect("a valid request").extend(header_map(&message.fields));
        let request = request.body(()).expect("a valid request");
        let mut requests = requests.clone().ready().await.expect("the connection lives");
        let (response, sender) =
            requests.send_request(request, false).expect("a stream can be opened");
        let seens = seens.clone();
        calls.spawn_local(async move {
            let receive = async {
                match response.await {
                    Ok(response) => {
                        let (parts, body) = response.into_parts();
                        receive(i, &seens, fields(&parts.headers), body).await;
                    }
                    Err(error) => seens.borrow_mut()[i].end = end(&error),
                }
            };
            tokio::join!(send(sender, i, true, &message), receive);
        });
    }
    while let Some(call) = calls.join_next().await {
        call.expect("a call does not panic");
    }
    // The connection ends with its last handle.
    let _requests = requests;
    pending().await
}

/// Serves all calls, and never ends.
pub(crate) async fn server(wire: DuplexStream, script: Rc<Script>, seens: Seens) {
    let Knobs { stream_window, connection_window, frame, table, streams, .. } = script.server;
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(stream_window)
        .initial_connection_window_size(connection_window)
        .max_frame_size(frame)
        .header_table_size(table);
    if let Some(limit) = streams {
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
        let (request, mut respond) = accepted.expect("the connection lives").expect("a request");
        let (parts, body) = request.into_parts();
        let i: usize = parts.uri.path().trim_start_matches("/call/").parse().expect("a number");
        let Call { response: message, .. } = script.calls[i].clone();
        let mut response = Response::new(());
        *response.headers_mut() = header_map(&message.fields);
        let seens = seens.clone();
        calls.spawn_local(async move {
            let respond = async {
                if let Ok(sender) = respond.send_response(response, false) {
                    send(sender, i, false, &message).await;
                }
            };
            tokio::join!(respond, receive(i, &seens, fields(&parts.headers), body));
        });
    }
}

/// Sends a message as it says, or as much as the peer lets through before it resets the stream.
async fn send(mut sender: SendStream<Bytes>, call: usize, is_request: bool, message: &Message) {
    let mut at = 0;
    for (i, len) in message.chunks.iter().enumerate() {
        let ends = message.ending == Ending::Data && i + 1 == message.chunks.len();
        let octets = content(call, is_request, at, *len);
        if sender.send_data(octets.into(), ends).is_err() {
            return;
        }
        at += len;
        yield_now().await;
    }
    // Its error is that the stream has been reset.
    let _ = match &message.ending {
        Ending::Data if message.chunks.is_empty() => sender.send_data(Bytes::new(), true),
        Ending::Data => Ok(()),
        Ending::Trailers(fields) => sender.send_trailers(header_map(fields)),
        Ending::Reset(code) => {
            sender.send_reset(Reason::from(*code));
            Ok(())
        }
    };
}

/// Reads a message to its end.
async fn receive(call: usize, seens: &Seens, fields: Fields, mut body: RecvStream) {
    seens.borrow_mut()[call].fields = Some(fields);
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => {
                seens.borrow_mut()[call].content.extend_from_slice(&data);
                yield_now().await;
                body.flow_control().release_capacity(data.len()).expect("it was received");
            }
            Err(error) => {
                seens.borrow_mut()[call].end = end(&error);
                return;
            }
        }
    }
    let trailers = body.trailers().await;
    let seen = &mut seens.borrow_mut()[call];
    match trailers {
        Ok(trailers) => {
            seen.trailers = trailers.map(|map| self::fields(&map));
            seen.end = End::Complete;
        }
        Err(error) => seen.end = end(&error),
    }
}

fn end(error: &h2::Error) -> End {
    match error.reason() {
        Some(reason) if error.is_reset() => End::Reset(reason.into()),
        _ => End::Failed(error.to_string()),
    }
}

fn header_map(fields: &Fields) -> HeaderMap {
    let field = |(name, value): &(String, Vec<u8>)| {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a valid name");
        (name, HeaderValue::from_bytes(value).expect("a valid value"))
    };
    let mut map = HeaderMap::new();
    for (name, value) in fields.iter().map(field) {
        map.append(name, value);
    }
    map
}

fn fields(map: &HeaderMap) -> Fields {
    map.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}
