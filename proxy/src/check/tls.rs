//! TLS of checks (`check-ssl`, or `ssl` of the server): as sessions have it, with the names that are given
//! for checks.

use super::connect::Tls;
use crate::config::tls::{ServerTls, Sni};
use crate::server::Server;
use crate::tls;

/// What a server's checks need for TLS; none when they speak none.
pub(super) fn of_checks(server: &Server) -> Result<Option<Tls>, tls::TlsError> {
    let config = server.config();
    let options = &config.options.tls;
    if !options.for_checks() {
        return Ok(None);
    }
    let sni = match (&options.check_sni, &options.sni) {
        (Some(name), _) => Some(Sni::Name(name.clone())),
        // No client has asked for a name.
        (None, Some(Sni::Client)) => None,
        (None, own) => own.clone(),
    };
    let alpn = if options.check_alpn.is_empty() { options.alpn.clone() } else { options.check_alpn.clone() };
    let (config, name) = tls::connector(&ServerTls { sni, alpn, ..options.clone() }, None)?;
    Ok(Some(Tls { config, name }))
}
