//! What the broker decides.
