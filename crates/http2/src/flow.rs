//! Flow-control windows (RFC 9113 §5.2, §6.9).

/// The largest window (§6.9.1).
pub(crate) const MAX_WINDOW: u32 = (1 << 31) - 1;

/// The initial window of streams and connections (§6.9.2).
pub(crate) const DEFAULT_WINDOW: u32 = 65_535;

/// How much we may still send. A SETTINGS change can make it negative (§6.9.2).
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendWindow(i64);

/// The window would exceed 2^31-1 (§6.9.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Overflow;

impl SendWindow {
    pub(crate) fn new(size: u32) -> Self {
        Self(i64::from(size))
    }

    #[inline]
    pub(crate) fn available(self) -> usize {
        self.0.max(0) as usize
    }

    #[inline]
    pub(crate) fn consume(&mut self, octets: usize) {
        self.0 -= octets as i64;
    }

    /// Adds a WINDOW_UPDATE's increment, or the difference that a SETTINGS change makes.
    pub(crate) fn add(&mut self, delta: i64) -> Result<(), Overflow> {
        let sum = self.0 + delta;
        if sum > i64::from(MAX_WINDOW) {
            return Err(Overflow);
        }
        self.0 = sum;
        Ok(())
    }
}

/// How much the peer may still send us, and how much of what it sent is still unread.
///
/// `available + held` is kept near `target`: what is read is announced again once it makes up half of the target, so
/// that a sender never waits for a reader that keeps up, and WINDOW_UPDATEs stay rare.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceiveWindow {
    available: i64,
    held: u64,
    target: u32,
    max_target: u32,
}

/// The peer sent more than its window allows (§6.9.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Overrun;

impl ReceiveWindow {
    /// A window that the peer knows to be `size` octets and that may grow to `max` octets.
    pub(crate) fn new(size: u32, max: u32) -> Self {
        Self { available: i64::from(size), held: 0, target: size, max_target: max.min(MAX_WINDOW) }
    }

    /// Sets another target, to be announced with the next [`update`](Self::update).
    pub(crate) fn set_target(&mut self, target: u32) {
        self.target = target.min(MAX_WINDOW);
        self.max_target = self.target;
    }

    /// The size that windows start with has changed by `delta`. Like the sender's it may go negative (§6.9.2).
    pub(crate) fn resize(&mut self, delta: i64) {
        self.available += delta;
        self.target = (i64::from(self.target) + delta).clamp(0, i64::from(MAX_WINDOW)) as u32;
    }

    pub(crate) fn available(&self) -> u32 {
        self.available.max(0) as u32
    }

    /// What the window is kept near.
    pub(crate) fn target(&self) -> u32 {
        self.target
    }

    /// Octets received and not yet released.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }

    #[inline]
    pub(crate) fn receive(&mut self, octets: u32) -> Result<(), Overrun> {
        self.available -= i64::from(octets);
        self.held += u64::from(octets);
        // An empty frame needs no window, even where that is negative (§6.9.1).
        if self.available < 0 && octets > 0 { Err(Overrun) } else { Ok(()) }
    }

    /// Octets have been read, or dropped.
    #[inline]
    pub(crate) fn release(&mut self, octets: u32) {
        self.held = self.held.saturating_sub(u64::from(octets));
    }

    /// The increment to announce now, if any. The target doubles with each, because the reader keeps up, unless that
    /// would take more than `room`.
    #[inline]
    pub(crate) fn update(&mut self, room: u64) -> Option<u32> {
        let missing = i64::from(self.target) - self.available - self.held as i64;
        if missing <= 0 || missing * 2 < i64::from(self.target) {
            return None;
        }
        let growth = self.target.saturating_mul(2).min(self.max_target).saturating_sub(self.target);
        let growth = if u64::from(growth) <= room { growth } else { 0 };
        let increment = missing + i64::from(growth);
        self.target += growth;
        self.available += increment;
        Some(increment as u32)
    }

    /// The increment that lets the peer send `octets` more, whatever is held.
    pub(crate) fn grant(&mut self, octets: u32) -> Option<u32> {
        let most = i64::from(MAX_WINDOW);
        let increment = (i64::from(octets).min(most) - self.available).min(most);
        if increment <= 0 {
            return None;
        }
        self.available += increment;
        Some(increment as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_may_go_negative_but_not_over_the_top() {
        let mut window = SendWindow::new(10);
        window.add(-20).unwrap();
        assert_eq!(window.available(), 0);
        window.add(15).unwrap();
        assert_eq!(window.available(), 5);
        assert_eq!(window.add(i64::from(MAX_WINDOW)), Err(Overflow));
    }

    #[test]
    fn half_of_the_window_is_announced_again() {
        let mut window = ReceiveWindow::new(100, 100);
        window.receive(60).unwrap();
        window.release(49);
        assert_eq!(window.update(0), None);
        window.release(1);
        assert_eq!(window.update(0), Some(50));
        assert_eq!(window.available(), 90);
        assert_eq!(window.held(), 10);
    }

    #[test]
    fn the_window_grows_while_it_is_read() {
        let mut window = ReceiveWindow::new(100, 300);
        for target in [200, 300, 300] {
            let received = window.available();
            window.receive(received).unwrap();
            window.release(received);
            assert_eq!(window.update(u64::MAX), Some(target));
            assert_eq!(window.available(), target);
        }
    }

    #[test]
    fn the_window_does_not_grow_without_room() {
        let mut window = ReceiveWindow::new(100, 300);
        window.receive(100).unwrap();
        window.release(100);
        assert_eq!(window.update(99), Some(100));
        assert_eq!(window.target(), 100);
    }

    #[test]
    fn a_grant_counts_from_what_is_left() {
        let mut window = ReceiveWindow::new(100, 100);
        window.receive(90).unwrap();
        assert_eq!(window.grant(1000), Some(990));
        assert_eq!(window.grant(5), None);
        // What the grant let through is not announced a second time.
        window.receive(1000).unwrap();
        window.release(1090);
        assert_eq!(window.update(0), Some(100));
    }

    #[test]
    fn overrunning_is_noticed() {
        let mut window = ReceiveWindow::new(10, 10);
        assert_eq!(window.receive(10), Ok(()));
        assert_eq!(window.receive(1), Err(Overrun));
    }
}
