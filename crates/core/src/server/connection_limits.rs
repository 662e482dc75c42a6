//! How many connections a server has at once, in all and from one address. There is no limit by default, as in grpcio.

use hashbrown::HashMap;
use std::net::IpAddr;

/// How many connections a server takes; `None` sets no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConnectionLimits {
    /// In all.
    pub total: Option<usize>,
    /// From one IP address. Clients behind one proxy, and those on Unix sockets, have none of their own: the former
    /// share one, the latter are not counted.
    pub per_peer: Option<usize>,
}

/// Which limit is in a connection's way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Excess {
    /// There are so many connections.
    Total(usize),
    /// There are so many from this address.
    PerPeer(usize),
}

/// The connections of a server, counted.
#[derive(Debug, Default)]
pub struct ConnectionCount {
    limits: ConnectionLimits,
    total: usize,
    /// Only kept where there is a limit.
    by_peer: HashMap<IpAddr, usize>,
}

impl ConnectionCount {
    /// No connections yet.
    pub fn new(limits: ConnectionLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Counts a connection, if there is room for it: [`leave`](Self::leave) follows when it ends.
    pub fn enter(&mut self, peer: Option<IpAddr>) -> Result<(), Excess> {
        if let Some(limit) = self.limits.total.filter(|limit| self.total >= *limit) {
            return Err(Excess::Total(limit));
        }
        if let (Some(limit), Some(peer)) = (self.limits.per_peer, peer) {
            let count = self.by_peer.get(&peer).copied().unwrap_or(0);
            if count >= limit {
                return Err(Excess::PerPeer(limit));
            }
            self.by_peer.insert(peer, count + 1);
        }
        self.total += 1;
        Ok(())
    }

    /// A connection that was counted has ended.
    pub fn leave(&mut self, peer: Option<IpAddr>) {
        self.total -= 1;
        if let (Some(_), Some(peer)) = (self.limits.per_peer, peer)
            && let Some(count) = self.by_peer.get_mut(&peer)
        {
            *count -= 1;
            if *count == 0 {
                self.by_peer.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> Option<IpAddr> {
        Some([10, 0, 0, last].into())
    }

    #[test]
    fn connections_are_counted_in_all_and_by_address() {
        let limits = ConnectionLimits { total: Some(4), per_peer: Some(2) };
        let mut count = ConnectionCount::new(limits);
        assert_eq!(count.enter(ip(1)), Ok(()));
        assert_eq!(count.enter(ip(1)), Ok(()));
        assert_eq!(count.enter(ip(1)), Err(Excess::PerPeer(2)));
        assert_eq!(count.enter(ip(2)), Ok(()));
        assert_eq!(count.enter(None), Ok(()));
        assert_eq!(count.enter(None), Err(Excess::Total(4)));
        count.leave(ip(1));
        assert_eq!(count.enter(ip(1)), Ok(()));
        for peer in [ip(1), ip(1), ip(2), None] {
            count.leave(peer);
        }
        assert!(count.by_peer.is_empty() && count.total == 0);
    }

    #[test]
    fn there_is_no_limit_by_default() {
        let mut count = ConnectionCount::default();
        assert!((0..100_000).all(|_| count.enter(ip(1)).is_ok()));
        assert!(count.by_peer.is_empty());
    }
}
