//! The calls of WorkManager, and the workers that it has.

use super::fetch::{Fetcher, MAX_CODE_BYTES};
use super::logs::Logs;
use super::process::Interpreter;
use super::record::{Code, Record, load_index, save_index};
use super::worker::Job;
use crate::platform::Platform;
use oxgrpc_proto::virtufin::code_source::Source;
use oxgrpc_proto::virtufin::{
    CodeSource, CreateWorkerRequest, CreateWorkerResponse, DeleteWorkerRequest,
    GetWorkerHistoryRequest, GetWorkerHistoryResponse, ListWorkersRequest, ListWorkersResponse,
    LoadCodeFromContentRequest, LoadCodeFromUrlRequest, RecoverWorkersRequest,
    RecoverWorkersResponse, StartWorkerRequest, StatusResponse, StopWorkerRequest,
    StreamWorkerLogsRequest, WorkerLogLine, work_manager_server,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Lines of a log that wait for a follower.
const FOLLOWED_LINES: usize = 64;

/// MIME types of Python code.
const PYTHON: [&str; 3] = ["text/x-python", "application/x-python", "text/x-python-script"];

/// One worker, whether or not it runs.
struct Worker {
    record: Mutex<Record>,
    logs: Arc<Logs>,
    /// Held by whoever starts, stops or changes the worker.
    running: tokio::sync::Mutex<Option<Running>>,
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a worker did not end in order");
        }
    }
}

impl Worker {
    fn new(record: Record) -> Arc<Self> {
        let running = tokio::sync::Mutex::default();
        Arc::new(Self { record: Mutex::new(record), logs: Arc::default(), running })
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The service.
pub(super) struct WorkManager {
    platform: Platform,
    fetcher: Fetcher,
    interpreter: Arc<Interpreter>,
    max_workers: usize,
    status_topic: Arc<str>,
    workers: Mutex<BTreeMap<String, Arc<Worker>>>,
    /// Held while the index is written.
    index: tokio::sync::Mutex<()>,
    closing: CancellationToken,
}

impl WorkManager {
    pub(super) fn new(
        platform: Platform,
        fetcher: Fetcher,
        interpreter: Arc<Interpreter>,
        max_workers: usize,
        status_topic: Arc<str>,
    ) -> Self {
        Self {
            platform,
            fetcher,
            interpreter,
            max_workers,
            status_topic,
            workers: Mutex::default(),
            index: tokio::sync::Mutex::default(),
            closing: CancellationToken::new(),
        }
    }

    /// Reads the workers that the gateway's state has, starts those that ran, and returns how many.
    pub(super) async fn recover(&self) -> Result<usize, Status> {
        let mut started = 0;
        for id in load_index(&self.platform).await? {
            if self.workers().contains_key(&id) {
                continue;
            }
            let Some(record) = Record::load(&self.platform, &id).await? else { continue };
            let was_running = record.running;
            let worker = Worker::new(record);
            self.workers().insert(id.clone(), worker.clone());
            if was_running {
                match self.start(&worker).await {
                    Ok(_) => started += 1,
                    Err(status) => tracing::warn!(id, %status, "a worker could not be recovered"),
                }
            }
        }
        Ok(started)
    }

    /// Ends streams of logs.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    /// Stops all workers; they are started again when the platform is.
    pub(super) async fn shut_down(&self) {
        let workers: Vec<Arc<Worker>> = self.workers().values().cloned().collect();
        let stopping = workers.iter().map(async |worker| {
            if let Some(running) = worker.running.lock().await.take() {
                running.stop().await;
            }
        });
        futures_util::future::join_all(stopping).await;
    }

    fn workers(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Worker>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn worker(&self, id: &str) -> Result<Arc<Worker>, Status> {
        let found = self.workers().get(id).cloned();
        found.ok_or_else(|| Status::not_found(format!("there is no worker {id:?}")))
    }

    fn job(&self, worker: &Worker) -> Job {
        let record = worker.record();
        Job {
            id: record.id.clone(),
            group: record.group.clone(),
            topic: record.topic.clone(),
            code: record.code().to_owned(),
            interpreter: self.interpreter.clone(),
            platform: self.platform.clone(),
            logs: worker.logs.clone(),
            status_topic: self.status_topic.clone(),
        }
    }

    /// Starts a worker; `false` if it ran already. It is subscribed once this returns.
    async fn start(&self, worker: &Worker) -> Result<bool, Status> {
        let mut running = worker.running.lock().await;
        if running.is_some() {
            return Ok(false);
        }
        let job = self.job(worker);
        let ready = job.clone().start().await?;
        self.mark(worker, true).await?;
        let stop = CancellationToken::new();
        *running = Some(Running { stop: stop.clone(), task: tokio::spawn(ready.run(stop)) });
        job.announce("started", json!({})).await;
        Ok(true)
    }

    /// Stops a worker; `false` if it did not run.
    async fn stop(&self, worker: &Worker) -> Result<bool, Status> {
        let mut running = worker.running.lock().await;
        let Some(was_running) = running.take() else { return Ok(false) };
        was_running.stop().await;
        self.mark(worker, false).await?;
        self.job(worker).announce("stopped", json!({})).await;
        Ok(true)
    }

    /// Remembers whether a worker should run.
    async fn mark(&self, worker: &Worker, running: bool) -> Result<(), Status> {
        let record = {
            let mut record = worker.record();
            record.running = running;
            record.clone()
        };
        record.save(&self.platform).await
    }

    async fn write_index(&self) -> Result<(), Status> {
        let _writing = self.index.lock().await;
        let ids: Vec<String> = self.workers().keys().cloned().collect();
        save_index(&self.platform, &ids).await
    }

    async fn code(&self, source: Option<CodeSource>) -> Result<Code, Status> {
        match source.and_then(|source| source.source) {
            Some(Source::Url(url)) if !url.is_empty() => {
                let text = self.fetcher.fetch(&url).await?;
                Ok(Code::Url { url, text })
            }
            Some(Source::Content(content)) if content.len() > MAX_CODE_BYTES => {
                let text = format!(
                    "worker code of {} octets; {MAX_CODE_BYTES} are allowed",
                    content.len()
                );
                Err(Status::resource_exhausted(text))
            }
            Some(Source::Content(content)) => match String::from_utf8(content.into()) {
                Ok(text) => Ok(Code::Content { text }),
                Err(_) => Err(Status::invalid_argument("code_source.content is not UTF-8 text")),
            },
            _ => Err(Status::invalid_argument("code_source needs a url or content")),
        }
    }

    /// Replaces a worker's code. A worker that runs is started again with it.
    async fn replace_code(
        &self,
        id: &str,
        source: Source,
        mime_type: &str,
    ) -> Result<Response<StatusResponse>, Status> {
        let worker = self.worker(id)?;
        if !mime_type.is_empty() {
            check_mime_type(mime_type)?;
        }
        let code = self.code(Some(CodeSource { source: Some(source) })).await?;
        worker.record().replace_code(code);
        match self.stop(&worker).await? {
            true => drop(self.start(&worker).await?),
            false => self.mark(&worker, false).await?,
        }
        Ok(done(format!("worker {id} has new code")))
    }
}

fn check_mime_type(mime_type: &str) -> Result<(), Status> {
    let base = mime_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if PYTHON.contains(&base.as_str()) {
        return Ok(());
    }
    let text = format!("no engine runs code of type {mime_type:?}; {} is supported", PYTHON[0]);
    Err(Status::invalid_argument(text))
}

fn done(message: String) -> Response<StatusResponse> {
    Response::new(StatusResponse { success: true, status: "OK".into(), message })
}

#[tonic::async_trait]
impl work_manager_server::WorkManager for WorkManager {
    async fn create_worker(
        &self,
        request: Request<CreateWorkerRequest>,
    ) -> Result<Response<CreateWorkerResponse>, Status> {
        let request = request.into_inner();
        check_mime_type(&request.mime_type)?;
        if request.topic.is_empty() {
            return Err(Status::invalid_argument(
                "topic must name the topic whose events the worker gets",
            ));
        }
        let full = || {
            let text = format!("there are {} workers already", self.max_workers);
            Status::resource_exhausted(text)
        };
        if self.workers().len() >= self.max_workers {
            return Err(full());
        }
        let code = self.code(request.code_source).await?;
        let record = Record::new(code, request.mime_type, request.topic, request.group);
        record.save(&self.platform).await?;
        let (id, worker) = (record.id.clone(), Worker::new(record));
        let is_full = {
            let mut workers = self.workers();
            let is_full = workers.len() >= self.max_workers;
            if !is_full {
                workers.insert(id.clone(), worker.clone());
            }
            is_full
        };
        if is_full {
            Record::delete(&self.platform, &id).await?;
            return Err(full());
        }
        self.write_index().await?;
        self.job(&worker).announce("created", json!({})).await;
        Ok(Response::new(CreateWorkerResponse { id }))
    }

    async fn delete_worker(
        &self,
        request: Request<DeleteWorkerRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let id = request.into_inner().id;
        let worker = self.worker(&id)?;
        self.stop(&worker).await?;
        self.workers().remove(&id);
        self.write_index().await?;
        Record::delete(&self.platform, &id).await?;
        Ok(done(format!("worker {id} is deleted")))
    }

    async fn start_worker(
        &self,
        request: Request<StartWorkerRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let id = request.into_inner().id;
        let worker = self.worker(&id)?;
        let message = match self.start(&worker).await? {
            true => format!("worker {id} is running"),
            false => format!("worker {id} was running already"),
        };
        Ok(done(message))
    }

    async fn stop_worker(
        &self,
        request: Request<StopWorkerRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let id = request.into_inner().id;
        let worker = self.worker(&id)?;
        let message = match self.stop(&worker).await? {
            true => format!("worker {id} is stopped"),
            false => format!("worker {id} was not running"),
        };
        Ok(done(message))
    }

    async fn list_workers(
        &self,
        _request: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        let workers = self.workers();
        let info = |worker: &Arc<Worker>| {
            let record = worker.record();
            record.info(record.running)
        };
        Ok(Response::new(ListWorkersResponse { workers: workers.values().map(info).collect() }))
    }

    async fn load_code_from_content(
        &self,
        request: Request<LoadCodeFromContentRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let request = request.into_inner();
        self.replace_code(&request.id, Source::Content(request.content), &request.mime_type).await
    }

    async fn load_code_from_url(
        &self,
        request: Request<LoadCodeFromUrlRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let request = request.into_inner();
        self.replace_code(&request.id, Source::Url(request.url), &request.mime_type).await
    }

    async fn recover_workers(
        &self,
        _request: Request<RecoverWorkersRequest>,
    ) -> Result<Response<RecoverWorkersResponse>, Status> {
        let recovered = self.recover().await?;
        let message = format!("{recovered} workers were started");
        let status = Some(done(message).into_inner());
        let recovered = i32::try_from(recovered).unwrap_or(i32::MAX);
        Ok(Response::new(RecoverWorkersResponse { status, recovered }))
    }

    async fn get_worker_history(
        &self,
        request: Request<GetWorkerHistoryRequest>,
    ) -> Result<Response<GetWorkerHistoryResponse>, Status> {
        let entries = self.worker(&request.into_inner().id)?.record().history();
        Ok(Response::new(GetWorkerHistoryResponse { entries }))
    }

    type StreamWorkerLogsStream = Pin<Box<dyn Stream<Item = Result<WorkerLogLine, Status>> + Send>>;

    async fn stream_worker_logs(
        &self,
        request: Request<StreamWorkerLogsRequest>,
    ) -> Result<Response<Self::StreamWorkerLogsStream>, Status> {
        let request = request.into_inner();
        let worker = self.worker(&request.id)?;
        let (lines, mut news) = worker.logs.read(request.tail_lines as usize);
        let (sender, receiver) = tokio::sync::mpsc::channel(FOLLOWED_LINES);
        let closing = self.closing.clone();
        let sending = async move {
            for line in lines {
                sender.send(Ok(line)).await?;
            }
            if !request.follow {
                return Ok(());
            }
            loop {
                let next = tokio::select! {
                    () = sender.closed() => return Ok(()),
                    next = news.recv() => next,
                };
                match next {
                    Ok(line) => sender.send(Ok(line)).await?,
                    // The oldest lines that this follower was too slow for are gone.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => {
                        return Ok::<_, tokio::sync::mpsc::error::SendError<_>>(());
                    }
                }
            }
        };
        tokio::spawn(async move { closing.run_until_cancelled(sending).await });
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        Ok(Response::new(Box::pin(stream)))
    }
}
