//! Completion of addresses, services and methods.
//!
//! The shell runs `oxgrpc` with the words so far. The services and methods of an address are kept in a file, so that only the
//! first completion for an address asks the server; a file that has become old is used all the same, and renewed by a process of
//! its own behind the shell's back.

use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use clap::CommandFactory as _;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::EnvCompleter;
use serde::{Deserialize, Serialize};

use crate::address::looks_like_address;
use crate::arguments::{Parsed, Shell, parse};

/// How long a file counts as new.
const FRESH: Duration = Duration::from_secs(60);
/// How long the first completion of an address waits for its server.
const PATIENCE: &str = "2";

/// What is kept of an address.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Known {
    address: String,
    services: Vec<KnownService>,
}

#[derive(Debug, Deserialize, Serialize)]
struct KnownService {
    name: String,
    #[serde(default)]
    methods: Option<Vec<KnownMethod>>,
}

#[derive(Debug, Deserialize, Serialize)]
struct KnownMethod {
    name: String,
}

/// Completes an address: those that were completed before.
pub(crate) fn address(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut candidates: Vec<String> = Vec::new();
    if let Some(files) = cache().and_then(|cache| std::fs::read_dir(cache).ok()) {
        for file in files.flatten() {
            if let Some(known) = std::fs::read(file.path())
                .ok()
                .and_then(|text| serde_json::from_slice::<Known>(&text).ok())
            {
                candidates.push(known.address);
            }
        }
    }
    candidates.sort();
    // With a profile's address, the first word may be a symbol already.
    if !looks_like_address(&current.to_string_lossy()) && default_address().is_some() {
        candidates.extend(names(Wanted::Methods));
    }
    matching(candidates, current)
}

/// Completes a service or a method.
pub(crate) fn symbol(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut candidates = names(Wanted::Services);
    if completed_command().as_deref() == Some("describe") {
        candidates.extend(names(Wanted::Methods));
    }
    matching(candidates, current)
}

/// Completes a method.
pub(crate) fn method(current: &OsStr) -> Vec<CompletionCandidate> {
    matching(names(Wanted::Methods), current)
}

fn matching(candidates: Vec<String>, current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    candidates
        .into_iter()
        .filter(|candidate| candidate.starts_with(&*current))
        .map(CompletionCandidate::new)
        .collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Services,
    Methods,
}

/// The names at the address on the line that is being completed.
fn names(wanted: Wanted) -> Vec<String> {
    let Some(line) = line_so_far() else { return Vec::new() };
    let Some(known) = known(&line) else { return Vec::new() };
    known
        .services
        .into_iter()
        .flat_map(|service| match wanted {
            Wanted::Services => vec![service.name],
            Wanted::Methods => service
                .methods
                .unwrap_or_default()
                .into_iter()
                .map(|method| format!("{}/{}", service.name, method.name))
                .collect(),
        })
        .collect()
}

/// The line that is being completed.
#[derive(Debug)]
struct Line {
    words: Vec<OsString>,
    /// Which word is being completed.
    index: usize,
    /// What bash, which takes words apart at colons, does not replace of that word.
    kept: String,
}

static LINE: OnceLock<Line> = OnceLock::new();

impl Line {
    /// Reads what the shell's script passes after `--`.
    fn read(bash: bool) -> Option<Self> {
        let mut words: Vec<OsString> =
            std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
        let index = std::env::var("_CLAP_COMPLETE_INDEX").ok().and_then(|index| index.parse().ok());
        // fish has no index: the word is the last one. zsh passes none where it is empty.
        let mut index: usize = index.unwrap_or(words.len().checked_sub(1)?);
        if index >= words.len() {
            words.resize(index + 1, OsString::new());
        }
        let mut kept = String::new();
        if bash {
            let mut joined: Vec<OsString> = Vec::new();
            let mut glue = false;
            let mut new_index = 0;
            for (position, word) in words.iter().enumerate() {
                let colon = word == ":";
                // `localhost`, `:`, `50` are one word; so are `localhost` and `:` with nothing after.
                if (colon || glue) && joined.len() > 1 {
                    if let Some(last) = joined.last_mut() {
                        if position == index && !colon {
                            kept = last.to_string_lossy().into_owned();
                        }
                        last.push(word);
                        if position == index && colon {
                            kept = last.to_string_lossy().into_owned();
                        }
                    }
                } else {
                    joined.push(word.clone());
                }
                glue = colon;
                if position == index {
                    new_index = joined.len() - 1;
                }
            }
            words = joined;
            index = new_index;
        }
        Some(Self { words, index, kept })
    }
}

/// Answers a shell that asks for completions, and returns true if one did.
pub(crate) fn answered() -> bool {
    let Ok(shell) = std::env::var("COMPLETE") else { return false };
    let bash = shell == "bash";
    let Some(line) = Line::read(bash) else { return true };
    let line = LINE.get_or_init(|| line);
    let mut command = crate::arguments::Arguments::command();
    command.build();
    let directory = std::env::current_dir().ok();
    let words = line.words.clone();
    let Ok(candidates) =
        clap_complete::engine::complete(&mut command, words, line.index, directory.as_deref())
    else {
        return true;
    };
    let separator = std::env::var("_CLAP_IFS").unwrap_or_else(|_| "\n".into());
    let texts: Vec<String> = candidates
        .iter()
        .filter(|candidate| !candidate.is_hide_set())
        .map(|candidate| {
            let value = candidate.get_value().to_string_lossy().into_owned();
            let help = candidate.get_help().map(ToString::to_string);
            let help = help.as_deref().and_then(|help| help.lines().next());
            match (&*shell, help) {
                ("bash", _) => value.strip_prefix(&line.kept).unwrap_or(&value).to_owned(),
                ("zsh", help) => {
                    // zsh's _describe parts value and help at a colon.
                    let value = value.replace(':', "\\:");
                    help.map_or_else(|| value.clone(), |help| format!("{value}:{help}"))
                }
                (_, Some(help)) => format!("{value}\t{help}"),
                (_, None) => value,
            }
        })
        .collect();
    // A shell that has gone away wants no answer.
    let _ = std::io::stdout().write_all(texts.join(&separator).as_bytes());
    true
}

/// Writes the script that makes a shell ask.
pub(crate) fn script(shell: Shell, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    let program = std::env::current_exe()?;
    let program = program.to_string_lossy();
    let completer: &dyn EnvCompleter = match shell {
        Shell::Bash => &clap_complete::env::Bash,
        Shell::Zsh => &clap_complete::env::Zsh,
        Shell::Fish => &clap_complete::env::Fish,
    };
    completer.write_registration("COMPLETE", "oxgrpc", "oxgrpc", &program, out)
}

/// The words before the one that is being completed.
fn line_words() -> &'static [OsString] {
    LINE.get().map_or(&[], |line| &line.words[..line.index])
}

fn completed_command() -> Option<String> {
    line_words().get(1)?.to_str().map(str::to_owned)
}

/// The line as a `list` of its address: the flags that say how to connect are kept, whatever the command.
fn line_so_far() -> Option<Vec<OsString>> {
    let words = line_words();
    let command = words.get(1)?.to_str()?.to_owned();
    if !matches!(&*command, "call" | "bench" | "list" | "describe") {
        return None;
    }
    let (flags, address) = connection_flags(&words[2..]);
    let address = address.or_else(default_address)?;
    let mut line = vec!["oxgrpc".into(), "list".into()];
    line.extend(flags);
    line.extend([address, "--output=json".into(), "--connect-timeout".into(), PATIENCE.into()]);
    Some(line)
}

/// The flags about connection and schema among `words`, and the first word that is no flag's.
fn connection_flags(words: &[OsString]) -> (Vec<OsString>, Option<OsString>) {
    let command = crate::arguments::Arguments::command();
    let arguments: Vec<clap::Arg> = command
        .get_subcommands()
        .flat_map(|command| command.get_arguments().cloned().collect::<Vec<_>>())
        .collect();
    let mut flags = Vec::new();
    let mut address = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        let name = text.trim_start_matches('-');
        let (name, inline) = name.split_once('=').map_or((name, false), |(name, _)| (name, true));
        let argument = arguments.iter().find(|argument| {
            text.starts_with('-')
                && (argument.get_long() == Some(name)
                    || argument.get_short().is_some_and(|short| name == short.to_string()))
        });
        let Some(argument) = argument else {
            if !text.starts_with('-') && address.is_none() {
                address = Some(word.clone());
            }
            continue;
        };
        let value =
            if argument.get_action().takes_values() && !inline { words.next() } else { None };
        if matches!(argument.get_help_heading(), Some("Connection" | "Schema"))
            && argument.get_long() != Some("save-schema")
            && argument.get_long() != Some("verbose")
        {
            flags.push(word.clone());
            flags.extend(value.cloned());
        }
    }
    (flags, address)
}

fn default_address() -> Option<OsString> {
    let words = line_words();
    let (mut line, _) = connection_flags(words.get(2..)?);
    line.splice(0..0, ["oxgrpc".into(), "list".into()]);
    match parse(line).ok()? {
        Parsed::Arguments(arguments) => match arguments.command {
            crate::arguments::Command::List(look) => {
                look.connection.default_address.map(Into::into)
            }
            _ => None,
        },
        Parsed::Answer(_) => None,
    }
}

/// What is known of a line's address: of the file, or, the first time, of the server.
fn known(line: &[OsString]) -> Option<Known> {
    let path = cache()?.join(format!("{:016x}.json", fingerprint(line)));
    if let Ok(text) = std::fs::read(&path)
        && let Ok(known) = serde_json::from_slice(&text)
    {
        let age = std::fs::metadata(&path)
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|modified| SystemTime::now().duration_since(modified).ok());
        if age.is_none_or(|age| age > FRESH) {
            // At most one renewal a minute, even of a server that is gone.
            let _ = std::fs::File::options()
                .append(true)
                .open(&path)
                .and_then(|file| file.set_modified(SystemTime::now()));
            let _ = renewal(line, &path).spawn();
        }
        return Some(known);
    }
    let status = renewal(line, &path).status().ok()?;
    if !status.success() {
        return None;
    }
    serde_json::from_slice(&std::fs::read(&path).ok()?).ok()
}

/// The process that renews a file: it runs the line, and writes what comes out.
fn renewal(line: &[OsString], path: &std::path::Path) -> Command {
    let program = std::env::current_exe().unwrap_or_else(|_| "oxgrpc".into());
    let mut command = Command::new(program);
    command
        .args(&line[1..])
        .env(RENEWS, path)
        .env_remove("COMPLETE")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Names the file that a `list` writes its JSON to.
const RENEWS: &str = "OXGRPC_RENEWS_COMPLETION";

/// Keeps the answer of a `list` that was run for completion.
pub(crate) fn keep(address: Option<String>, answer: &serde_json::Value) {
    let Some(path) = std::env::var_os(RENEWS).map(PathBuf::from) else { return };
    let Ok(mut known) = serde_json::from_value::<Known>(serde_json::json!({
        "address": address.unwrap_or_default(),
        "services": answer["services"],
    })) else {
        return;
    };
    known.services.sort_by(|left, right| left.name.cmp(&right.name));
    let Ok(text) = serde_json::to_vec(&known) else { return };
    // Renamed when whole: another completion may read at any time. Without a cache completion asks again.
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    let _ = path.parent().map(std::fs::create_dir_all);
    let _ = std::fs::write(&partial, text).and_then(|()| std::fs::rename(&partial, &path));
}

/// Lines with different flags may see different schemas.
fn fingerprint(line: &[OsString]) -> u64 {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    std::env::var_os("OXGRPC_PROFILE").hash(&mut hasher);
    hasher.finish()
}

/// The folder of files: `$OXGRPC_CACHE`, or `oxgrpc` in the user's cache.
fn cache() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("OXGRPC_CACHE") {
        return Some(path.into());
    }
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    Some(base.join("oxgrpc"))
}
