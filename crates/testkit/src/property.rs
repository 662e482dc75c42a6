//! How long property tests try.

use proptest::test_runner::Config;

/// So many cases, or as many as PROPTEST_CASES says.
pub fn cases(cases: u32) -> Config {
    let config = Config { failure_persistence: None, ..Config::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => Config { cases, ..config },
    }
}
