//! The service config (service_config.md, service_config.proto): what a channel is told about the methods it calls, as JSON.
//!
//! A config that breaks a rule is refused as a whole, with all that is wrong in it; fields that are not known are left alone.

use crate::attempt::Codes;
use crate::hedging::HedgingPolicy;
use crate::json::{Field, Mistakes, Object};
use crate::retry::RetryPolicy;
use crate::throttle::Throttling;
use hashbrown::HashMap;
use oxgrpc_core::Code;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What holds for a method's calls. What is `None` is left to the call, or to the channel.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct MethodConfig {
    /// `timeout`: a call has the shorter of this and its own.
    pub timeout: Option<Duration>,
    /// `waitForReady`, unless the call says itself.
    pub wait_for_ready: Option<bool>,
    /// `maxRequestMessageBytes`: the smaller of this and the channel's limit counts.
    pub max_request_bytes: Option<usize>,
    /// `maxResponseMessageBytes`, likewise.
    pub max_response_bytes: Option<usize>,
    /// `retryPolicy`.
    pub retry: Option<RetryPolicy>,
    /// `hedgingPolicy`; not both.
    pub hedging: Option<HedgingPolicy>,
}

/// How calls are spread over the addresses of a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Balancing {
    /// All go to the first address that answers, which is looked for in the given order or in a random one.
    PickFirst {
        /// Whether the order is random (gRFC A62).
        shuffle: bool,
    },
    /// They take turns.
    RoundRobin,
}

/// A service config.
#[derive(Clone, Default, Debug)]
pub struct ServiceConfig {
    /// By `/service/method`, and by `/service/` for the others of a service.
    methods: HashMap<Box<[u8]>, Arc<MethodConfig>>,
    /// For all others.
    default: Option<Arc<MethodConfig>>,
    /// `retryThrottling`.
    pub throttling: Option<Throttling>,
    /// `loadBalancingConfig`, or the older `loadBalancingPolicy`.
    pub balancing: Option<Balancing>,
}

/// A service config that breaks a rule; its text tells where and which.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvalidServiceConfig(String);

impl fmt::Display for InvalidServiceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidServiceConfig {}

impl ServiceConfig {
    /// Reads a config.
    pub fn parse(text: &str) -> Result<Self, InvalidServiceConfig> {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| InvalidServiceConfig(format!("JSON parsing failed: {error}")))?;
        let mut mistakes = Mistakes::default();
        let mut config = Self::default();
        let root = Field { value: &value, path: String::new() };
        if let Some(root) = root.object(&mut mistakes) {
            config.read(&root, &mut mistakes);
        }
        match mistakes.is_empty() {
            true => Ok(config),
            false => {
                Err(InvalidServiceConfig(format!("errors validating service config: [{mistakes}]")))
            }
        }
    }

    /// What holds for a method, by its path: its own entry, its service's, or the one for all.
    pub fn method(&self, path: &[u8]) -> Option<&Arc<MethodConfig>> {
        let service = || {
            let end = path.iter().rposition(|octet| *octet == b'/')?;
            self.methods.get(&path[..=end])
        };
        self.methods.get(path).or_else(service).or(self.default.as_ref())
    }

    /// Changes what holds for the methods, each entry on its own.
    pub fn for_each_method(&mut self, mut change: impl FnMut(&mut MethodConfig)) {
        let methods = self.methods.values_mut().chain(&mut self.default);
        methods.for_each(|method| change(Arc::make_mut(method)));
    }

    fn read(&mut self, root: &Object<'_>, mistakes: &mut Mistakes) {
        if let Some(entries) = root.field("methodConfig") {
            for entry in entries.array(mistakes) {
                if let Some(entry) = entry.object(mistakes) {
                    self.read_entry(&entry, mistakes);
                }
            }
        }
        if let Some(field) = root.field("retryThrottling") {
            self.throttling = field.object(mistakes).and_then(|it| throttling(&it, mistakes));
        }
        if let Some(field) = root.field("loadBalancingPolicy") {
            let name = field.string(mistakes).map(str::to_ascii_lowercase);
            self.balancing = name.and_then(|name| match name.as_str() {
                "pick_first" => Some(Balancing::PickFirst { shuffle: false }),
                "round_robin" => Some(Balancing::RoundRobin),
                _ => field.wrong(mistakes, format!("unknown LB policy \"{name}\"")),
            });
        }
        if let Some(field) = root.field("loadBalancingConfig") {
            self.balancing = balancing(&field, mistakes);
        }
    }

    fn read_entry(&mut self, entry: &Object<'_>, mistakes: &mut Mistakes) {
        let config = Arc::new(method_config(entry, mistakes));
        let Some(names) = entry.field("name") else { return };
        for name in names.array(mistakes) {
            let Some(name) = name.object(mistakes) else { continue };
            let mut part = |key| {
                let part = name.field(key).and_then(|field| field.string(mistakes));
                part.unwrap_or_default()
            };
            let (service, method) = (part("service"), part("method"));
            if service.is_empty() {
                if !method.is_empty() {
                    mistakes.note(&name.path, "method name populated without service name");
                } else if self.default.replace(config.clone()).is_some() {
                    mistakes.note(&name.path, "duplicate default method config");
                }
                continue;
            }
            let path = format!("/{service}/{method}");
            if self.methods.insert(path.as_bytes().into(), config.clone()).is_some() {
                let text = format!("multiple method configs for path {path}");
                mistakes.note(&name.path, text);
            }
        }
    }
}

fn method_config(entry: &Object<'_>, mistakes: &mut Mistakes) -> MethodConfig {
    let mut bytes = |name| entry.field(name)?.number(mistakes).map(|bytes| bytes as usize);
    let max_request_bytes = bytes("maxRequestMessageBytes");
    let max_response_bytes = bytes("maxResponseMessageBytes");
    let retry = entry.field("retryPolicy").and_then(|field| field.object(mistakes));
    let hedging = entry.field("hedgingPolicy").and_then(|field| field.object(mistakes));
    if let (Some(_), Some(hedging)) = (&retry, &hedging) {
        mistakes.note(&hedging.path, "a method has a retryPolicy or a hedgingPolicy, not both");
    }
    MethodConfig {
        // No time at all is no timeout, as in grpcio.
        timeout: entry
            .field("timeout")
            .and_then(|field| field.duration(mistakes))
            .filter(|timeout| !timeout.is_zero()),
        wait_for_ready: entry.field("waitForReady").and_then(|field| field.boolean(mistakes)),
        max_request_bytes,
        max_response_bytes,
        retry: retry.and_then(|policy| retry_policy(&policy, mistakes)),
        hedging: hedging.and_then(|policy| hedging_policy(&policy, mistakes)),
    }
}

fn max_attempts(policy: &Object<'_>, mistakes: &mut Mistakes) -> Option<u32> {
    let field = policy.required("maxAttempts", mistakes)?;
    match field.number(mistakes)? {
        0 | 1 => field.wrong(mistakes, "must be at least 2"),
        attempts => Some(attempts),
    }
}

fn codes(field: &Field<'_>, mistakes: &mut Mistakes) -> Codes {
    let mut codes = Codes::default();
    for name in field.array(mistakes) {
        let Some(text) = name.string(mistakes) else { continue };
        match Code::ALL.into_iter().find(|code| code.to_string() == text) {
            Some(code) => codes.insert(code),
            None => mistakes.note(&name.path, "failed to parse status code"),
        }
    }
    codes
}

fn retry_policy(policy: &Object<'_>, mistakes: &mut Mistakes) -> Option<RetryPolicy> {
    let max_attempts = max_attempts(policy, mistakes);
    let mut backoff = |name| {
        let field = policy.required(name, mistakes)?;
        match field.duration(mistakes)? {
            Duration::ZERO => field.wrong(mistakes, "must be greater than 0"),
            backoff => Some(backoff),
        }
    };
    let (initial_backoff, max_backoff) = (backoff("initialBackoff"), backoff("maxBackoff"));
    let multiplier = policy.required("backoffMultiplier", mistakes).and_then(|field| {
        match field.decimal(mistakes)? {
            multiplier if multiplier > 0.0 => Some(multiplier),
            _ => field.wrong(mistakes, "must be greater than 0"),
        }
    });
    let retryable = policy.required("retryableStatusCodes", mistakes).and_then(|field| {
        let codes = codes(&field, mistakes);
        if codes.is_empty() { field.wrong(mistakes, "must be non-empty") } else { Some(codes) }
    });
    Some(RetryPolicy {
        max_attempts: max_attempts?,
        initial_backoff: initial_backoff?,
        max_backoff: max_backoff?,
        backoff_multiplier: multiplier?,
        retryable: retryable?,
    })
}

fn hedging_policy(policy: &Object<'_>, mistakes: &mut Mistakes) -> Option<HedgingPolicy> {
    let max_attempts = max_attempts(policy, mistakes);
    let delay = policy.field("hedgingDelay").map(|field| field.duration(mistakes));
    let non_fatal = policy.field("nonFatalStatusCodes").map(|field| codes(&field, mistakes));
    Some(HedgingPolicy {
        max_attempts: max_attempts?,
        delay: delay.unwrap_or(Some(Duration::ZERO))?,
        non_fatal: non_fatal.unwrap_or_default(),
    })
}

fn throttling(field: &Object<'_>, mistakes: &mut Mistakes) -> Option<Throttling> {
    let mut milli = |name, read: fn(&Field<'_>, &mut Mistakes) -> Option<u32>| {
        let field = field.required(name, mistakes)?;
        match read(&field, mistakes)? {
            0 => field.wrong(mistakes, "must be greater than 0"),
            milli => Some(milli),
        }
    };
    let max =
        milli("maxTokens", |field, mistakes| Some(field.number(mistakes)?.saturating_mul(1000)));
    // Three decimal places count (gRFC A6).
    let ratio = milli("tokenRatio", |field, mistakes| {
        Some((field.decimal(mistakes)? * 1000.0 + 1e-6) as u32)
    });
    Some(Throttling { max_milli_tokens: max?, milli_token_ratio: ratio? })
}

/// The first of a list of policies that is known here.
fn balancing(list: &Field<'_>, mistakes: &mut Mistakes) -> Option<Balancing> {
    let mut unknown = Vec::new();
    for entry in list.array(mistakes) {
        let entry = entry.object(mistakes)?;
        if entry.fields.len() != 1 {
            mistakes.note(&entry.path, "oneOf violation");
            return None;
        }
        let Some((name, value)) = entry.fields.iter().next() else { continue };
        let path = format!("{}.{name}", entry.path);
        match name.as_str() {
            "pick_first" => {
                let options = Field { value, path }.object(mistakes)?;
                let shuffle = match options.field("shuffleAddressList") {
                    Some(shuffle) => shuffle.boolean(mistakes)?,
                    None => false,
                };
                return Some(Balancing::PickFirst { shuffle });
            }
            "round_robin" => {
                return Field { value, path }.object(mistakes).map(|_| Balancing::RoundRobin);
            }
            _ => unknown.push(name.as_str()),
        }
    }
    if list.value.is_array() {
        mistakes.note(&list.path, format!("No known policies in list: {}", unknown.join(" ")));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn method(text: &str) -> MethodConfig {
        let text = format!(r#"{{"methodConfig": [{{"name": [{{}}], {text}}}]}}"#);
        (**ServiceConfig::parse(&text).unwrap().method(b"/a.B/C").unwrap()).clone()
    }

    /// What is said to be wrong with a config.
    fn wrong(text: &str) -> String {
        let error = ServiceConfig::parse(text).expect_err(text).to_string();
        let error = error.strip_prefix("errors validating service config: [").unwrap_or(&error);
        error.strip_suffix(']').unwrap_or(error).to_owned()
    }

    fn wrong_method(text: &str) -> String {
        let error = wrong(&format!(r#"{{"methodConfig": [{{"name": [{{}}], {text}}}]}}"#));
        error.replace("field:methodConfig[0].", "")
    }

    const RETRY: &str = r#""retryPolicy": {"maxAttempts": 4, "initialBackoff": "0.1s", "maxBackoff": "1s",
        "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE", "ABORTED"]}"#;

    fn retry_with(name: &str, value: &str) -> String {
        let mut policy: Value = serde_json::from_str(&format!("{{{RETRY}}}")).unwrap();
        policy["retryPolicy"][name] = serde_json::from_str(value).unwrap();
        policy.to_string().trim_matches(['{', '}']).to_owned() + "}"
    }

    #[test]
    fn names_go_from_the_method_to_the_service_to_all() {
        let text = r#"{"methodConfig": [
            {"name": [{"service": "a.B", "method": "C"}, {"service": "x.Y"}], "timeout": "1s"},
            {"name": [{"service": "a.B"}], "timeout": "2s"},
            {"name": [{}], "timeout": "3s"}, {"timeout": "4s"}
        ]}"#;
        let config = ServiceConfig::parse(text).unwrap();
        let seconds =
            |path: &str| config.method(path.as_bytes()).unwrap().timeout.unwrap().as_secs();
        assert_eq!(seconds("/a.B/C"), 1);
        assert_eq!(seconds("/x.Y/Z"), 1);
        assert_eq!(seconds("/a.B/D"), 2);
        assert_eq!(seconds("/a.BB/C"), 3);
        assert_eq!(seconds("/x.Y.Z/C"), 3);
        let config = ServiceConfig::parse(r#"{"methodConfig": [{"name": [{"service": "a.B"}]}]}"#);
        assert!(config.unwrap().method(b"/a.C/D").is_none());
    }

    #[test]
    fn what_is_switched_off_is_so_for_all_methods() {
        let text = format!(
            r#"{{"methodConfig": [{{"name": [{{}}, {{"service": "a"}}], {RETRY}, "timeout": "1s"}}]}}"#
        );
        let mut config = ServiceConfig::parse(&text).unwrap();
        config.for_each_method(|method| method.retry = None);
        for path in [b"/a/b", b"/c/d"] {
            let method = config.method(path).unwrap();
            assert_eq!((&method.retry, method.timeout), (&None, Some(Duration::from_secs(1))));
        }
    }

    #[test]
    fn a_config_without_anything_says_nothing() {
        let config = ServiceConfig::parse("{}").unwrap();
        assert!(config.method(b"/a.B/C").is_none());
        assert!(config.throttling.is_none() && config.balancing.is_none());
        assert_eq!(method(r#""retryPolicy": null, "unknown": 1"#), MethodConfig::default());
    }

    #[test]
    fn all_that_a_method_may_have() {
        let config = method(&format!(
            r#""timeout": "1.5s", "waitForReady": true, "maxRequestMessageBytes": 10,
               "maxResponseMessageBytes": "20", {RETRY}"#
        ));
        assert_eq!(config.timeout, Some(Duration::from_millis(1500)));
        assert_eq!(config.wait_for_ready, Some(true));
        assert_eq!((config.max_request_bytes, config.max_response_bytes), (Some(10), Some(20)));
        let retry = config.retry.unwrap();
        assert_eq!((retry.max_attempts, retry.backoff_multiplier), (4, 2.0));
        assert_eq!(retry.initial_backoff, Duration::from_millis(100));
        assert_eq!(retry.max_backoff, Duration::from_secs(1));
        assert_eq!(retry.retryable, [Code::Unavailable, Code::Aborted].into_iter().collect());
        let hedging = method(r#""hedgingPolicy": {"maxAttempts": 3}"#).hedging.unwrap();
        assert_eq!((hedging.max_attempts, hedging.delay), (3, Duration::ZERO));
        let hedging = method(
            r#""hedgingPolicy":
                {"maxAttempts": "3", "hedgingDelay": "0.5s", "nonFatalStatusCodes": ["INTERNAL"]}"#,
        );
        let hedging = hedging.hedging.unwrap();
        assert_eq!(hedging.delay, Duration::from_millis(500));
        assert_eq!(hedging.non_fatal, [Code::Internal].into_iter().collect());
    }

    #[test]
    fn a_timeout_of_nothing_is_none() {
        assert_eq!(method(r#""timeout": "0s""#).timeout, None);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (name, value, expected) in [
            ("maxAttempts", "1", "maxAttempts error:must be at least 2"),
            ("maxAttempts", "2.5", "maxAttempts error:failed to parse non-negative number"),
            ("maxAttempts", "null", "maxAttempts error:field not present"),
            ("maxAttempts", "[]", "maxAttempts error:is not a number"),
            ("initialBackoff", "\"0s\"", "initialBackoff error:must be greater than 0"),
            ("initialBackoff", "\"1\"", "initialBackoff error:Not a duration (no s suffix)"),
            ("maxBackoff", "1", "maxBackoff error:is not a string"),
            ("backoffMultiplier", "0", "backoffMultiplier error:must be greater than 0"),
            ("backoffMultiplier", "\"NaN\"", "backoffMultiplier error:failed to parse number"),
            ("retryableStatusCodes", "[]", "retryableStatusCodes error:must be non-empty"),
        ] {
            let said = wrong_method(&retry_with(name, value));
            assert_eq!(said, format!("retryPolicy.{expected}"));
        }
        assert_eq!(
            wrong_method(&retry_with("retryableStatusCodes", r#"[14, "unavailable"]"#)),
            "retryPolicy.retryableStatusCodes[0] error:is not a string; \
             retryPolicy.retryableStatusCodes[1] error:failed to parse status code; \
             retryPolicy.retryableStatusCodes error:must be non-empty"
        );
        for (text, expected) in [
            (r#""timeout": "-1s""#, "timeout error:seconds must be in the range [0, 315576000000]"),
            (r#""waitForReady": "true""#, "waitForReady error:is not a boolean"),
            (
                r#""maxRequestMessageBytes": -1"#,
                "maxRequestMessageBytes error:failed to parse non-negative number",
            ),
            (r#""retryPolicy": []"#, "retryPolicy error:is not an object"),
            (
                r#""hedgingPolicy": {"hedgingDelay": "1"}"#,
                "hedgingPolicy.maxAttempts error:field not present; \
                 hedgingPolicy.hedgingDelay error:Not a duration (no s suffix)",
            ),
        ] {
            assert_eq!(wrong_method(text), expected);
        }
        assert_eq!(wrong("[]"), "field: error:is not an object");
        assert!(wrong("{nope").starts_with("JSON parsing failed: "));
        assert!(wrong("").starts_with("JSON parsing failed: "));
        let both = format!(r#"{RETRY}, "hedgingPolicy": {{"maxAttempts": 2}}"#);
        assert!(wrong_method(&both).contains("not both"));
    }

    #[test]
    fn names_are_given_once() {
        let entries = |first: &str, second: &str| {
            wrong(&format!(
                r#"{{"methodConfig": [{{"name": [{first}]}}, {{"name": [{second}]}}]}}"#
            ))
        };
        assert_eq!(
            entries("{}", r#"{"service": ""}"#),
            "field:methodConfig[1].name[0] error:duplicate default method config"
        );
        let name = r#"{"service": "a.B", "method": "C"}"#;
        assert_eq!(
            entries(name, name),
            "field:methodConfig[1].name[0] error:multiple method configs for path /a.B/C"
        );
        assert_eq!(
            entries(r#"{"method": "C"}"#, "{}"),
            "field:methodConfig[0].name[0] error:method name populated without service name"
        );
    }

    #[test]
    fn throttling_counts_in_thousandths() {
        let read = |max: &str, ratio: &str| {
            ServiceConfig::parse(&format!(
                r#"{{"retryThrottling": {{"maxTokens": {max}, "tokenRatio": {ratio}}}}}"#
            ))
        };
        let throttling = Throttling { max_milli_tokens: 10_000, milli_token_ratio: 123 };
        assert_eq!(read("10", "0.1234").unwrap().throttling, Some(throttling));
        assert_eq!(read("\"10\"", "\"0.123\"").unwrap().throttling, Some(throttling));
        for (max, ratio) in [("0", "1"), ("-1", "1"), ("1.5", "1"), ("10", "0"), ("10", "0.0001")] {
            assert!(read(max, ratio).is_err(), "{max} {ratio}");
        }
        assert_eq!(
            wrong(r#"{"retryThrottling": {"maxTokens": 1}}"#),
            "field:retryThrottling.tokenRatio error:field not present"
        );
    }

    #[test]
    fn balancing_is_the_first_policy_that_is_known() {
        let read = |text: &str| ServiceConfig::parse(&format!("{{{text}}}")).map(|it| it.balancing);
        let pick_first = |shuffle| Ok(Some(Balancing::PickFirst { shuffle }));
        assert_eq!(
            read(r#""loadBalancingPolicy": "ROUND_ROBIN""#),
            Ok(Some(Balancing::RoundRobin))
        );
        assert_eq!(read(r#""loadBalancingPolicy": "pick_first""#), pick_first(false));
        let list =
            r#""loadBalancingConfig": [{"nope": {}}, {"round_robin": {}}, {"pick_first": {}}]"#;
        assert_eq!(read(list), Ok(Some(Balancing::RoundRobin)));
        // The list stands above the name.
        let list = r#""loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}],
            "loadBalancingPolicy": "round_robin""#;
        assert_eq!(read(list), pick_first(true));
        for (text, expected) in [
            (r#""loadBalancingPolicy": "nope""#, "Policy error:unknown LB policy \"nope\""),
            (r#""loadBalancingConfig": []"#, "Config error:No known policies in list: "),
            (
                r#""loadBalancingConfig": [{"a": {}}, {"b": {}}]"#,
                "Config error:No known policies in list: a b",
            ),
            (
                r#""loadBalancingConfig": [{"pick_first": {}, "round_robin": {}}]"#,
                "Config[0] error:oneOf violation",
            ),
            (
                r#""loadBalancingConfig": [{"pick_first": {"shuffleAddressList": 1}}]"#,
                "Config[0].pick_first.shuffleAddressList error:is not a boolean",
            ),
        ] {
            assert_eq!(wrong(&format!("{{{text}}}")), format!("field:loadBalancing{expected}"));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = ServiceConfig::parse(&text);
        }

        /// Values of any kind in all places that are read.
        #[test]
        fn no_values_make_it_panic(values in prop::collection::vec(0usize..12, 22)) {
            const VALUES: [&str; 12] = [
                "null", "true", "0", "-1", "1e300", "2.5", "\"\"", "\"1s\"", "\"OK\"", "[]",
                "[{\"pick_first\":[]}, [\"OK\"]]", "{\"a\":{},\"service\":7}",
            ];
            let mut values = values.into_iter().map(|at| VALUES[at]);
            let mut value = || values.next().unwrap_or("null");
            let text = format!(
                r#"{{"methodConfig": [{{"name": [{}, {{"service": {}, "method": {}}}], "timeout": {},
                "waitForReady": {}, "maxRequestMessageBytes": {}, "maxResponseMessageBytes": {},
                "retryPolicy": {{"maxAttempts": {}, "initialBackoff": {}, "maxBackoff": {},
                "backoffMultiplier": {}, "retryableStatusCodes": [{}]}}}}, {{"hedgingPolicy":
                {{"maxAttempts": {}, "hedgingDelay": {}, "nonFatalStatusCodes": {}}}}}, {}],
                "retryThrottling": {{"maxTokens": {}, "tokenRatio": {}}},
                "loadBalancingPolicy": {}, "loadBalancingConfig": [{}, {{"pick_first": {}}}], "x": {}}}"#,
                value(), value(), value(), value(), value(), value(), value(), value(), value(),
                value(), value(), value(), value(), value(), value(), value(), value(), value(),
                value(), value(), value(), value(),
            );
            let _ = ServiceConfig::parse(&text);
        }
    }
}
