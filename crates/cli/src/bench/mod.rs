//! `oxgrpc bench`: how fast a method answers.
//!
//! Closed loop: each of `--concurrency` workers makes one call after the other. Open loop (`--rate`): calls are due at fixed
//! times whatever the server does, and latency counts from when a call was due, so that a server that stalls is charged for
//! everybody who would have waited (coordinated omission). Streams count as one call from their first request to their status.

mod limit;
mod tally;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use oxgrpc_schema::RawCodec;
use oxgrpc_schema::prost_reflect::MethodDescriptor;
use serde_json::json;
use tokio::sync::Semaphore;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::arguments::{BenchArguments, Output};
use crate::call::{connection_status, encode_all, method_path, print_line};
use crate::connect::Connection;
use crate::failure::{Failure, Kind};
use crate::input::Input;
use crate::look::failure_object;
use crate::metadata::Headers;
use crate::schema::Sources;
use crate::trace::Trace;

pub(crate) use limit::Limit;
use tally::Tally;

/// Runs the command and returns its exit code.
pub(crate) async fn run(arguments: &BenchArguments) -> u8 {
    let json = arguments.method.output == Output::Json;
    let outcome = measure(arguments).await;
    let (text, kind) = match &outcome {
        Ok(measured) => {
            let broken: Vec<&Limit> =
                arguments.fail_if.iter().filter(|limit| limit.holds(&measured.tally)).collect();
            let kind = if broken.is_empty() { None } else { Some(Kind::Limit) };
            let text = if json {
                let broken: Vec<String> = broken.iter().map(ToString::to_string).collect();
                let mut object = measured.to_json();
                object["broken_limits"] = json!(broken);
                object["exit_code"] = json!(kind.map_or(0, Kind::exit_code));
                object.to_string()
            } else {
                for limit in broken {
                    Failure::new(
                        Kind::Limit,
                        format!("--fail-if {limit}: {}", limit.found(&measured.tally)),
                    )
                    .print();
                }
                measured.to_text()
            };
            (text, kind)
        }
        Err(failure) => {
            if !json {
                failure.print();
                return failure.kind.exit_code();
            }
            (failure_object(failure).to_string(), Some(failure.kind))
        }
    };
    match print_line(&text) {
        Ok(()) => kind.map_or(0, Kind::exit_code),
        Err(failure) => failure.kind.exit_code(),
    }
}

/// What was measured, and how.
struct Measured {
    target: String,
    method: String,
    concurrency: usize,
    connections: usize,
    rate: Option<f64>,
    tally: Tally,
}

/// What all workers share.
struct Plan {
    method: MethodDescriptor,
    requests: Vec<Bytes>,
    metadata: MetadataMap,
    max_time: Option<Duration>,
    /// When the first call is made; calls that are due before `begin` warm up.
    started: Instant,
    begin: Instant,
    /// No call is due at or after this.
    end: Option<Instant>,
    /// How many calls are made, those that warm up included.
    calls: u64,
    /// Calls a second; `None` for a closed loop.
    rate: Option<f64>,
    concurrency: usize,
    next: AtomicU64,
    /// Admits a call of an open loop when it is due.
    due: Semaphore,
    /// How many calls of an open loop have been admitted, once that is known.
    admitted: AtomicU64,
    stop: AtomicBool,
}

async fn measure(arguments: &BenchArguments) -> Result<Measured, Failure> {
    let options = &arguments.method;
    let (address, name) = options.places()?;
    if arguments.concurrency == 0 || arguments.connections == 0 {
        return Err(Failure::usage("--concurrency and --connections are at least 1"));
    }
    if arguments.rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1e7)) {
        return Err(Failure::usage("--rate is above 0 and at most 10000000 calls a second"));
    }
    let target = options.connection.target(&address)?;
    let trace = Trace::new(options.connection.verbose);
    let headers = Headers::read(&options.connection.header).await?;
    let own = Headers::read(&options.rpc_header).await?;
    let mut connections = Vec::new();
    for _ in 0..arguments.connections {
        connections.push(Connection::open(&target, &trace).await?);
    }
    let mut sources =
        Sources::read(&options.schema, &headers, connections.first().cloned(), &trace).await?;
    let method = sources.method(&name).await?;
    let requests = match Input::read(Some(options.data.as_deref().unwrap_or("")), true)? {
        Input::Given(texts) => encode_all(&method, &texts, options.allow_unknown_fields)?,
        Input::Stdin => {
            return Err(Failure::usage(
                "bench sends the same requests again and again: -d @ cannot be read twice",
            )
            .hint("-d @FILE reads a file"));
        }
    };
    sources.save()?;
    drop(sources);

    let started = Instant::now();
    let begin = started + arguments.warmup;
    let calls = match (arguments.requests, arguments.rate) {
        (Some(calls), Some(rate)) => {
            calls.saturating_add((arguments.warmup.as_secs_f64() * rate).ceil() as u64)
        }
        _ => u64::MAX,
    };
    let plan = Arc::new(Plan {
        method,
        requests,
        metadata: headers.with(&own).map,
        max_time: options.max_time,
        started,
        begin,
        end: arguments.requests.is_none().then(|| begin + arguments.duration),
        calls,
        rate: arguments.rate,
        concurrency: arguments.concurrency,
        next: AtomicU64::new(0),
        due: Semaphore::new(0),
        admitted: AtomicU64::new(u64::MAX),
        stop: AtomicBool::new(false),
    });
    let counted = arguments.requests.unwrap_or(u64::MAX);
    let ticker = arguments.rate.map(|_| {
        let plan = plan.clone();
        std::thread::spawn(move || plan.tick())
    });
    let remaining = Arc::new(AtomicU64::new(counted));
    let workers: Vec<_> = (0..arguments.concurrency)
        .map(|index| {
            let connection = connections[index % connections.len()].clone();
            tokio::spawn(work(plan.clone(), connection, remaining.clone(), options.max_msg_sz))
        })
        .collect();
    let interrupted = {
        let plan = plan.clone();
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                plan.stop.store(true, Ordering::Relaxed);
                plan.due.close();
            }
        })
    };
    let mut tally = Tally::new();
    for worker in workers {
        match worker.await {
            Ok(part) => tally.add(part),
            Err(error) => return Err(Failure::io(format!("a worker ended early: {error}"))),
        }
    }
    let measured_until = Instant::now();
    plan.stop.store(true, Ordering::Relaxed);
    interrupted.abort();
    if let Some(ticker) = ticker {
        // It sees `stop` within one sleep.
        let _ = ticker.join();
    }
    // Calls that were begun in time are counted although they end later.
    let until = plan.end.unwrap_or(measured_until).min(measured_until);
    tally.elapsed = until.saturating_duration_since(begin);
    if tally.calls == 0 {
        return Err(Failure::io("no call was measured")
            .hint("--duration is too short, or --warmup too long"));
    }
    Ok(Measured {
        target: target.address.to_string(),
        method: method_path(&plan.method),
        concurrency: arguments.concurrency,
        connections: arguments.connections,
        rate: arguments.rate,
        tally,
    })
}

impl Plan {
    /// When call `index` is due in an open loop.
    fn due_at(&self, index: u64, rate: f64) -> Instant {
        self.started + Duration::from_secs_f64(index as f64 / rate)
    }

    /// Admits calls when they are due, in a thread of its own: the runtime's timers are a millisecond apart.
    fn tick(&self) {
        let Some(rate) = self.rate else { return };
        let mut admitted = 0;
        for index in 0..self.calls {
            let due = self.due_at(index, rate);
            if self.end.is_some_and(|end| due >= end) {
                break;
            }
            loop {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                let wait = due.saturating_duration_since(Instant::now());
                if wait.is_zero() {
                    break;
                }
                std::thread::sleep(wait.min(Duration::from_millis(50)));
            }
            self.due.add_permits(1);
            admitted += 1;
        }
        // Each worker is woken once more, to learn that there are no further calls.
        self.admitted.store(admitted, Ordering::Relaxed);
        self.due.add_permits(self.concurrency);
    }

    /// The moment from which the next call's latency counts; `None` when there are no more calls.
    async fn next_call(&self, remaining: &AtomicU64) -> Option<(Instant, bool)> {
        let start = match self.rate {
            Some(rate) => {
                self.due.acquire().await.ok()?.forget();
                let index = self.next.fetch_add(1, Ordering::Relaxed);
                if index >= self.admitted.load(Ordering::Relaxed) {
                    return None;
                }
                self.due_at(index, rate)
            }
            None => Instant::now(),
        };
        if self.stop.load(Ordering::Relaxed) || self.end.is_some_and(|end| start >= end) {
            return None;
        }
        let counts = start >= self.begin;
        if counts {
            remaining
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .ok()?;
        }
        Some((start, counts))
    }
}

/// Makes calls until there are no more to make.
async fn work(
    plan: Arc<Plan>,
    connection: Connection,
    remaining: Arc<AtomicU64>,
    max_message_bytes: Option<usize>,
) -> Tally {
    let mut tally = Tally::new();
    let mut grpc = tonic::client::Grpc::new(connection)
        .max_decoding_message_size(max_message_bytes.unwrap_or(usize::MAX))
        .max_encoding_message_size(usize::MAX);
    while let Some((start, counts)) = plan.next_call(&remaining).await {
        let call = one_call(&plan, &mut grpc);
        let result = match plan.max_time {
            Some(limit) => tokio::time::timeout(limit, call)
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("--max-time is over"))),
            None => call.await,
        };
        if counts {
            tally.count(start.elapsed(), &result);
        }
        if result.is_err_and(|status| status.code() == Code::Unavailable) {
            // A server that is gone refuses at once: without a pause this would be a busy loop.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    tally
}

/// Makes one call; returns how many messages came back.
async fn one_call(plan: &Plan, grpc: &mut tonic::client::Grpc<Connection>) -> Result<u64, Status> {
    grpc.ready().await.map_err(|error| crate::call::lost(&error))?;
    let mut request = tonic::Request::new(tokio_stream::iter(plan.requests.clone()));
    *request.metadata_mut() = plan.metadata.clone();
    if let Some(limit) = plan.max_time {
        request.set_timeout(limit);
    }
    let path = oxgrpc_schema::path(&plan.method);
    let called = grpc.streaming(request, path, RawCodec).await;
    let mut responses = called.map_err(connection_status)?.into_inner();
    let mut messages = 0;
    while responses.message().await.map_err(connection_status)?.is_some() {
        messages += 1;
    }
    Ok(messages)
}

impl Measured {
    fn to_json(&self) -> serde_json::Value {
        let mut object = self.tally.to_json();
        object["target"] = json!(self.target);
        object["method"] = json!(self.method);
        object["loop"] = json!(if self.rate.is_some() { "open" } else { "closed" });
        object["concurrency"] = json!(self.concurrency);
        object["connections"] = json!(self.connections);
        object["intended_rate"] = json!(self.rate);
        object
    }

    fn to_text(&self) -> String {
        let how = match self.rate {
            Some(rate) => {
                format!("open loop, {rate} calls/s intended, at most {} at once", self.concurrency)
            }
            None => format!("closed loop, {} calls at once", self.concurrency),
        };
        format!(
            "{} on {}\n{how}, {} connection(s)\n{}",
            self.method,
            self.target,
            self.connections,
            self.tally.to_text()
        )
    }
}
