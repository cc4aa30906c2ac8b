//! Tests of a server's state: status words and what changes them.

use super::*;
use crate::config::server::{Agent, Track};

fn options() -> ServerOptions {
    ServerOptions { check: true, ..ServerOptions::default() }
}

fn report(status: CheckStatus) -> CheckReport {
    CheckReport { status, code: 0, info: String::new(), duration: Duration::ZERO }
}

fn words(condition: &mut Condition, statuses: &[CheckStatus]) -> Vec<String> {
    let now = Instant::now();
    statuses
        .iter()
        .map(|status| {
            condition.check_ended(report(*status), now);
            condition.status()
        })
        .collect()
}

#[test]
fn status_words_are_haproxys() {
    use CheckStatus::{L4Con, L4Ok, L7OkConditionally};
    let now = Instant::now();
    let mut condition = Condition::new(&options(), now);
    assert_eq!(condition.status(), "UP 1/3");
    assert_eq!(
        words(&mut condition, &[L4Ok, L4Con, L4Con, L4Con, L4Ok, L4Ok]),
        ["UP", "UP 2/3", "UP 1/3", "DOWN", "DOWN 1/2", "UP"]
    );
    assert_eq!((condition.failed_checks, condition.downs), (3, 1));
    assert_eq!(words(&mut condition, &[L7OkConditionally, L4Con, L4Ok]), ["NOLB", "NOLB 2/3", "UP"]);
    condition.order(Admin::FORCED_DRAIN, true, now);
    assert_eq!((condition.status().as_str(), condition.is_usable()), ("DRAIN", false));
    assert_eq!(words(&mut condition, &[L4Con]), ["DRAIN 2/3"]);
    condition.order(Admin::FORCED_MAINTENANCE, true, now);
    assert_eq!((condition.status().as_str(), condition.is_up()), ("MAINT", false));
    // A check that ends now says nothing.
    assert_eq!(words(&mut condition, &[L4Con]), ["MAINT"]);
    condition.order(Admin::FORCED_DRAIN, false, now);
    let transition = condition.order(Admin::FORCED_MAINTENANCE, false, now);
    assert_eq!((transition.turned(), condition.status().as_str()), (Some(true), "UP 1/3"));
}

#[test]
fn a_server_without_checks_or_address_says_so() {
    let now = Instant::now();
    let mut condition = Condition::new(&ServerOptions::default(), now);
    assert_eq!((condition.status().as_str(), condition.is_usable()), ("no check", true));
    condition.order(Admin::NO_ADDRESS, true, now);
    assert_eq!((condition.status().as_str(), condition.is_usable()), ("MAINT (resolution)", false));
    condition.order(Admin::NO_ADDRESS, false, now);
    assert!(condition.is_usable());
    let disabled = ServerOptions { disabled: true, ..ServerOptions::default() };
    let mut condition = Condition::new(&disabled, now);
    assert_eq!((condition.status().as_str(), condition.admin.bits()), ("MAINT", 5));
    condition.order(Admin::FORCED_MAINTENANCE, false, now);
    assert_eq!((condition.status().as_str(), condition.admin.bits()), ("no check", 4));
}

#[test]
fn an_agent_takes_a_server_down_and_up_only_by_its_word() {
    let now = Instant::now();
    let agent = Agent { check: true, ..Agent::default() };
    let mut condition = Condition::new(&ServerOptions { agent, ..options() }, now);
    condition.check_ended(report(CheckStatus::L4Ok), now);
    let (transition, told) = condition.agent_ended(report(CheckStatus::L4Con), now);
    assert!(!transition.is_change() && told, "no agent is no reason to go down");
    let (_, told) = condition.agent_ended(report(CheckStatus::Checked), now);
    assert!(!told);
    let (transition, _) = condition.agent_ended(report(CheckStatus::L7Status), now);
    assert_eq!((transition.turned(), condition.status().as_str()), (Some(false), "DOWN (agent)"));
    // The health check cannot bring it back, the agent can.
    condition.check_ended(report(CheckStatus::L4Ok), now);
    assert_eq!(condition.status(), "DOWN (agent)");
    condition.agent_ended(report(CheckStatus::L7Ok), now);
    assert_eq!(condition.status(), "UP");
    condition.order(Admin::FORCED_DRAIN, true, now);
    assert_eq!(condition.status(), "DRAIN (agent)");
}

#[test]
fn watched_sessions_count_as_haproxy_counts_them() {
    let now = Instant::now();
    let table = [
        (OnError::FastInter, "UP", "UP"),
        (OnError::FailCheck, "UP 2/3", "UP 1/3"),
        (OnError::SuddenDeath, "UP 1/3", "DOWN"),
        (OnError::MarkDown, "DOWN", "DOWN"),
    ];
    for (on_error, first, second) in table {
        let mut condition = Condition::new(&options(), now);
        condition.check_ended(report(CheckStatus::L4Ok), now);
        let mut see = |connected| {
            let result = condition.observed(connected, 2, on_error, now);
            (result, condition.status())
        };
        assert!(see(false).0.is_none());
        assert!(see(true).0.is_none(), "a good one begins the count anew");
        assert!(see(false).0.is_none());
        let (result, status) = see(false);
        assert_eq!(status, first, "{on_error:?}");
        assert_eq!(
            result.unwrap().1.info,
            "Detected 2 consecutive errors, last one was: L4 unsuccessful connection"
        );
        see(false);
        assert_eq!(see(false).1, second, "{on_error:?}");
        assert_eq!(condition.failed_observations, 2);
    }
}

#[test]
fn a_server_that_tracks_follows_state_and_orders() {
    let now = Instant::now();
    let track = Track { backend: None, server: "a".to_owned() };
    let mut tracked = Condition::new(&options(), now);
    let mut condition = Condition::new(&ServerOptions { track: Some(track), ..options() }, now);
    condition.via = Some("b/a".into());
    for _ in 0..3 {
        tracked.check_ended(report(CheckStatus::L4Con), now);
    }
    assert_eq!(condition.follow(&tracked, now).turned(), Some(false));
    assert_eq!(condition.state, State::Stopped);
    for _ in 0..2 {
        tracked.check_ended(report(CheckStatus::L4Ok), now);
    }
    assert_eq!(condition.follow(&tracked, now).turned(), Some(true));
    tracked.order(Admin::FORCED_MAINTENANCE, true, now);
    condition.follow(&tracked, now);
    assert_eq!(condition.status(), "MAINT (via b/a)");
    tracked.order(Admin::FORCED_MAINTENANCE, false, now);
    condition.follow(&tracked, now);
    assert!(condition.is_usable());
    tracked.order(Admin::FORCED_DRAIN, true, now);
    condition.follow(&tracked, now);
    assert_eq!((condition.is_usable(), condition.admin), (false, Admin::INHERITED_DRAIN));
    tracked.force(Forced::Stopping, now);
    condition.follow(&tracked, now);
    assert_eq!(condition.state, State::Stopping);
}

#[test]
fn a_slow_start_ends_by_time() {
    let now = Instant::now();
    let after = |seconds| now + Duration::from_secs(seconds);
    let slow = ServerOptions { slowstart: Some(Duration::from_secs(10)), rise: 1, fall: 1, ..options() };
    let mut condition = Condition::new(&slow, now);
    condition.check_ended(report(CheckStatus::L4Ok), now);
    assert_eq!(condition.state, State::Running, "nothing starts slowly at the beginning");
    condition.check_ended(report(CheckStatus::L4Con), now);
    condition.check_ended(report(CheckStatus::L4Ok), now);
    assert_eq!((condition.state, condition.slowstart(after(4))), (State::Starting, Some((4, 10))));
    assert!(condition.warm(after(9)) && condition.is_usable());
    assert!(!condition.warm(after(10)));
    assert_eq!((condition.state, condition.slowstart(after(10))), (State::Running, None));
}

#[test]
fn orders_pretend_what_checks_said() {
    let now = Instant::now();
    let mut condition = Condition::new(&options(), now);
    for (forced, status) in [
        (Forced::Stopping, "NOLB"),
        (Forced::Down, "DOWN"),
        (Forced::Up, "UP"),
        (Forced::AgentDown, "DOWN 4/2"),
        (Forced::AgentUp, "UP"),
    ] {
        condition.force(forced, now);
        if forced != Forced::AgentDown {
            assert_eq!(condition.status(), status, "{forced:?}");
        } else {
            assert_eq!(condition.state, State::Stopped);
        }
    }
}

#[test]
fn health_is_nothing_in_maintenance_and_stays_so_without_checks() {
    let now = Instant::now();
    for (checked, after) in [(true, 2), (false, 0)] {
        let mut condition = Condition::new(&ServerOptions { check: checked, rise: 2, ..options() }, now);
        assert_eq!(condition.health.value(), 2);
        condition.order(Admin::FORCED_MAINTENANCE, true, now);
        assert_eq!(condition.health.value(), 0);
        condition.order(Admin::FORCED_MAINTENANCE, false, now);
        assert_eq!((condition.health.value(), condition.is_usable()), (after, true), "{checked}");
    }
    let disabled = Condition::new(&ServerOptions { disabled: true, ..options() }, now);
    assert_eq!(disabled.health.value(), 0);
}

#[test]
fn downtime_adds_up() {
    let start = Instant::now();
    let mut condition = Condition::new(&ServerOptions { rise: 1, fall: 1, ..options() }, start);
    let after = |seconds| start + Duration::from_secs(seconds);
    condition.check_ended(report(CheckStatus::L4Con), after(10));
    assert_eq!(condition.downtime(after(15)).as_secs(), 5);
    condition.check_ended(report(CheckStatus::L4Ok), after(20));
    assert_eq!(condition.downtime(after(100)).as_secs(), 10);
}
