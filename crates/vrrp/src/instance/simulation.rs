//! Two and three agents in virtual time on a network that loses, delays and reorders adverts, with clocks
//! that run at different speeds. After the network has been quiet for two master-down times there is
//! exactly one master, and it is the one that should win.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::InstanceConfig;

const STEP: Duration = Duration::from_millis(5);

struct Agent {
    instance: Instance,
    address: [u8; 4],
    /// Clock speed in parts per thousand.
    speed: u32,
}

struct Packet {
    arrives: Duration,
    to: usize,
    from: [u8; 4],
    priority: u8,
}

/// A deterministic source of luck.
struct Luck(u64);

impl Luck {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn run(priorities: &[u8], speeds: &[u32], loss_percent: u64, seed: u64, version: Version) -> Vec<State> {
    let mut luck = Luck(seed);
    let mut agents: Vec<Agent> = priorities
        .iter()
        .zip(speeds)
        .zip(1u8..)
        .map(|((priority, speed), host)| {
            let mut config = InstanceConfig::new("VI_1", 66, vec![[10, 0, 0, 66].into()]);
            (config.priority, config.version) = (*priority, version);
            let address = [10, 0, 0, host];
            Agent { instance: Instance::new(config, address.into()), address, speed: *speed }
        })
        .collect();
    let mut network: Vec<Packet> = Vec::new();
    let (noisy, end) = (Duration::from_secs(20), Duration::from_secs(30));
    let mut now = Duration::ZERO;
    while now < end {
        for (index, agent) in agents.iter_mut().enumerate() {
            let mut out = Vec::new();
            let clock = now * agent.speed / 1000;
            let address = agent.address;
            let instance = &mut agent.instance;
            instance.start(clock, &mut out);
            let (due, rest): (Vec<_>, Vec<_>) =
                network.drain(..).partition(|packet| packet.to == index && packet.arrives <= now);
            network = rest;
            for packet in due {
                let advert = instance.config().advert(packet.priority);
                let received = Received { source: packet.from.into(), hop_limit: 255, advert: &advert };
                instance.receive(clock, &received, &mut out).expect("equal configurations");
            }
            instance.timer(clock, &mut out);
            for effect in out {
                let Effect::SendAdvert { priority } = effect else { continue };
                for to in (0..priorities.len()).filter(|to| *to != index) {
                    let lossy = now < noisy;
                    if lossy && luck.below(100) < loss_percent {
                        continue;
                    }
                    let delay = Duration::from_millis(luck.below(if lossy { 400 } else { 5 }));
                    network.push(Packet { arrives: now + delay, to, from: address, priority });
                }
            }
        }
        now += STEP;
    }
    agents.iter().map(|agent| agent.instance.state()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_master_remains_when_the_network_is_quiet(
        priorities in proptest::collection::vec(1u8..=254, 2..4),
        speeds in proptest::collection::vec(950u32..1050, 3),
        loss in 0u64..100,
        seed in any::<u64>(),
        three in any::<bool>(),
    ) {
        let version = if three { Version::V3 } else { Version::V2 };
        let states = run(&priorities, &speeds, loss, seed, version);
        let masters: Vec<usize> = (0..states.len()).filter(|at| states[*at] == State::Master).collect();
        let highest = priorities.iter().copied().max().unwrap();
        prop_assert_eq!(masters.len(), 1, "{:?}", states);
        prop_assert_eq!(priorities[masters[0]], highest, "the highest priority wins");
    }
}
