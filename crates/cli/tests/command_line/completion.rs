//! Completion, asked as the shells' scripts ask.

use crate::program::Program;
use crate::server::plain;

/// Asks for completions of the last word.
async fn complete(program: &Program, shell: &str, words: &[&str]) -> Vec<String> {
    let index = words.len() - 1;
    let output = program
        .command(&[&["--"], words].concat())
        .env("COMPLETE", shell)
        .env("_CLAP_IFS", "\n")
        .env("_CLAP_COMPLETE_INDEX", index.to_string())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn flags_and_commands_are_completed() {
    let program = Program::new();
    assert_eq!(complete(&program, "bash", &["oxgrpc", "desc"]).await, ["describe"]);
    let flags = complete(&program, "bash", &["oxgrpc", "call", "--max-"]).await;
    assert_eq!(flags, ["--max-time", "--max-msg-sz"]);
    let flags = complete(&program, "zsh", &["oxgrpc", "call", "--max-t"]).await;
    assert_eq!(flags, ["--max-time:The call's deadline"]);
    let flags = complete(&program, "fish", &["oxgrpc", "call", "--max-t"]).await;
    assert_eq!(flags, ["--max-time\tThe call's deadline"]);
}

#[tokio::test]
async fn names_are_completed_and_the_second_time_without_the_server() {
    let (server, program) = (plain().await, Program::new());
    let at = server.at();
    let line = ["oxgrpc", "call", "--plaintext", &at, "notes.Notes/E"];
    for shell in ["bash", "zsh", "fish"] {
        assert_eq!(complete(&program, shell, &line).await, ["notes.Notes/Echo"], "{shell}");
    }
    let line = ["oxgrpc", "list", "--plaintext", &at, "no"];
    assert_eq!(complete(&program, "bash", &line).await, ["notes.Notes"]);
    drop(server);
    assert_eq!(complete(&program, "bash", &line).await, ["notes.Notes"]);
    // The address is remembered too, and bash, which parts words at colons, gets what follows the colon.
    let (host, port) = at.split_once(':').unwrap();
    assert_eq!(complete(&program, "fish", &["oxgrpc", "call", &at[..12]]).await, [at.as_str()]);
    let line = ["oxgrpc", "list", "--plaintext", host, ":", port, "no"];
    assert_eq!(complete(&program, "bash", &line).await, ["notes.Notes"]);
    let line = ["oxgrpc", "list", "--plaintext", host, ":", &port[..2]];
    assert_eq!(complete(&program, "bash", &line).await, [port]);
    let line = ["oxgrpc", "list", "--plaintext", host, ":"];
    assert_eq!(complete(&program, "bash", &line).await, [port]);
}

#[tokio::test]
async fn an_old_answer_is_used_and_renewed_behind() {
    let (server, program) = (plain().await, Program::new());
    let at = server.at();
    let line = ["oxgrpc", "call", "--plaintext", &at, "notes.Notes/E"];
    complete(&program, "bash", &line).await;
    let file = std::fs::read_dir(program.path("cache")).unwrap().next().unwrap().unwrap().path();
    let stale = format!(
        r#"{{"address":"{at}","services":[{{"name":"notes.Notes","methods":[{{"name":"Evaporated"}}]}}]}}"#
    );
    std::fs::write(&file, &stale).unwrap();
    let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    std::fs::File::options().append(true).open(&file).unwrap().set_modified(hour_ago).unwrap();
    assert_eq!(complete(&program, "bash", &line).await, ["notes.Notes/Evaporated"]);
    while std::fs::read_to_string(&file).unwrap() == stale {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(complete(&program, "bash", &line).await, ["notes.Notes/Echo"]);
}

#[tokio::test]
async fn a_server_that_is_not_there_completes_nothing() {
    let program = Program::new();
    let line = ["oxgrpc", "call", "--plaintext", "127.0.0.1:1", "x"];
    assert_eq!(complete(&program, "bash", &line).await, [""; 0]);
}

#[tokio::test]
async fn scripts_are_printed_and_bash_understands_its_own() {
    let (server, program) = (plain().await, Program::new());
    for shell in ["bash", "zsh", "fish"] {
        let ended = program.run(&["completion", shell]).await.ok();
        assert!(ended.stdout.contains("COMPLETE"), "{ended:?}");
    }
    // As bash calls the function for `oxgrpc call --plaintext HOST:PORT notes.Notes/W`.
    let script = format!(
        "eval \"$({program} completion bash)\"
         COMP_WORDS=(oxgrpc call --plaintext {host} : {port} notes.Notes/W); COMP_CWORD=6; COMP_TYPE=9
         _clap_complete_oxgrpc oxgrpc notes.Notes/W {port}
         printf '%s' \"${{COMPREPLY[*]}}\"",
        program = env!("CARGO_BIN_EXE_oxgrpc"),
        host = server.address.ip(),
        port = server.address.port(),
    );
    let output = tokio::process::Command::new("bash")
        .args(["-c", &script])
        .env("OXGRPC_CACHE", program.path("cache"))
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "notes.Notes/Wait");
}
