//! The order in which addresses are tried (gRFC A61, RFC 8305 §4).

use std::collections::VecDeque;

/// Lets the address families take turns, beginning with that of the first address; within a family the order stays.
pub(super) fn interleave<A, F: PartialEq>(addresses: Vec<A>, family: impl Fn(&A) -> F) -> Vec<A> {
    let mut families: Vec<(F, VecDeque<A>)> = Vec::new();
    let count = addresses.len();
    for address in addresses {
        let own = family(&address);
        match families.iter_mut().find(|(known, _)| *known == own) {
            Some((_, members)) => members.push_back(address),
            None => families.push((own, VecDeque::from([address]))),
        }
    }
    let mut order = Vec::with_capacity(count);
    while order.len() < count {
        order.extend(families.iter_mut().filter_map(|(_, members)| members.pop_front()));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let order = |list: &[i32]| interleave(list.to_vec(), |address| address.is_negative());
        assert_eq!(order(&[1, 2, 3, -1, -2]), [1, -1, 2, -2, 3]);
        assert_eq!(order(&[-1, -2, 3]), [-1, 3, -2]);
        assert_eq!(order(&[1, 2]), [1, 2]);
        assert_eq!(order(&[]), []);
    }
}
