//! `[amqp.tls]` and `[management.tls]`: options in RabbitMQ's words, and certificate files that can be used.

use super::Checker;
use super::cli::{Environment, NodeArgs};
use super::raw::{Addresses, RawConfig, RawTls};
use crate::auth::Mechanism;
use crate::tls::{About, CertLogin, LoginFrom, SanType, TlsError, TlsOptions, TlsServer, Verify};
use daemon::diagnostic::Diagnostic;
use rustls::SupportedProtocolVersion;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use toml::Spanned;

const AMQPS_PORT: u16 = 5671;
const HTTPS_PORT: u16 = 15671;
/// The newer first.
const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// Listeners that speak TLS.
#[derive(Debug, Clone)]
pub(crate) struct TlsListeners {
    /// Addresses to listen on.
    pub(crate) listen: Vec<SocketAddr>,
    /// Certificates and what is asked of clients.
    pub(crate) server: Arc<TlsServer>,
}

impl Checker<'_> {
    pub(super) fn amqp_tls(&mut self, raw: &RawConfig, args: &NodeArgs) -> Option<TlsListeners> {
        let raw = raw.amqp.tls.as_ref()?;
        self.tls(raw.get_ref(), raw, args, AMQPS_PORT, &[])
    }

    /// TLS as the container image's variables have it, on all addresses; what a file says takes its place.
    pub(super) fn tls_of_environment(&mut self, raw: &mut RawConfig, environment: &Environment) {
        if environment.ssl.is_empty() || raw.amqp.tls.is_some() {
            return;
        }
        let nowhere = |text: &str| Spanned::new(0..0, text.to_owned());
        let path = |text: &str| Some(Spanned::new(0..0, PathBuf::from(text)));
        let all = Addresses::One(format!(":{AMQPS_PORT}"));
        let mut tls = RawTls { listen: Some(Spanned::new(0..0, all)), ..RawTls::default() };
        for (name, value) in &environment.ssl {
            match *name {
                "CACERTFILE" => tls.ca = path(value),
                "CERTFILE" => tls.cert = path(value),
                "KEYFILE" => tls.key = path(value),
                "VERIFY" => tls.verify = Some(nowhere(value)),
                _ => tls.fail_if_no_peer_cert = Some(Spanned::new(0..0, value == "true")),
            }
        }
        raw.amqp.tls = Some(Spanned::new(0..0, tls));
    }

    pub(super) fn management_tls(&mut self, raw: &RawConfig, args: &NodeArgs) -> Option<TlsListeners> {
        if raw.management.enabled == Some(false) {
            return None;
        }
        let raw = raw.management.tls.as_ref()?;
        let options = raw.get_ref();
        let for_login = [
            options.cert_login_from.as_ref().map(Spanned::span),
            options.cert_login_san_type.as_ref().map(Spanned::span),
            options.cert_login_san_index.as_ref().map(Spanned::span),
        ];
        for span in for_login.into_iter().flatten() {
            let message = "nobody logs in to the HTTP API with a certificate";
            self.wrong(
                "tls",
                &Spanned::new(span, ()),
                message,
                "write it in [amqp.tls], for EXTERNAL, or leave it out",
            );
        }
        self.tls(raw.get_ref(), raw, args, HTTPS_PORT, &[b"http/1.1"])
    }

    fn tls(
        &mut self,
        raw: &RawTls,
        section: &Spanned<RawTls>,
        args: &NodeArgs,
        port: u16,
        alpn: &'static [&'static [u8]],
    ) -> Option<TlsListeners> {
        let mut listen = self.addresses(raw.listen.as_ref(), port);
        for address in &mut listen {
            if let Some(ip) = args.bind {
                address.set_ip(ip);
            }
        }
        listen.dedup();
        let verify = self.verify(raw);
        let versions = self.versions(raw);
        for (name, file) in [("cert", &raw.cert), ("key", &raw.key)] {
            if file.is_none() {
                let help = format!("add {name} = \"/etc/broker/{name}.pem\"");
                self.wrong("tls", section, format!("`{name}` is missing"), &help);
            }
        }
        if verify != Verify::None && raw.ca.is_none() {
            let help = "add ca = \"/etc/broker/ca.pem\", the certificates of those who may sign clients'";
            self.wrong("tls", section, "`ca` is missing, which `verify = \"peer\"` needs", help);
            return None;
        }
        let options = TlsOptions {
            cert: raw.cert.as_ref()?.get_ref().clone(),
            key: raw.key.as_ref()?.get_ref().clone(),
            ca: raw.ca.as_ref().map(|path| path.get_ref().clone()),
            verify,
            versions,
            alpn,
        };
        match TlsServer::load(options) {
            Ok(server) => Some(TlsListeners { listen, server: Arc::new(server) }),
            Err(error) => {
                self.wrong_file(raw, section, &error);
                None
            }
        }
    }

    fn verify(&mut self, raw: &RawTls) -> Verify {
        let required = raw.fail_if_no_peer_cert.as_ref().is_some_and(|required| *required.get_ref());
        let verify = match raw.verify.as_ref().map(|verify| (verify, verify.get_ref().as_str())) {
            None | Some((_, "none" | "verify_none")) => Verify::None,
            Some((_, "peer" | "verify_peer")) if required => Verify::PeerRequired,
            Some((_, "peer" | "verify_peer")) => Verify::Peer,
            Some((written, other)) => {
                let message = format!("`{other}` is no way to verify clients");
                self.wrong("tls", written, message, "use \"none\" or \"peer\"");
                return Verify::None;
            }
        };
        if verify == Verify::None
            && required
            && let Some(written) = &raw.fail_if_no_peer_cert
        {
            let message = "clients are not asked for a certificate, so none can be required";
            self.wrong("tls", written, message, "add verify = \"peer\", or leave this out");
        }
        verify
    }

    fn versions(&mut self, raw: &RawTls) -> Vec<&'static SupportedProtocolVersion> {
        let Some(written) = &raw.versions else { return VERSIONS.to_vec() };
        let mut found = Vec::new();
        for name in written.get_ref() {
            match name.as_str() {
                "tlsv1.3" => found.push(&rustls::version::TLS13),
                "tlsv1.2" => found.push(&rustls::version::TLS12),
                other => {
                    let message = match other {
                        "tlsv1.1" | "tlsv1" | "sslv3" => format!("`{other}` is not safe and not supported"),
                        _ => format!("`{other}` is no version of TLS"),
                    };
                    self.wrong("tls", written, message, "use \"tlsv1.3\" and \"tlsv1.2\"");
                }
            }
        }
        if written.get_ref().is_empty() {
            self.wrong("tls", written, "no version at all", "use \"tlsv1.3\" and \"tlsv1.2\"");
        }
        found
    }

    fn wrong_file(&mut self, raw: &RawTls, section: &Spanned<RawTls>, error: &TlsError) {
        let at: Option<&Spanned<PathBuf>> = match error.about {
            About::Cert => raw.cert.as_ref(),
            About::Key => raw.key.as_ref(),
            About::Ca => raw.ca.as_ref(),
        };
        match at {
            Some(at) => self.wrong("tls-file", at, error.to_string(), &error.help),
            None => self.wrong("tls-file", section, error.to_string(), &error.help),
        }
    }

    /// `auth_mechanisms`: what clients may log in with.
    pub(super) fn auth_mechanisms(&mut self, raw: &RawConfig, verifies: bool) -> Vec<Mechanism> {
        let Some(written) = &raw.amqp.auth_mechanisms else {
            return vec![Mechanism::Plain, Mechanism::AmqPlain];
        };
        let mut found = Vec::new();
        for name in written.get_ref() {
            match Mechanism::from_name(name) {
                Some(mechanism) => found.push(mechanism),
                None => {
                    let message = match name.as_str() {
                        "ANONYMOUS" => "nobody may log in without saying who he is".to_owned(),
                        _ => format!("`{name}` is no mechanism to log in with"),
                    };
                    self.wrong("auth-mechanisms", written, message, "use PLAIN, AMQPLAIN and EXTERNAL");
                }
            }
        }
        if written.get_ref().is_empty() {
            self.wrong("auth-mechanisms", written, "nobody could log in", "use PLAIN, AMQPLAIN and EXTERNAL");
        }
        if found.contains(&Mechanism::External) && !verifies {
            let help = "set ca = … and verify = \"peer\" in [amqp.tls]";
            let message = "EXTERNAL needs the certificates of clients, and nothing asks for them";
            self.found.push(
                Diagnostic::warning("auth-mechanisms", message)
                    .in_file(self.file)
                    .at_bytes(self.text, written.span())
                    .help(help),
            );
        }
        found
    }

    /// Where EXTERNAL takes the user name from.
    pub(super) fn cert_login(&mut self, raw: &RawConfig) -> CertLogin {
        let Some(raw) = raw.amqp.tls.as_ref().map(Spanned::get_ref) else {
            return CertLogin { from: LoginFrom::DistinguishedName };
        };
        let san_type = match raw.cert_login_san_type.as_ref().map(|name| (name, name.get_ref().as_str())) {
            None | Some((_, "dns")) => SanType::Dns,
            Some((_, "ip")) => SanType::Ip,
            Some((_, "email")) => SanType::Email,
            Some((_, "uri")) => SanType::Uri,
            Some((_, "other_name")) => SanType::OtherName,
            Some((written, other)) => {
                let message = format!("`{other}` is no type of alternative names");
                self.wrong("tls", written, message, "use dns, ip, email, uri or other_name");
                SanType::Dns
            }
        };
        let index = self.number(raw.cert_login_san_index.as_ref(), 0, 0..=255) as usize;
        let from = match raw.cert_login_from.as_ref().map(|name| (name, name.get_ref().as_str())) {
            None | Some((_, "distinguished_name")) => LoginFrom::DistinguishedName,
            Some((_, "common_name")) => LoginFrom::CommonName,
            Some((_, "subject_alternative_name" | "subject_alt_name")) => {
                LoginFrom::SubjectAlternativeName { san_type, index }
            }
            Some((written, other)) => {
                let message = format!("`{other}` is no name of a certificate");
                let help = "use distinguished_name, common_name or subject_alternative_name";
                self.wrong("tls", written, message, help);
                LoginFrom::DistinguishedName
            }
        };
        CertLogin { from }
    }
}
