//! What moves priorities and raises faults.

pub(crate) mod script;
