//! Scripts of events in virtual time.

use super::*;
use Connectivity::{Connecting, Idle, Ready, TransientFailure};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const REFUSED: &str = "connection refused";

/// A driver that does what it is told and keeps book of it. Addresses are numbers; those of a hundred are a family.
struct Driver {
    balancer: Balancer<u32>,
    now: Instant,
    /// Attempts under way and connections, by their addresses.
    attempts: BTreeMap<ConnectionId, u32>,
    connections: BTreeMap<ConnectionId, u32>,
    draining: Vec<u32>,
    /// States that were told, and look-ups that were asked for, since the last question.
    states: Vec<Connectivity>,
    resolves: usize,
    activity: Activity,
    used: BTreeSet<ConnectionId>,
}

impl Driver {
    fn new(options: BalancerOptions) -> Self {
        Self {
            balancer: Balancer::new(options, |address| (address / 100) as u8, 42),
            now: Instant::now(),
            attempts: BTreeMap::new(),
            connections: BTreeMap::new(),
            draining: Vec::new(),
            states: Vec::new(),
            resolves: 0,
            activity: Activity { under_way: 0, started: 0 },
            used: BTreeSet::new(),
        }
    }

    fn pick_first() -> Self {
        Self::new(BalancerOptions::default())
    }

    fn round_robin() -> Self {
        Self::new(BalancerOptions { policy: PolicyKind::RoundRobin, ..BalancerOptions::default() })
    }

    /// A channel that has been wanted and knows its addresses.
    fn with(mut self, addresses: &[u32]) -> Self {
        self.balancer.want(self.now);
        self.act();
        assert_eq!((self.states(), self.resolves()), (vec![Connecting], 1));
        self.resolved(addresses);
        self
    }

    fn act(&mut self) {
        while let Some(action) = self.balancer.next_action() {
            match action {
                Action::Resolve => self.resolves += 1,
                Action::Connect { id, address } => {
                    assert!(
                        !self.attempts.values().any(|other| *other == address),
                        "two at a time"
                    );
                    assert_eq!(self.attempts.insert(id, address), None);
                }
                Action::TimeOut(id) => {
                    let address = self.attempts.remove(&id).expect("it is tried");
                    self.balancer.ended(id, &format!("{address}: timed out"), self.now);
                }
                Action::Close(id) => assert!(self.attempts.remove(&id).is_some()),
                Action::Drain(id) => {
                    self.draining.push(self.connections.remove(&id).expect("it stands"))
                }
                Action::State => self.states.push(self.balancer.connectivity()),
                Action::Picker => {}
            }
        }
        let ready: BTreeSet<_> = self.balancer.ready().flatten().collect();
        assert_eq!(ready, self.connections.keys().copied().collect());
        assert_eq!(self.balancer.connectivity() == Ready, !ready.is_empty());
    }

    fn states(&mut self) -> Vec<Connectivity> {
        std::mem::take(&mut self.states)
    }

    fn resolves(&mut self) -> usize {
        std::mem::take(&mut self.resolves)
    }

    fn resolved(&mut self, addresses: &[u32]) {
        self.balancer.resolved(addresses.to_vec(), self.now);
        self.act();
    }

    /// The addresses that are being connected to, in the order in which that began.
    fn trying(&self) -> Vec<u32> {
        self.attempts.values().copied().collect()
    }

    fn connected(&self) -> Vec<u32> {
        self.connections.values().copied().collect()
    }

    fn attempt(&self, address: u32) -> ConnectionId {
        *self.attempts.iter().find(|(_, at)| **at == address).expect("it is tried").0
    }

    fn connection(&self, address: u32) -> ConnectionId {
        *self.connections.iter().find(|(_, at)| **at == address).expect("it stands").0
    }

    fn succeed(&mut self, address: u32) {
        let id = self.attempt(address);
        self.attempts.remove(&id);
        self.connections.insert(id, address);
        assert!(self.balancer.established(id, self.now));
        self.act();
    }

    fn fail(&mut self, address: u32) {
        let id = self.attempt(address);
        self.attempts.remove(&id);
        self.balancer.ended(id, &format!("{address}: {REFUSED}"), self.now);
        self.act();
    }

    fn lose(&mut self, address: u32) {
        let id = self.connection(address);
        self.connections.remove(&id);
        self.balancer.ended(id, &format!("{address}: closed"), self.now);
        self.act();
    }

    fn go_away(&mut self, address: u32) {
        let id = self.connection(address);
        self.connections.remove(&id);
        self.balancer.went_away(id, self.now);
        self.act();
    }

    /// Lets time pass, and looks when it was asked to.
    fn pass(&mut self, milliseconds: u64) {
        let end = self.now + Duration::from_millis(milliseconds);
        while let Some(due) = self.balancer.next_timer().filter(|due| *due <= end) {
            assert!(due >= self.now || due + Duration::from_secs(1) > self.now, "an old timer");
            self.now = self.now.max(due);
            let used = &self.used;
            self.balancer.expire(self.now, self.activity, |id| used.contains(&id));
            self.act();
        }
        self.now = end;
    }

    fn pass_seconds(&mut self, seconds: u64) {
        self.pass(1000 * seconds);
    }

    fn want(&mut self) {
        self.balancer.want(self.now);
        self.act();
    }
}

#[test]
fn the_first_address_that_answers_is_taken() {
    let mut driver = Driver::pick_first().with(&[1, 2, 3]);
    assert_eq!(driver.trying(), [1]);
    driver.fail(1);
    assert_eq!(driver.trying(), [2]);
    driver.succeed(2);
    assert_eq!((driver.trying(), driver.connected()), (vec![], vec![2]));
    assert_eq!(driver.states(), [Ready]);
    // All is well: nothing more happens.
    driver.activity.under_way = 1;
    driver.pass_seconds(100_000);
    assert_eq!((driver.states(), driver.resolves(), driver.connected()), (vec![], 0, vec![2]));
}

#[test]
fn an_address_that_says_nothing_holds_nobody_up() {
    let mut driver = Driver::pick_first().with(&[1, 2, 3]);
    driver.pass(249);
    assert_eq!(driver.trying(), [1]);
    driver.pass(1);
    assert_eq!(driver.trying(), [1, 2]);
    driver.pass(250);
    assert_eq!(driver.trying(), [1, 2, 3]);
    // The first established wins, whichever it is, and the others are given up.
    driver.succeed(2);
    assert_eq!((driver.trying(), driver.connected()), (vec![], vec![2]));
}

#[test]
fn families_take_turns() {
    let mut driver = Driver::pick_first().with(&[601, 602, 603, 401, 402]);
    for expected in [601, 401, 602, 402, 603] {
        assert_eq!(driver.trying(), [expected]);
        driver.fail(expected);
    }
    assert_eq!(driver.states(), [TransientFailure]);
}

#[test]
fn a_late_failure_does_not_hurry_the_next_attempt() {
    let mut driver = Driver::pick_first().with(&[1, 2, 3]);
    driver.pass(300);
    assert_eq!(driver.trying(), [1, 2]);
    driver.fail(1);
    assert_eq!(driver.trying(), [2]);
    driver.pass(200);
    assert_eq!(driver.trying(), [2, 3]);
    driver.fail(3);
    assert_eq!(driver.states(), []);
    driver.fail(2);
    assert_eq!(driver.states(), [TransientFailure]);
}

#[test]
fn a_channel_that_fails_keeps_trying_each_address_on_its_own() {
    let mut driver = Driver::pick_first().with(&[1, 2]);
    driver.fail(1);
    driver.fail(2);
    assert_eq!(driver.states(), [TransientFailure]);
    assert_eq!(
        driver.balancer.failure(),
        Some("failed to connect to all addresses; last error: 2: connection refused")
    );
    assert_eq!(driver.trying(), []);
    driver.pass(1200);
    assert_eq!(driver.trying().len(), 2);
    driver.fail(1);
    // It stays failing while it tries: calls that do not want to wait fail at once.
    assert_eq!((driver.states(), driver.balancer.connectivity()), (vec![], TransientFailure));
    driver.pass(2000);
    driver.succeed(1);
    assert_eq!((driver.states(), driver.connected()), (vec![Ready], vec![1]));
    assert_eq!(driver.balancer.failure(), None);
}

#[test]
fn waits_between_attempts_grow() {
    let mut driver = Driver::pick_first().with(&[1]);
    let mut waits = Vec::new();
    for _ in 0..15 {
        let began = driver.now;
        driver.fail(1);
        while driver.trying().is_empty() {
            driver.pass(10);
        }
        waits.push((driver.now - began).as_secs_f64());
    }
    for (wait, expected) in waits.iter().zip([1.0, 1.6, 2.56, 4.096]) {
        assert!((0.8 * expected..1.2 * expected + 0.02).contains(wait), "{waits:?}");
    }
    assert!(waits[12..].iter().all(|wait| (96.0..144.1).contains(wait)), "{waits:?}");
}

#[test]
fn an_attempt_that_takes_too_long_is_given_up() {
    let mut driver = Driver::pick_first().with(&[1]);
    driver.pass(19_999);
    assert_eq!(driver.trying(), [1]);
    driver.pass(1);
    assert_eq!(driver.states(), [TransientFailure]);
    let failure = driver.balancer.failure().expect("it fails");
    assert!(failure.ends_with("last error: 1: timed out"), "{failure}");
    // The back-off is counted from the attempt's beginning, and so has passed.
    assert_eq!(driver.trying(), [1]);
}

#[test]
fn a_lost_connection_leaves_an_idle_channel() {
    for graceful in [false, true] {
        let mut driver = Driver::pick_first().with(&[1, 2]);
        driver.succeed(1);
        driver.pass_seconds(31);
        match graceful {
            false => driver.lose(1),
            true => driver.go_away(1),
        }
        assert_eq!((driver.states(), driver.resolves()), (vec![Ready, Idle], 1));
        driver.resolved(&[2, 1]);
        assert_eq!((driver.states(), driver.trying()), (vec![], vec![]));
        driver.want();
        assert_eq!((driver.states(), driver.trying()), (vec![Connecting], vec![2]));
    }
}

#[test]
fn names_are_looked_up_again_but_not_too_often() {
    let mut driver = Driver::pick_first().with(&[1]);
    driver.fail(1);
    assert_eq!(driver.resolves(), 0);
    driver.pass(29_000);
    assert_eq!(driver.resolves(), 0);
    driver.pass(1_000);
    assert_eq!(driver.resolves(), 1);
    driver.resolved(&[1, 2]);
    driver.pass(250);
    assert!(driver.trying().contains(&2), "what is new is tried");
    driver.succeed(2);
    assert_eq!(driver.connected(), [2]);
}

#[test]
fn addresses_that_never_change_are_not_looked_up_again() {
    let options = BalancerOptions { resolution_interval: None, ..BalancerOptions::default() };
    let mut driver = Driver::new(options).with(&[1]);
    driver.fail(1);
    driver.pass_seconds(100);
    assert_eq!(driver.resolves(), 0);
}

#[test]
fn a_name_that_cannot_be_looked_up_is_tried_again() {
    let mut driver = Driver::pick_first();
    driver.want();
    driver.balancer.resolution_failed("no such name".into(), driver.now);
    driver.act();
    assert_eq!(driver.states(), [Connecting, TransientFailure]);
    assert_eq!(driver.balancer.failure(), Some("no such name"));
    assert_eq!(driver.resolves(), 1);
    driver.want();
    assert_eq!(driver.resolves(), 0);
    driver.pass(1200);
    assert_eq!((driver.resolves(), driver.states()), (1, vec![]));
    driver.resolved(&[]);
    assert_eq!(driver.balancer.failure(), Some("the name has no address"));
    driver.pass(2000);
    driver.resolved(&[1]);
    assert_eq!((driver.states(), driver.trying()), (vec![Connecting], vec![1]));
    // Once addresses are known, a failed look-up changes nothing.
    driver.succeed(1);
    driver.balancer.resolution_failed("no such name".into(), driver.now);
    driver.act();
    assert_eq!((driver.states(), driver.connected()), (vec![Ready], vec![1]));
}

#[test]
fn pick_first_keeps_its_connection_as_long_as_its_address_stays() {
    let mut driver = Driver::pick_first().with(&[1, 2]);
    driver.succeed(1);
    driver.resolved(&[3, 1]);
    assert_eq!((driver.connected(), driver.trying()), (vec![1], vec![]));
    driver.resolved(&[3, 2]);
    assert_eq!((driver.draining.clone(), driver.trying()), (vec![1], vec![3]));
    assert_eq!(driver.states(), [Ready, Connecting]);
}

#[test]
fn new_addresses_in_the_middle_of_a_pass_begin_a_new_one() {
    let mut driver = Driver::pick_first().with(&[1, 2, 3]);
    driver.fail(1);
    driver.resolved(&[4, 2, 1]);
    assert_eq!(driver.trying(), [2, 4]);
    driver.fail(4);
    driver.fail(2);
    assert_eq!(driver.states(), [TransientFailure]);
}

#[test]
fn round_robin_connects_to_all() {
    let mut driver = Driver::round_robin().with(&[1, 2, 3, 2]);
    assert_eq!(driver.trying(), [1, 2, 3]);
    driver.fail(1);
    assert_eq!(driver.states(), []);
    driver.succeed(2);
    driver.succeed(3);
    assert_eq!((driver.states(), driver.connected()), (vec![Ready], vec![2, 3]));
    driver.pass(1200);
    assert_eq!(driver.trying(), [1]);
    driver.succeed(1);
    assert_eq!(driver.balancer.ready().count(), 3);
}

#[test]
fn round_robin_fails_when_all_have_failed_and_until_one_answers() {
    let mut driver = Driver::round_robin().with(&[1, 2]);
    driver.fail(1);
    driver.fail(2);
    assert_eq!(driver.states(), [TransientFailure]);
    let failure = driver.balancer.failure().expect("it fails");
    assert_eq!(failure, "connections to all backends failing; last error: 2: connection refused");
    driver.pass(1200);
    assert_eq!((driver.trying().len(), driver.states()), (2, vec![]));
    driver.succeed(1);
    assert_eq!(driver.states(), [Ready]);
}

#[test]
fn round_robin_seeks_a_lost_connection_at_once() {
    let mut driver = Driver::round_robin().with(&[1]);
    driver.succeed(1);
    driver.pass_seconds(2);
    driver.lose(1);
    assert_eq!((driver.states(), driver.trying()), (vec![Ready, Connecting], vec![1]));
    driver.succeed(1);
    // One whose server sends it away is sought at once, however short it stood.
    driver.go_away(1);
    assert_eq!(driver.trying(), [1]);
    driver.succeed(1);
    // One that is thrown out is not, or it would be thrown out in a circle.
    driver.lose(1);
    assert_eq!((driver.trying(), driver.balancer.connectivity()), (vec![], TransientFailure));
    driver.pass(1200);
    assert_eq!(driver.trying(), [1]);
}

#[test]
fn addresses_come_and_go_and_the_others_stay_connected() {
    let mut driver = Driver::round_robin().with(&[1, 2, 3]);
    for address in [1, 2, 3] {
        driver.succeed(address);
    }
    driver.resolved(&[5, 3, 2, 1, 4]);
    assert_eq!((driver.connected(), driver.trying()), (vec![1, 2, 3], vec![5, 4]));
    driver.succeed(5);
    driver.resolved(&[5, 2]);
    assert_eq!((driver.connected(), driver.trying()), (vec![2, 5], vec![]));
    assert_eq!(driver.draining, [3, 1]);
    assert_eq!(driver.states(), [Ready]);
}

#[test]
fn a_server_at_its_limit_gets_further_connections() {
    for mut driver in [Driver::pick_first().with(&[1]), Driver::round_robin().with(&[1])] {
        driver.succeed(1);
        for count in 2..=10 {
            driver.balancer.at_limit(driver.now);
            // Once is enough.
            driver.balancer.at_limit(driver.now);
            driver.act();
            assert_eq!(driver.trying(), [1]);
            driver.succeed(1);
            assert_eq!(driver.connected().len(), count);
        }
        driver.balancer.at_limit(driver.now);
        driver.act();
        assert_eq!((driver.trying(), driver.states()), (vec![], vec![Ready]));
        // Those that are not used are given up, but for one.
        let used: Vec<_> = driver.connections.keys().copied().skip(8).collect();
        driver.used.extend(used);
        driver.pass_seconds(60);
        assert_eq!(driver.connected().len(), 3);
        driver.used.clear();
        driver.pass_seconds(60);
        assert_eq!((driver.connected().len(), driver.states()), (1, vec![]));
    }
}

#[test]
fn a_further_connection_that_fails_is_not_tried_for_again_at_once() {
    let mut driver = Driver::pick_first().with(&[1]);
    driver.succeed(1);
    driver.balancer.at_limit(driver.now);
    driver.act();
    driver.fail(1);
    driver.balancer.at_limit(driver.now);
    driver.act();
    assert_eq!((driver.trying(), driver.states()), (vec![], vec![Ready]));
    driver.pass(1200);
    driver.balancer.at_limit(driver.now);
    driver.act();
    assert_eq!(driver.trying(), [1]);
    // The first is lost, and the attempt goes on for it.
    driver.succeed(1);
    let first = *driver.connections.keys().next().expect("there are two");
    driver.connections.remove(&first);
    driver.balancer.ended(first, "lost", driver.now);
    driver.act();
    assert_eq!(driver.balancer.connectivity(), Ready);
}

#[test]
fn a_channel_without_calls_goes_idle() {
    let timeout = Duration::from_secs(1000);
    let options = BalancerOptions {
        idle_timeout: Some(timeout),
        policy: PolicyKind::RoundRobin,
        ..BalancerOptions::default()
    };
    let mut driver = Driver::new(options).with(&[1, 2]);
    driver.succeed(1);
    driver.activity.started = 1;
    for _ in 0..5 {
        driver.pass_seconds(900);
        driver.activity.started += 1;
    }
    driver.activity.under_way = 1;
    driver.pass_seconds(5000);
    assert_eq!(driver.connected(), [1]);
    driver.activity.under_way = 0;
    driver.states();
    driver.resolves();
    driver.pass_seconds(999);
    assert_eq!(driver.connected(), [1]);
    driver.pass_seconds(252);
    assert_eq!((driver.states(), driver.connected()), (vec![Idle], vec![]));
    assert_eq!((driver.draining.clone(), driver.trying()), (vec![1], vec![]));
    assert_eq!(driver.balancer.next_timer(), None);
    // A look-up that comes late wakes nobody.
    driver.resolved(&[1, 2]);
    assert_eq!(driver.trying(), []);
    driver.want();
    assert_eq!((driver.states(), driver.resolves()), (vec![Connecting], 1));
    driver.resolved(&[1, 2]);
    assert_eq!(driver.trying(), [1, 2]);
}

#[test]
fn nothing_leaves_shutdown() {
    let mut driver = Driver::pick_first().with(&[1]);
    let id = driver.attempt(1);
    driver.balancer.shut_down();
    assert_eq!(driver.balancer.connectivity(), Connectivity::Shutdown);
    assert!(!driver.balancer.established(id, driver.now));
    driver.balancer.want(driver.now);
    driver.balancer.resolved(vec![1], driver.now);
    driver.balancer.resolution_failed("no".into(), driver.now);
    driver.balancer.at_limit(driver.now);
    assert_eq!((driver.balancer.next_action(), driver.balancer.next_timer()), (None, None));
    assert_eq!(driver.balancer.connectivity(), Connectivity::Shutdown);
}

#[test]
fn addresses_are_shuffled_where_that_is_wanted() {
    let options = BalancerOptions { shuffles: true, ..BalancerOptions::default() };
    let addresses: Vec<u32> = (1..50).collect();
    let driver = Driver::new(options).with(&addresses);
    assert_ne!(driver.trying(), [1]);
}

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Resolved(Vec<u32>),
    ResolutionFails,
    Succeed(usize),
    Fail(usize),
    Lose(usize),
    GoAway(usize),
    AtLimit,
    Want,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u64..3000).prop_map(Step::Pass),
        prop::collection::vec(1u32..6, 0..5).prop_map(Step::Resolved),
        Just(Step::ResolutionFails),
        (0usize..9).prop_map(Step::Succeed),
        (0usize..9).prop_map(Step::Fail),
        (0usize..9).prop_map(Step::Lose),
        (0usize..9).prop_map(Step::GoAway),
        Just(Step::AtLimit),
        Just(Step::Want),
    ]
}

proptest! {
    /// Whatever happens: the books agree (see `act`), there is never more than one attempt to an address, and as soon as
    /// all servers answer, the channel that is wanted becomes ready.
    #[test]
    fn a_channel_becomes_ready_once_its_servers_answer(
        round_robin: bool,
        idles: bool,
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut driver = Driver::new(BalancerOptions {
            policy: if round_robin { PolicyKind::RoundRobin } else { PolicyKind::PickFirst },
            idle_timeout: idles.then(|| Duration::from_secs(2)),
            ..BalancerOptions::default()
        });
        driver.want();
        for step in steps {
            let nth = |map: &BTreeMap<ConnectionId, u32>, at: usize| {
                map.values().copied().nth(at % map.len().max(1))
            };
            match step {
                Step::Pass(milliseconds) => driver.pass(milliseconds),
                Step::Resolved(addresses) => driver.resolved(&addresses),
                Step::ResolutionFails => {
                    driver.balancer.resolution_failed("no".into(), driver.now);
                    driver.act();
                }
                Step::Succeed(at) => nth(&driver.attempts, at).into_iter().for_each(|a| driver.succeed(a)),
                Step::Fail(at) => nth(&driver.attempts, at).into_iter().for_each(|a| driver.fail(a)),
                Step::Lose(at) => nth(&driver.connections, at).into_iter().for_each(|a| driver.lose(a)),
                Step::GoAway(at) => nth(&driver.connections, at).into_iter().for_each(|a| driver.go_away(a)),
                Step::AtLimit => { driver.balancer.at_limit(driver.now); driver.act(); }
                Step::Want => driver.want(),
            }
            let state = driver.balancer.connectivity();
            prop_assert_eq!(driver.balancer.failure().is_some(), state == TransientFailure);
            prop_assert!(driver.connections.len() <= 50);
        }
        driver.want();
        driver.resolved(&[1, 2, 3]);
        for _ in 0..100 {
            if driver.balancer.connectivity() == Ready {
                break;
            }
            match driver.trying().first() {
                Some(address) => driver.succeed(*address),
                None => driver.pass_seconds(20),
            }
            driver.want();
            driver.resolved(&[1, 2, 3]);
        }
        prop_assert_eq!(driver.balancer.connectivity(), Ready);
        for address in driver.connected() {
            prop_assert!((1..=3).contains(&address));
        }
    }
}
