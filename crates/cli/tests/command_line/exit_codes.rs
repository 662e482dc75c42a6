//! The table of exit codes: in `--help`, in docs/cli.md, and a test for each row.

use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::program::{Ended, Program, repository, signal};
use crate::server::{plain, pretend};

/// The rows that `--help` shows: code, kind, meaning.
fn help_rows(help: &str) -> Vec<[String; 3]> {
    let table = help.split("Exit codes:\n").nth(1).expect("the table is in --help");
    table
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let (code, rest) = line.trim().split_once(' ').unwrap();
            let (kind, meaning) = rest.trim().split_once(' ').unwrap();
            [code.into(), kind.into(), meaning.trim().into()]
        })
        .collect()
}

#[tokio::test]
async fn the_page_and_the_help_have_the_same_table() {
    let help = Program::new().run(&["--help"]).await.ok().stdout;
    let page = std::fs::read_to_string(repository("docs/cli.md")).unwrap();
    let section = page.split("## Exit codes").nth(1).unwrap();
    let rows: Vec<[String; 3]> = section
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            [cells[0].into(), cells[1].into(), cells[2].into()]
        })
        .collect();
    assert_eq!(rows, help_rows(&help));
    assert_eq!(rows.len(), 8);
}

#[tokio::test]
async fn success_is_0() {
    let server = plain().await;
    Program::new().run(&["call", "--plaintext", &server.at(), "Notes/Echo"]).await.ok();
}

#[tokio::test]
async fn usage_is_2() {
    assert_eq!(Program::new().run(&["call", "--nonsense"]).await.code, 2);
    assert_eq!(Program::new().run(&["list", "localhost:x"]).await.code, 2);
}

#[tokio::test]
async fn connection_is_3() {
    assert_eq!(Program::new().run(&["list", "--plaintext", "127.0.0.1:1"]).await.code, 3);
}

#[tokio::test]
async fn schema_is_4() {
    let server = plain().await;
    let ended = Program::new().run(&["call", "--plaintext", &server.at(), "Notes/No"]).await;
    assert_eq!(ended.code, 4);
}

#[tokio::test]
async fn io_is_5() {
    let (server, program) = (plain().await, Program::new());
    let at = server.at();
    for line in [
        &["list", "--protoset", "not-there.binpb"][..],
        &["call", "--plaintext", &at, "Notes/Echo", "-d", "@not-there.json"],
        &["list", "--cacert", "not-there.pem", &at],
        &["list", "--plaintext", &at, "--save-schema", "no/such/folder"],
    ] {
        let ended = program.run(line).await;
        assert_eq!(ended.code, 5, "{ended:?}");
    }
    // A full disk behind standard output.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let status =
        program.command(&["list", "--plaintext", &at]).stdout(full).status().await.unwrap();
    assert_eq!(status.code(), Some(5));
}

#[tokio::test]
async fn limit_is_6() {
    let server = plain().await;
    let line =
        ["bench", "--plaintext", &server.at(), "Notes/Echo", "-n", "1", "--fail-if", "max>1us"];
    assert_eq!(Program::new().run(&line).await.code, 6);
}

#[tokio::test]
async fn every_status_is_64_and_its_code() {
    let (server, program) = (plain().await, Program::new());
    for code in 1..=16 {
        let data = format!("{{\"times\":{code}}}");
        let line = ["call", "--plaintext", &server.at(), "Notes/Fail", "-d", &data];
        assert_eq!(program.run(&line).await.code, 64 + code);
    }
}

#[tokio::test]
async fn an_interrupt_before_the_call_is_130() {
    let program = Program::new();
    let server = pretend(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let line = ["call", "-v", "-o", "json", "--plaintext", &server.at(), "Notes/Echo"];
    let mut child = program.command(&line).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    while !stderr.next_line().await.unwrap().unwrap().contains("connect") {}
    signal(&child, "INT");
    let ended = Ended::of(child.wait_with_output().await.unwrap());
    assert_eq!(ended.code, 130, "{ended:?}");
    assert_eq!(ended.json()["error"]["kind"], "interrupt");
}
