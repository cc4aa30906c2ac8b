//! Publishers with confirms and consumers on a mirrored queue, and a fault in the middle: the account is right.

use super::NEEDS;
use anyhow::{Context as _, Result, ensure};
use harness::account::{Balance, Published, Received, balance};
use harness::clients::Client;
use harness::cluster::{Cluster, HOSTS, LIMIT};
use harness::ready;
use std::time::{Duration, Instant};
use xtask::lab::wait::until_true;

/// The queue.
const QUEUE: &str = "account";

/// A cluster with a mirrored queue and its clients.
struct Traffic {
    publishers: Vec<Client>,
    /// Each published to one node that was not struck, during one fault.
    bystanders: Vec<Client>,
    consumer: Client,
    cluster: Cluster,
}

/// What a fault meant for a publisher on a node that went on.
struct Seen {
    /// Seconds without a confirm.
    outage: f64,
    /// Messages that were refused.
    refused: usize,
    /// Connections that it lost.
    lost: usize,
}

impl Traffic {
    fn start(name: &str) -> Result<Self> {
        let cluster = Cluster::joined(name)?;
        cluster.must("A", "set_policy xall ^ '{\"ha-mode\":\"all\",\"ha-sync-mode\":\"automatic\"}'")?;
        // Made on A, which leads it.
        cluster.client("fill", &[&cluster.url("A"), QUEUE, "0"])?;
        let queue = ["--queue", QUEUE];
        let consumer = cluster.start_client("consume", "consumer", &HOSTS, &queue)?;
        let publishers = ["p0", "p1"].map(|name| {
            cluster.start_client(
                "publish",
                name,
                &HOSTS,
                &[&queue[..], &["--name", name, "--rate", "100"]].concat(),
            )
        });
        let publishers = publishers.into_iter().collect::<Result<Vec<_>>>()?;
        let traffic = Self { publishers, bystanders: Vec::new(), consumer, cluster };
        traffic.flows(100, "before the fault")?;
        Ok(traffic)
    }

    fn balance(&self) -> Balance {
        // In this order: what is published later is not missed.
        let mut published = Published::default();
        let all = self.publishers.iter().chain(&self.bystanders);
        all.for_each(|it| published.merge(Published::read(&it.record())));
        balance(&published, &Received::read(&self.consumer.record()))
    }

    fn flows(&self, more: usize, when: &str) -> Result<()> {
        let confirms = |client: &Client| Published::read(&client.record()).confirmed.len();
        let before: Vec<usize> = self.publishers.iter().map(confirms).collect();
        let deliveries = || Received::read(&self.consumer.record()).deliveries.len();
        let received = deliveries();
        until_true(LIMIT, &format!("messages to flow {when}"), || {
            self.publishers.iter().zip(&before).all(|(client, before)| confirms(client) >= before + more)
                && deliveries() >= received + more
        })
        .with_context(|| {
            format!("{:?}\n{}", self.balance(), HOSTS.map(|host| self.cluster.log_end(host)).join("\n"))
        })
    }

    /// The host of the node that leads the queue.
    fn leader(&self) -> Result<&'static str> {
        let mut found = None;
        until_true(LIMIT, "a leader", || {
            let ask =
                |host: &&&str| self.cluster.must(host, "-q list_queues --no-table-headers name pid").ok();
            let text = HOSTS.iter().find_map(|host| ask(&host)).unwrap_or_default();
            let row = text.lines().find_map(|line| line.strip_prefix(QUEUE)).unwrap_or_default().to_owned();
            found = HOSTS.into_iter().find(|host| row.contains(&format!("rabbit@{host}")));
            found.is_some()
        })?;
        found.context("no leader")
    }

    /// Strikes the leader under traffic, waits until messages flow again, and heals.
    fn survives(
        &mut self,
        fault: &str,
        strike: impl FnOnce(&Cluster, &str) -> Result<()>,
        heal: impl FnOnce(&Cluster, &str) -> Result<()>,
    ) -> Result<Seen> {
        let leader = self.leader()?;
        let confirms = |client: &Client| Published::read(&client.record()).confirmed;
        let mut bystander = self.bystander(leader)?;
        until_true(LIMIT, "a bystander's messages", || confirms(&bystander).len() >= 50)?;
        let before: Vec<usize> =
            self.publishers.iter().map(|it| confirms(it).len().saturating_sub(1)).collect();
        let struck = Instant::now();
        strike(&self.cluster, leader)?;
        self.flows(200, "after the fault")?;
        let flowing = struck.elapsed();
        bystander.finish()?;
        let record = bystander.record();
        let count = |event: &str| record.lines().filter(|line| line.starts_with(event)).count();
        let (refused, lost) = (count("return "), count("lost "));
        let seen = Seen { outage: Published::read(&record).longest_gap(), refused, lost };
        self.bystanders.push(bystander);
        heal(&self.cluster, leader)?;
        HOSTS.iter().try_for_each(|host| self.cluster.wait_running(host, &HOSTS))?;
        self.flows(100, "after the repair")?;
        let gaps = self.publishers.iter().zip(before).map(|(publisher, before)| {
            let confirmed = confirms(publisher).split_off(before);
            Published { confirmed, ..Published::default() }.longest_gap()
        });
        println!(
            "{fault} ({leader}): outage {:.2} s on another node ({} refused, {} connections lost), {:.2} s for any \
             client (200 messages later after {:.1} s)",
            seen.outage,
            seen.refused,
            seen.lost,
            gaps.fold(0.0, f64::max),
            flowing.as_secs_f64(),
        );
        Ok(seen)
    }

    /// A publisher on a node that is not this one.
    fn bystander(&self, leader: &str) -> Result<Client> {
        let name = format!("b{}", self.bystanders.len());
        let other = HOSTS.into_iter().find(|host| *host != leader).context("a cluster of one")?;
        let words = ["--queue", QUEUE, "--name", &name, "--rate", "200"];
        self.cluster.start_client("publish", &name, &[other], &words)
    }

    /// Holds the account.
    fn balances(mut self) -> Result<()> {
        for publisher in &mut self.publishers {
            publisher.finish()?;
        }
        until_true(LIMIT, "every confirmed message", || self.balance().lost.is_empty())
            .with_context(|| format!("{:?}", self.balance()))?;
        self.consumer.finish()?;
        let balance = self.balance();
        println!(
            "{} confirmed, {} received, {} redelivered, {} lost",
            balance.confirmed,
            balance.received,
            balance.redelivered,
            balance.lost.len()
        );
        ensure!(balance.lost.is_empty(), "confirmed and lost: {:?}", balance.lost);
        ensure!(balance.invented.is_empty(), "received and never sent: {:?}", balance.invented);
        ensure!(balance.repeated.is_empty(), "repeated without a mark: {:?}", balance.repeated);
        self.cluster.passed();
        Ok(())
    }
}

#[test]
fn no_confirmed_message_is_lost_when_the_leader_is_drained_stopped_killed_and_freezes() {
    if !ready("the leader is drained, stopped, killed and freezes", NEEDS) {
        return;
    }
    let mut traffic = Traffic::start("cluster-leader-killed").unwrap();
    let drained = traffic
        .survives(
            "leader drained",
            |it, host| it.must(host, "rabbitmq-upgrade drain").map(drop),
            |it, host| it.must(host, "rabbitmq-upgrade revive").map(drop),
        )
        .unwrap();
    let stopped = traffic
        .survives(
            "leader stopped",
            |it, host| it.must(host, "stop_app").map(drop),
            |it, host| it.must(host, "start_app").map(drop),
        )
        .unwrap();
    // What is under way waits for the next leader.
    for seen in [drained, stopped] {
        assert_eq!((seen.refused, seen.lost), (0, 0));
    }
    traffic.survives("leader killed with -9", Cluster::kill, Cluster::start).unwrap();
    traffic
        .survives("leader frozen", |it, host| it.freeze(host, true), |it, host| it.freeze(host, false))
        .unwrap();
    traffic.balances().unwrap();
}

#[test]
fn no_confirmed_message_is_lost_when_cables_are_cut_and_when_all_hosts_lose_power() {
    if !ready("cables are cut and the power fails", NEEDS) {
        return;
    }
    let mut traffic = Traffic::start("cluster-cables").unwrap();
    traffic
        .survives(
            "leader cut off",
            |it, host| {
                it.unplug(host, true)?;
                // So that balancers turn away.
                it.wait_closed(host)
            },
            |it, host| {
                it.unplug(host, false)?;
                it.wait_serving(host)
            },
        )
        .unwrap();
    traffic
        .survives(
            "leader's link flaps",
            |it, host| {
                (0..5).try_for_each(|turn| {
                    it.unplug(host, true)?;
                    std::thread::sleep(Duration::from_millis(300 + turn * 300));
                    it.unplug(host, false)?;
                    std::thread::sleep(Duration::from_millis(500));
                    Ok(())
                })
            },
            |_, _| Ok(()),
        )
        .unwrap();
    let other = |host: &str| if host == "A" { "B" } else { "A" };
    traffic
        .survives("leader hears nothing of another", |it, host| it.deafen(host, other(host)), Cluster::hear)
        .unwrap();
    traffic
        .survives(
            "power of all hosts",
            |it, _| {
                HOSTS.iter().try_for_each(|host| it.power_off(host))?;
                // The last to go comes first.
                HOSTS.iter().rev().try_for_each(|host| {
                    it.power_on(host)?;
                    it.launch(host)
                })?;
                HOSTS.iter().try_for_each(|host| it.wait_serving(host))
            },
            |_, _| Ok(()),
        )
        .unwrap();
    traffic.balances().unwrap();
}
