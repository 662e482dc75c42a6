//! Profiles.

use crate::program::Program;
use crate::server::{Setup, descriptors, plain, serve};

#[tokio::test]
async fn a_profile_gives_the_address_and_flags() {
    let (server, program) = (plain().await, Program::new());
    program.file("token", "from-the-profile");
    program.file(
        "profiles.toml",
        format!(
            "[here]\naddress = \"{}\"\nplaintext = true\nconnect-timeout = 5\n\
             header = [\"x-token: !cat token\"]\n",
            server.at()
        ),
    );
    let report = program
        .run(&["call", "--profile", "here", "Notes/Echo", "-o", "json", "-d", "{\"text\":\"p\"}"])
        .await
        .ok()
        .json();
    assert_eq!(report["headers"]["x-got"][0], "from-the-profile");
    let ended = program.run(&["list", "--profile=here"]).await.ok();
    assert!(ended.stdout.contains("notes.Notes"));
    let ended = program.run(&["list", "--profile=here", "Notes"]).await.ok();
    assert!(ended.stdout.contains("notes.Notes/Echo"));
    // From the environment; an address on the command line wins, and so does a flag.
    let other = plain().await;
    let run = |line: &[&str]| program.command(line).env("OXGRPC_PROFILE", "here").output();
    let output = run(&["call", &other.at(), "Notes/Echo", "-o", "json"]).await.unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["target"], other.at());
    let output = run(&["call", "--tls", "Notes/Echo"]).await.unwrap();
    assert_eq!(output.status.code(), Some(3));
}

#[tokio::test]
async fn paths_are_relative_to_the_file() {
    let (server, program) = (serve(Setup::default()).await, Program::new());
    program.file("notes.binpb", descriptors());
    program.file(
        "profiles.toml",
        format!(
            "[here]\naddress = \"{}\"\nplaintext = true\nprotoset = \"notes.binpb\"\n",
            server.at()
        ),
    );
    let output = program
        .command(&["call", "--profile", "here", "Notes/Echo"])
        .current_dir("/")
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[tokio::test]
async fn mistakes_in_profiles_are_told() {
    let program = Program::new();
    let ended = program.run(&["list", "--profile", "here"]).await;
    assert!(ended.stderr.contains("profiles.toml"), "{ended:?}");
    for (text, told) in [
        ("[there]\n", "has no profile `here`"),
        ("[here]\ndata = \"x\"\n", "`data` is not a flag that a profile can have"),
        ("[here]\naddress = 1\n", "`address` is not a string"),
        ("[here]\nplaintext = \"yes\"\n", "unexpected value"),
        ("[here\n", "profiles.toml"),
    ] {
        program.file("profiles.toml", text);
        let ended = program.run(&["list", "--profile", "here", "localhost:1"]).await;
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.stderr.contains(told), "{ended:?}");
    }
}
