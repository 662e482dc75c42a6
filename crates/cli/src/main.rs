//! The command line `oxgrpc`: calls any gRPC server, and runs the gateway.

#![forbid(unsafe_code)]

mod address;
mod arguments;
mod bench;
mod call;
mod completion;
mod connect;
mod failure;
mod input;
mod logs;
mod look;
mod metadata;
mod schema;
mod serve;
mod source;
mod trace;

use std::ffi::OsString;
use std::io::Write as _;

use arguments::{Arguments, Command, Parsed};
use call::print_line;
use failure::{Failure, Kind};

fn main() {
    if completion::answered() {
        return;
    }
    let line: Vec<OsString> = std::env::args_os().collect();
    let json = arguments::wants_json(&line);
    let code = match arguments::parse(line) {
        Ok(Parsed::Arguments(arguments)) => run(*arguments),
        Ok(Parsed::Answer(answer)) => explain(&answer, json),
        Err(failure) => {
            report(&failure, json);
            failure.kind.exit_code()
        }
    };
    // A thread that still waits for standard input must not hold the program up.
    let _ = std::io::stdout().flush();
    std::process::exit(code.into());
}

fn run(arguments: Arguments) -> u8 {
    let threads = match &arguments.command {
        Command::Completion { shell } => {
            let mut out = Vec::new();
            let written = completion::script(*shell, &mut out)
                .and_then(|()| std::io::stdout().write_all(&out));
            return written.map_or(Kind::Io.exit_code(), |()| 0);
        }
        // One connection is carried by one thread, and a command that ends in milliseconds starts none in vain.
        Command::List(_) | Command::Describe(_) | Command::Call(_) | Command::Logs(_) => false,
        Command::Bench(_) | Command::Gateway(_) | Command::Up(_) => true,
    };
    let mut builder = if threads {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::io(format!("the runtime cannot be started: {error}"));
            failure.print();
            return failure.kind.exit_code();
        }
    };
    let code = runtime.block_on(async {
        match &arguments.command {
            Command::List(look) => look::list(look).await,
            Command::Describe(look) => look::describe(look).await,
            Command::Call(call) => call::run(call).await,
            Command::Bench(bench) => bench::run(bench).await,
            Command::Gateway(gateway) => serve::gateway(gateway).await,
            Command::Up(up) => serve::up(up).await,
            Command::Logs(logs) => logs::run(logs).await,
            Command::Completion { .. } => 0,
        }
    });
    runtime.shutdown_background();
    code
}

/// Prints what clap has to say.
fn explain(answer: &clap::Error, json: bool) -> u8 {
    if !answer.use_stderr() {
        return answer.print().map_or(Kind::Io.exit_code(), |()| 0);
    }
    if json {
        let text = answer.to_string();
        let message = text.lines().next().unwrap_or_default();
        report(&Failure::usage(message.strip_prefix("error: ").unwrap_or(message)), true);
    } else {
        // A closed standard error leaves nowhere to report to.
        let _ = answer.print();
    }
    Kind::Usage.exit_code()
}

fn report(failure: &Failure, json: bool) {
    if json {
        // The exit code says what cannot be printed.
        let _ = print_line(&look::failure_object(failure).to_string());
    } else {
        failure.print();
    }
}
