//! Whether a node would take definitions, without one: they are imported into metadata of this process' own, which
//! holds what the node has.

use crate::cluster::Seat;
use crate::metadata::definitions::{ImportError, import};
use crate::metadata::Metadata;
use crate::storage::DataPlace;
use broker_store::disk::RealDisk;
use broker_store::journal::JournalOptions;
use daemon::exit::Exit;
use daemon::run::Failure;
use serde_json::{Value, json};
use std::sync::Arc;

/// Imports `wanted` beside what is `there`, or beside what a new node has.
///
/// # Errors
///
/// What the node would refuse. Nothing was written to it.
pub(super) fn run(wanted: &Value, there: Option<&Value>) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Software, format!("the definitions cannot be tried: {error}"))
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().map_err(|error| failed(&error))?;
    let place = DataPlace::new(None)?;
    let options = JournalOptions::new(rand::random());
    let seat = Seat::alone("rehearsal@localhost");
    let metadata = Metadata::open(Arc::new(RealDisk), &place.path().join("raft"), options, &seat)
        .map_err(|error| failed(&error))?;
    let new = json!({"vhosts": [{"name": "/"}]});
    let tried = runtime.block_on(async {
        import(&metadata, there.unwrap_or(&new), None).await.map_err(|error| failed(&error))?;
        import(&metadata, wanted, None).await.map_err(|error| refused(&error))
    });
    metadata.close();
    tried.map(drop)
}

fn refused(error: &ImportError) -> Failure {
    let failure = Failure::new(Exit::DataError, format!("a node would refuse this: {error}; nothing was written"));
    match error {
        ImportError::NoVhost => failure.detail(
            "try",
            "the definitions of all vhosts; those of one go to its own address: POST /api/definitions/VHOST",
        ),
        _ => failure.detail("write", "something else there, or take it out of the definitions"),
    }
}
