//! TLS of checks (`check-ssl`, or `ssl` of the server): as sessions have it, with the names that are given
//! for checks.

use super::connect::Tls;
use crate::server::Server;
use crate::tls;

/// What a server's checks need for TLS; none when they speak none.
pub(super) fn of_checks(server: &Server) -> Result<Option<Tls>, tls::TlsError> {
    let config = server.config();
    let options = &config.options.tls;
    if !options.for_checks() {
        return Ok(None);
    }
    let (config, name) = tls::connector(&options.of_checks(), None)?;
    Ok(Some(Tls { config, name }))
}
