//! A worker that runs: its process and its subscription, until it is stopped.
//!
//! ```text
//!            loaded and subscribed                      crashed, timed out
//!   start ───────────────────────► waiting ◄──────────── back-off, new process
//!     │                              │  ▲                     ▲
//!     └─ fails: StartWorker says why │  └─ answered, raised ──┤
//!                                    └──► processing ─────────┘
//! ```
//!
//! Events are processed one at a time, in the topic's order. An event whose process crashes is not processed again: the
//! same event would crash the next process, too.

use super::events::{from_worker, to_worker};
use super::logs::Logs;
use super::process::{Broken, Interpreter, Outcome, Process};
use crate::backoff::Backoff;
use crate::platform::Platform;
use oxgrpc_proto::virtufin::PubsubSubscribeResponse;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

/// What a worker needs to run.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) group: String,
    pub(super) topic: String,
    pub(super) code: String,
    pub(super) interpreter: Arc<Interpreter>,
    pub(super) platform: Platform,
    pub(super) logs: Arc<Logs>,
    /// Where life-cycle events are published.
    pub(super) status_topic: Arc<str>,
}

/// A worker whose code is loaded and whose subscription is live.
pub(super) struct Ready {
    job: Job,
    process: Process,
    events: Streaming<PubsubSubscribeResponse>,
}

impl Job {
    /// Loads the code and subscribes.
    pub(super) async fn start(self) -> Result<Ready, Status> {
        let process = Process::start(&self.interpreter, &self.code, &self.logs).await;
        let process = match process {
            Ok(process) => process,
            Err(broken) => {
                self.failed(broken.kind(), &broken.to_string()).await;
                let text = format!("worker {} does not start: {broken}", self.id);
                return Err(Status::failed_precondition(text));
            }
        };
        let events = self.platform.subscribe(&self.topic).await?;
        Ok(Ready { job: self, process, events })
    }

    /// Publishes a life-cycle event.
    pub(super) async fn announce(&self, what: &str, more: Value) {
        let mut data = json!({"worker_id": self.id, "group": self.group, "topic": self.topic});
        if let (Value::Object(data), Value::Object(more)) = (&mut data, more) {
            data.extend(more);
        }
        let kind = format!("com.virtufin.workmanager.worker.{what}");
        self.platform.announce(&self.status_topic, kind, data).await;
    }

    async fn failed(&self, kind: &str, message: &str) {
        tracing::warn!(worker = self.id, kind, message, "a worker failed");
        self.announce("error", json!({"error_type": kind, "error_message": message})).await;
    }
}

impl Ready {
    /// Processes events until `stop` is cancelled.
    pub(super) async fn run(self, stop: CancellationToken) {
        let Self { job, process, events } = self;
        let mut running = Running { job, process: Some(process), backoff: Backoff::default() };
        // A handler that is cut off is killed with its process.
        let _ = stop.run_until_cancelled(running.follow(events)).await;
        if let Some(process) = running.process {
            process.shut_down().await;
        }
    }
}

struct Running {
    job: Job,
    /// `None` while there is none, between a crash and the next process.
    process: Option<Process>,
    backoff: Backoff,
}

impl Running {
    async fn follow(&mut self, mut events: Streaming<PubsubSubscribeResponse>) {
        loop {
            let Some(process) = &mut self.process else {
                self.restart().await;
                continue;
            };
            let next = tokio::select! {
                broken = process.ended() => {
                    self.broke(broken).await;
                    continue;
                }
                next = events.message() => next,
            };
            match next {
                Ok(Some(event)) => self.handle(to_worker(event)).await,
                Ok(None) => events = self.subscribe(Status::unavailable("the stream ended")).await,
                Err(status) => events = self.subscribe(status).await,
            }
        }
    }

    async fn handle(&mut self, event: Value) {
        let Some(process) = &mut self.process else { return };
        // While the event is processed the job of the worker's process is this one; what it returns is published before
        // the next event is looked at, so that answers keep the order of their questions.
        match process.process(&event).await {
            Ok(Outcome::Done(None)) => self.backoff.reset(),
            Ok(Outcome::Done(Some(answer))) => {
                self.backoff.reset();
                self.publish(answer, &event).await;
            }
            Ok(Outcome::Raised { kind, message }) => self.job.failed(&kind, &message).await,
            Err(broken) => self.broke(broken).await,
        }
    }

    async fn publish(&self, answer: Value, event: &Value) {
        let publication = match from_worker(answer, event) {
            Ok(publication) => publication,
            Err(error) => return self.job.failed("InvalidAnswer", &error).await,
        };
        let (data, metadata) = (publication.data, publication.metadata);
        let published = self.job.platform.publish(&publication.topic, data, metadata).await;
        if let Err(status) = published {
            self.job.failed("PublishFailed", status.message()).await;
        }
    }

    async fn broke(&mut self, broken: Broken) {
        self.process = None;
        self.job.failed(broken.kind(), &broken.to_string()).await;
    }

    /// Starts another process after a delay.
    async fn restart(&mut self) {
        tokio::time::sleep(self.backoff.next()).await;
        let job = &self.job;
        match Process::start(&job.interpreter, &job.code, &job.logs).await {
            Ok(process) => self.process = Some(process),
            Err(broken) => job.failed(broken.kind(), &broken.to_string()).await,
        }
    }

    /// Subscribes again after the stream has ended.
    async fn subscribe(&mut self, status: Status) -> Streaming<PubsubSubscribeResponse> {
        tracing::warn!(worker = self.job.id, %status, "a worker lost its subscription");
        let mut backoff = Backoff::default();
        loop {
            match self.job.platform.subscribe(&self.job.topic).await {
                Ok(events) => return events,
                Err(status) => {
                    let delay: Duration = backoff.next();
                    tracing::debug!(worker = self.job.id, %status, ?delay, "no subscription yet");
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }
}
