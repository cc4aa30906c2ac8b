//! Sync groups: instances that hold their addresses together or not at all.

use crate::instance::State;

/// What a member must do because another one moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Become master.
    Master,
    /// Become backup.
    Backup,
    /// One fault more, from the group.
    Fault,
    /// The group's fault is over.
    FaultOver,
}

/// State a group shows as a whole: FAULT when a member has one, else MASTER or BACKUP when all agree.
pub fn group_state(members: &[State]) -> Option<State> {
    if members.contains(&State::Fault) {
        return Some(State::Fault);
    }
    let first = *members.first()?;
    members.iter().all(|state| *state == first).then_some(first)
}

/// What the other members do after one member moved to `moved_to`. `own_faults` holds, for every member,
/// whether it has a fault of its own, not one it got from the group.
pub fn follow(moved_to: State, own_faults: &[bool]) -> Option<Follow> {
    let any_fault = own_faults.contains(&true);
    match moved_to {
        State::Fault => Some(Follow::Fault),
        _ if any_fault => Some(Follow::Fault),
        State::Master => Some(Follow::Master),
        State::Backup => Some(Follow::Backup),
        State::Init | State::Releasing => None,
    }
}

/// Whether a group can be master: every member is master or would be, so that none takes its addresses
/// only to give them up to a master that the others do not hear, again and again.
pub fn can_be_master(members: impl IntoIterator<Item = (State, bool)>) -> bool {
    members.into_iter().all(|(state, wants_master)| state == State::Master || wants_master)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_moves_together() {
        assert_eq!(follow(State::Master, &[false, false]), Some(Follow::Master));
        assert_eq!(follow(State::Backup, &[false, false]), Some(Follow::Backup));
        assert_eq!(
            follow(State::Master, &[false, true]),
            Some(Follow::Fault),
            "a fault holds everybody back"
        );
        assert_eq!(follow(State::Fault, &[true, false]), Some(Follow::Fault));
        assert_eq!(follow(State::Releasing, &[false]), None);
    }

    #[test]
    fn a_group_is_master_when_all_can_be() {
        assert!(can_be_master([(State::Backup, true), (State::Master, false)]));
        assert!(!can_be_master([(State::Backup, true), (State::Backup, false)]));
        assert!(!can_be_master([(State::Backup, true), (State::Fault, false)]));
    }

    #[test]
    fn a_group_has_a_state_when_its_members_agree() {
        assert_eq!(group_state(&[State::Master, State::Master]), Some(State::Master));
        assert_eq!(group_state(&[State::Master, State::Backup]), None);
        assert_eq!(group_state(&[State::Master, State::Fault]), Some(State::Fault));
        assert_eq!(group_state(&[]), None);
    }
}
