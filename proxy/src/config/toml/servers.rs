//! Servers and their checks in the TOML form.

use std::fmt;
use std::time::Duration;

use daemon::diagnostic::Diagnostics;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::values::Weight;
use super::words::Words;
use super::{Address, Context, Numbers, Time};
use crate::config::address;
use crate::config::server::Template;
use crate::config::{CheckKind, Place, ProxyConfig, ProxyProtocol, ServerConfig, ServerOptions, Settings};

/// `check = false`, or `check = { kind = "amqp", inter = "5s" }`.
pub(super) struct RawCheck(pub(super) Result<RawCheckTable, bool>);

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawCheckTable {
    /// What is asked.
    kind: Option<RawCheckKind>,
    /// Time between checks; 2s.
    inter: Option<Time>,
    /// The same while the state changes.
    fastinter: Option<Time>,
    /// The same while the server is down.
    downinter: Option<Time>,
    /// Good checks that bring a server up; 2.
    rise: Option<u32>,
    /// Bad checks that take it down; 3.
    fall: Option<u32>,
    /// Until a check has its answer.
    timeout: Option<Time>,
}

impl RawCheck {
    pub(super) fn apply(self, settings: &mut Settings) {
        match self.0 {
            Err(on) => settings.default_server.check = on,
            Ok(table) => {
                settings.default_server.check = true;
                settings.check = table.kind.as_ref().map_or(settings.check, |kind| kind.0);
                settings.timeouts.check =
                    table.timeout.as_ref().map(|time| time.0).or(settings.timeouts.check);
                table.apply(&mut settings.default_server);
            }
        }
    }
}

impl RawCheckTable {
    pub(super) fn apply(self, options: &mut ServerOptions) {
        // An interval of 0 would be a busy loop.
        let interval = |time: Time| time.0.max(Duration::from_millis(1));
        options.inter = self.inter.map_or(options.inter, interval);
        options.fastinter = self.fastinter.map(interval).or(options.fastinter);
        options.downinter = self.downinter.map(interval).or(options.downinter);
        options.rise = self.rise.map_or(options.rise, |count| count.clamp(1, 1000));
        options.fall = self.fall.map_or(options.fall, |count| count.clamp(1, 1000));
    }
}

/// `"host:port"`, or a table with `address` and options.
pub(super) struct RawServer {
    address: Address,
    options: RawServerOptions,
    template: Option<Numbers>,
    inherit: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawServerTable {
    /// Where it is.
    address: Address,
    /// `"1-3"`: one server for each number, named after it.
    template: Option<Numbers>,
    /// Starts from `server_defaults`; true.
    inherit: Option<bool>,
    /// Checks of this server.
    check: Option<RawCheck>,
    /// Its share of connections; 1.
    weight: Option<Weight>,
    /// Used only when all others are down.
    backup: Option<bool>,
    /// Most connections at once; those above wait.
    maxconn: Option<u32>,
    /// Most that wait for it.
    maxqueue: Option<u32>,
    /// It starts in maintenance.
    disabled: Option<bool>,
    /// Where it is checked, when not where it serves.
    check_address: Option<Address>,
    /// Says who the client is, in the form of this version.
    proxy_protocol: Option<RawProxyProtocol>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawServerOptions {
    /// Checks of this server.
    check: Option<RawCheck>,
    /// Its share of connections; 1.
    weight: Option<Weight>,
    /// Used only when all others are down.
    backup: Option<bool>,
    /// Most connections at once; those above wait.
    maxconn: Option<u32>,
    /// Most that wait for it.
    maxqueue: Option<u32>,
    /// It starts in maintenance.
    disabled: Option<bool>,
    /// Where it is checked, when not where it serves.
    check_address: Option<Address>,
    /// Says who the client is, in the form of this version.
    proxy_protocol: Option<RawProxyProtocol>,
}

#[derive(Deserialize, Clone, Copy)]
pub(super) enum RawProxyProtocol {
    #[serde(rename = "off")]
    Off,
    #[serde(rename = "v1")]
    V1,
    #[serde(rename = "v2")]
    V2,
}

impl RawServerOptions {
    pub(super) fn apply(self, options: &mut ServerOptions) {
        if let Some(check) = self.check {
            match check.0 {
                Err(on) => options.check = on,
                Ok(table) => {
                    options.check = true;
                    options.check_kind = table.kind.as_ref().map(|kind| kind.0).or(options.check_kind);
                    table.apply(options);
                }
            }
        }
        options.weight = self.weight.map_or(options.weight, |weight| weight.0);
        options.backup = self.backup.unwrap_or(options.backup);
        let limit =
            |new: Option<u32>, old: Option<u32>| new.map_or(old, |limit| (limit > 0).then_some(limit));
        options.maxconn = limit(self.maxconn, options.maxconn);
        options.maxqueue = limit(self.maxqueue, options.maxqueue);
        options.disabled = self.disabled.unwrap_or(options.disabled);
        options.check_address = self.check_address.map(|address| address.0).or(options.check_address.take());
        if let Some(version) = self.proxy_protocol {
            options.send_proxy = match version {
                RawProxyProtocol::Off => None,
                RawProxyProtocol::V1 => Some(ProxyProtocol::V1),
                RawProxyProtocol::V2 => Some(ProxyProtocol::V2),
            };
        }
    }
}

/// One server, or as many as its `template` says.
pub(super) fn add_server(
    proxy: &mut ProxyConfig,
    name: &str,
    server: RawServer,
    place: Place,
    (words, context): (&Words, &Context<'_>),
    remarks: &mut Diagnostics,
) {
    let mut options =
        if server.inherit { proxy.settings.default_server.clone() } else { ServerOptions::default() };
    let mut id = None;
    server.options.apply(&mut options);
    words.server(proxy, name, (&mut options, &mut id), context, remarks);
    let address = server.address.0;
    let Some(Numbers((low, high))) = server.template else {
        let id = id.unwrap_or(0);
        proxy.servers.push(ServerConfig {
            name: name.to_owned(),
            id,
            address,
            options,
            template: None,
            place,
        });
        return;
    };
    for number in low..=high {
        let id = id.filter(|_| number == low).unwrap_or(0);
        proxy.servers.push(ServerConfig {
            name: format!("{name}{number}"),
            id,
            address: address.clone(),
            options: options.clone(),
            template: Some(Template { prefix: name.to_owned(), low, high }),
            place: place.clone(),
        });
    }
}

from_text!(RawCheckKind, CheckKind, "a kind of check, e.g. \"amqp\"", |text| {
    let known = CheckKind::ALL.map(CheckKind::word);
    CheckKind::ALL
        .into_iter()
        .find(|kind| kind.word() == text)
        .ok_or_else(|| format!("`{text}` is not a kind of check; use one of {}", known.join(", ")))
});
impl<'de> Deserialize<'de> for RawCheck {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;
        impl<'de> Visitor<'de> for Choice {
            type Value = RawCheck;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or a table such as { kind = \"amqp\", inter = \"5s\" }")
            }
            fn visit_bool<E: Error>(self, on: bool) -> Result<RawCheck, E> {
                Ok(RawCheck(Err(on)))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawCheck, A::Error> {
                RawCheckTable::deserialize(MapAccessDeserializer::new(map)).map(|table| RawCheck(Ok(table)))
            }
        }
        deserializer.deserialize_any(Choice)
    }
}

impl<'de> Deserialize<'de> for RawServer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;
        impl<'de> Visitor<'de> for Choice {
            type Value = RawServer;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address such as \"10.0.0.1:5672\", or a table with `address`")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<RawServer, E> {
                let address = address::parse_server(text).map_err(E::custom)?;
                Ok(RawServer {
                    address: Address(address),
                    options: RawServerOptions::default(),
                    template: None,
                    inherit: true,
                })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawServer, A::Error> {
                let table = RawServerTable::deserialize(MapAccessDeserializer::new(map))?;
                let options = RawServerOptions {
                    check: table.check,
                    weight: table.weight,
                    backup: table.backup,
                    maxconn: table.maxconn,
                    maxqueue: table.maxqueue,
                    disabled: table.disabled,
                    check_address: table.check_address,
                    proxy_protocol: table.proxy_protocol,
                };
                let inherit = table.inherit.unwrap_or(true);
                Ok(RawServer { address: table.address, options, template: table.template, inherit })
            }
        }
        deserializer.deserialize_any(Choice)
    }
}
