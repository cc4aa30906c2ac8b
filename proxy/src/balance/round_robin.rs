//! Weighted round robin in HAProxy's order.
//!
//! Time is counted in picks. A server of weight `w` among a total of `W` is due every `W/w` picks; the
//! remainder of the division is carried, so nothing is lost to rounding. Of the servers that are due,
//! the earliest goes first; ties go to the heavier one. When none is due, a server that has not
//! started yet starts, the heaviest first; that spreads the light ones between the heavy ones.

/// The order of picks.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    members: Vec<Member>,
    total: u64,
    /// Picks so far.
    position: u64,
    sequence: u64,
}

#[derive(Debug, Clone)]
struct Member {
    index: usize,
    weight: u64,
    /// The pick at which it is due; `None` before its first.
    due: Option<u64>,
    /// Carried remainder of `total / weight`.
    carry: u64,
    /// When it was picked last, for ties.
    picked: u64,
}

impl RoundRobin {
    /// Sets who takes part, with weights above 0; those that stay keep their turn.
    pub(super) fn set_members(&mut self, weights: &[(usize, u32)]) {
        let old = std::mem::take(&mut self.members);
        self.total = weights.iter().map(|(_, weight)| u64::from(*weight)).sum();
        self.members = weights
            .iter()
            .map(|(index, weight)| {
                let weight = u64::from(*weight).max(1);
                match old.iter().find(|member| member.index == *index) {
                    Some(member) => {
                        // A changed total moves a due far in the future closer.
                        let latest = self.position + self.total / weight;
                        let due = member.due.map(|due| due.min(latest));
                        Member { weight, due, carry: member.carry % weight, ..member.clone() }
                    }
                    None => Member { index: *index, weight, due: None, carry: 0, picked: 0 },
                }
            })
            .collect();
    }

    /// Gives members other numbers; those without one leave.
    pub(super) fn renumber(&mut self, moved: &[Option<usize>]) {
        self.members.retain_mut(|member| match moved.get(member.index).copied().flatten() {
            Some(index) => {
                member.index = index;
                true
            }
            None => false,
        });
    }

    /// The next one for which `is_free` holds.
    pub(super) fn pick(&mut self, is_free: impl Fn(usize) -> bool) -> Option<usize> {
        let free = || (0..self.members.len()).filter(|at| is_free(self.members[*at].index));
        let order = |at: &usize| {
            let member = &self.members[*at];
            (member.due, member.carry.cast_signed() - member.weight.cast_signed(), member.picked)
        };
        let is_due = |at: &usize| self.members[*at].due.is_some_and(|due| due <= self.position);
        let starts = |at: &usize| self.members[*at].due.is_none();
        let chosen = free()
            .filter(is_due)
            .min_by_key(order)
            .or_else(|| {
                free().filter(starts).min_by_key(|at| (std::cmp::Reverse(self.members[*at].weight), *at))
            })
            .or_else(|| free().min_by_key(order))?;
        self.advance(chosen);
        Some(self.members[chosen].index)
    }

    /// Counts a pick that was decided elsewhere.
    pub(super) fn take(&mut self, index: usize) {
        if let Some(at) = self.members.iter().position(|member| member.index == index) {
            self.advance(at);
        }
    }

    fn advance(&mut self, at: usize) {
        let member = &mut self.members[at];
        let due = member.due.unwrap_or(self.position);
        member.carry += self.total % member.weight;
        let extra = u64::from(member.carry >= member.weight);
        member.carry -= extra * member.weight;
        member.due = Some(due + self.total / member.weight + extra);
        self.sequence += 1;
        member.picked = self.sequence;
        self.position += 1;
    }
}
