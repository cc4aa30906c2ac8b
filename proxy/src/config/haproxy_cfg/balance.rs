//! `balance`, `hash-type`, `hash-balance-factor`.

use super::args::Args;
use super::lexer::Word;
use crate::config::balance::{HashFunction, HashKey, HashMethod};
use crate::config::{Algorithm, Settings};

const ALGORITHMS: &[&str] =
    &["roundrobin", "static-rr", "leastconn", "first", "source", "random", "random(N)", "hash"];
/// Algorithms that look into requests.
const OF_REQUESTS: &[&str] = &["uri", "url_param", "hdr", "rdp-cookie"];

/// `balance ALGORITHM ...`
pub(super) fn directive(_keyword: &Word, args: &mut Args<'_, '_>, settings: &mut Settings) {
    let Some(word) = args.value("an algorithm, e.g. roundrobin") else { return };
    if word.text == "hash" {
        let Some(key) = args.value("what to hash, e.g. src") else { return };
        match hash_key(&key.text) {
            Some(key) => settings.balance = Algorithm::Hash(key),
            None => {
                let message = format!(
                    "`balance hash {}` looks into requests, which a TCP balancer does not do",
                    key.text
                );
                args.error(key, "not-supported", message, "src, src_port, dst or dst_port");
                args.skip_rest();
            }
        }
        return;
    }
    if OF_REQUESTS.iter().any(|name| word.text.starts_with(name)) {
        args.skip_rest();
        let message =
            format!("`balance {}` looks into requests, which a TCP balancer does not do", word.text);
        args.error(word, "not-supported", message, "use source or roundrobin");
        return;
    }
    match parse_algorithm(&word.text) {
        Some(algorithm) => settings.balance = algorithm,
        None => args.unknown(word, "algorithm", &[ALGORITHMS]),
    }
}

fn hash_key(text: &str) -> Option<HashKey> {
    HashKey::ALL.into_iter().find(|key| key.word() == text)
}

/// Reads a balancing algorithm by HAProxy's words, `random(3)` and `hash src` included.
#[must_use]
pub fn parse_algorithm(text: &str) -> Option<Algorithm> {
    Some(match text {
        "roundrobin" => Algorithm::RoundRobin,
        "static-rr" => Algorithm::StaticRoundRobin,
        "leastconn" => Algorithm::LeastConn,
        "first" => Algorithm::First,
        "source" => Algorithm::Source,
        "random" => Algorithm::Random(2),
        _ => {
            if let Some(key) = text.strip_prefix("hash ") {
                return hash_key(key.trim()).map(Algorithm::Hash);
            }
            let draws = text.strip_prefix("random(")?.strip_suffix(')')?.parse().ok()?;
            return (1..=32).contains(&draws).then_some(Algorithm::Random(draws));
        }
    })
}

/// Writes an algorithm as [`parse_algorithm`] reads it.
#[must_use]
pub fn show_algorithm(algorithm: Algorithm) -> String {
    match algorithm {
        Algorithm::Hash(key) => format!("hash {}", key.word()),
        Algorithm::Random(draws) => format!("random({draws})"),
        other => other.word().to_owned(),
    }
}

/// `hash-type METHOD [FUNCTION [avalanche]]`
pub(super) fn hash_type(args: &mut Args<'_, '_>, settings: &mut Settings) {
    let methods = [("map-based", HashMethod::MapBased), ("consistent", HashMethod::Consistent)];
    let Some(method) = args.choice("hash-type", &methods) else { return args.skip_rest() };
    let mut hash = crate::config::HashType { method, ..Default::default() };
    // HAProxy: a consistent hash without a function is mixed once more.
    hash.avalanche = method == HashMethod::Consistent && args.peek().is_none();
    if args.peek().is_some() {
        let functions = HashFunction::ALL.map(|function| (function.word(), function));
        let Some(function) = args.choice("hash function", &functions) else { return args.skip_rest() };
        hash.function = function;
        hash.avalanche = args.take("avalanche");
    }
    settings.hash_type = hash;
}

/// `hash-balance-factor PERCENT`
pub(super) fn factor(args: &mut Args<'_, '_>, settings: &mut Settings) {
    let Some(word) = args.value("a percentage, 0 or more than 100") else { return };
    match word.text.parse::<u32>() {
        Ok(percent) if percent == 0 || percent > 100 => settings.hash_balance_factor = percent,
        _ => {
            let message = format!("`{}` is neither 0 nor more than 100", word.text);
            args.error(word, "wrong-value", message, "");
        }
    }
}
