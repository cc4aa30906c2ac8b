//! Tests that go across modules: against another implementation, and over the stored fuzz corpus.

mod corpus;
mod oracle;
pub(crate) mod sample;
