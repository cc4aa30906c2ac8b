//! Weights as slots: rules of nftables choose a number, and each number belongs to a server.

use super::service::Share;
use crate::config::virtual_server::Algorithm;

/// More slots than this make the rules long without making the shares better.
const MAX_SLOTS: u64 = 1024;

/// The server of each slot, by its index among `shares`. Servers without weight have none.
pub(crate) fn slots(algorithm: Algorithm, shares: &[Share]) -> Vec<usize> {
    let able: Vec<usize> = (0..shares.len()).filter(|index| shares[*index].weight > 0).collect();
    match algorithm {
        // IPVS: rr knows no weight but 0.
        Algorithm::Rr => able,
        Algorithm::Fo => {
            // The first of the highest weight.
            able.into_iter().rev().max_by_key(|index| shares[*index].weight).into_iter().collect()
        }
        Algorithm::Wrr | Algorithm::Random | Algorithm::Sh | Algorithm::Kernel(_) => {
            let weights: Vec<u64> = able.iter().map(|index| u64::from(shares[*index].weight)).collect();
            interleave(&able, &reduce(weights))
        }
    }
}

/// The same proportions in small numbers.
fn reduce(mut weights: Vec<u64>) -> Vec<u64> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    for weight in &mut weights {
        *weight /= divisor;
    }
    let sum: u64 = weights.iter().sum();
    if sum > MAX_SLOTS {
        for weight in &mut weights {
            *weight = (*weight * MAX_SLOTS / sum).max(1);
        }
    }
    weights
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Smooth weighted round robin: a heavy server does not get all its turns at once.
fn interleave(servers: &[usize], weights: &[u64]) -> Vec<usize> {
    let sum: u64 = weights.iter().sum();
    let mut credit = vec![0i64; servers.len()];
    let mut slots = Vec::with_capacity(sum as usize);
    for _ in 0..sum {
        for (credit, weight) in credit.iter_mut().zip(weights) {
            *credit += *weight as i64;
        }
        let Some(best) = (0..servers.len()).rev().max_by_key(|index| credit[*index]) else { break };
        credit[best] -= sum as i64;
        slots.push(servers[best]);
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(weights: &[u32]) -> Vec<Share> {
        let share = |(index, weight): (usize, &u32)| Share {
            address: [10, 0, 0, index as u8].into(),
            port: 80,
            weight: *weight,
        };
        weights.iter().enumerate().map(share).collect()
    }

    #[test]
    fn turns_follow_the_weights() {
        assert_eq!(slots(Algorithm::Wrr, &shares(&[3, 1])), [0, 0, 1, 0]);
        assert_eq!(slots(Algorithm::Wrr, &shares(&[200, 100, 0])), [0, 1, 0]);
        assert_eq!(slots(Algorithm::Rr, &shares(&[200, 100, 0, 5])), [0, 1, 3]);
        assert_eq!(slots(Algorithm::Fo, &shares(&[5, 9, 9, 1])), [1]);
        assert_eq!(slots(Algorithm::Sh, &shares(&[0, 0])), Vec::<usize>::new());
    }

    proptest::proptest! {
        #[test]
        fn shares_are_bounded_and_nobody_with_weight_is_left_out(weights in proptest::collection::vec(0u32..65536, 0..40)) {
            let given = shares(&weights);
            let found = slots(Algorithm::Wrr, &given);
            assert!(found.len() <= MAX_SLOTS as usize + weights.len());
            for (index, weight) in weights.iter().enumerate() {
                assert_eq!(found.contains(&index), *weight > 0);
            }
        }
    }
}
