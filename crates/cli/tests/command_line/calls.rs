//! Calls of all four kinds.

use std::process::Stdio;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::Notify;

use crate::program::{Ended, Program, signal};
use crate::server::{Setup, plain, pretend, serve};

#[tokio::test]
async fn a_unary_call_prints_its_response() {
    let (server, program) = (plain().await, Program::new());
    let data = r#"{"text":"hi","urgent":true,"counts":{"a":"5"},"shelf":3,"mood":"MOOD_GOOD"}"#;
    let ended = program
        .run(&["call", "--plaintext", &server.at(), "notes.Notes/Echo", "-d", data])
        .await
        .ok();
    // The server's own type has only two of the fields.
    assert_eq!(ended.stdout, "{\n  \"text\": \"hi\"\n}\n");
    assert_eq!(ended.stderr, "");
}

#[tokio::test]
async fn defaults_are_printed_when_asked_for() {
    let (server, program) = (plain().await, Program::new());
    let ended = program
        .run(&[
            "call",
            "--plaintext",
            &server.at(),
            "notes.Notes.Echo",
            "--emit-defaults",
            "-o",
            "json",
        ])
        .await
        .ok();
    let message = &ended.json()["messages"][0];
    assert_eq!(message["text"], "");
    assert_eq!(message["times"], 0);
    assert_eq!(message["tags"], serde_json::json!([]));
}

#[tokio::test]
async fn grpcurls_spelling_of_flags_works() {
    let (server, program) = (plain().await, Program::new());
    let line = [
        "call",
        "-plaintext",
        "-max-time=5",
        "-d",
        "{\"text\":\"a\"}",
        &server.at(),
        "notes.Notes/Echo",
    ];
    let ended = program.run(&line).await.ok();
    assert!(ended.stdout.contains("\"a\""), "{ended:?}");
}

#[tokio::test]
async fn a_server_stream_prints_a_line_for_each_message() {
    let (server, program) = (plain().await, Program::new());
    let data = r#"{"text":"x","times":3}"#;
    let ended =
        program.run(&["call", "--plaintext", &server.at(), "Notes/Repeat", "-d", data]).await.ok();
    assert_eq!(
        ended.stdout,
        "{\"text\":\"x\"}\n{\"text\":\"x\",\"times\":1}\n{\"text\":\"x\",\"times\":2}\n"
    );
}

#[tokio::test]
async fn a_client_stream_takes_requests_from_a_flag_a_file_or_standard_input() {
    let (server, program) = (plain().await, Program::new());
    let requests = "{\"text\":\"a\"}{\"text\":\n\"b\"}\n{\"text\":\"c\"}";
    let file = format!("@{}", program.file("requests.json", requests));
    let at = server.at();
    let line = ["call", "--plaintext", &at, "Notes/Gather"];
    for ended in [
        program.run(&[&line[..], &["-d", requests]].concat()).await,
        program.run(&[&line[..], &["-d", &file]].concat()).await,
        program.run_with(&[&line[..], &["-d", "@"]].concat(), requests).await,
        program.run_with(&line, requests).await,
    ] {
        assert_eq!(ended.ok().stdout, "{\n  \"text\": \"abc\",\n  \"times\": 3\n}\n");
    }
    let none = program.run_with(&line, "").await.ok();
    assert_eq!(none.stdout, "{}\n");
}

#[tokio::test]
async fn a_bidirectional_stream_answers_line_by_line() {
    let (server, program) = (plain().await, Program::new());
    let mut child = program
        .command(&["call", "--plaintext", &server.at(), "notes.Notes/Chat"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for text in ["one", "two", "three"] {
        stdin.write_all(format!("{{\"text\":\"{text}\"}}\n").as_bytes()).await.unwrap();
        // Each answer comes while the stream of requests is still open.
        let line = lines.next_line().await.unwrap().unwrap();
        assert_eq!(line, format!("{{\"text\":\"{text}\"}}"));
    }
    // Half-close: the server ends the call.
    drop(stdin);
    assert_eq!(lines.next_line().await.unwrap(), None);
    assert!(child.wait().await.unwrap().success());
}

#[tokio::test]
async fn input_that_does_not_fit_ends_the_call() {
    let (server, program) = (plain().await, Program::new());
    for input in
        ["{\"text\":\"a\"}\n{\"txt\":1}\n", "{\"text\":\"a\"}\n{]\n", "{\"text\":\"a\"}\n{\"te"]
    {
        let ended =
            program.run_with(&["call", "--plaintext", &server.at(), "Notes/Chat"], input).await;
        assert_eq!(ended.code, 4, "{ended:?}");
        assert!(ended.stderr.contains("txt") || ended.stderr.contains("JSON"), "{ended:?}");
    }
    let line = ["call", "--plaintext", &server.at(), "Notes/Echo", "-d", "{}{}"];
    let ended = program.run(&line).await;
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.stderr.contains("takes one request, and 2 were given"), "{ended:?}");
}

#[tokio::test]
async fn unknown_fields_are_refused_by_name_unless_they_are_allowed() {
    let (server, program) = (plain().await, Program::new());
    let line =
        ["call", "--plaintext", &server.at(), "Notes/Echo", "-d", "{\"text\":\"a\",\"nope\":1}"];
    let ended = program.run(&line).await;
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.stderr.contains("\"nope\""), "{ended:?}");
    program.run(&[&line[..], &["--allow-unknown-fields"]].concat()).await.ok();
}

#[tokio::test]
async fn the_first_interrupt_cancels_the_call_and_prints_its_status() {
    let (server, program) = (plain().await, Program::new());
    for (more, output) in [(&[][..], "text"), (&["-o", "json"][..], "json")] {
        let at = server.at();
        let line =
            [&["call", "-v", "--plaintext", &at, "Notes/Wait", "-d", "{\"text\":\"w\"}"], more]
                .concat();
        let mut child = program.command(&line).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = String::new();
        while !seen.contains("first message") {
            seen = stderr.next_line().await.unwrap().unwrap();
        }
        signal(&child, "INT");
        let mut rest = String::new();
        while let Some(line) = stderr.next_line().await.unwrap() {
            rest.push_str(&line);
        }
        let ended = Ended::of(child.wait_with_output().await.unwrap());
        assert_eq!(ended.code, 65, "{ended:?}");
        match output {
            "json" => {
                let report = ended.json();
                assert_eq!(report["status"]["name"], "CANCELLED");
                assert_eq!(report["messages"][0]["text"], "w");
            }
            _ => {
                assert_eq!(ended.stdout, "{\"text\":\"w\"}\n");
                assert!(rest.contains("CANCELLED (1): cancelled by Ctrl-C"), "{rest}");
            }
        }
    }
}

#[tokio::test]
async fn a_deadline_ends_the_call() {
    let (server, program) = (plain().await, Program::new());
    let line = ["call", "--plaintext", &server.at(), "Notes/Wait", "--max-time", "0.2"];
    let ended = program.run(&line).await;
    assert_eq!(ended.code, 68, "{ended:?}");
    assert!(ended.stderr.contains("DEADLINE_EXCEEDED (4)"), "{ended:?}");
    assert_eq!(ended.stdout, "{}\n");
}

#[tokio::test]
async fn metadata_is_sent_and_a_commands_output_is_never_printed() {
    let (server, program) = (plain().await, Program::new());
    program.file("token", "s3cret\nsecond line\n");
    let at = server.at();
    let line = [
        "call",
        "-v",
        "--plaintext",
        &at,
        "Notes/Echo",
        "-H",
        "x-token: !cat token",
        "-H",
        "x-plain: yes",
    ];
    let ended = program.run(&line).await.ok();
    // The server says the token back, which is its own business: nothing else may show it.
    let shown: Vec<&str> = ended.stderr.lines().filter(|line| line.contains("s3cret")).collect();
    assert_eq!(shown, ["* < x-got: s3cret"], "{ended:?}");
    assert!(ended.stderr.contains("> x-token: (not shown)"), "{ended:?}");
    assert!(ended.stderr.contains("> x-plain: yes"), "{ended:?}");

    // Run again for each call: an expired token is not sent a second time.
    program.file("token", "fresh\n");
    let ended = program.run(&[&line[..], &["-o", "json"]].concat()).await.ok();
    assert_eq!(ended.json()["headers"]["x-got"][0], "fresh");

    for (header, cause) in [
        ("x-token: !exit 3", "ended with exit status: 3"),
        ("x-token: !true", "printed nothing"),
        ("x-token", "has no colon"),
        ("grpc-timeout: 1S", "gRPC itself sets this header"),
        ("x-raw-bin: ***", "not base64"),
    ] {
        let ended = program.run(&["call", "--plaintext", &at, "Notes/Echo", "-H", header]).await;
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.stderr.contains(cause), "{ended:?}");
    }
}

#[tokio::test]
async fn a_server_that_goes_away_is_unavailable() {
    let (server, program) = (plain().await, Program::new());
    let (target, cut) = (server.address, Arc::new(Notify::new()));
    let cuts = cut.clone();
    let wire = pretend(move |mut near| {
        let cut = cuts.clone();
        async move {
            let mut far = tokio::net::TcpStream::connect(target).await.unwrap();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                () = cut.notified() => {}
            }
        }
    })
    .await;
    let line = ["call", "--plaintext", &wire.at(), "Notes/Wait"];
    let mut child = program.command(&line).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(stdout.next_line().await.unwrap().unwrap(), "{}");
    cut.notify_one();
    let ended = Ended::of(child.wait_with_output().await.unwrap());
    assert_eq!(ended.code, 64 + 14, "{ended:?}");
    assert!(ended.stderr.contains("UNAVAILABLE (14)"), "{ended:?}");
}

#[tokio::test]
async fn a_unix_socket_is_an_address() {
    let program = Program::new();
    let path = program.path("socket");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let server = serve(Setup { reflection: true, ..Setup::default() }).await;
    let target = server.address;
    let bridge = tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(target).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    let at = format!("unix:{}", path.display());
    let ended =
        program.run(&["call", "--plaintext", &at, "Notes/Echo", "-d", "{\"text\":\"u\"}"]).await;
    assert!(ended.ok().stdout.contains("\"u\""));
    bridge.abort();
}
