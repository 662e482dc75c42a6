//! grpcurl's spelling: `-plaintext` for `--plaintext`.
//!
//! Go's flags have one dash or two. A word with one dash that is a whole flag's name cannot mean anything else here, since no short
//! flag takes a value of that look.

use std::collections::HashSet;
use std::ffi::OsString;

use clap::Command;

/// Gives long flags with one dash their second.
pub(super) fn normalise(command: &Command, line: Vec<OsString>) -> Vec<OsString> {
    let names: HashSet<String> = command
        .get_subcommands()
        .flat_map(Command::get_arguments)
        .flat_map(|argument| argument.get_long_and_visible_aliases().unwrap_or_default())
        .map(str::to_owned)
        .collect();
    let mut flags = true;
    line.into_iter()
        .map(|word| {
            flags = flags && word != "--";
            let Some(text) = word.to_str().filter(|_| flags) else { return word };
            let Some(rest) = text.strip_prefix('-') else { return word };
            let name = rest.split_once('=').map_or(rest, |(name, _)| name);
            if name.len() > 1 && names.contains(name) { format!("-{text}").into() } else { word }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn only_whole_names_get_a_dash() {
        let command = crate::arguments::Arguments::command();
        let line = ["oxgrpc", "call", "-plaintext", "-max-time=3", "-vv", "-d", "{}", "--", "-key"];
        let line = normalise(&command, line.iter().map(OsString::from).collect());
        assert_eq!(
            line,
            ["oxgrpc", "call", "--plaintext", "--max-time=3", "-vv", "-d", "{}", "--", "-key"]
        );
    }
}
