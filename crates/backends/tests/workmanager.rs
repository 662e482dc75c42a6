//! Workers, from their creation to their end, on a real gateway and with real Python processes.

mod common;

use common::{Gateway, PATIENCE, channel, next, options, publish, subscribe};
use oxgrpc_backends::Backend;
use oxgrpc_backends::workmanager::{self, Limits, WorkManagerOptions};
use oxgrpc_proto::virtufin::code_source::Source;
use oxgrpc_proto::virtufin::work_manager_client::WorkManagerClient;
use oxgrpc_proto::virtufin::{
    CodeSource, CreateWorkerRequest, DeleteWorkerRequest, GetWorkerHistoryRequest,
    ListWorkersRequest, LoadCodeFromContentRequest, PubsubSubscribeResponse, StartWorkerRequest,
    StopWorkerRequest, StreamWorkerLogsRequest, WorkerStatus,
};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// A gateway, a WorkManager, and the answers of its workers.
struct Platform {
    gateway: Gateway,
    backend: Backend,
    client: WorkManagerClient<Channel>,
    answers: Streaming<PubsubSubscribeResponse>,
}

impl Platform {
    async fn start(own: WorkManagerOptions) -> Self {
        let gateway = common::gateway().await;
        let backend = workmanager::start(&options(gateway.grpc_address()), own).await;
        let backend = backend.expect("a WorkManager");
        let client = WorkManagerClient::new(channel(backend.address()).await);
        let answers = subscribe(gateway.grpc_address(), "answers").await;
        Self { gateway, backend, client, answers }
    }

    async fn create(&mut self, source: Source) -> Result<String, Status> {
        let request = CreateWorkerRequest {
            code_source: Some(CodeSource { source: Some(source) }),
            mime_type: "text/x-python".into(),
            topic: "questions".into(),
            group: "g".into(),
        };
        Ok(self.client.create_worker(request).await?.into_inner().id)
    }

    /// Creates and starts a worker.
    async fn worker(&mut self, code: &str) -> String {
        let source = Source::Content(code.as_bytes().to_vec().into());
        let id = self.create(source).await.expect("a worker");
        self.client.start_worker(StartWorkerRequest { id: id.clone() }).await.expect("started");
        id
    }

    async fn ask(&mut self, question: &Value) {
        publish(self.gateway.grpc_address(), "questions", &question.to_string(), &[]).await;
    }

    async fn answer(&mut self) -> Value {
        let data = next(&mut self.answers).await.data;
        let text = || String::from_utf8_lossy(&data).into_owned();
        serde_json::from_slice(&data).unwrap_or_else(|_| text().into())
    }

    async fn statuses(&mut self) -> Vec<WorkerStatus> {
        let list = self.client.list_workers(ListWorkersRequest {}).await.expect("a list");
        list.into_inner().workers.iter().map(|worker| worker.status()).collect()
    }

    async fn stop(self) {
        drop((self.client, self.answers));
        self.backend.stop().await;
    }
}

/// A worker that answers with what an expression over `event` yields.
fn answering(expression: &str) -> String {
    format!(
        "import os, sys, time\n\
         def Process(event):\n    return {{'type': 'answers', 'data': {expression}}}\n"
    )
}

fn is_alive(pid: &Value) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_answers_the_events_of_its_topic_and_keeps_their_correlation() {
    let mut platform = Platform::start(WorkManagerOptions::default()).await;
    platform.worker(&answering("{'twice': event['data']['n'] * 2}")).await;
    let address = platform.gateway.grpc_address();
    publish(address, "questions", r#"{"n": 21}"#, &[("correlationid", "c-1")]).await;
    let answer = next(&mut platform.answers).await;
    assert_eq!(answer.data, r#"{"twice":42}"#);
    assert_eq!(answer.metadata["correlationid"], "c-1");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_created_started_stopped_and_deleted() {
    let mut platform = Platform::start(WorkManagerOptions::default()).await;
    let mut events = subscribe(platform.gateway.grpc_address(), workmanager::STATUS_TOPIC).await;
    let id = platform.worker(&answering("0")).await;
    assert_eq!(platform.statuses().await, [WorkerStatus::Running]);
    for _ in 0..2 {
        let stop = StopWorkerRequest { id: id.clone() };
        platform.client.stop_worker(stop).await.expect("idempotent");
        assert_eq!(platform.statuses().await, [WorkerStatus::Stopped]);
    }
    for _ in 0..2 {
        let start = StartWorkerRequest { id: id.clone() };
        platform.client.start_worker(start).await.expect("idempotent");
    }
    platform.client.delete_worker(DeleteWorkerRequest { id: id.clone() }).await.expect("deleted");
    assert_eq!(platform.statuses().await, []);
    let mut seen = Vec::new();
    for _ in 0..5 {
        let event = next(&mut events).await;
        let payload: Value = serde_json::from_slice(&event.data).expect("JSON");
        assert_eq!(payload, json!({"worker_id": id, "group": "g", "topic": "questions"}));
        seen.push(event.metadata["ce-type"].replace("com.virtufin.workmanager.worker.", ""));
    }
    assert_eq!(seen, ["created", "started", "stopped", "started", "stopped"]);
    let gone = platform.client.start_worker(StartWorkerRequest { id }).await.expect_err("gone");
    assert_eq!(gone.code(), Code::NotFound);
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_does_not_load_fails_the_start_and_the_log_has_the_traceback() {
    let mut platform = Platform::start(WorkManagerOptions::default()).await;
    for (code, part) in [
        ("def Process(event:\n", "SyntaxError"),
        ("raise ValueError('no luck')\n", "no luck"),
        ("x = 1\n", "Process"),
    ] {
        let id = platform.create(Source::Content(code.into())).await.expect("a worker");
        let start = StartWorkerRequest { id: id.clone() };
        let status = platform.client.start_worker(start).await.expect_err("does not load");
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains(part), "{}", status.message());
        let request = StreamWorkerLogsRequest { id, follow: true, tail_lines: 0 };
        let mut log =
            platform.client.stream_worker_logs(request).await.expect("a log").into_inner();
        let traceback = async {
            while let Some(line) = log.message().await.expect("a line") {
                if line.text.contains(part) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, traceback).await.expect("the traceback");
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_raises_goes_on_and_one_that_dies_is_started_again() {
    let mut platform = Platform::start(WorkManagerOptions::default()).await;
    let mut events = subscribe(platform.gateway.grpc_address(), workmanager::STATUS_TOPIC).await;
    let code = "import os\n\
                def Process(event):\n    \
                    if event['data'] == 'raise': raise KeyError('a')\n    \
                    if event['data'] == 'die': os._exit(3)\n    \
                    return {'type': 'answers', 'data': os.getpid()}\n";
    platform.worker(code).await;
    platform.ask(&json!("pid")).await;
    let first = platform.answer().await;
    platform.ask(&json!("raise")).await;
    platform.ask(&json!("pid")).await;
    assert_eq!(platform.answer().await, first);
    platform.ask(&json!("die")).await;
    platform.ask(&json!("pid")).await;
    assert_ne!(platform.answer().await, first);
    let mut errors = Vec::new();
    while errors.len() < 2 {
        let event = next(&mut events).await;
        let payload: Value = serde_json::from_slice(&event.data).expect("JSON");
        errors.extend(payload["error_type"].as_str().map(str::to_owned));
    }
    assert_eq!(errors, ["KeyError", "Crashed"]);
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_takes_too_long_or_too_much_costs_only_itself() {
    let limits = Limits {
        event_timeout: Duration::from_secs(5),
        memory_bytes: 512 << 20,
        ..Limits::default()
    };
    let own = WorkManagerOptions { limits, ..WorkManagerOptions::default() };
    let mut platform = Platform::start(own).await;
    let mut events = subscribe(platform.gateway.grpc_address(), workmanager::STATUS_TOPIC).await;
    let code = "def Process(event):\n    \
                    if event['data'] == 'hang':\n        while True: pass\n    \
                    if event['data'] == 'memory': bytearray(1 << 30)\n    \
                    return {'type': 'answers', 'data': 'fine'}\n";
    platform.worker(code).await;
    for (question, expected) in [("memory", "MemoryError"), ("hang", "TimedOut")] {
        platform.ask(&json!(question)).await;
        platform.ask(&json!("")).await;
        assert_eq!(platform.answer().await, "fine");
        let error = loop {
            let event = next(&mut events).await;
            let payload: Value = serde_json::from_slice(&event.data).expect("JSON");
            if let Some(error) = payload["error_type"].as_str() {
                break error.to_owned();
            }
        };
        assert_eq!(error, expected);
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_has_a_scratch_folder_and_nothing_of_its_host() {
    let mut platform = Platform::start(WorkManagerOptions::default()).await;
    let expression = "{'environment': sorted(os.environ), 'descriptors': sorted(os.listdir('/proc/self/fd'), key=int), \
                      'folder': os.getcwd(), 'leads': os.getpgrp() == os.getpid()}";
    platform.worker(&answering(expression)).await;
    platform.ask(&json!(0)).await;
    let answer = platform.answer().await;
    let known =
        ["HOME", "LC_CTYPE", "PATH", "TMPDIR", "VIRTUFIN_API_GRPC_PORT", "VIRTUFIN_API_HOST"];
    let environment = answer["environment"].as_array().expect("a list");
    assert!(environment.iter().all(|name| known.iter().any(|known| name == known)), "{answer}");
    // The three standard ones, the host's socket, and the one that lists them.
    assert_eq!(answer["descriptors"].as_array().map(Vec::len), Some(5), "{answer}");
    assert_eq!(answer["leads"], true);
    let folder = answer["folder"].as_str().expect("a path").to_owned();
    assert!(Path::new(&folder).exists());
    platform.stop().await;
    assert!(!Path::new(&folder).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_worker_is_left_when_the_platform_stops() {
    let mut platform = Platform::start(WorkManagerOptions::default()).await;
    let code = "import os, subprocess\n\
                child = subprocess.Popen(['sleep', '600'])\n\
                def Process(event):\n    \
                    return {'type': 'answers', 'data': [os.getpid(), child.pid]}\n";
    platform.worker(code).await;
    platform.ask(&json!(0)).await;
    let pids = platform.answer().await;
    assert!(is_alive(&pids[0]) && is_alive(&pids[1]));
    platform.stop().await;
    let gone = async {
        while is_alive(&pids[0]) || is_alive(&pids[1]) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("no process is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_outlive_the_work_manager() {
    let mut platform = Platform::start(WorkManagerOptions::default()).await;
    platform.worker(&answering("'here'")).await;
    let stopped = platform.create(Source::Content("".into())).await.expect("a worker");
    let history = GetWorkerHistoryRequest { id: stopped.clone() };
    let entries = platform.client.get_worker_history(history).await.expect("a history");
    assert_eq!(entries.into_inner().entries.len(), 1);
    drop(platform.client);
    platform.backend.stop().await;
    let address = platform.gateway.grpc_address();
    let own = WorkManagerOptions::default();
    let backend = workmanager::start(&options(address), own).await.expect("another");
    let mut platform = Platform {
        client: WorkManagerClient::new(channel(backend.address()).await),
        backend,
        ..platform
    };
    platform.ask(&json!(0)).await;
    assert_eq!(platform.answer().await, "here");
    let mut statuses = platform.statuses().await;
    statuses.sort_by_key(|status| *status as i32);
    assert_eq!(statuses, [WorkerStatus::Stopped, WorkerStatus::Running]);
    let answer = LoadCodeFromContentRequest {
        id: stopped.clone(),
        content: answering("'new'").into_bytes().into(),
        mime_type: String::new(),
    };
    platform.client.load_code_from_content(answer).await.expect("replaced");
    let history = GetWorkerHistoryRequest { id: stopped };
    let entries = platform.client.get_worker_history(history).await.expect("a history");
    assert_eq!(entries.into_inner().entries.len(), 2);
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_must_make_sense() {
    let own = WorkManagerOptions { max_workers: 1, ..WorkManagerOptions::default() };
    let mut platform = Platform::start(own).await;
    let content = || Some(CodeSource { source: Some(Source::Content("".into())) });
    for (source, mime_type, topic, part) in [
        (None, "text/x-python", "t", "code_source"),
        (content(), "text/x-csharp", "t", "text/x-python"),
        (content(), "text/x-python", "", "topic"),
        (
            Some(CodeSource { source: Some(Source::Url("file:///etc/passwd".into())) }),
            "text/x-python",
            "t",
            "file:///etc/passwd",
        ),
    ] {
        let request = CreateWorkerRequest {
            code_source: source,
            mime_type: mime_type.into(),
            topic: topic.into(),
            group: String::new(),
        };
        let status = platform.client.create_worker(request).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(part), "{}", status.message());
    }
    let large = Source::Content(vec![b'#'; (1 << 20) + 1].into());
    let status = platform.create(large).await.expect_err("too large");
    assert_eq!(status.code(), Code::ResourceExhausted);
    platform.create(Source::Content("".into())).await.expect("a worker");
    let status = platform.create(Source::Content("".into())).await.expect_err("too many");
    assert_eq!(status.code(), Code::ResourceExhausted);
    platform.stop().await;
}

/// A web server that answers every request with the same response, and says how many there were.
async fn web_server(response: String) -> (String, tokio::task::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let serving = tokio::spawn(async move {
        let mut requests = 0;
        while let Ok(Ok((mut stream, _))) =
            tokio::time::timeout(Duration::from_secs(5), listener.accept()).await
        {
            let mut request = vec![0; 4096];
            let len = stream.read(&mut request).await.expect("a request");
            assert!(request[..len].starts_with(b"GET "));
            requests += 1;
            stream.write_all(response.as_bytes()).await.expect("a response");
        }
        requests
    });
    (address, serving)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn code_from_a_url_never_comes_from_a_private_address_that_is_not_named() {
    let (target, target_serves) = web_server(ok(&answering("'fetched'"))).await;
    let location = format!("http://{target}/worker.py");
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let (redirecting, redirecting_serves) = web_server(redirect).await;
    let allowed_urls = vec![redirecting.clone()];
    let own = WorkManagerOptions { allowed_urls, ..WorkManagerOptions::default() };
    let mut platform = Platform::start(own).await;
    let port = target.rsplit(':').next().expect("a port");
    for url in [
        location.clone(),
        format!("http://localhost:{port}/worker.py"),
        format!("http://[::ffff:127.0.0.1]:{port}/worker.py"),
        format!("http://{redirecting}/worker.py"),
    ] {
        let status = platform.create(Source::Url(url.clone())).await.expect_err("refused");
        assert_eq!(status.code(), Code::PermissionDenied, "{url}: {}", status.message());
        assert!(status.message().contains("--allow-worker-url"), "{}", status.message());
    }
    platform.stop().await;
    assert_eq!(target_serves.await.expect("no panic"), 0);
    assert_eq!(redirecting_serves.await.expect("no panic"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn code_from_a_url_that_is_named_runs() {
    let (address, serves) = web_server(ok(&answering("'fetched'"))).await;
    let allowed_urls = vec![address.clone()];
    let own = WorkManagerOptions { allowed_urls, ..WorkManagerOptions::default() };
    let mut platform = Platform::start(own).await;
    let url = format!("http://{address}/worker.py");
    let id = platform.create(Source::Url(url)).await.expect("a worker");
    platform.client.start_worker(StartWorkerRequest { id }).await.expect("started");
    platform.ask(&json!(0)).await;
    assert_eq!(platform.answer().await, "fetched");
    platform.stop().await;
    assert_eq!(serves.await.expect("no panic"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interpreter_that_is_not_there_is_named_at_the_start() {
    let gateway = common::gateway().await;
    let own =
        WorkManagerOptions { python: "no-such-python".into(), ..WorkManagerOptions::default() };
    let error = workmanager::start(&options(gateway.grpc_address()), own).await.expect_err("none");
    assert!(error.to_string().starts_with("--worker-python no-such-python: "), "{error}");
}
