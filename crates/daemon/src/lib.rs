//! The frame of every Warren daemon.
