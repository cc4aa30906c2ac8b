//! Tests of the TOML form.
