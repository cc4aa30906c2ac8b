//! The keys of `rabbitmq.conf`.

/// What must be there so that a line means something; what is said later counts.
pub(super) fn file(line: &str) -> String {
    let options = |of: &str| {
        format!("{of}.certfile = FOLDER/cert\n{of}.keyfile = FOLDER/key\n{of}.cacertfile = FOLDER/ca\n")
    };
    if line.starts_with("ssl_") || line.starts_with("listeners.ssl") {
        format!("listeners.ssl.1 = 5671\n{}", options("ssl_options"))
    } else if line.starts_with("management.ssl") {
        format!("management.ssl.port = 15671\nmanagement.tcp.port = 15672\n{}", options("management.ssl"))
    } else {
        String::new()
    }
}
