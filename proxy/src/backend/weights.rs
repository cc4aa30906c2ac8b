//! Weights and limits at run time, from operators and agents; and slow starts.

use std::sync::Arc;
use std::time::Instant;

use super::Backend;
use crate::config::{Algorithm, HashMethod};
use crate::server::Server;

/// Largest weight of a server.
const MOST_WEIGHT: u32 = 256;

impl Backend {
    /// Sets a server's weight: a number, or per cent of the configured one.
    ///
    /// # Errors
    /// HAProxy's words for what is wrong.
    pub fn change_weight(self: &Arc<Self>, server: &Arc<Server>, text: &str) -> Result<(), String> {
        if text.is_empty() {
            return Err("Require <weight> or <weight%>.\n".to_owned());
        }
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, rest) = text.split_at(digits);
        let number: u32 = match number.parse() {
            Ok(number) => number,
            Err(_) if text.starts_with('-') && text[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                let relative = text.ends_with('%');
                let what = if relative { "Relative weight must be positive.\n" } else { OUT_OF_RANGE };
                return Err(what.to_owned());
            }
            Err(_) if digits > 0 => return Err(OUT_OF_RANGE.to_owned()),
            Err(_) => return Err("Empty weight string empty or preceded by garbage".to_owned()),
        };
        let configured = server.config().options.weight;
        let weight = match rest {
            "%" => {
                let weight = u64::from(configured) * u64::from(number) / 100;
                u32::try_from(weight).unwrap_or(MOST_WEIGHT).min(MOST_WEIGHT)
            }
            "" if number > MOST_WEIGHT => return Err(OUT_OF_RANGE.to_owned()),
            "" => number,
            _ => return Err("Trailing garbage in weight string".to_owned()),
        };
        let settings = &self.config().settings;
        let is_static = match settings.balance {
            Algorithm::StaticRoundRobin => true,
            Algorithm::Source | Algorithm::Hash(_) => settings.hash_type.method == HashMethod::MapBased,
            _ => false,
        };
        if is_static && weight != 0 && weight != configured {
            return Err("Backend is using a static LB algorithm and only accepts weights '0%' and '100%'.\n"
                .to_owned());
        }
        server.set_weight(weight);
        self.server_changed(Instant::now());
        Ok(())
    }

    /// Sets a server's `maxconn`; 0 takes the limit away.
    ///
    /// # Errors
    /// HAProxy's words for what is wrong.
    pub fn change_maxconn(self: &Arc<Self>, server: &Arc<Server>, text: &str) -> Result<(), String> {
        if text.is_empty() {
            return Err("Require <maxconn>.\n".to_owned());
        }
        let maxconn: u32 = match text.parse() {
            Ok(number) => number,
            Err(_) if text.starts_with(|c: char| c.is_ascii_digit()) => {
                return Err("Trailing garbage in maxconn string".to_owned());
            }
            Err(_) => return Err("maxconn string empty or preceded by garbage".to_owned()),
        };
        server.set_maxconn(maxconn);
        self.server_changed(Instant::now());
        Ok(())
    }

    /// Lets weights and limits grow that grow with time.
    pub fn warm(self: &Arc<Self>, now: Instant) {
        let servers = self.servers.load_full();
        let mut any = false;
        for server in servers.iter() {
            let is_starting = |server: &Server| {
                server.look(|condition| condition.state == crate::condition::State::Starting)
            };
            if is_starting(server) {
                server.change(|condition| condition.warm(now));
                any = true;
            }
        }
        if any {
            self.server_changed(now);
        }
    }
}

const OUT_OF_RANGE: &str = "Absolute weight can only be between 0 and 256 inclusive.\n";
