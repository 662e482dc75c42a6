//! Output for programs: one JSON object, whatever the outcome; and for people: statuses with decoded details.

use serde_json::json;

use crate::program::{Program, repository};
use crate::server::{plain, protos};

#[tokio::test]
async fn a_call_is_one_object() {
    let (server, program) = (plain().await, Program::new());
    let line =
        ["call", "--plaintext", &server.at(), "Notes/Repeat", "-o", "json", "-d", "{\"times\":2}"];
    let report = program.run(&line).await.ok().json();
    assert_eq!(report["method"], "notes.Notes/Repeat");
    assert_eq!(report["target"], server.at());
    assert_eq!(report["messages"], json!([{}, {"times": 1}]));
    assert_eq!(report["headers"]["content-type"], json!(["application/grpc"]));
    assert_eq!(report["trailers"], json!({}));
    assert_eq!(report["status"], json!({"code": 0, "name": "OK", "message": ""}));
    assert_eq!(report["details"], json!([]));
    assert_eq!(report["exit_code"], 0);
    assert!(report["error"].is_null());
    for step in
        ["resolve", "connect", "http2", "reflection", "schema", "headers", "first_message", "end"]
    {
        assert!(report["timings"][format!("{step}_ms")].is_number(), "{step}: {report}");
    }
}

#[tokio::test]
async fn details_are_decoded_even_those_that_only_reflection_knows() {
    let (server, program) = (plain().await, Program::new());
    let import = protos().to_str().unwrap();
    let at = server.at();
    let data = "{\"text\":\"too late\",\"times\":9}";
    let line = ["call", "--plaintext", &at, "Notes/Fail", "-d", data];
    let files = ["--proto", "notes.proto", "--import-path", import];
    for line in [line.to_vec(), [&line[..], &files].concat()] {
        let ended = program.run(&[&line[..], &["-o", "json"]].concat()).await;
        assert_eq!(ended.code, 64 + 9, "{ended:?}");
        let report = ended.json();
        assert_eq!(
            report["status"],
            json!({"code": 9, "name": "FAILED_PRECONDITION", "message": "too late"})
        );
        assert_eq!(
            report["details"],
            json!([
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "TOO_LATE",
                    "domain": "notes",
                },
                {"@type": "type.googleapis.com/notes.extra.Reason", "why": "it rains"},
                {"@type": "type.googleapis.com/notes.Nobody", "value": "AQID"},
            ])
        );
    }
    let ended = program.run(&line).await;
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.starts_with("FAILED_PRECONDITION (9): too late\n"), "{ended:?}");
    assert!(ended.stderr.contains("\"reason\":\"TOO_LATE\""), "{ended:?}");
    assert!(ended.stderr.contains("\"why\":\"it rains\""), "{ended:?}");
}

#[tokio::test]
async fn a_status_is_coloured_where_colour_is_wanted() {
    let (server, program) = (plain().await, Program::new());
    let line = ["call", "--plaintext", &server.at(), "Notes/Fail", "-d", "{\"times\":5}"];
    let coloured = program.command(&line).env("CLICOLOR_FORCE", "1").output().await.unwrap();
    assert!(String::from_utf8(coloured.stderr).unwrap().contains("\u{1b}["));
    assert!(!program.run(&line).await.stderr.contains('\u{1b}'));
}

#[tokio::test]
async fn list_and_describe_are_objects() {
    let (server, program) = (plain().await, Program::new());
    let at = server.at();
    let report = program.run(&["list", "--plaintext", &at, "-o", "json"]).await.ok().json();
    let services = report["services"].as_array().unwrap();
    let names: Vec<_> = services.iter().map(|service| service["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["grpc.reflection.v1.ServerReflection", "notes.Notes"]);
    assert_eq!(services[1]["methods"][1]["path"], "notes.Notes/Repeat");
    assert_eq!(services[1]["methods"][1]["server_streaming"], true);

    let report = program
        .run(&["describe", "--plaintext", &at, "notes.Note", "-o", "json"])
        .await
        .ok()
        .json();
    assert_eq!(report["kind"], "message");
    assert_eq!(report["fields"][3]["type"], "map<string, int64>");
    assert_eq!(report["fields"][4]["optional"], true);
    assert_eq!(report["fields"][5]["oneof"], "place");

    let ended = program.run(&["describe", "--plaintext", &at, "notes.Nothing", "-o", "json"]).await;
    assert_eq!(ended.code, 4);
    assert_eq!(ended.json()["error"]["kind"], "schema");
}

#[tokio::test]
async fn list_and_describe_are_text_for_people() {
    let (server, program) = (plain().await, Program::new());
    let at = server.at();
    let ended = program.run(&["list", "--plaintext", &at]).await.ok();
    assert_eq!(ended.stdout, "grpc.reflection.v1.ServerReflection\nnotes.Notes\n");
    let ended = program.run(&["list", "--plaintext", &at, "Notes"]).await.ok();
    assert!(ended.stdout.starts_with("notes.Notes/Echo\nnotes.Notes/Repeat\n"), "{ended:?}");
    for (symbol, source) in [
        ("notes.Notes/Chat", "rpc Chat(stream notes.Note) returns (stream notes.Note);\n"),
        (
            "notes.Mood",
            "// notes.Mood\nenum Mood {\n  MOOD_UNSPECIFIED = 0;\n  // All is well.\n  MOOD_GOOD = 1;\n}\n",
        ),
        ("notes.Note.text", "string text = 1;\n"),
    ] {
        let ended = program.run(&["describe", "--plaintext", &at, symbol]).await.ok();
        assert!(ended.stdout.ends_with(source), "{ended:?}");
    }
}

#[tokio::test]
async fn what_describe_prints_compiles_again() {
    let program = Program::new();
    let import = protos().to_str().unwrap();
    let files = ["--proto", "notes.proto", "--import-path", import];
    let describe = |symbol: &'static str| {
        let line = [&["describe", symbol], &files[..]].concat();
        let program = &program;
        async move { program.run(&line).await.ok().stdout }
    };
    let (service, message, mood) =
        (describe("notes.Notes").await, describe("notes.Note").await, describe("notes.Mood").await);
    assert!(service.contains("  // Says each note back at once.\n  rpc Chat"), "{service}");
    let source = format!("syntax = \"proto3\";\npackage notes;\n{service}{message}{mood}");
    program.file("again.proto", source);
    let folder = program.path("").to_str().unwrap().to_owned();
    let strip = |mut set: prost_reflect::prost_types::FileDescriptorSet| {
        let mut file = set.file.remove(0);
        file.source_code_info = None;
        file.name = None;
        file
    };
    let again = strip(protox::compile(["again.proto"], [&folder]).unwrap());
    assert_eq!(again, strip(protox::compile(["notes.proto"], [protos()]).unwrap()));
}

#[tokio::test]
async fn wrong_usage_is_an_object_as_well() {
    let program = Program::new();
    for line in [
        &["call", "--nonsense", "-o", "json"][..],
        &["call", "-o", "json"],
        &["call", "--output=json", "--profile", "none", "Notes/Echo"],
        &["list", "--plaintext", "--cacert", "x", "localhost:1", "-o", "json"],
        &["bench", "localhost:1", "a/b", "--rate", "0", "-o", "json"],
    ] {
        let ended = program.run(line).await;
        assert_eq!(ended.code, 2, "{ended:?}");
        assert_eq!(ended.json()["error"]["kind"], "usage", "{ended:?}");
    }
}

#[test]
fn the_page_about_the_command_line_has_every_flag() {
    let page = std::fs::read_to_string(repository("docs/cli.md")).unwrap();
    for command in ["list", "describe", "call", "bench", "gateway", "up", "logs"] {
        let program = std::process::Command::new(env!("CARGO_BIN_EXE_oxgrpc"))
            .args([command, "--help"])
            .output()
            .unwrap();
        let help = String::from_utf8(program.stdout).unwrap();
        for flag in help.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2)
        {
            let flag = flag.trim_end_matches([',', '.', ';', ':', ')', ']', '`']);
            assert!(page.contains(flag), "docs/cli.md does not mention {flag} of {command}");
        }
    }
}
