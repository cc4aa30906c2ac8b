//! The state of one AMQP channel that does not depend on sockets: content being assembled, publisher
//! confirms, delivery tags, transactions.

pub mod confirm;
pub mod content;
pub mod deliveries;
pub mod tx;
