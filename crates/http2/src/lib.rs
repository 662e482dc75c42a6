//! HTTP/2 (RFC 9113) without IO.
//!
//! A [`Connection`] is one end of an HTTP/2 connection as a state machine: octets in, [`Event`]s out; commands in,
//! octets out. It opens no socket, reads no clock and starts no thread, so anything can drive it: an event loop, a
//! thread, a test. It knows nothing of gRPC.
//!
//! ```
//! use oxgrpc_http2::{Config, Connection, Event, HeaderList, Indexing, NO_TAG, Role};
//! use std::{io::IoSlice, time::Instant};
//!
//! fn output(connection: &mut Connection) -> Vec<u8> {
//!     connection.fill();
//!     let mut slices = [IoSlice::new(&[]); 8];
//!     let count = connection.slices(&mut slices);
//!     let octets: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
//!     connection.advance(octets.len());
//!     octets
//! }
//!
//! let (mut client, mut server) = (
//!     Connection::new(Role::Client, Config::default()),
//!     Connection::new(Role::Server, Config::default()),
//! );
//! let request = [
//!     (&b":method"[..], &b"POST"[..], Indexing::Always),
//!     (b":scheme", b"http", Indexing::Always),
//!     (b":path", b"/echo", Indexing::Always),
//! ];
//! let list = HeaderList { prepared: None, fields: &request };
//! let stream = client.open(list, false, 7).unwrap();
//! client.send_data(stream, b"hello, ", &b"world"[..], true).unwrap();
//!
//! let octets = output(&mut client);
//! let mut input = &octets[..];
//! let mut content = Vec::new();
//! while let Some(event) = server.receive(&mut input, Instant::now()).unwrap() {
//!     if let Event::Data { stream, data, .. } = event {
//!         content.extend_from_slice(data);
//!         server.release(stream, data.len());
//!     }
//! }
//! assert_eq!(content, b"hello, world");
//! ```

#![forbid(unsafe_code)]

mod abuse;
mod config;
mod connection;
mod error;
mod event;
mod fields;
mod flow;
mod frame;
mod hpack;
mod output;
mod receive;
mod send;
mod stream;
mod streams;

pub use abuse::EarlyEnd;
pub use config::{Config, Role};
pub use connection::Connection;
pub use error::{ErrorCode, UsageError, Violation};
pub use event::{Event, NO_TAG};
pub use fields::{Field, Fields, Pseudo};
pub use frame::settings::Settings;
pub use hpack::{Indexing, Prepared};
pub use send::{Payload, Sent};
pub use stream::HeaderList;
pub use streams::StreamKey;
