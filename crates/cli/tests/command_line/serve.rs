//! `oxgrpc gateway` and `oxgrpc up`.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::program::{Ended, Program, signal};
use crate::server::{plain, stalled};

/// A gateway that has said where it listens.
struct Started {
    child: Child,
    listing: Value,
}

impl Started {
    /// Starts `gateway` or `up` on free ports.
    async fn new(program: &Program, line: &[&str]) -> Self {
        let mut child = program
            .command(&[line, &["--http-port", "0", "--grpc-port", "0", "-o", "json"]].concat())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        let line = lines.next_line().await.unwrap().expect("it says where it listens");
        Self { child, listing: serde_json::from_str(&line).unwrap() }
    }

    fn grpc(&self) -> &str {
        self.listing["grpc"].as_str().unwrap()
    }

    async fn stop(mut self) {
        signal(&self.child, "TERM");
        assert!(self.child.wait().await.unwrap().success());
    }
}

#[tokio::test]
async fn a_gateway_serves_until_it_is_terminated() {
    let program = Program::new();
    let gateway = Started::new(&program, &["gateway", "--ephemeral"]).await;
    let ended = program.run(&["list", "--plaintext", gateway.grpc()]).await.ok();
    assert!(ended.stdout.contains("virtufin.Gateway\n"), "{ended:?}");
    assert!(gateway.listing["state"].as_str().unwrap().contains("memory"));
    gateway.stop().await;
}

#[tokio::test]
async fn state_outlives_the_gateway_in_its_directory() {
    let program = Program::new();
    let save = "{\"service\":\"s\",\"key\":\"k\",\"value\":\"v\"}";
    // The user's data directory, and one that is named.
    let named = program.path("named").to_str().unwrap().to_owned();
    for (line, folder) in [
        (vec!["gateway"], program.path(".local/share/oxgrpc")),
        (vec!["gateway", "--data", &named], program.path("named")),
    ] {
        let gateway = Started::new(&program, &line).await;
        assert_eq!(gateway.listing["state"], folder.to_str().unwrap());
        let at = gateway.grpc().to_owned();
        program
            .run(&["call", "--plaintext", &at, "virtufin.State/SaveState", "-d", save])
            .await
            .ok();
        gateway.stop().await;
        let gateway = Started::new(&program, &line).await;
        let line = ["call", "--plaintext", gateway.grpc(), "virtufin.State/GetState", "-d", save];
        let get = [&line[..], &["-o", "json", "--allow-unknown-fields"]].concat();
        assert_eq!(program.run(&get).await.ok().json()["messages"][0]["value"], "v");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_taken_port_names_the_port_and_its_flag() {
    let program = Program::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (flag, other) in [("--grpc-port", "--http-port"), ("--http-port", "--grpc-port")] {
        let ended = program.run(&["gateway", "--ephemeral", flag, &port, other, "0"]).await;
        assert_eq!(ended.code, 5, "{ended:?}");
        assert!(ended.stderr.contains(&port) && ended.stderr.contains(flag), "{ended:?}");
    }
    let line = ["gateway", "--ephemeral", "--grpc-port", &port, "--http-port", "0", "-o", "json"];
    assert_eq!(program.run(&line).await.json()["error"]["kind"], "io");
}

#[tokio::test]
async fn the_environment_sets_what_no_flag_says() {
    let program = Program::new();
    let mut child = program
        .command(&["gateway", "--ephemeral", "--http-port", "0", "-o", "json"])
        .env("GrpcPort", "0")
        .env("HttpPort", "1")
        .env("ApiAuth__Keys__alice", "s3cret")
        .env("Logging__LogLevel__Default", "Debug")
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let listing: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    let at = listing["grpc"].as_str().unwrap();
    let call = ["call", "--plaintext", at, "virtufin.Gateway/ListServices"];
    let ended = program.run(&call).await;
    assert_eq!(ended.code, 64 + 16, "{ended:?}");
    program.run(&[&call[..], &["-H", "x-api-key: s3cret"]].concat()).await.ok();
    signal(&child, "TERM");
    let ended = Ended::of(child.wait_with_output().await.unwrap());
    assert!(!ended.stderr.contains("s3cret"), "{ended:?}");
}

#[tokio::test]
async fn wrong_flags_are_told_without_their_secrets() {
    let program = Program::new();
    for (line, told) in [
        (&["gateway", "--api-key", "hunter2"][..], "NAME=SECRET"),
        (&["gateway", "--ephemeral", "--data", "x"], "cannot be used with"),
        (&["gateway", "--tls-cert", "x"], "--tls-key"),
        (&["gateway", "--log-level", "a=b=c", "--ephemeral"], "--log-level"),
        (
            &["up", "--ephemeral", "--listen", "0.0.0.0", "--http-port", "0", "--grpc-port", "0"],
            "--api-key",
        ),
    ] {
        let ended = program.run(line).await;
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.stderr.contains(told), "{ended:?}");
        assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
    }
}

#[tokio::test]
async fn up_has_the_backends_behind_the_gateway() {
    let program = Program::new();
    let up = Started::new(&program, &["up", "--ephemeral"]).await;
    let at = up.grpc();
    let line = ["call", "--plaintext", at, "virtufin.Gateway/ListServices", "-o", "json"];
    let report = program.run(&line).await.ok().json();
    assert_eq!(report["messages"][0]["services"], json!(["websocketmanager", "workmanager"]));
    let data = "{\"service\":\"workmanager\",\"method\":\"ListWorkers\",\"request_data\":\"{}\"}";
    let line = ["call", "--plaintext", at, "virtufin.Gateway/InvokeJson", "-d", data, "-o", "json"];
    let report = program.run(&line).await.ok().json();
    assert_eq!(report["messages"][0]["success"], true, "{report}");
    let ended = program.run(&["logs", "nobody", "--gateway", &format!("http://{at}")]).await;
    assert_eq!(ended.code, 64 + 5, "{ended:?}");
    for backend in ["workmanager", "websocketmanager"] {
        let at = up.listing["backends"][backend].as_str().unwrap();
        program.run(&["list", "--plaintext", at]).await.ok();
    }
    up.stop().await;
}

#[tokio::test]
async fn nobody_gets_past_the_keys_of_a_gateway_to_its_backends() {
    let program = Program::new();
    let up = Started::new(&program, &["up", "--ephemeral", "--api-key", "me=secret"]).await;
    let key = ["-H", "x-api-key: secret"];
    let data = "{\"service\":\"workmanager\",\"method\":\"ListWorkers\",\"request_data\":\"{}\"}";
    let line = ["call", "--plaintext", up.grpc(), "virtufin.Gateway/InvokeJson", "-d", data];
    let report = program.run(&[&line[..], &key, &["-o", "json"]].concat()).await.ok().json();
    assert_eq!(report["messages"][0]["success"], true, "{report}");
    let at = up.listing["backends"]["workmanager"].as_str().unwrap();
    let line = ["call", "--plaintext", at, "virtufin.WorkManager/ListWorkers"];
    for header in [&[][..], &key] {
        let ended = program.run(&[&line[..], header].concat()).await;
        assert_eq!(ended.code, 64 + 16, "{ended:?}");
    }
    up.stop().await;
}

#[tokio::test]
async fn up_runs_a_command_and_ends_with_it() {
    let program = Program::new();
    let up =
        ["up", "--ephemeral", "--http-port", "0", "--grpc-port", "0", "--no-workmanager", "--"];
    let script = format!(
        "{} call --plaintext $VIRTUFIN_API_HOST:$VIRTUFIN_API_GRPC_PORT virtufin.Gateway/ListServices && exit 7",
        env!("CARGO_BIN_EXE_oxgrpc")
    );
    let ended = program.run(&[&up[..], &["sh", "-c", &script]].concat()).await;
    assert_eq!(ended.code, 7, "{ended:?}");
    // The command has standard output to itself.
    assert_eq!(ended.stdout, "{\n  \"services\": [\n    \"websocketmanager\"\n  ]\n}\n");
    assert!(ended.stderr.contains("gateway gRPC"), "{ended:?}");

    let ended = program.run(&[&up[..], &["no-such-command"]].concat()).await;
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(ended.stderr.contains("`no-such-command` cannot be run"), "{ended:?}");
}

#[tokio::test]
async fn a_sigterm_reaches_ups_command() {
    let program = Program::new();
    let up =
        ["up", "--ephemeral", "--http-port", "0", "--grpc-port", "0", "--no-workmanager", "--"];
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done";
    let mut child = program.command(&[&up[..], &["sh", "-c", script]].concat()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "ready");
    signal(&child, "TERM");
    let ended = Ended::of(child.wait_with_output().await.unwrap());
    assert_eq!(ended.code, 9, "{ended:?}");
}

#[tokio::test]
async fn a_running_call_ends_before_the_gateway_does() {
    let (server, program) = (plain().await, Program::new());
    let services = json!({"services": [{
        "name": "notes",
        "protocol": "grpc",
        "grpc": {"host": "127.0.0.1", "port": server.address.port(), "reflectionEnabled": true},
    }]});
    let file = program.file("services.json", services.to_string());
    let mut gateway =
        Started::new(&program, &["gateway", "--ephemeral", "--services", &file]).await;
    let data = "{\"service\":\"notes\",\"method\":\"Echo\",\"request_data\":\"{\\\"text\\\":\\\"slow\\\"}\"}";
    let line = [
        "call",
        "--plaintext",
        gateway.grpc(),
        "virtufin.Gateway/InvokeJson",
        "-d",
        data,
        "-H",
        "x-stall-ms: 500",
        "-H",
        "x-announce: yes",
        "-o",
        "json",
    ];
    let call = program.command(&line).spawn().unwrap();
    stalled().await;
    signal(&gateway.child, "TERM");
    let report = Ended::of(call.wait_with_output().await.unwrap()).ok().json();
    assert_eq!(report["messages"][0]["success"], true, "{report}");
    assert!(gateway.child.wait().await.unwrap().success());
}
