//! `oxgrpc bench`.

use crate::program::Program;
use crate::server::plain;

#[tokio::test]
async fn a_closed_loop_counts_what_it_was_asked_for() {
    let (server, program) = (plain().await, Program::new());
    let at = server.at();
    let line =
        ["bench", "--plaintext", &at, "Notes/Echo", "-n", "500", "-c", "4", "--connections", "2"];
    let report = program.run(&[&line[..], &["-o", "json"]].concat()).await.ok().json();
    assert_eq!(report["calls"], 500);
    assert_eq!(report["errors"], 0);
    assert_eq!(report["messages"], 500);
    assert_eq!(report["loop"], "closed");
    assert_eq!(report["statuses"]["OK"], 500);
    let latency = &report["latency_ms"];
    let order =
        ["min", "p50", "p90", "p99", "p99.9", "max"].map(|key| latency[key].as_f64().unwrap());
    assert!(order.is_sorted(), "{latency}");
    let text = program.run(&line).await.ok().stdout;
    assert!(text.contains("500 calls in") && text.contains("p99.9"), "{text}");
}

#[tokio::test]
async fn streams_and_failures_are_counted() {
    let (server, program) = (plain().await, Program::new());
    let at = server.at();
    let bench = ["bench", "--plaintext", &at, "-n", "20", "-c", "2", "-o", "json"];
    let stream = [&bench[..], &["Notes/Repeat", "-d", "{\"times\":5}"]].concat();
    assert_eq!(program.run(&stream).await.ok().json()["messages"], 100);
    let chat = [&bench[..], &["Notes/Chat", "-d", "{}{}{}"]].concat();
    assert_eq!(program.run(&chat).await.ok().json()["messages"], 60);
    let fail = [&bench[..], &["Notes/Fail", "-d", "{\"times\":5}"]].concat();
    let report = program.run(&fail).await.ok().json();
    assert_eq!(report["errors"], 20);
    assert_eq!(report["statuses"]["NOT_FOUND"], 20);
}

#[tokio::test]
async fn an_open_loop_charges_a_stall_to_everybody_who_waits() {
    let (server, program) = (plain().await, Program::new());
    let at = server.at();
    // One call at a time, each of 100 ms, and 50 are due each second: the last of 20 is due at 380 ms and ends near 2 s.
    let line = [
        "bench",
        "--plaintext",
        &at,
        "Notes/Echo",
        "-H",
        "x-stall-ms: 100",
        "-n",
        "20",
        "-c",
        "1",
        "-o",
        "json",
    ];
    let open = program.run(&[&line[..], &["--rate", "50"]].concat()).await.ok().json();
    assert_eq!(open["loop"], "open");
    assert_eq!(open["calls"], 20);
    assert!(open["latency_ms"]["max"].as_f64().unwrap() > 1600.0, "{open}");
    assert!(open["latency_ms"]["p50"].as_f64().unwrap() > 800.0, "{open}");
}

#[tokio::test]
async fn calls_that_warm_up_are_not_counted() {
    let (server, program) = (plain().await, Program::new());
    let line = [
        "bench",
        "--plaintext",
        &server.at(),
        "Notes/Echo",
        "--rate",
        "100",
        "--warmup",
        "0.2",
        "-n",
        "10",
        "-o",
        "json",
    ];
    let report = program.run(&line).await.ok().json();
    assert_eq!(report["calls"], 10);
}

#[tokio::test]
async fn a_broken_limit_has_an_exit_code_of_its_own() {
    let (server, program) = (plain().await, Program::new());
    let at = server.at();
    let line = [
        "bench",
        "--plaintext",
        &at,
        "Notes/Echo",
        "-n",
        "20",
        "-H",
        "x-stall-ms: 20",
        "--fail-if",
    ];
    let ended = program.run(&[&line[..], &["p99>5ms"]].concat()).await;
    assert_eq!(ended.code, 6, "{ended:?}");
    assert!(ended.stderr.contains("p99>5ms"), "{ended:?}");
    let json = [&line[..], &["p99>5ms", "--fail-if", "p50>1s", "-o", "json"]].concat();
    let ended = program.run(&json).await;
    assert_eq!(ended.code, 6, "{ended:?}");
    assert_eq!(ended.json()["broken_limits"], serde_json::json!(["p99>5ms"]));
    program.run(&[&line[..], &["p99>60s"]].concat()).await.ok();
    let ended = program.run(&[&line[..], &["p99>5"]].concat()).await;
    assert_eq!(ended.code, 2, "{ended:?}");
}
