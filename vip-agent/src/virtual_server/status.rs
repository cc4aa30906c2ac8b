//! What `status`, the page and the metrics show of virtual servers.

use serde::{Deserialize, Serialize};

use super::Shared;
use super::service::{Service, Verdict};
use crate::config::virtual_server::endpoint;

/// The last picture of all virtual servers.
pub(crate) type View = Shared<Vec<VirtualServerStatus>>;

/// A virtual server and its real servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct VirtualServerStatus {
    /// Address, port and protocol.
    pub(crate) name: String,
    pub(crate) algorithm: String,
    pub(crate) method: String,
    pub(crate) quorum: bool,
    /// Who answers instead while there is no quorum.
    pub(crate) sorry_server: Option<String>,
    pub(crate) real_servers: Vec<RealServerStatus>,
}

/// A real server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RealServerStatus {
    pub(crate) address: String,
    pub(crate) up: bool,
    pub(crate) weight: u32,
    /// Each check and what it last found.
    pub(crate) checks: Vec<(String, String)>,
}

pub(super) fn of(service: &Service) -> VirtualServerStatus {
    let config = service.config();
    let real = |(index, real): (usize, &crate::config::virtual_server::RealServer)| RealServerStatus {
        address: endpoint(real.address, real.port),
        up: service.is_up(index),
        weight: service.weight(index),
        checks: real
            .checks
            .iter()
            .zip(service.results(index))
            .map(|(check, result)| {
                let found = match result {
                    None => "no result yet".to_owned(),
                    Some(Verdict::Good) => "good".to_owned(),
                    Some(Verdict::Weight(weight)) => format!("good, weight {weight}"),
                    Some(Verdict::Bad(reason)) => reason.clone(),
                };
                (check.kind.word().to_owned(), found)
            })
            .collect(),
    };
    VirtualServerStatus {
        name: config.name(),
        algorithm: config.algorithm.word().to_owned(),
        method: config.method.word().to_owned(),
        quorum: service.has_quorum(),
        sorry_server: config.sorry_server.map(|sorry| endpoint(sorry.address, sorry.port)),
        real_servers: config.real_servers.iter().enumerate().map(real).collect(),
    }
}
