//! Sync groups: the members of a group go the same way.

use vrrp::sync_group::{Follow, can_be_master, follow, group_state};
use vrrp::{NotifyState, State};

use super::Agent;
use crate::notify::Notification;

impl Agent {
    /// Lets the other members of the group go where this one went.
    pub(super) async fn group_follows(&mut self, index: usize) {
        let name = self.routers[index].name().to_owned();
        let Some(at) = self.config.groups.iter().position(|group| group.members.contains(&name)) else {
            return;
        };
        let members = self.group_of(index).unwrap_or_default();
        let own_faults: Vec<bool> = members.iter().map(|member| self.own_fault(*member)).collect();
        let moved_to = self.routers[index].core.state();
        let now = self.now();
        if let Some(follow) = follow(moved_to, &own_faults) {
            for (member, own_fault) in members.iter().zip(&own_faults) {
                let others_fail = own_faults.contains(&true) && !own_fault;
                let mut effects = Vec::new();
                if self.routers[*member].faults.group != others_fail {
                    self.routers[*member].faults.group = others_fail;
                    let tracking =
                        self.routers[*member].tracking(self.tracked(&self.routers[*member].config));
                    self.routers[*member].core.track(now, tracking, &mut effects);
                } else if *member != index && matches!(follow, Follow::Master | Follow::Backup) {
                    let core = &mut self.routers[*member].core;
                    core.follow_group(now, follow == Follow::Master, &mut effects);
                }
                self.carry_out(*member, effects).await;
            }
        }
        self.tell_group(at, &members);
    }

    /// A member would be master: the whole group becomes it, or nobody.
    pub(super) async fn group_wants_master(&mut self, index: usize) {
        // Without a group, because a reload took it away, there is nobody to wait for.
        let members = self.group_of(index).unwrap_or_else(|| vec![index]);
        let cores = members.iter().map(|member| &self.routers[*member].core);
        if !can_be_master(cores.map(|core| (core.state(), core.wants_master()))) {
            tracing::debug!(instance = self.routers[index].name(), "waits for its sync group");
            return;
        }
        let now = self.now();
        for member in members {
            let mut effects = Vec::new();
            self.routers[member].core.follow_group(now, true, &mut effects);
            self.carry_out(member, effects).await;
        }
    }

    /// Tells every instance whether it is in a group, and takes back what a group said that is gone.
    pub(super) fn regroup(&mut self) {
        for index in 0..self.routers.len() {
            let members = self.group_of(index).unwrap_or_default();
            let others_fail = members.iter().any(|member| *member != index && self.own_fault(*member));
            let router = &mut self.routers[index];
            router.core.set_grouped(members.len() > 1);
            router.faults.group = others_fail && !router.leaving;
        }
    }

    /// The members of the group this instance is in.
    fn group_of(&self, index: usize) -> Option<Vec<usize>> {
        let name = self.routers[index].name();
        let group = self.config.groups.iter().find(|group| group.members.iter().any(|it| it == name))?;
        let is_member = |other: &usize| {
            let router = &self.routers[*other];
            !router.leaving && group.members.iter().any(|name| name == router.name())
        };
        Some((0..self.routers.len()).filter(is_member).collect())
    }

    fn own_fault(&self, index: usize) -> bool {
        let router = &self.routers[index];
        let mut faults = router.faults;
        faults.group = false;
        faults.link || faults.source || self.tracked(&router.config).faults > 0
    }

    fn tell_group(&mut self, at: usize, members: &[usize]) {
        let states: Vec<State> = members.iter().map(|member| self.routers[*member].core.state()).collect();
        let state = group_state(&states);
        if state.is_none() || self.group_states[at] == state {
            return;
        }
        self.group_states[at] = state;
        let word = match state {
            Some(State::Master) => NotifyState::Master,
            Some(State::Backup) => NotifyState::Backup,
            Some(State::Fault) => NotifyState::Fault,
            _ => return,
        };
        let group = &self.config.groups[at];
        tracing::info!(group = group.name, state = word.word(), "sync group");
        let priority = members.iter().map(|member| self.routers[*member].core.effective_priority()).min();
        self.notifier.tell(Notification {
            is_group: true,
            name: group.name.clone(),
            state: word,
            priority: priority.unwrap_or(0),
            config: group.notify.clone(),
            user: self.config.global.script_user,
        });
    }
}
