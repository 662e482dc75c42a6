//! Where schemas come from: reflection, descriptor sets, .proto source, and all of them together.

use crate::program::Program;
use crate::server::{Setup, descriptors, plain, protos, serve};

#[tokio::test]
async fn files_serve_where_there_is_no_reflection() {
    let server = serve(Setup::default()).await;
    let program = Program::new();
    let at = server.at();
    let line = ["call", "--plaintext", &at, "notes.Notes/Echo", "-d", "{\"text\":\"f\"}"];
    let ended = program.run(&line).await;
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.stderr.contains("no reflection"), "{ended:?}");
    assert!(ended.stderr.contains("--protoset FILE or --proto FILE"), "{ended:?}");

    let protoset = program.file("notes.binpb", descriptors());
    let proto = protos().join("notes.proto");
    let import = protos().to_str().unwrap();
    for files in [
        &["--protoset", &protoset][..],
        &["--proto", "notes.proto", "--import-path", import],
        &["--proto", proto.to_str().unwrap(), "--import-path", import],
        &["-proto", "notes.proto", "-import-path", import],
    ] {
        program.run(&[&line[..], files].concat()).await.ok();
    }
}

#[tokio::test]
async fn files_are_listed_and_described_without_a_server() {
    let program = Program::new();
    let protoset = program.file("notes.binpb", descriptors());
    let ended = program.run(&["list", "--protoset", &protoset]).await.ok();
    assert_eq!(ended.stdout, "notes.Notes\n");
    let ended =
        program.run(&["describe", "--protoset", &protoset, "notes.extra.Reason"]).await.ok();
    assert!(ended.stdout.contains("string why = 1;"), "{ended:?}");
    let ended = program.run(&["list"]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
}

#[tokio::test]
async fn what_was_learned_can_be_saved_and_used() {
    let (server, program) = (plain().await, Program::new());
    let saved = program.path("saved.binpb").to_str().unwrap().to_owned();
    for flag in ["--save-schema", "-protoset-out"] {
        program.run(&["list", "--plaintext", &server.at(), flag, &saved]).await.ok();
        let bare = serve(Setup::default()).await;
        let line = ["call", "--plaintext", &bare.at(), "Notes/Echo", "--protoset", &saved];
        program.run(&line).await.ok();
        std::fs::remove_file(&saved).unwrap();
    }
}

#[tokio::test]
async fn unknown_names_are_told_with_those_that_are_known() {
    let (server, program) = (plain().await, Program::new());
    for (method, told) in [
        ("notes.Note/Echo", "the services are grpc.reflection.v1.ServerReflection, notes.Notes"),
        ("notes.Notes/Ecko", "similar: notes.Notes.Echo"),
    ] {
        let ended = program.run(&["call", "--plaintext", &server.at(), method]).await;
        assert_eq!(ended.code, 4, "{ended:?}");
        assert!(ended.stderr.contains(told), "{ended:?}");
    }
}

#[tokio::test]
async fn a_missing_import_costs_only_the_methods_that_need_it() {
    use prost::Message as _;
    let program = Program::new();
    program
        .file("part.proto", "syntax = \"proto3\"; package part; message Part { string id = 1; }");
    program.file(
        "whole.proto",
        "syntax = \"proto3\"; package whole; import \"part.proto\";
         message Plain { string text = 1; }
         service Whole { rpc Good(Plain) returns (Plain); rpc Bad(Plain) returns (part.Part); }",
    );
    let mut set = protox::compile(["whole.proto"], [program.path("")]).unwrap();
    set.file.retain(|file| file.name() != "part.proto");
    let protoset = program.file("whole.binpb", set.encode_to_vec());
    let server = serve(Setup::default()).await;
    let at = server.at();
    let call =
        |method| ["call", "--plaintext", &at, method, "--protoset", &protoset, "--no-reflection"];
    let ended = program.run(&call("whole.Whole/Bad")).await;
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.stderr.contains("part.proto"), "{ended:?}");
    // The server does not have this service; that it was asked is all that is wanted here.
    let ended = program.run(&call("whole.Whole/Good")).await;
    assert_eq!(ended.code, 64 + 12, "{ended:?}");
    // The file makes it whole.
    program.file("empty", "");
    let line =
        [&call("whole.Whole/Bad")[..], &["--proto", "part.proto", "--import-path", "."]].concat();
    assert_eq!(program.run(&line).await.code, 64 + 12);
}
