//! What moves priorities and raises faults.

pub(crate) mod builtin;
pub(crate) mod script;
