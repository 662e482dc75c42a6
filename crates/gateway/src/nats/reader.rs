//! Reads a log from a place on, without a gap, as long as the gateway runs: across lost connections and restarts of the server.
//!
//! One push consumer delivers to this gateway. It is made anew, from the message after the last that was read, whenever the
//! connection has been made again, a number is missing, or not even a heartbeat has come. It has a name of this reader's own
//! and is deleted first, so that none piles up; what a gateway leaves that is killed goes by itself.

use std::time::{Duration, SystemTime};

use async_nats::Subscriber;
use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, push};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;

use super::frames::Assembly;
use super::log::Log;

const HEARTBEAT: Duration = Duration::from_secs(3);
/// How long the server keeps the consumer of a gateway that is gone.
const INACTIVE: Duration = Duration::from_secs(30);
/// Records that wait to be taken; the server holds back the rest.
const QUEUE: usize = 256;

/// What a reader yields: after each message of the log, how far it is, and the record that the message has made whole.
#[derive(Debug)]
pub(crate) struct Record {
    /// The place of the message.
    pub(crate) place: u64,
    /// The record's id and content; `None` for a part that is not the last.
    pub(crate) content: Option<(Uuid, Bytes)>,
}

/// Where reading begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// With the oldest message that is kept.
    Beginning,
    /// After what is there now.
    Now,
}

/// Reads until it is dropped.
#[derive(Debug)]
pub(crate) struct Reader {
    task: JoinHandle<()>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Log {
    /// Begins to read. Returns where the log ended at that time.
    pub(crate) async fn read(
        &self,
        start: Start,
    ) -> Result<(u64, Reader, mpsc::Receiver<Record>), String> {
        let end = self.end().await?;
        let next = match start {
            Start::Beginning => 1,
            Start::Now => end + 1,
        };
        let (records, queue) = mpsc::channel(QUEUE);
        let follower = Follower {
            log: self.clone(),
            name: format!("gateway-{}", Uuid::new_v4()),
            next,
            assembly: Assembly::default(),
            records,
        };
        Ok((end, Reader { task: tokio::spawn(follower.follow()) }, queue))
    }
}

/// Why a consumer is left.
enum Left {
    /// Nobody takes the records any more.
    Closed,
    /// It has to be made anew.
    Broken,
}

struct Follower {
    log: Log,
    name: String,
    /// The place of the next message.
    next: u64,
    assembly: Assembly,
    records: mpsc::Sender<Record>,
}

impl Follower {
    async fn follow(mut self) {
        let mut connected = self.log.connection.connected.clone();
        let mut failures = 0;
        loop {
            connected.mark_unchanged();
            match self.consumer().await {
                Ok(messages) => {
                    failures = 0;
                    let left = tokio::select! {
                        left = self.consume(messages) => left,
                        _ = connected.changed() => Left::Broken,
                    };
                    if let Left::Closed = left {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(log = self.log.name, error, "cannot be followed now");
                    failures += 1;
                    tokio::select! {
                        () = tokio::time::sleep(super::delay(failures)) => {}
                        _ = connected.changed() => {}
                        () = self.records.closed() => return,
                    }
                }
            }
        }
    }

    /// Makes the consumer, from the next message on.
    async fn consumer(&self) -> Result<Subscriber, String> {
        let Log { connection, context, name } = &self.log;
        connection.check()?;
        let inbox = connection.client.new_inbox();
        let messages = connection
            .client
            .subscribe(inbox.clone())
            .await
            .map_err(|error| connection.failed("does not let the gateway subscribe", error))?;
        // It is there only if it was left without the server's knowing.
        let _ = context.delete_consumer_from_stream(&self.name, *name).await;
        let config = push::Config {
            name: Some(self.name.clone()),
            deliver_subject: inbox,
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.next },
            ack_policy: AckPolicy::None,
            idle_heartbeat: HEARTBEAT,
            flow_control: true,
            inactive_threshold: INACTIVE,
            memory_storage: true,
            num_replicas: 1,
            ..push::Config::default()
        };
        context
            .create_consumer_on_stream(config, *name)
            .await
            .map_err(|error| connection.failed("does not let the gateway read a log", error))?;
        Ok(messages)
    }

    /// Takes messages as long as they come without a gap.
    async fn consume(&mut self, mut messages: Subscriber) -> Left {
        let mut expected = 1;
        loop {
            let message = tokio::select! {
                message = timeout(HEARTBEAT * 3, messages.next()) => message,
                () = self.records.closed() => return Left::Closed,
            };
            let Ok(Some(message)) = message else { return Left::Broken };
            if message.status.is_some() {
                // A heartbeat, or flow control, which wants an answer and then lets more come.
                if let Some(reply) = message.reply {
                    let _ = self.log.connection.client.publish(reply, Bytes::new()).await;
                }
                continue;
            }
            let message = Message { message, context: self.log.context.clone() };
            let Ok(info) = message.info() else { continue };
            if info.consumer_sequence != expected {
                return Left::Broken;
            }
            expected += 1;
            let place = info.stream_sequence;
            let time = SystemTime::UNIX_EPOCH
                + Duration::from_nanos(
                    u64::try_from(info.published.unix_timestamp_nanos()).unwrap_or_default(),
                );
            let content = self.assembly.take(message.payload.clone(), time);
            if self.records.send(Record { place, content }).await.is_err() {
                return Left::Closed;
            }
            // Only now: a message whose record was not handed over is read again.
            self.next = place + 1;
        }
    }
}
