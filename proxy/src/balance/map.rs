//! The table of `hash-type map-based` and of `static-rr`: each server as often as its weight says, in
//! HAProxy's order.

/// A slot for each unit of weight, all weights divided by their greatest common divisor.
///
/// Every round each server gains its weight in points; the one with most whole shares takes the slot and
/// pays for all. The first server of the file comes first among equals.
pub(super) fn build(weights: &[(usize, u32)], divisor: u32) -> Vec<usize> {
    let divisor = divisor.max(1);
    let shares: Vec<i64> = weights.iter().map(|(_, weight)| i64::from(weight.div_ceil(divisor))).collect();
    let total: i64 = shares.iter().sum();
    let mut points = vec![0i64; weights.len()];
    let mut slots = Vec::with_capacity(usize::try_from(total).unwrap_or(0));
    for _ in 0..total {
        let mut best: Option<(i64, usize)> = None;
        for (at, share) in shares.iter().enumerate() {
            points[at] += share;
            let whole = (points[at] + total) / total;
            if best.is_none_or(|(most, _)| whole > most) {
                best = Some((whole, at));
            }
        }
        if let Some((_, at)) = best {
            points[at] -= total;
            slots.push(weights[at].0);
        }
    }
    slots
}

/// What all weights are divided by; 1 when there are none.
pub(super) fn divisor(weights: impl Iterator<Item = u32>) -> u32 {
    weights.fold(0, common).max(1)
}

fn common(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { common(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(weights: &[u32]) -> String {
        let numbered: Vec<(usize, u32)> = weights.iter().copied().enumerate().collect();
        let names = ["A", "B", "C", "D"];
        build(&numbered, divisor(weights.iter().copied())).into_iter().map(|at| names[at]).collect()
    }

    #[test]
    fn every_server_has_its_share_of_slots() {
        for weights in [&[1, 1][..], &[2, 1], &[10, 20, 30], &[256, 1], &[7, 3, 2, 1]] {
            let slots = table(weights);
            let divisor = divisor(weights.iter().copied());
            for (name, weight) in "ABCD".chars().zip(weights) {
                let share = usize::try_from(weight / divisor).unwrap();
                assert_eq!(slots.matches(name).count(), share, "{weights:?} {slots}");
            }
        }
    }

    #[test]
    fn nobody_is_an_empty_table() {
        assert_eq!(build(&[], 1), Vec::<usize>::new());
        assert_eq!(divisor([].into_iter()), 1);
    }
}
