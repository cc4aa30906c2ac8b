//! Words about TLS on `bind` and `server` lines and in `global`.

use super::args::Args;
use super::lexer::Word;
use crate::config::tls::{BindTls, ServerTls, Sni, TlsParameters, TlsVersion, Verify};

/// Words both sides have.
pub(super) const SHARED: &[&str] = &[
    "ssl",
    "crt",
    "ca-file",
    "crl-file",
    "verify",
    "alpn",
    "npn",
    "ciphers",
    "ciphersuites",
    "curves",
    "ecdhe",
    "ssl-min-ver",
    "ssl-max-ver",
    "force-sslv3",
    "force-tlsv10",
    "force-tlsv11",
    "force-tlsv12",
    "force-tlsv13",
    "no-sslv3",
    "no-tlsv10",
    "no-tlsv11",
    "no-tlsv12",
    "no-tlsv13",
    "no-tls-tickets",
    "allow-0rtt",
];
/// Words of `bind` only.
pub(super) const BIND: &[&str] = &[
    "crt-list",
    "strict-sni",
    "prefer-client-ciphers",
    "ca-verify-file",
    "ca-ignore-err",
    "crt-ignore-err",
    "ca-sign-file",
    "ca-sign-pass",
    "generate-certificates",
    "no-ca-names",
    "tls-ticket-keys",
];
/// Words of `server` only.
pub(super) const SERVER: &[&str] = &[
    "no-ssl",
    "check-ssl",
    "no-check-ssl",
    "verifyhost",
    "no-verifyhost",
    "sni",
    "check-sni",
    "check-alpn",
    "no-ssl-reuse",
    "ssl-reuse",
    "tls-tickets",
];

const VERIFY: [(&str, Verify); 3] =
    [("none", Verify::None), ("optional", Verify::Optional), ("required", Verify::Required)];

/// A word of a `bind` line.
pub(super) fn bind_word(word: &Word, args: &mut Args<'_, '_>, tls: &mut BindTls) -> Option<()> {
    match word.text.as_str() {
        "ssl" => {}
        "crt" => tls.crt.push(args.text("a file")?.into()),
        "crt-list" => tls.crt_list.push(args.text("a file")?.into()),
        "ca-file" => tls.ca_file = Some(args.text("a file")?.into()),
        "crl-file" => tls.crl_file = Some(args.text("a file")?.into()),
        "verify" => tls.verify = args.choice("value of verify", &VERIFY)?,
        "alpn" => tls.alpn = protocols(args)?,
        "npn" => {
            args.value("protocols")?;
            not_used(word, args);
        }
        "strict-sni" => tls.strict_sni = true,
        "prefer-client-ciphers" => tls.prefer_client_ciphers = true,
        "ca-verify-file" | "ca-ignore-err" | "crt-ignore-err" | "ca-sign-file" | "ca-sign-pass"
        | "tls-ticket-keys" => {
            args.value("a value")?;
            not_used(word, args);
        }
        "generate-certificates" | "no-ca-names" | "allow-0rtt" => not_used(word, args),
        _ => return parameter(word, args, &mut tls.parameters),
    }
    Some(())
}

/// A word of a `server` line.
pub(super) fn server_word(word: &Word, args: &mut Args<'_, '_>, tls: &mut ServerTls) -> Option<()> {
    match word.text.as_str() {
        "ssl" => tls.enabled = true,
        "no-ssl" => tls.enabled = false,
        "check-ssl" => tls.check = Some(true),
        "no-check-ssl" => tls.check = Some(false),
        "crt" => tls.crt = Some(args.text("a file")?.into()),
        "ca-file" => tls.ca_file = Some(args.text("a file")?.into()),
        "crl-file" => tls.crl_file = Some(args.text("a file")?.into()),
        "verify" => {
            // Towards servers there are only these two.
            tls.verify = Some(args.choice("value of verify", &[VERIFY[0], VERIFY[2]])?);
        }
        "verifyhost" => tls.verifyhost = Some(args.text("a name")?),
        "no-verifyhost" => tls.verifyhost = None,
        "sni" => {
            let value = args.value("an expression, e.g. str(name)")?;
            match sni(&value.text) {
                Some(sni) => tls.sni = Some(sni),
                None => args.warn(
                    value,
                    "not-used",
                    format!("`sni {}` is not supported: no name is asked for", value.text),
                    "write sni str(NAME) or sni ssl_fc_sni",
                ),
            }
        }
        "check-sni" => tls.check_sni = Some(args.text("a name")?),
        "alpn" => tls.alpn = protocols(args)?,
        "check-alpn" => tls.check_alpn = protocols(args)?,
        "no-ssl-reuse" => tls.no_reuse = true,
        "ssl-reuse" => tls.no_reuse = false,
        "tls-tickets" => tls.parameters.no_tickets = false,
        "npn" => {
            args.value("protocols")?;
            not_used(word, args);
        }
        "allow-0rtt" => not_used(word, args),
        _ => return parameter(word, args, &mut tls.parameters),
    }
    Some(())
}

/// Versions and ciphers; also the words of `ssl-default-*-options`.
pub(super) fn parameter(word: &Word, args: &mut Args<'_, '_>, parameters: &mut TlsParameters) -> Option<()> {
    match word.text.as_str() {
        "ciphers" => parameters.ciphers = Some(args.text("names of ciphers")?),
        "ciphersuites" => parameters.ciphersuites = Some(args.text("names of ciphers")?),
        "curves" | "ecdhe" => parameters.curves = Some(args.text("names of curves")?),
        "no-tls-tickets" => parameters.no_tickets = true,
        "ssl-min-ver" => parameters.min_version = version(word, args, true)?,
        "ssl-max-ver" => parameters.max_version = version(word, args, false)?,
        "no-tlsv13" => parameters.max_version = Some(TlsVersion::V12),
        "no-tlsv12" => parameters.min_version = Some(TlsVersion::V13),
        "force-tlsv12" => {
            (parameters.min_version, parameters.max_version) = (Some(TlsVersion::V12), Some(TlsVersion::V12));
        }
        "force-tlsv13" => {
            (parameters.min_version, parameters.max_version) = (Some(TlsVersion::V13), Some(TlsVersion::V13));
        }
        // These are never spoken here.
        "no-sslv3" | "no-tlsv10" | "no-tlsv11" => {}
        "force-sslv3" | "force-tlsv10" | "force-tlsv11" => {
            args.error(
                word,
                "not-supported",
                format!("`{}`: older than TLS 1.2", word.text),
                "write force-tlsv12",
            );
            return None;
        }
        "prefer-client-ciphers" => {}
        _ => {
            args.unknown(word, "word about TLS", &[SHARED]);
            return None;
        }
    }
    Some(())
}

/// Nothing below TLS 1.2 is spoken, so that an older lowest version is 1.2.
#[expect(clippy::option_option, reason = "outer: error, inner: nothing to say")]
fn version(word: &Word, args: &mut Args<'_, '_>, lowest: bool) -> Option<Option<TlsVersion>> {
    let value = args.value("a version, e.g. TLSv1.2")?;
    match value.text.as_str() {
        "TLSv1.2" => Some(Some(TlsVersion::V12)),
        "TLSv1.3" => Some(Some(TlsVersion::V13)),
        "SSLv3" | "TLSv1.0" | "TLSv1.1" if lowest => {
            args.warn(
                word,
                "old-tls",
                format!("{} is not spoken: the lowest version is TLSv1.2", value.text),
                "",
            );
            Some(Some(TlsVersion::V12))
        }
        "SSLv3" | "TLSv1.0" | "TLSv1.1" => {
            args.error(
                value,
                "not-supported",
                format!("{} is older than TLS 1.2", value.text),
                "write TLSv1.2",
            );
            None
        }
        _ => {
            args.unknown(value, "version of TLS", &[&["TLSv1.2", "TLSv1.3", "TLSv1.1", "TLSv1.0", "SSLv3"]]);
            None
        }
    }
}

fn protocols(args: &mut Args<'_, '_>) -> Option<Vec<String>> {
    let list = args.value("protocols, e.g. h2,http/1.1")?;
    Some(list.text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// `str(NAME)`, `ssl_fc_sni`.
fn sni(text: &str) -> Option<Sni> {
    if matches!(text, "ssl_fc_sni" | "req.ssl_sni" | "req_ssl_sni") {
        return Some(Sni::Client);
    }
    let name = text.strip_prefix("str(")?.strip_suffix(')')?;
    (!name.is_empty()).then(|| Sni::Name(name.to_owned()))
}

fn not_used(word: &Word, args: &mut Args<'_, '_>) {
    args.warn(word, "not-used", format!("`{}` is not supported; it is read over", word.text), "");
}
