//! One WebSocket connection: a task that connects, reads, writes and, if asked to, reconnects.
//!
//! ```text
//!   CONNECTING ──────────► CONNECTED ──── closed, lost ────► DISCONNECTED ──► (over)
//!       ▲    └─ fails ──► ERROR ──► (over)      │
//!       └──────────── back-off ◄────────────────┘   with auto_reconnect, after a failure, too
//! ```

use crate::backoff::Backoff;
use crate::platform::{Platform, now};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use oxgrpc_proto::virtufin::WebSocketConnection;
use rustls::ClientConfig;
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

/// How long one attempt to connect may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest frame in either direction.
pub(super) const MAX_FRAME_BYTES: usize = 4 << 20;

/// Frames that wait to be sent.
const OUTGOING: usize = 64;

/// How often a peer is pinged; one that is silent for twice as long is gone.
const PING: Duration = Duration::from_secs(30);

/// Octets of a correlation id before a message.
pub(super) const ID_BYTES: usize = 16;

/// The states of a connection, in the words of the API.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Connecting,
    Connected,
    Disconnected,
    Error,
}

impl State {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Connecting => "CONNECTING",
            Self::Connected => "CONNECTED",
            Self::Disconnected => "DISCONNECTED",
            Self::Error => "ERROR",
        }
    }
}

/// What is known of a connection, for whoever asks.
#[derive(Debug)]
struct Shared {
    state: State,
    /// Where received frames are published.
    topic: Option<String>,
    /// The kind of the last received frame.
    content_type: &'static str,
    /// Who waits for a frame that begins with their id.
    waiting: HashMap<Uuid, oneshot::Sender<Bytes>>,
}

/// A connection that is listed, whether or not it is connected now.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: String,
    url: String,
    auto_reconnect: bool,
    shared: Mutex<Shared>,
    outgoing: mpsc::Sender<Message>,
    pub(super) stop: CancellationToken,
}

/// What all connections have in common.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) platform: Platform,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) instance_id: Arc<str>,
    pub(super) status_topic: Arc<str>,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl Connection {
    /// Makes a connection, and the frames that it will send.
    pub(super) fn new(url: String, auto_reconnect: bool) -> (Arc<Self>, mpsc::Receiver<Message>) {
        let (outgoing, frames) = mpsc::channel(OUTGOING);
        let shared = Shared {
            state: State::Connecting,
            topic: None,
            content_type: "",
            waiting: HashMap::new(),
        };
        let connection = Self {
            id: Uuid::new_v4().to_string(),
            url,
            auto_reconnect,
            shared: Mutex::new(shared),
            outgoing,
            stop: CancellationToken::new(),
        };
        (Arc::new(connection), frames)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> State {
        self.shared().state
    }

    pub(super) fn info(&self, instance_id: &str) -> WebSocketConnection {
        let shared = self.shared();
        WebSocketConnection {
            id: self.id.clone(),
            url: self.url.clone(),
            status: shared.state.word().into(),
            topic: shared.topic.clone().unwrap_or_default(),
            instance_id: instance_id.into(),
            content_type: shared.content_type.into(),
        }
    }

    /// Publishes received frames to `topic` from now on, or no longer. Returns the topic that it was before.
    pub(super) fn publish_to(&self, topic: Option<String>) -> Option<String> {
        std::mem::replace(&mut self.shared().topic, topic)
    }

    /// Queues a frame.
    pub(super) async fn send(&self, message: Message) -> Result<(), Status> {
        match self.state() {
            State::Connected => {}
            state => {
                let text = format!("connection {} is {}, not CONNECTED", self.id, state.word());
                return Err(Status::unavailable(text));
            }
        }
        let gone = |_| Status::unavailable(format!("connection {} has ended", self.id));
        self.outgoing.send(message).await.map_err(gone)
    }

    /// Sends a message behind an id, and waits for a frame that begins with the same id.
    pub(super) async fn ask(&self, message: &[u8], limit: Duration) -> Result<Bytes, Status> {
        let id = Uuid::new_v4();
        let (sender, answer) = oneshot::channel();
        self.shared().waiting.insert(id, sender);
        let _waiting = Waiting { connection: self, id };
        let framed = [&id.as_bytes()[..], message].concat();
        let asked = async {
            self.send(Message::Binary(framed.into())).await?;
            let lost = |_| Status::unavailable(format!("connection {} was lost", self.id));
            answer.await.map_err(lost)
        };
        let late = |_| {
            let text = format!("connection {} gave no answer within {limit:?}", self.id);
            Status::deadline_exceeded(text)
        };
        tokio::time::timeout(limit, asked).await.map_err(late)?
    }

    /// Connects for the first time.
    pub(super) async fn connect(&self, tls: &Arc<ClientConfig>) -> Result<Socket, String> {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_FRAME_BYTES))
            .max_frame_size(Some(MAX_FRAME_BYTES));
        let connector = Some(Connector::Rustls(tls.clone()));
        let connecting = tokio_tungstenite::connect_async_tls_with_config(
            &self.url,
            Some(config),
            true,
            connector,
        );
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Err(_) => Err(format!("no WebSocket handshake within {CONNECT_TIMEOUT:?}")),
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok((socket, _))) => Ok(socket),
        }
    }

    /// Serves the connection until it is stopped, or is lost and not to be connected again. `socket` is what the first
    /// attempt to connect has come to.
    pub(super) async fn run(
        self: Arc<Self>,
        surroundings: Surroundings,
        socket: Result<Socket, String>,
        mut frames: mpsc::Receiver<Message>,
    ) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.follow(&surroundings, socket, &mut frames)).await;
        let state = if self.state() == State::Error { State::Error } else { State::Disconnected };
        self.change(&surroundings, state, None).await;
    }

    async fn follow(
        &self,
        surroundings: &Surroundings,
        mut socket: Result<Socket, String>,
        frames: &mut mpsc::Receiver<Message>,
    ) {
        let mut backoff = Backoff::default();
        loop {
            let why = match socket {
                Ok(socket) => {
                    backoff.reset();
                    self.change(surroundings, State::Connected, None).await;
                    self.exchange(surroundings, socket, frames).await
                }
                Err(error) => {
                    self.change(surroundings, State::Error, Some(&error)).await;
                    error
                }
            };
            // Who waits for an answer on a connection that is lost waits in vain.
            self.shared().waiting.clear();
            if !self.auto_reconnect {
                return;
            }
            self.change(surroundings, State::Connecting, Some(&why)).await;
            tokio::time::sleep(backoff.next()).await;
            socket = self.connect(&surroundings.tls).await;
        }
    }

    /// Sends and receives until the connection ends; returns why.
    async fn exchange(
        &self,
        surroundings: &Surroundings,
        mut socket: Socket,
        frames: &mut mpsc::Receiver<Message>,
    ) -> String {
        let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING, PING);
        let mut is_silent = false;
        loop {
            tokio::select! {
                received = socket.next() => {
                    is_silent = false;
                    match received {
                        None => return "the peer closed the connection".into(),
                        Some(Err(error)) => return error.to_string(),
                        Some(Ok(message)) => self.received(surroundings, message).await,
                    }
                }
                Some(frame) = frames.recv() => {
                    if let Err(error) = socket.send(frame).await {
                        return error.to_string();
                    }
                }
                () = self.stop.cancelled() => {
                    // A peer that does not take the farewell does not hold up the end.
                    let _ = tokio::time::timeout(Duration::from_secs(1), socket.close(None)).await;
                    return "disconnected".into();
                }
                _ = ping.tick() => {
                    if std::mem::replace(&mut is_silent, true) {
                        return format!("the peer was silent for {:?}", 2 * PING);
                    }
                    if let Err(error) = socket.send(Message::Ping(Bytes::new())).await {
                        return error.to_string();
                    }
                }
            }
        }
    }

    async fn received(&self, surroundings: &Surroundings, message: Message) {
        let (payload, content_type) = match &message {
            Message::Text(text) => (text.as_str().to_owned(), "text/plain"),
            Message::Binary(data) => {
                if self.answered(data) {
                    return;
                }
                (STANDARD.encode(data), "application/octet-stream")
            }
            // tungstenite answers pings and farewells by itself.
            _ => return,
        };
        let topic = {
            let mut shared = self.shared();
            shared.content_type = content_type;
            shared.topic.clone()
        };
        let Some(topic) = topic else { return };
        let envelope = json!({
            "WebSocketId": self.id,
            "WebSocketUrl": self.url,
            "Timestamp": now(),
            "Payload": payload,
            "ContentType": content_type,
        });
        let metadata = [
            ("ce-type", "com.virtufin.websocketmanager.message"),
            ("ce-source", "urn:com.virtufin.websocketmanager"),
            ("ce-datacontenttype", "application/json"),
        ];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let published = surroundings.platform.publish(&topic, envelope.to_string(), metadata).await;
        if let Err(status) = published {
            tracing::warn!(connection = self.id, topic, %status, "a frame could not be published");
        }
    }

    /// Hands a frame to whoever waits for it.
    fn answered(&self, data: &Bytes) -> bool {
        let Some(id) = data.first_chunk::<ID_BYTES>() else { return false };
        let waiting = self.shared().waiting.remove(&Uuid::from_bytes(*id));
        waiting.is_some_and(|waiting| waiting.send(data.slice(ID_BYTES..)).is_ok())
    }

    /// Changes the state, and tells whoever listens.
    async fn change(&self, surroundings: &Surroundings, state: State, why: Option<&str>) {
        let before = std::mem::replace(&mut self.shared().state, state);
        if before == state && why.is_none() {
            return;
        }
        let what = match state {
            State::Connecting => "reconnecting",
            State::Connected => "connected",
            State::Disconnected => "disconnected",
            State::Error => "error",
        };
        tracing::info!(
            connection = self.id,
            url = self.url,
            state = state.word(),
            why,
            "a WebSocket changed"
        );
        let data = json!({"connection_id": self.id, "url": self.url, "status": state.word(), "error": why});
        let kind = format!("com.virtufin.websocketmanager.connection.{what}");
        surroundings.platform.announce(&surroundings.status_topic, kind, data).await;
    }
}

/// Somebody who waits for an answer, until they have it or go.
struct Waiting<'a> {
    connection: &'a Connection,
    id: Uuid,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.connection.shared().waiting.remove(&self.id);
    }
}

/// Returns a frame of the kind that a content type asks for: text for `text/*` and JSON, binary for everything else.
pub(super) fn frame(message: Bytes, content_type: &str) -> Result<Message, Status> {
    let base = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !base.starts_with("text/") && base != "application/json" {
        return Ok(Message::Binary(message));
    }
    let text = tungstenite::Utf8Bytes::try_from(message);
    text.map(Message::Text).map_err(|_| {
        Status::invalid_argument(format!("a message of type {content_type:?} must be UTF-8 text"))
    })
}
