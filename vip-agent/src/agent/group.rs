//! Sync groups: the members of a group go the same way.

use vrrp::sync_group::{Follow, follow, group_state};
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
        let members: Vec<usize> = (0..self.routers.len())
            .filter(|other| {
                self.config.groups[at].members.iter().any(|name| name == self.routers[*other].name())
            })
            .collect();
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
            fifo: self.config.global.notify_fifo.clone(),
        });
    }
}
