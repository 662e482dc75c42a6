//! The thread that writes: it takes all requests that wait and commits them together, one fsync for all.
//!
//! After an error of the storage everybody in the batch is told, and the database is opened again before the next batch.

use std::sync::mpsc as thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::super::tables::{Tables, etags, millis};
use super::super::{Clock, Error, Write};
use super::database::Database;

/// How many octets of values one commit takes at most, unless a single transaction has more.
const BATCH_BYTES: usize = 16 * 1024 * 1024;
const BATCH_REQUESTS: usize = 512;
/// Expired values that one commit removes.
const SWEEP: usize = 256;
/// How often the thread looks for expired values if nothing is written.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

pub(super) enum Request {
    Transact {
        service: String,
        writes: Vec<Write>,
        reply: Reply<Vec<Option<String>>>,
    },
    Register {
        service: String,
        keys: Vec<String>,
        reply: Reply<()>,
    },
    /// Makes sure that the database is open and takes writes.
    Check(Reply<()>),
}

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Self::Transact { writes, .. } => {
                writes.iter().map(|write| write.value.as_ref().map_or(0, |value| value.len())).sum()
            }
            _ => 0,
        }
    }

    fn fail(self, error: &Error) {
        // Whoever has gone away need not know.
        let _ = match self {
            Self::Transact { reply, .. } => reply.send(Err(error.clone())).is_ok(),
            Self::Register { reply, .. } | Self::Check(reply) => {
                reply.send(Err(error.clone())).is_ok()
            }
        };
    }
}

/// What a request is told once its batch is on disk.
enum Outcome {
    Written(Reply<Vec<Option<String>>>, Result<Vec<Option<String>>, Error>),
    Done(Reply<()>),
}

impl Outcome {
    fn tell(self) {
        let _ = match self {
            Self::Written(reply, result) => reply.send(result).is_ok(),
            Self::Done(reply) => reply.send(Ok(())).is_ok(),
        };
    }
}

pub(super) fn run(
    database: &Database,
    mut queue: mpsc::Receiver<Request>,
    clock: &Clock,
    started: &thread::Sender<Result<(), Error>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(Error::Unavailable(format!("no timer: {error}"))));
            return;
        }
    };
    let _ = started.send(Ok(()));
    let mut writer = Writer { database, clock, failed: false, unproven: false };
    loop {
        let next =
            runtime.block_on(async { tokio::time::timeout(SWEEP_INTERVAL, queue.recv()).await });
        match next {
            Ok(Some(first)) => writer.write(batch(first, &mut queue)),
            Ok(None) => return,
            Err(_) => writer.sweep(),
        }
    }
}

fn batch(first: Request, queue: &mut mpsc::Receiver<Request>) -> Vec<Request> {
    let mut bytes = first.bytes();
    let mut batch = vec![first];
    while batch.len() < BATCH_REQUESTS && bytes < BATCH_BYTES {
        let Ok(request) = queue.try_recv() else { break };
        bytes += request.bytes();
        batch.push(request);
    }
    batch
}

struct Writer<'d> {
    database: &'d Database,
    clock: &'d Clock,
    /// The last commit failed: the database has to be opened again.
    failed: bool,
    /// No commit has succeeded since one failed, so that [`Request::Check`] has to try one.
    unproven: bool,
}

impl Writer<'_> {
    fn write(&mut self, batch: Vec<Request>) {
        if let Err(error) = self.recover() {
            batch.into_iter().for_each(|request| request.fail(&error));
            return;
        }
        let mut rest = batch.into_iter();
        let mut outcomes = Vec::with_capacity(rest.len());
        match self.commit(&mut rest, &mut outcomes) {
            Ok(committed) => {
                self.unproven &= !committed;
                outcomes.into_iter().for_each(Outcome::tell);
            }
            Err(error) => {
                tracing::error!(store = self.database.name(), %error, "state was not written");
                self.failed = true;
                self.unproven = true;
                let error = self.database.error(&error);
                for outcome in outcomes {
                    let _ = match outcome {
                        Outcome::Written(reply, _) => reply.send(Err(error.clone())).is_ok(),
                        Outcome::Done(reply) => reply.send(Err(error.clone())).is_ok(),
                    };
                }
                rest.for_each(|request| request.fail(&error));
            }
        }
    }

    /// Opens the database again if it cannot be used, and lets what was written last be read.
    fn recover(&mut self) -> Result<(), Error> {
        if self.failed || self.database.view().is_err() {
            self.failed = true;
            self.database.reopen()?;
            self.failed = false;
            tracing::info!(store = self.database.name(), "state is open again");
        }
        Ok(())
    }

    /// Carries out all requests in one transaction of the database; returns whether there was anything to commit.
    fn commit(
        &self,
        batch: &mut std::vec::IntoIter<Request>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<bool, redb::Error> {
        let now = millis((self.clock)());
        let database = self.database.current()?;
        let transaction = database.begin_write()?;
        let changed;
        {
            let mut tables = Tables::open(&transaction)?;
            let mut revision = tables.revision()?;
            let mut writes_anything = tables.sweep(now, SWEEP)? > 0;
            for request in batch {
                match request {
                    Request::Transact { service, writes, reply } => {
                        let result = tables.apply(&service, &writes, now, revision + 1);
                        let result = match result {
                            Ok(result) => result,
                            Err(error) => {
                                outcomes.push(Outcome::Written(reply, Ok(Vec::new())));
                                return Err(error);
                            }
                        };
                        let result = match result {
                            Ok(()) => {
                                revision += 1;
                                writes_anything = true;
                                Ok(etags(&writes, revision))
                            }
                            Err(key) => Err(Error::Conflict { key }),
                        };
                        outcomes.push(Outcome::Written(reply, result));
                    }
                    Request::Register { service, keys, reply } => {
                        outcomes.push(Outcome::Done(reply));
                        tables.register(&service, &keys)?;
                        writes_anything = true;
                    }
                    Request::Check(reply) => {
                        outcomes.push(Outcome::Done(reply));
                        writes_anything |= self.unproven;
                    }
                }
            }
            changed = writes_anything;
        }
        if changed {
            transaction.commit()?
        } else {
            transaction.abort()?
        }
        Ok(changed)
    }

    fn sweep(&mut self) {
        let now = millis((self.clock)());
        let due = || -> Result<bool, redb::Error> {
            let next = self.database.view()?.next_expiry()?;
            Ok(next.is_some_and(|next| next <= now))
        };
        if due().unwrap_or(true) {
            self.write(Vec::new());
        }
    }
}
