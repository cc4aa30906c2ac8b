//! Tests of the metadata state machine.
