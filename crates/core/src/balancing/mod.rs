//! Which addresses a channel is connected to, and what its state is: name resolution, subchannels, a load-balancing policy
//! and the back-off between attempts (gRPC load-balancing.md, connectivity-semantics-and-api.md, connection-backoff.md).
//!
//! A [`Balancer`] is told what was looked up, what became of attempts and connections, and what time it is; it says what
//! to look up and where to connect. It opens no socket, reads no clock, and starts no call: its driver keeps the
//! connections and picks among those that it names.

mod backoff;
mod happy_eyeballs;
mod pick_first;
mod random;
mod resolution;
mod round_robin;
mod subchannel;
#[cfg(test)]
mod tests;

pub use backoff::BackoffOptions;

use crate::connectivity::Connectivity;
use pick_first::PickFirst;
use random::Random;
use resolution::Resolution;
use round_robin::RoundRobin;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use subchannel::{Ended, Subchannel};

/// Names an attempt to connect, and the connection that comes of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(u64);

/// How calls are spread over addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PolicyKind {
    /// All go to the first address that answers.
    #[default]
    PickFirst,
    /// They go to all addresses in turn.
    RoundRobin,
}

/// The knobs of a [`Balancer`].
#[derive(Clone, Debug)]
pub struct BalancerOptions {
    /// How calls are spread.
    pub policy: PolicyKind,
    /// pick_first puts the addresses into an order of its own, so that clients do not all take the same.
    pub shuffles: bool,
    /// The waits between attempts.
    pub backoff: BackoffOptions,
    /// How long pick_first waits for an attempt before it begins the next beside it.
    pub attempt_delay: Duration,
    /// How far look-ups of the name are apart; `None` where another one would tell nothing new.
    pub resolution_interval: Option<Duration>,
    /// How many connections an address gets at most when calls wait at its server's limit of streams.
    pub max_connections_per_address: usize,
    /// Without calls for so long, the channel gives up its connections.
    pub idle_timeout: Option<Duration>,
}

impl Default for BalancerOptions {
    /// grpcio's defaults.
    fn default() -> Self {
        Self {
            policy: PolicyKind::PickFirst,
            shuffles: false,
            backoff: BackoffOptions::default(),
            attempt_delay: Duration::from_millis(250),
            resolution_interval: Some(Duration::from_secs(30)),
            max_connections_per_address: 10,
            idle_timeout: Some(Duration::from_secs(30 * 60)),
        }
    }
}

/// What a driver is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action<A> {
    /// Look the name up, and tell with [`resolved`](Balancer::resolved) or
    /// [`resolution_failed`](Balancer::resolution_failed).
    Resolve,
    /// Connect, and tell with [`established`](Balancer::established) or [`ended`](Balancer::ended).
    Connect {
        /// The attempt's name.
        id: ConnectionId,
        /// Where to.
        address: A,
    },
    /// An attempt takes too long: give it up and tell with [`ended`](Balancer::ended).
    TimeOut(ConnectionId),
    /// Give up an attempt; nothing more is to be told about it.
    Close(ConnectionId),
    /// Start no further calls on a connection and close it with the last that runs; nothing more is to be told about it.
    Drain(ConnectionId),
    /// The state of the channel is another than before.
    State,
    /// [`ready`](Balancer::ready) says something else than before.
    Picker,
}

/// What a driver knows of its calls.
#[derive(Clone, Copy, Debug)]
pub struct Activity {
    /// Calls that have not ended.
    pub under_way: usize,
    /// Calls that were ever started: whether the number is another than before is what counts.
    pub started: u64,
}

/// Connections beyond the first of an address are looked at so often whether they are still used.
const SURPLUS_LOOK: Duration = Duration::from_secs(10);

/// In how many looks the idle time passes.
const IDLE_LOOKS: u32 = 4;

/// What policies and subchannels work on, beside their own state.
#[derive(Debug)]
struct Effects<A> {
    options: BalancerOptions,
    /// Which addresses are of a kind, so that the kinds take turns.
    family: fn(&A) -> u8,
    random: Random,
    actions: VecDeque<Action<A>>,
    last_id: u64,
    /// What is known of the name may be out of date.
    wants_addresses: bool,
    /// The ready connections are others than before.
    picker_changed: bool,
    /// The connection that ends was lost; its server did not send it away.
    was_lost: bool,
}

impl<A> Effects<A> {
    fn next_id(&mut self) -> ConnectionId {
        self.last_id += 1;
        ConnectionId(self.last_id)
    }

    fn push(&mut self, action: Action<A>) {
        self.picker_changed |= matches!(action, Action::Drain(_));
        self.actions.push_back(action);
    }
}

/// A policy at work.
#[derive(Debug)]
enum Policy<A> {
    PickFirst(PickFirst<A>),
    RoundRobin(RoundRobin<A>),
}

impl<A: Clone + PartialEq> Policy<A> {
    fn new(kind: PolicyKind) -> Self {
        match kind {
            PolicyKind::PickFirst => Self::PickFirst(PickFirst::new()),
            PolicyKind::RoundRobin => Self::RoundRobin(RoundRobin::new()),
        }
    }

    fn state(&self) -> Connectivity {
        match self {
            Self::PickFirst(policy) => policy.state(),
            Self::RoundRobin(policy) => policy.state(),
        }
    }

    fn subchannels(&self) -> &[Subchannel<A>] {
        match self {
            Self::PickFirst(policy) => &policy.subchannels,
            Self::RoundRobin(policy) => &policy.subchannels,
        }
    }

    fn subchannels_mut(&mut self) -> &mut Vec<Subchannel<A>> {
        match self {
            Self::PickFirst(policy) => &mut policy.subchannels,
            Self::RoundRobin(policy) => &mut policy.subchannels,
        }
    }

    /// What its calls fail with, before the last error.
    fn complaint(&self) -> &'static str {
        match self {
            Self::PickFirst(_) => "failed to connect to all addresses",
            Self::RoundRobin(_) => "connections to all backends failing",
        }
    }

    fn due(&self) -> Option<Instant> {
        let next = match self {
            Self::PickFirst(policy) => policy.due(),
            Self::RoundRobin(_) => None,
        };
        self.subchannels().iter().filter_map(Subchannel::due).chain(next).min()
    }
}

/// The connections of one channel.
#[derive(Debug)]
pub struct Balancer<A> {
    effects: Effects<A>,
    resolution: Resolution,
    /// `None` until addresses are known.
    policy: Option<Policy<A>>,
    /// The channel has been used and has not been idle since.
    is_wanted: bool,
    is_shut_down: bool,
    /// What the driver was told.
    state: Connectivity,
    /// Why calls fail while the state is TransientFailure.
    error: String,
    resolution_failed: bool,
    surplus_at: Option<Instant>,
    idle_at: Option<Instant>,
    /// Looks in succession at which nothing had happened, and the calls started until the last of them.
    quiet: (u32, u64),
}

impl<A: Clone + PartialEq> Balancer<A> {
    /// An idle channel. `family` tells addresses of different kinds apart; `seed` is what its random choices come from.
    pub fn new(options: BalancerOptions, family: fn(&A) -> u8, seed: u64) -> Self {
        Self {
            resolution: Resolution::new(options.resolution_interval, options.backoff),
            effects: Effects {
                options,
                family,
                random: Random::new(seed),
                actions: VecDeque::new(),
                last_id: 0,
                wants_addresses: false,
                picker_changed: false,
                was_lost: false,
            },
            policy: None,
            is_wanted: false,
            is_shut_down: false,
            state: Connectivity::Idle,
            error: String::new(),
            resolution_failed: false,
            surplus_at: None,
            idle_at: None,
            quiet: (0, 0),
        }
    }

    /// The channel's state.
    pub fn connectivity(&self) -> Connectivity {
        self.state
    }

    /// Why calls that do not want to wait fail, where they do.
    pub fn failure(&self) -> Option<&str> {
        (self.state == Connectivity::TransientFailure).then_some(&*self.error)
    }

    /// The connections that take calls, those of an address together. Calls go to the addresses in turn, and there to the
    /// first connection that has room.
    pub fn ready(&self) -> impl Iterator<Item = impl ExactSizeIterator<Item = ConnectionId>> {
        let subchannels = self.policy.as_ref().map_or(&[][..], Policy::subchannels);
        let ready = subchannels.iter().filter(|own| own.state() == Connectivity::Ready);
        ready.map(Subchannel::connections)
    }

    /// A number below `count`, or 0: where to begin among the addresses.
    pub fn random_below(&mut self, count: usize) -> usize {
        self.effects.random.below(count)
    }

    /// What is to be done next.
    pub fn next_action(&mut self) -> Option<Action<A>> {
        self.effects.actions.pop_front()
    }

    /// A connection is wanted: a call waits for one, or the user said so.
    pub fn want(&mut self, now: Instant) {
        if self.is_shut_down {
            return;
        }
        self.is_wanted = true;
        match &mut self.policy {
            Some(Policy::PickFirst(policy)) => policy.want(now, &mut self.effects),
            Some(Policy::RoundRobin(_)) => {}
            None if self.resolution.begin(now) => self.effects.push(Action::Resolve),
            None => {}
        }
        if self.idle_at.is_none() {
            self.idle_at = self.next_idle_look(now);
        }
        self.settle(now);
    }

    fn next_idle_look(&self, now: Instant) -> Option<Instant> {
        self.effects.options.idle_timeout.map(|timeout| now + timeout / IDLE_LOOKS)
    }

    /// The name has been looked up.
    pub fn resolved(&mut self, mut addresses: Vec<A>, now: Instant) {
        // One address is one subchannel, however often it is named.
        let mut seen: Vec<A> = Vec::with_capacity(addresses.len());
        addresses.retain(|address| {
            let is_new = !seen.contains(address);
            if is_new {
                seen.push(address.clone());
            }
            is_new
        });
        if addresses.is_empty() {
            return self.resolution_failed("the name has no address".into(), now);
        }
        self.resolution.succeeded();
        self.resolution_failed = false;
        if !self.is_wanted || self.is_shut_down {
            return;
        }
        let effects = &mut self.effects;
        let is_new = self.policy.is_none();
        let policy = self.policy.get_or_insert_with(|| Policy::new(effects.options.policy));
        match policy {
            Policy::PickFirst(policy) => {
                policy.update(addresses, now, effects);
                if is_new {
                    policy.want(now, effects);
                }
            }
            Policy::RoundRobin(policy) => policy.update(addresses, now, effects),
        }
        self.settle(now);
    }

    /// The name could not be looked up. What was known of it before stays.
    pub fn resolution_failed(&mut self, error: String, now: Instant) {
        if !self.is_wanted || self.is_shut_down {
            self.resolution.succeeded();
            return;
        }
        self.resolution.failed(now, self.effects.random.next());
        if self.policy.is_none() {
            self.resolution_failed = true;
            self.error = error;
        }
        self.settle(now);
    }

    /// An attempt has succeeded: the server's SETTINGS have come. `false`: nobody wants it any more.
    pub fn established(&mut self, id: ConnectionId, now: Instant) -> bool {
        let is_ours = match &mut self.policy {
            Some(Policy::PickFirst(policy)) => policy.established(id, now, &mut self.effects),
            Some(Policy::RoundRobin(policy)) => policy.established(id, now),
            None => false,
        };
        self.effects.picker_changed |= is_ours;
        self.settle(now);
        is_ours
    }

    /// An attempt has failed, or a connection is lost; `error` says why, and where.
    pub fn ended(&mut self, id: ConnectionId, error: &str, now: Instant) {
        self.effects.was_lost = true;
        if let Some(ended) = self.end(id, now)
            && ended != Ended::Surplus
        {
            self.note(error);
        }
        self.settle(now);
    }

    /// The server takes no more calls on a connection. Its driver drains it.
    pub fn went_away(&mut self, id: ConnectionId, now: Instant) {
        self.effects.was_lost = false;
        self.end(id, now);
        self.settle(now);
    }

    fn end(&mut self, id: ConnectionId, now: Instant) -> Option<Ended> {
        let ended = match &mut self.policy {
            Some(Policy::PickFirst(policy)) => policy.ended(id, now, &mut self.effects),
            Some(Policy::RoundRobin(policy)) => policy.ended(id, now, &mut self.effects),
            None => None,
        };
        self.effects.picker_changed |= ended.is_some_and(|ended| ended != Ended::Attempt);
        ended
    }

    fn note(&mut self, error: &str) {
        if let Some(policy) = &self.policy {
            self.error = format!("{}; last error: {error}", policy.complaint());
        }
    }

    /// Calls wait, and all connections are at their limits: another one is to be made.
    pub fn at_limit(&mut self, now: Instant) {
        let subchannels = self.policy.iter_mut().flat_map(Policy::subchannels_mut);
        let ready = subchannels.filter(|own| own.state() == Connectivity::Ready);
        if let Some(subchannel) = ready.min_by_key(|own| own.connections().len()) {
            subchannel.connect_another(now, &mut self.effects);
        }
        self.settle(now);
    }

    /// When [`expire`](Self::expire) is due.
    pub fn next_timer(&self) -> Option<Instant> {
        if self.is_shut_down {
            return None;
        }
        let policy = self.policy.as_ref().and_then(Policy::due);
        let own = [self.resolution.due(), policy, self.surplus_at, self.idle_at];
        own.into_iter().flatten().min()
    }

    /// Time has passed. `is_used` tells whether a connection has calls.
    pub fn expire(
        &mut self,
        now: Instant,
        activity: Activity,
        mut is_used: impl FnMut(ConnectionId) -> bool,
    ) {
        if self.is_shut_down {
            return;
        }
        if self.resolution.expire(now) {
            self.effects.push(Action::Resolve);
        }
        match &mut self.policy {
            Some(Policy::PickFirst(policy)) => policy.expire(now, &mut self.effects),
            Some(Policy::RoundRobin(policy)) => policy.expire(now, &mut self.effects),
            None => {}
        }
        if self.surplus_at.take_if(|at| *at <= now).is_some() {
            for subchannel in self.policy.iter_mut().flat_map(Policy::subchannels_mut) {
                subchannel.close_surplus(&mut self.effects, &mut is_used);
            }
        }
        if self.idle_at.take_if(|at| *at <= now).is_some() {
            self.look_whether_idle(now, activity);
        }
        self.settle(now);
    }

    fn look_whether_idle(&mut self, now: Instant, activity: Activity) {
        let (looks, started) = self.quiet;
        let is_quiet = activity.under_way == 0 && activity.started == started;
        let looks = if is_quiet { looks + 1 } else { 0 };
        self.quiet = (looks, activity.started);
        if looks < IDLE_LOOKS {
            self.idle_at = self.next_idle_look(now);
            return;
        }
        self.quiet.0 = 0;
        self.is_wanted = false;
        self.resolution_failed = false;
        let options = &self.effects.options;
        self.resolution = Resolution::new(options.resolution_interval, options.backoff);
        self.retire();
    }

    fn retire(&mut self) {
        if let Some(mut policy) = self.policy.take() {
            for subchannel in std::mem::take(policy.subchannels_mut()) {
                subchannel.retire(&mut self.effects);
            }
        }
    }

    /// The channel is closed for good. Connections and attempts are the driver's to close.
    pub fn shut_down(&mut self) {
        self.is_shut_down = true;
        self.policy = None;
        self.effects.actions.clear();
        self.state = Connectivity::Shutdown;
    }

    /// Tells the driver what has come of an input.
    fn settle(&mut self, now: Instant) {
        if self.is_shut_down {
            return;
        }
        if std::mem::take(&mut self.effects.wants_addresses) && self.resolution.again(now) {
            self.effects.push(Action::Resolve);
        }
        let has_surplus =
            self.policy.iter().flat_map(Policy::subchannels).any(Subchannel::has_surplus);
        match has_surplus {
            true if self.surplus_at.is_none() => self.surplus_at = Some(now + SURPLUS_LOOK),
            true => {}
            false => self.surplus_at = None,
        }
        if std::mem::take(&mut self.effects.picker_changed) {
            self.effects.push(Action::Picker);
        }
        let state = match &self.policy {
            Some(policy) => policy.state(),
            None if !self.is_wanted => Connectivity::Idle,
            None if self.resolution_failed => Connectivity::TransientFailure,
            None => Connectivity::Connecting,
        };
        if std::mem::replace(&mut self.state, state) != state {
            self.effects.push(Action::State);
        }
    }
}
