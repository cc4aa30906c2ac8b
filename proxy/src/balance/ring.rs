//! The ring of `hash-type consistent` and of `random`: every server has points on a circle, sixteen for a
//! unit of weight, where HAProxy has them.

use super::hash::avalanche;

/// Points for each unit of weight (HAProxy: BE_WEIGHT_SCALE).
pub(super) const POINTS_PER_WEIGHT: u32 = 16;
/// Room for the points of one server, those of the largest weight (HAProxy: SRV_EWGHT_RANGE).
const RANGE: u32 = 256 * POINTS_PER_WEIGHT;

/// Points in order around the circle, with the server each belongs to.
#[derive(Debug, Default)]
pub(super) struct Ring {
    points: Vec<(u32, u32)>,
}

impl Ring {
    /// A ring of servers, each given as (its index, its id, its number of points).
    pub(super) fn build(servers: impl Iterator<Item = (usize, u32, u32)>) -> Self {
        let mut points: Vec<(u32, u32)> = servers
            .flat_map(|(index, id, count)| {
                let index = u32::try_from(index).unwrap_or(u32::MAX);
                (0..count).map(move |point| (avalanche(id.wrapping_mul(RANGE).wrapping_add(point)), index))
            })
            .collect();
        points.sort_unstable();
        points.shrink_to_fit();
        Self { points }
    }

    /// The servers a hash leads to, the nearest point first, then the points after it around the circle.
    pub(super) fn walk(&self, hash: u32) -> impl Iterator<Item = usize> + '_ {
        let count = self.points.len();
        let start = self.nearest(hash);
        (0..count).filter_map(move |step| {
            let (_, index) = self.points.get((start + step) % count)?;
            usize::try_from(*index).ok()
        })
    }

    /// The place of the nearest point; of two equally near ones the one before.
    fn nearest(&self, hash: u32) -> usize {
        let count = self.points.len();
        if count == 0 {
            return 0;
        }
        let after = self.points.partition_point(|(key, _)| *key < hash) % count;
        let before = (after + count - 1) % count;
        let behind = hash.wrapping_sub(self.points[before].0);
        let ahead = self.points[after].0.wrapping_sub(hash);
        if behind <= ahead { before } else { after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_point_is_chosen_around_the_whole_circle() {
        let ring = Ring { points: vec![(10, 0), (20, 1), (4_000_000_000, 2)] };
        let first = |hash| ring.walk(hash).next();
        assert_eq!(first(9), Some(0));
        assert_eq!(first(14), Some(0));
        assert_eq!(first(15), Some(0), "the one before wins a tie");
        assert_eq!(first(16), Some(1));
        assert_eq!(first(u32::MAX), Some(0));
        assert_eq!(first(3_999_999_999), Some(2));
        assert_eq!(ring.walk(16).collect::<Vec<_>>(), [1, 2, 0]);
        assert_eq!(Ring::default().walk(7).next(), None);
    }

    #[test]
    fn a_server_that_leaves_moves_only_its_own_clients() {
        let servers = |without: Option<usize>| {
            Ring::build(
                (0..5)
                    .filter(move |it| Some(*it) != without)
                    .map(|it| (it, u32::try_from(it).unwrap() + 1, POINTS_PER_WEIGHT)),
            )
        };
        let (all, fewer) = (servers(None), servers(Some(2)));
        let mut moved = 0;
        for client in 0..2_000u32 {
            let hash = avalanche(client);
            let (before, after) = (all.walk(hash).next().unwrap(), fewer.walk(hash).next().unwrap());
            if before == 2 {
                moved += 1;
                assert_ne!(after, 2);
            } else {
                assert_eq!(before, after);
            }
        }
        assert!(moved > 100, "{moved}");
    }
}
