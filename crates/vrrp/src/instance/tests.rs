//! A table of every (state, input) pair, and the timing rules one by one.

use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::config::InstanceConfig;
use crate::packet::{Auth, Password};

const LOCAL: [u8; 4] = [10, 0, 0, 5];
const LOWER_HOST: [u8; 4] = [10, 0, 0, 4];
const HIGHER_HOST: [u8; 4] = [10, 0, 0, 6];
const SECOND: Duration = Duration::from_secs(1);

fn config() -> InstanceConfig {
    InstanceConfig::new("VI_1", 66, vec![[10, 0, 0, 66].into()])
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// An instance and the effects it answered, with a clock that only moves when told.
struct Bench {
    instance: Instance,
    now: Duration,
}

impl Bench {
    fn new(config: InstanceConfig) -> Self {
        Self { instance: Instance::new(config, LOCAL.into()), now: ms(1000) }
    }

    fn started(config: InstanceConfig) -> Self {
        let mut bench = Self::new(config);
        bench.start();
        bench
    }

    fn in_state(state: State) -> Self {
        let mut bench = Self::new(config());
        match state {
            State::Init => {
                bench.track(Tracking { pending: 1, ..Tracking::default() });
                bench.start();
            }
            State::Backup => drop(bench.start()),
            State::Master => {
                bench.start();
                bench.now += ms(3700);
                bench.timer();
            }
            State::Fault => {
                bench.track(Tracking { faults: 1, ..Tracking::default() });
                bench.start();
            }
            State::Releasing => {
                bench = Self::in_state(State::Master);
                bench.stop();
            }
        }
        assert_eq!(bench.instance.state(), state);
        bench
    }

    fn start(&mut self) -> Vec<Effect> {
        let mut out = Vec::new();
        self.instance.start(self.now, &mut out);
        out
    }

    fn track(&mut self, tracking: Tracking) -> Vec<Effect> {
        let mut out = Vec::new();
        self.instance.track(self.now, tracking, &mut out);
        out
    }

    fn timer(&mut self) -> Vec<Effect> {
        let mut out = Vec::new();
        self.instance.timer(self.now, &mut out);
        out
    }

    fn stop(&mut self) -> Vec<Effect> {
        let mut out = Vec::new();
        self.instance.stop(self.now, &mut out);
        out
    }

    fn hear(&mut self, source: [u8; 4], priority: u8) -> Vec<Effect> {
        let advert = self.instance.config().advert(priority);
        self.hear_advert(source, &advert).unwrap()
    }

    fn hear_advert(&mut self, source: [u8; 4], advert: &crate::Advert) -> Result<Vec<Effect>, Rejected> {
        let mut out = Vec::new();
        let received = Received { source: source.into(), hop_limit: 255, advert };
        self.instance.receive(self.now, &received, &mut out)?;
        Ok(out)
    }

    fn due_in(&self) -> Option<Duration> {
        self.instance.next_deadline().map(|due| due.saturating_sub(self.now))
    }
}

/// Short names of effects, so that a table stays readable.
fn names(effects: &[Effect]) -> String {
    let name = |effect: &Effect| match effect {
        Effect::SendAdvert { priority } => format!("send{priority}"),
        Effect::AddAddresses => "add".into(),
        Effect::RemoveAddresses => "remove".into(),
        Effect::Announce { repeat } => format!("announce{repeat}"),
        Effect::Transition { to, .. } => format!(">{}", to.word()),
        Effect::Notify(state, _) => format!("notify-{}", state.word()),
        Effect::Priority { to, .. } => format!("priority{to}"),
        Effect::Alarm(alarm) => match alarm {
            Alarm::LateTimer { .. } => "late".into(),
            Alarm::OtherMaster { .. } => "other-master".into(),
            Alarm::AddressMismatch { .. } => "mismatch".into(),
            Alarm::IntervalLearned { .. } => "learned".into(),
            Alarm::TwoOwners { .. } => "two-owners".into(),
            Alarm::TwoMasters { .. } => "two-masters".into(),
        },
        Effect::WantsMaster => "wants-master".into(),
        Effect::Stopped => "stopped".into(),
    };
    effects.iter().map(name).collect::<Vec<_>>().join(" ")
}

#[derive(Clone, Copy, Debug)]
enum Input {
    Start,
    Timer,
    Advert0,
    Lower,
    EqualLowerHost,
    EqualHigherHost,
    Higher,
    Fault,
    FaultOver,
    Weight,
    Stop,
    GroupMaster,
    GroupBackup,
}

const INPUTS: [Input; 13] = [
    Input::Start,
    Input::Timer,
    Input::Advert0,
    Input::Lower,
    Input::EqualLowerHost,
    Input::EqualHigherHost,
    Input::Higher,
    Input::Fault,
    Input::FaultOver,
    Input::Weight,
    Input::Stop,
    Input::GroupMaster,
    Input::GroupBackup,
];

fn apply(bench: &mut Bench, input: Input) -> Vec<Effect> {
    match input {
        Input::Start => bench.start(),
        Input::Timer => {
            bench.now = bench.instance.next_deadline().unwrap_or(bench.now);
            bench.timer()
        }
        Input::Advert0 => bench.hear(HIGHER_HOST, 0),
        Input::Lower => bench.hear(HIGHER_HOST, 50),
        Input::EqualLowerHost => bench.hear(LOWER_HOST, 100),
        Input::EqualHigherHost => bench.hear(HIGHER_HOST, 100),
        Input::Higher => bench.hear(LOWER_HOST, 150),
        Input::Fault => bench.track(Tracking { faults: 1, ..Tracking::default() }),
        Input::FaultOver => bench.track(Tracking::default()),
        Input::Weight => {
            let mut tracking = bench.instance.tracking();
            tracking.adjustment = -20;
            bench.track(tracking)
        }
        Input::Stop => bench.stop(),
        Input::GroupMaster | Input::GroupBackup => {
            let mut out = Vec::new();
            bench.instance.follow_group(bench.now, matches!(input, Input::GroupMaster), &mut out);
            out
        }
    }
}

/// Rows in the order of [`INPUTS`]: state after, effects.
#[expect(clippy::too_many_lines, reason = "one table")]
fn expected(state: State) -> [(State, &'static str); 13] {
    use State::{Backup, Fault, Init, Master, Releasing};
    const BECOME_MASTER: &str = "add send100 >MASTER announce5 notify-MASTER";
    const YIELDS: &str = "send100 remove >BACKUP notify-BACKUP";
    const ANSWER: &str = "other-master send100 announce5";
    const RELEASED: &str = "remove >INIT notify-STOP stopped";
    const STOPS: &str = ">INIT notify-STOP stopped";
    match state {
        Init => [
            (Init, "remove"),
            (Init, ""),
            (Init, ""),
            (Init, ""),
            (Init, ""),
            (Init, ""),
            (Init, ""),
            (Fault, ">FAULT notify-FAULT"),
            (Backup, ">BACKUP notify-BACKUP"),
            (Init, "priority80"),
            (Init, STOPS),
            (Init, ""),
            (Init, ""),
        ],
        Backup => [
            (Backup, ""),
            (Master, BECOME_MASTER),
            (Backup, ""),
            (Backup, ""),
            (Backup, ""),
            (Backup, ""),
            (Backup, ""),
            (Fault, ">FAULT notify-FAULT"),
            (Backup, ""),
            (Backup, "priority80"),
            (Init, STOPS),
            (Master, BECOME_MASTER),
            (Backup, ""),
        ],
        Master => [
            (Master, ""),
            (Master, "send100"),
            (Master, "send100"),
            (Master, ANSWER),
            (Master, ANSWER),
            (Backup, YIELDS),
            (Backup, YIELDS),
            (Fault, "send0 remove >FAULT notify-FAULT"),
            (Master, ""),
            (Master, "priority80 send80"),
            (Releasing, "send0 >RELEASING"),
            (Master, ""),
            (Backup, "send0 remove >BACKUP notify-BACKUP"),
        ],
        Fault => [
            (Fault, ""),
            (Fault, ""),
            (Fault, ""),
            (Fault, ""),
            (Fault, ""),
            (Fault, ""),
            (Fault, ""),
            (Fault, ""),
            (Backup, ">BACKUP notify-BACKUP"),
            (Fault, "priority80"),
            (Init, STOPS),
            (Fault, ""),
            (Fault, ""),
        ],
        Releasing => [
            (Releasing, ""),
            (Init, RELEASED),
            (Releasing, ""),
            (Releasing, ""),
            (Releasing, ""),
            (Releasing, ""),
            (Releasing, ""),
            (Releasing, ""),
            (Releasing, ""),
            (Releasing, ""),
            (Init, RELEASED),
            (Releasing, ""),
            (Releasing, ""),
        ],
    }
}

#[test]
fn every_state_and_input() {
    for state in [State::Init, State::Backup, State::Master, State::Fault, State::Releasing] {
        for (input, (after, effects)) in INPUTS.into_iter().zip(expected(state)) {
            let mut bench = Bench::in_state(state);
            let answered = apply(&mut bench, input);
            assert_eq!(names(&answered), effects, "{state:?} {input:?}");
            assert_eq!(bench.instance.state(), after, "{state:?} {input:?}");
        }
    }
}

#[test]
fn a_backup_gives_peers_that_start_with_it_the_time_it_is_told_to() {
    let mut bench = Bench::started(InstanceConfig { start_grace: ms(200), ..config() });
    assert_eq!(bench.due_in(), Some(Duration::from_micros(3_809_375)));
    bench.hear(HIGHER_HOST, 120);
    assert_eq!(bench.due_in(), Some(Duration::from_micros(3_609_375)), "only at the start");
    let nopreempt = InstanceConfig { preempt: false, start_grace: ms(200), ..config() };
    assert_eq!(Bench::started(nopreempt).due_in(), Some(Duration::from_micros(3_809_375)), "the longer one");
}

#[test]
fn start_sweeps_leftovers_and_waits_a_master_down_interval() {
    let mut bench = Bench::new(config());
    assert_eq!(names(&bench.start()), "remove >BACKUP notify-BACKUP");
    assert_eq!(bench.due_in(), Some(Duration::from_micros(3_609_375)));
}

#[test]
fn a_starting_router_with_nopreempt_is_a_little_more_patient() {
    let mut config = config();
    config.preempt = false;
    let mut bench = Bench::started(config);
    assert_eq!(bench.due_in(), Some(Duration::from_micros(3_649_375)));
    bench.hear(HIGHER_HOST, 90);
    assert_eq!(bench.due_in(), Some(Duration::from_micros(3_609_375)), "only at the start");
}

#[test]
fn priority_255_is_master_at_once() {
    let mut owner = config();
    owner.priority = 255;
    let mut bench = Bench::new(owner);
    assert_eq!(names(&bench.start()), "remove add send255 >MASTER announce5 notify-MASTER");
}

#[test]
fn adverts_keep_their_beat_when_the_program_is_slow() {
    let mut bench = Bench::in_state(State::Master);
    let first = bench.instance.next_deadline().unwrap();
    bench.now = first + ms(40);
    assert_eq!(names(&bench.timer()), "send100");
    assert_eq!(bench.instance.next_deadline(), Some(first + SECOND), "no drift");
    bench.now = first + SECOND * 4 + ms(300);
    assert_eq!(names(&bench.timer()), "late send100 announce5", "one advert, not four");
    assert_eq!(bench.instance.next_deadline(), Some(bench.now + SECOND));
    assert_eq!(bench.instance.counters().late_timers, 1);
}

#[test]
fn second_round_of_gratuitous_arp_and_refresh() {
    let mut config = config();
    config.announce = crate::Announce {
        repeat: 2,
        delay: SECOND * 2,
        refresh: SECOND * 3,
        refresh_repeat: 1,
        ..crate::Announce::default()
    };
    let mut bench = Bench::started(config);
    let mut log = Vec::new();
    let end = bench.now + ms(3610) + SECOND * 7;
    while let Some(due) = bench.instance.next_deadline().filter(|due| *due < end) {
        bench.now = due;
        for effect in bench.timer() {
            if let Effect::Announce { repeat } = effect {
                log.push(((due.as_millis() - 4609), repeat));
            }
        }
    }
    assert_eq!(log, [(0, 2), (2000, 2), (3000, 1), (6000, 1)]);
}

#[test]
fn priority_zero_shortens_the_wait_to_the_skew_time() {
    let mut bench = Bench::in_state(State::Backup);
    bench.hear(HIGHER_HOST, 150);
    bench.now += ms(500);
    bench.hear(HIGHER_HOST, 0);
    assert_eq!(bench.due_in(), Some(Duration::from_micros(609_375)));
    bench.now += ms(610);
    let effects = bench.timer();
    assert!(matches!(effects[2], Effect::Transition { reason: Reason::MasterLeft, .. }), "{effects:?}");
}

#[test]
fn a_lower_master_does_not_reset_the_timer_unless_nopreempt() {
    let mut bench = Bench::in_state(State::Backup);
    bench.now += SECOND * 3;
    bench.hear(HIGHER_HOST, 90);
    assert_eq!(bench.due_in(), Some(Duration::from_micros(609_375)));

    let mut config = config();
    config.preempt = false;
    let mut bench = Bench::started(config);
    bench.now += SECOND * 3;
    bench.hear(HIGHER_HOST, 90);
    assert_eq!(bench.due_in(), Some(Duration::from_micros(3_609_375)));
}

#[test]
fn a_degraded_master_is_replaced_after_one_skew_time() {
    let mut bench = Bench::in_state(State::Backup);
    bench.hear(HIGHER_HOST, 150);
    bench.now += ms(100);
    bench.hear(HIGHER_HOST, 80);
    assert_eq!(bench.due_in(), Some(Duration::from_micros(609_375)));
    bench.now += ms(200);
    bench.hear(HIGHER_HOST, 80);
    assert_eq!(bench.due_in(), Some(Duration::from_micros(409_375)), "a second advert does not extend it");
    bench.hear(HIGHER_HOST, 150);
    assert_eq!(bench.due_in(), Some(Duration::from_micros(3_609_375)), "the master recovered");
}

#[test]
fn preempt_delay_leaves_the_lower_master_alone_for_a_while() {
    let mut config = config();
    config.preempt_delay = SECOND * 5;
    let mut bench = Bench::started(config);
    bench.hear(HIGHER_HOST, 90);
    let from = bench.now;
    while bench.instance.state() == State::Backup {
        bench.now += ms(500);
        bench.hear(HIGHER_HOST, 90);
        bench.timer();
    }
    assert_eq!(bench.now - from, SECOND * 5);
}

#[test]
fn version_3_learns_the_masters_interval_and_forgets_it() {
    let mut config = config();
    config.version = Version::V3;
    let mut bench = Bench::started(config.clone());
    config.advert_interval = SECOND * 2;
    let advert = config.advert(150);
    let effects = bench.hear_advert(HIGHER_HOST, &advert).unwrap();
    assert_eq!(names(&effects), "learned");
    let skew = SECOND * 2 * 156 / 256;
    assert_eq!(bench.due_in(), Some(SECOND * 6 + skew));
    bench.now += SECOND * 6 + skew;
    bench.timer();
    assert_eq!(bench.due_in(), Some(SECOND), "our own interval as master");
}

#[test]
fn rejected_adverts_change_nothing_and_are_counted_by_reason() {
    let mut config = config();
    config.auth = Auth::Simple(Password::new("1111"));
    let mut bench = Bench::started(config.clone());
    let before = bench.instance.next_deadline();
    let good = config.advert(150);
    let rejected = |bench: &mut Bench, change: fn(&mut crate::Advert)| {
        let mut advert = good.clone();
        change(&mut advert);
        bench.now += ms(1);
        bench.hear_advert(HIGHER_HOST, &advert).unwrap_err()
    };
    assert_eq!(
        rejected(&mut bench, |advert| advert.auth = Auth::Simple(Password::new("2"))),
        Rejected::Password
    );
    assert_eq!(
        rejected(&mut bench, |advert| advert.auth = Auth::None),
        Rejected::AuthType { theirs: 0, ours: 1 }
    );
    assert_eq!(
        rejected(&mut bench, |advert| advert.interval_cs = 200),
        Rejected::Interval { theirs: SECOND * 2, ours: SECOND }
    );
    assert_eq!(
        rejected(&mut bench, |advert| advert.version = Version::V3),
        Rejected::Version { theirs: 3, ours: 2 }
    );
    let mut out = Vec::new();
    let from = |source: [u8; 4], hop_limit| Received { source: source.into(), hop_limit, advert: &good };
    let now = bench.now;
    assert_eq!(bench.instance.receive(now, &from(HIGHER_HOST, 254), &mut out), Err(Rejected::HopLimit(254)));
    assert_eq!(bench.instance.receive(now, &from(LOCAL, 255), &mut out), Err(Rejected::Own));
    assert_eq!((bench.instance.next_deadline(), out.len()), (before, 0));
    let counters = bench.instance.counters();
    let by_reason = [
        counters.auth_failures,
        counters.auth_type_errors,
        counters.interval_errors,
        counters.version_errors,
        counters.hop_limit_errors,
        counters.adverts_received,
    ];
    assert_eq!(by_reason, [1, 1, 1, 1, 1, 0]);
}

#[test]
fn unicast_takes_adverts_of_its_peers_only_and_ignores_the_hop_limit() {
    let mut config = config();
    config.unicast_peers = vec![HIGHER_HOST.into()];
    let advert = config.advert(150);
    let mut bench = Bench::started(config);
    let mut out = Vec::new();
    let received = |source: [u8; 4]| Received { source: source.into(), hop_limit: 60, advert: &advert };
    assert_eq!(bench.instance.receive(bench.now, &received(HIGHER_HOST), &mut out), Ok(()));
    assert_eq!(
        bench.instance.receive(bench.now, &received(LOWER_HOST), &mut out),
        Err(Rejected::UnknownPeer)
    );
}

#[test]
fn another_address_list_is_reported_once_and_obeyed() {
    let mut bench = Bench::in_state(State::Backup);
    let mut advert = bench.instance.config().advert(150);
    advert.addresses.push([10, 0, 0, 67].into());
    assert_eq!(names(&bench.hear_advert(HIGHER_HOST, &advert).unwrap()), "mismatch");
    assert_eq!(names(&bench.hear_advert(HIGHER_HOST, &advert).unwrap()), "");
    assert_eq!(bench.instance.counters().address_mismatches, 2);
    assert_eq!(bench.due_in(), Some(Duration::from_micros(3_609_375)), "the master counts");
    advert.addresses.reverse();
    advert.addresses.remove(0);
    assert_eq!(names(&bench.hear_advert(HIGHER_HOST, &advert).unwrap()), "");
}

#[test]
fn a_stopping_master_waits_for_its_successor() {
    let mut bench = Bench::in_state(State::Master);
    assert_eq!(names(&bench.stop()), "send0 >RELEASING");
    bench.now += ms(600);
    bench.hear(HIGHER_HOST, 90);
    assert_eq!(bench.due_in(), Some(ms(20)));
    bench.now += ms(20);
    assert_eq!(names(&bench.timer()), "remove >INIT notify-STOP stopped");

    let mut bench = Bench::in_state(State::Master);
    bench.stop();
    assert!(bench.due_in().unwrap() < ms(1300), "nobody there: do not wait for ever");
}

#[test]
fn reload_changes_what_changed_and_nothing_else() {
    let mut bench = Bench::in_state(State::Master);
    let before = bench.instance.next_deadline();
    let mut out = Vec::new();
    bench.instance.reload(bench.now, config(), &mut out);
    assert_eq!((names(&out).as_str(), bench.instance.next_deadline()), ("", before));

    let mut lower = config();
    lower.priority = 80;
    bench.instance.reload(bench.now, lower.clone(), &mut out);
    assert_eq!(names(&out), "priority80 send80");
    out.clear();
    lower.addresses.push([10, 0, 0, 67].into());
    bench.instance.reload(bench.now, lower, &mut out);
    assert_eq!((names(&out).as_str(), bench.instance.state()), ("send80 announce5", State::Master));
}

#[test]
fn lower_adverts_are_announced_at_most_twice_a_second() {
    let mut bench = Bench::in_state(State::Master);
    assert_eq!(names(&bench.hear(LOWER_HOST, 50)), "other-master send100 announce5");
    bench.now += ms(100);
    assert_eq!(names(&bench.hear(LOWER_HOST, 50)), "other-master send100");
    bench.now += ms(450);
    assert_eq!(names(&bench.hear(LOWER_HOST, 50)), "other-master send100 announce5");
}

#[test]
fn a_member_of_a_group_asks_before_it_becomes_master() {
    let mut bench = Bench::in_state(State::Backup);
    bench.instance.set_grouped(true);
    bench.hear(HIGHER_HOST, 150);
    bench.now += ms(3700);
    assert_eq!(names(&bench.timer()), "wants-master");
    assert!(bench.instance.wants_master() && bench.instance.state() == State::Backup);
    bench.hear(HIGHER_HOST, 50);
    assert!(bench.instance.wants_master(), "a lower master changes nothing");
    bench.hear(HIGHER_HOST, 150);
    assert!(!bench.instance.wants_master(), "the master is back");
    assert_eq!(bench.due_in(), Some(Duration::from_micros(3_609_375)));

    bench.now += ms(3700);
    bench.timer();
    let mut out = Vec::new();
    bench.instance.follow_group(bench.now, true, &mut out);
    assert_eq!(names(&out), "add send100 >MASTER announce5 notify-MASTER");
    assert!(!bench.instance.wants_master());
}

#[test]
fn a_member_of_a_group_waits_out_its_preempt_delay_once() {
    let mut config = config();
    config.preempt_delay = SECOND * 5;
    let mut bench = Bench::started(config);
    bench.instance.set_grouped(true);
    let mut wants = 0;
    for _ in 0..30 {
        bench.now += ms(500);
        bench.hear(HIGHER_HOST, 90);
        wants += usize::from(names(&bench.timer()).contains("wants-master"));
    }
    assert_eq!((wants, bench.instance.wants_master()), (1, true));
}

#[test]
fn a_backup_that_hears_two_masters_says_so() {
    let mut bench = Bench::in_state(State::Backup);
    let mut told = Vec::new();
    for turn in 0..12 {
        bench.now += ms(500);
        let host = if turn % 2 == 0 { LOWER_HOST } else { HIGHER_HOST };
        told.extend(bench.hear(host, 150));
    }
    assert_eq!(names(&told), "two-masters");
}

#[test]
fn ties_compare_addresses_as_numbers() {
    let nine: IpAddr = [10, 0, 0, 9].into();
    let ten: IpAddr = [10, 0, 0, 10].into();
    assert!(ten > nine);
}
