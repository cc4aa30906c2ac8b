//! Asks the agent of one server, and does what it says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::announce::{Cause, carry_out, settle};
use super::answer::agent::{AgentAnswer, AgentOrder, parse};
use super::connect::Target;
use super::log_check;
use super::plan::Plan;
use super::run::run;
use super::status::{CheckReport, CheckStatus};
use super::watch::{limits, source, spread};
use crate::backend::Backend;
use crate::server::{Order, Server};

/// The agent of one server.
pub(super) struct Agent {
    pub(super) backend: Arc<Backend>,
    pub(super) server: Arc<Server>,
    pub(super) spread_percent: u32,
}

impl Agent {
    /// Asks until it is dropped.
    pub(super) async fn run(&self, delay: Duration) {
        tokio::time::sleep(delay).await;
        loop {
            if self.server.wants_agent() {
                self.ask().await;
            }
            tokio::time::sleep(spread(self.interval(), self.spread_percent)).await;
        }
    }

    fn interval(&self) -> Duration {
        let config = self.server.config();
        config.options.agent.inter.unwrap_or(config.options.inter)
    }

    async fn ask(&self) {
        let Some(place) = self.server.agent_place() else { return };
        let config = Arc::clone(&self.backend.config());
        let (send, own) = {
            let config = self.server.config();
            (config.options.agent.send.clone(), config.options.source.clone())
        };
        let plan = Plan::agent(send.as_deref());
        let target = Target {
            source: source(&place, &config.settings, own.as_ref()),
            tls: None,
            send_proxy: None,
            place,
        };
        self.server.change(|condition| condition.agent.in_progress = true);
        let finished = run(&plan, &target, limits(&config.settings, self.interval()), true).await;
        let mut report = finished.report;
        if report.status == CheckStatus::L7Ok
            && let Some(answer) = parse(&finished.answer)
        {
            (report.status, report.info) = self.obey(&answer);
        }
        self.ended(&report);
    }

    /// Orders, weight and limit of an answer; returns the status and text of the report.
    fn obey(&self, answer: &AgentAnswer) -> (CheckStatus, String) {
        if let Some(order) = answer.order {
            let order = match order {
                AgentOrder::Ready => Order::Ready,
                AgentOrder::Drain => Order::Drain,
                AgentOrder::Maintenance => Order::Maintenance,
            };
            carry_out(&self.backend, &self.server, order);
        }
        let mut warning = None;
        if let Some(weight) = &answer.weight {
            warning = self.backend.change_weight(&self.server, weight).err();
        }
        if let Some(maxconn) = &answer.maxconn {
            warning = self.backend.change_maxconn(&self.server, maxconn).err().or(warning);
        }
        answer.report(warning.as_deref().map(str::trim_end))
    }

    fn ended(&self, report: &CheckReport) {
        let now = Instant::now();
        let (transition, told) = self.server.change(|condition| condition.agent_ended(report.clone(), now));
        if told && self.backend.config().settings.log_health_checks {
            log_check(&self.backend, &self.server, report, "Agent");
        }
        settle(&self.backend, &self.server, transition, Cause::Check(report));
    }
}
