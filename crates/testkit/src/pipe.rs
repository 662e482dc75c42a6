//! Two engines face to face, with a wire between them that cuts octets wherever a script says.

/// One end: something that takes octets and gives octets.
pub trait End {
    /// Takes all of `octets`.
    fn input(&mut self, octets: &[u8]);
    /// Gives up to `max` octets, none if there are none.
    fn output(&mut self, max: usize) -> Vec<u8>;
}

/// Carries octets in both directions until none move. Each transfer is as long as the next of `cuts` says, in a
/// circle, at least one octet.
pub fn settle(left: &mut impl End, right: &mut impl End, cuts: &[usize]) {
    let mut cuts = cuts.iter().copied().cycle();
    let mut cut = || cuts.next().unwrap_or(usize::MAX).max(1);
    loop {
        let there = left.output(cut());
        if !there.is_empty() {
            right.input(&there);
        }
        let back = right.output(cut());
        if !back.is_empty() {
            left.input(&back);
        }
        if there.is_empty() && back.is_empty() {
            return;
        }
    }
}
