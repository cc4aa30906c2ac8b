//! VRRP packets and state machine.
