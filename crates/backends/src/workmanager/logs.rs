//! What a worker wrote: its newest lines, and further lines as they come.

use crate::platform::now;
use oxgrpc_proto::virtufin::WorkerLogLine;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::sync::broadcast;

/// Lines that are kept of each worker.
const KEPT_LINES: usize = 1000;

/// The longest line; the rest of a longer one makes lines of its own.
const LINE_BYTES: u64 = 4096;

/// The log of one worker, through all its processes.
#[derive(Debug)]
pub(super) struct Logs {
    lines: Mutex<VecDeque<WorkerLogLine>>,
    news: broadcast::Sender<WorkerLogLine>,
}

impl Default for Logs {
    fn default() -> Self {
        Self { lines: Mutex::default(), news: broadcast::channel(KEPT_LINES).0 }
    }
}

impl Logs {
    pub(super) fn push(&self, stream: &str, text: String) {
        let line = WorkerLogLine { timestamp: now(), stream: stream.into(), text };
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line.clone());
        // Nobody may be listening. The lock is held so that no follower misses a line or sees it twice.
        let _ = self.news.send(line);
    }

    /// Returns the last `tail` lines, all if 0, and what comes after them.
    pub(super) fn read(
        &self,
        tail: usize,
    ) -> (Vec<WorkerLogLine>, broadcast::Receiver<WorkerLogLine>) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped = if tail == 0 { 0 } else { lines.len().saturating_sub(tail) };
        (lines.iter().skip(skipped).cloned().collect(), self.news.subscribe())
    }

    /// Takes down all lines of a stream until it ends.
    pub(super) async fn take_down(
        self: Arc<Self>,
        stream: &'static str,
        from: impl AsyncRead + Unpin,
    ) {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut from).take(LINE_BYTES).read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let text = String::from_utf8_lossy(&line);
            self.push(stream, text.trim_end_matches(['\r', '\n']).to_owned());
        }
    }
}
