//! Commands of rabbitmqctl that have nothing to do here.

use super::error::CtlError;
use super::run::Run;

/// What evaluates code.
pub(super) fn no_code(_: &mut Run<'_>) -> Result<(), CtlError> {
    Err(CtlError::unsupported("there is no Erlang here that could evaluate code"))
}

/// What encrypts values of a configuration file.
pub(super) fn no_encoding(_: &mut Run<'_>) -> Result<(), CtlError> {
    Err(CtlError::unsupported(
        "values of the configuration are not encrypted: keep the file readable by the broker's user only",
    ))
}

/// What RabbitMQ itself has made a command without effect.
pub(super) fn nothing(run: &mut Run<'_>) -> Result<(), CtlError> {
    run.say("This command does nothing.")
}
