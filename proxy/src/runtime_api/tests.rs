//! Tests of the commands against a process that does not run: what they answer, who may give them.

use std::sync::Arc;
use std::time::Duration;

use daemon::diagnostic::Diagnostics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::config::haproxy_cfg::Reader;
use crate::config::{Config, validate};

const CONFIG: &str = "\
defaults
 mode tcp
 maxconn 2000
 timeout connect 5s
 timeout client 1h
 timeout server 1h
listen rabbit
 bind 127.0.0.1:1
 server A 127.0.0.1:5672 check inter 5000 rise 2 fall 3 weight 10
 server B 127.0.0.1:5673
backend dyn
 server d1 127.0.0.1:5674
";

fn process() -> Arc<Process> {
    process_of(CONFIG)
}

fn process_of(text: &str) -> Arc<Process> {
    let mut config = Config::default();
    let mut remarks = Diagnostics::new();
    Reader::default().read(text, "t.cfg", &mut config, &mut remarks);
    validate::validate(&mut config, &mut remarks);
    assert!(!remarks.has_errors(), "{remarks}");
    Arc::new(Process::new(config, "haproxy"))
}

fn cli(process: &Arc<Process>, level: Level) -> Cli {
    Cli {
        process: process.clone(),
        level,
        interactive: false,
        timeout: Some(Duration::from_secs(5)),
        severity: Severity::None,
    }
}

/// The answers to a line; none when it ends the connection.
async fn say(cli: &mut Cli, text: &str) -> Option<String> {
    let mut out = Vec::new();
    cli.line(text, &mut out).await.unwrap().then(|| String::from_utf8(out).unwrap())
}

/// As HAProxy 2.6 answers, which has two more of its own HTTP client.
#[tokio::test]
async fn acls_are_shown_with_the_line_that_each_of_them_stands_in() {
    let acls = " acl inside src 10.0.0.0/8 127.0.0.1\n\n acl inside src 192.168.0.0/16\n \
                tcp-request connection reject if !inside { src 1.2.3.4 }\n server A";
    let process = process_of(&CONFIG.replacen(" server A", acls, 1));
    let mut cli = cli(&process, Level::Admin);
    let line = |id: u32, line: u32, count: u32| {
        format!("{id} () acl 'src' file 't.cfg' line {line}. curr_ver=0 next_ver=0 entry_cnt={count}\n")
    };
    let all = format!("# id (file) description\n{}{}{}\n", line(0, 9, 2), line(1, 11, 1), line(2, 12, 1));
    assert_eq!(say(&mut cli, "show acl").await.unwrap(), all);
    assert!(say(&mut cli, "show acl #1").await.unwrap().ends_with(" 192.168.0.0/16\n\n"));
}

#[tokio::test]
async fn a_command_waits_until_the_answers_before_it_are_taken() {
    let process = process();
    let (mut ours, mut theirs) = tokio::io::duplex(64);
    let running = process.clone();
    let task = tokio::spawn(async move {
        let mut cli = cli(&running, Level::Admin);
        cli.line("show info;set weight rabbit/A 3", &mut ours).await.unwrap()
    });
    let mut first = [0; 8];
    theirs.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"Name: HA");
    let weight = || process.backend("rabbit").unwrap().server("A").unwrap().weight();
    assert_eq!(weight(), 10);
    let mut rest = Vec::new();
    theirs.read_to_end(&mut rest).await.unwrap();
    assert!(task.await.unwrap());
    assert_eq!(weight(), 3);
}

/// Every message as haproxy 2.6.12 gave it to the same command and a section like this.
#[tokio::test]
async fn messages_are_haproxys() {
    let mut cli = cli(&process(), Level::Admin);
    for (command, answer) in [
        ("set server", "Require 'backend/server'.\n\n"),
        ("set server x", "Require 'backend/server'.\n\n"),
        ("set server nob/x state ready", "No such backend.\n\n"),
        ("set server rabbit/nos state ready", "No such server.\n\n"),
        ("set server rabbit/A state x", "'set server <srv> state' expects 'ready', 'drain' and 'maint'.\n\n"),
        ("set server rabbit/A weight", "Require <weight> or <weight%>.\n\n"),
        ("set server rabbit/A weight x", "Empty weight string empty or preceded by garbage\n"),
        ("set server rabbit/A weight 300", "Absolute weight can only be between 0 and 256 inclusive.\n\n"),
        ("set server rabbit/A weight 200%", "\n"),
        ("get weight rabbit/A", "20 (initial 10)\n\n"),
        ("set weight rabbit/A 10", "\n"),
        (
            "set server rabbit/A addr",
            "set server <b>/<s> addr requires an address and optionally a port.\n\n",
        ),
        ("set server rabbit/A addr bad", "Invalid addr 'bad' by 'stats socket command'\n\n"),
        ("set server rabbit/A addr 127.0.0.1", "no need to change the addr by 'stats socket command'\n\n"),
        (
            "set server rabbit/A addr 127.0.0.1 port 5699",
            "no need to change the addr, port changed from '5672' to '5699' by 'stats socket command'\n\n",
        ),
        (
            "set server rabbit/A addr 127.0.0.2 port 5699",
            "IP changed from '127.0.0.1' to '127.0.0.2', no need to change the port by 'stats socket command'\n\n",
        ),
        ("set server rabbit/A agent up", "agent checks are not enabled on this server.\n\n"),
        (
            "set server rabbit/A health x",
            "'set server <srv> health' expects 'up', 'stopping', or 'down'.\n\n",
        ),
        ("set server rabbit/A health up", "\n"),
        ("set server rabbit/A check-port x", "provided port is not an integer\n"),
        ("set server rabbit/B check-port 5", "health checks are not enabled on this server\n"),
        ("set server rabbit/A fqdn", "set server <b>/<s> fqdn requires a FQDN.\n\n"),
        ("enable health rabbit/B", "Health check was not configured on this server, cannot enable.\n\n"),
        ("enable agent rabbit/A", "Agent was not configured on this server, cannot enable.\n\n"),
        ("enable frontend", "A frontend name is expected.\n\n"),
        ("enable frontend dyn", "No such frontend.\n\n"),
        ("add server", "Require 'backend/server'.\n"),
        ("add server nob/d2 127.0.0.1:1", "No such backend.\n"),
        ("add server dyn/d1 127.0.0.1:1", "Already exists a server with the same name in backend.\n\n"),
        ("add server dyn/d2", "'server' expects <name> and <addr>[:<port>] as arguments.\n\n"),
        ("del server dyn/nos", "No such server.\n"),
        ("del server dyn/d1", "Only servers in maintenance mode can be deleted.\n"),
        ("set maxconn frontend", "A frontend name is expected.\n\n"),
        ("set maxconn frontend x 5", "No such frontend.\n\n"),
        ("set maxconn global", "Expects an integer value.\n\n"),
        ("set maxconn server rabbit/A", "Require <maxconn>.\n\n"),
        ("set maxconn server rabbit/A x", "maxconn string empty or preceded by garbage\n"),
        ("set timeout", "'set timeout' only supports 'cli'.\n\n"),
        ("set timeout cli", "Expects an integer value.\n\n"),
        ("set timeout cli x", "Invalid timeout value.\n\n"),
        ("shutdown session", "Session pointer expected (use 'show sess').\n\n"),
        ("shutdown session 0x1", "No such session (use 'show sess').\n\n"),
        ("shutdown sessions server a/b", "No such backend.\n\n"),
        ("shutdown frontend x", "No such frontend.\n\n"),
        ("clear counters", "\n"),
        ("set rate-limit connections global", "Expects an integer value.\n\n"),
        ("show cli level", "admin\n\n"),
        ("show peers", "\n"),
        ("show table", "\n"),
        ("show table x", "No such table\n\n"),
        ("show backend", "# name\nrabbit\ndyn\n\n"),
        ("show servers state x", "Can't find backend.\n\n"),
        ("show servers conn x", "Can't find backend.\n\n"),
        ("show sess 0x1", "Session not found.\n\n"),
        ("set severity-output foo", "one of 'none', 'number', 'string' is a required argument\n\n"),
        ("show cli level;user;show cli level", "admin\n\n\nuser\n\n"),
    ] {
        assert_eq!(say(&mut cli, command).await.as_deref(), Some(answer), "{command}");
    }
    assert_eq!(say(&mut cli, "quit").await, None);
}

#[tokio::test]
async fn rights_are_needed_for_what_changes_things() {
    let process = process();
    let denied = "Permission denied\n\n";
    for command in ["set weight rabbit/A 1", "disable server a/b", "add server x/y 1", "set maxconn global 5"]
    {
        for level in [Level::User, Level::Operator] {
            assert_eq!(say(&mut cli(&process, level), command).await.as_deref(), Some(denied), "{command}");
        }
    }
    for command in ["show sess", "show env", "clear counters", "show errors", "operator", "show fd"] {
        assert_eq!(say(&mut cli(&process, Level::User), command).await.as_deref(), Some(denied), "{command}");
        assert_ne!(
            say(&mut cli(&process, Level::Operator), command).await.as_deref(),
            Some(denied),
            "{command}"
        );
    }
    assert_eq!(say(&mut cli(&process, Level::Operator), "clear counters all").await.as_deref(), Some(denied));
    assert_eq!(
        say(&mut cli(&process, Level::Admin), "operator;set weight rabbit/A 1").await.as_deref(),
        Some("\nPermission denied\n\n")
    );
}

#[tokio::test]
async fn a_server_is_added_worked_on_and_deleted() {
    let process = process();
    let mut cli = cli(&process, Level::Admin);
    let added = say(&mut cli, "add server dyn/d2 127.0.0.1:5675 weight 5 check").await.unwrap();
    assert_eq!(added, "New server registered.\n\n");
    assert_eq!(
        say(&mut cli, "add server dyn/d2 127.0.0.1:1").await.unwrap(),
        "Already exists a server with the same name in backend.\n\n"
    );
    let unknown = say(&mut cli, "add server dyn/d3 127.0.0.1:1 foo").await.unwrap();
    assert!(unknown.contains("foo"), "{unknown}");
    let states = say(&mut cli, "show servers state dyn").await.unwrap();
    let line = states.lines().find(|line| line.contains(" d2 ")).unwrap();
    // Down, in maintenance by an order, with a check that is configured but does not run.
    assert!(line.starts_with("2 dyn 2 d2 127.0.0.1 0 1 5 5 "), "{line}");
    assert_eq!(say(&mut cli, "enable server dyn/d2").await.unwrap(), "\n");
    assert_eq!(
        say(&mut cli, "del server dyn/d2").await.unwrap(),
        "Only servers in maintenance mode can be deleted.\n"
    );
    assert_eq!(say(&mut cli, "disable server dyn/d2").await.unwrap(), "\n");
    assert_eq!(say(&mut cli, "del server dyn/d2").await.unwrap(), "Server deleted.\n");
    assert_eq!(say(&mut cli, "del server dyn/d2").await.unwrap(), "No such server.\n");
}

#[tokio::test]
async fn rows_are_filtered_and_shown_in_every_form() {
    let mut cli = cli(&process(), Level::User);
    let mut names = async |command: &str| -> Vec<String> {
        let text = say(&mut cli, command).await.unwrap();
        text.lines()
            .skip(1)
            .filter(|line| !line.is_empty())
            .map(|line| line.split(',').nth(1).unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(names("show stat").await, ["FRONTEND", "A", "B", "BACKEND", "d1", "BACKEND"]);
    let id = "1";
    assert_eq!(names(&format!("show stat {id} 4 -1")).await, ["A", "B"]);
    assert_eq!(names(&format!("show stat {id} 4 2")).await, ["B"]);
    assert_eq!(names("show stat dyn -1 -1").await, ["d1", "BACKEND"]);
    assert_eq!(names("show stat -1 1 -1").await, ["FRONTEND"]);
    assert_eq!(names("show stat 99 -1 -1").await, Vec::<String>::new());
    let typed = say(&mut cli, "show stat 1 4 1 typed").await.unwrap();
    assert!(typed.starts_with("S.1.1.0.pxname.1:KNS:str:rabbit\nS.1.1.1.svname.1:KNS:str:A\n"), "{typed}");
    let described = say(&mut cli, "show stat 1 4 1 typed desc").await.unwrap();
    assert!(
        described.lines().next().unwrap().ends_with(":str:rabbit:\"Name of the section\""),
        "{described}"
    );
    for command in ["show stat json", "show info json", "show schema json"] {
        let text = say(&mut cli, command).await.unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(text.trim()).is_ok(), "{text}");
    }
    let info = say(&mut cli, "show info typed").await.unwrap();
    assert!(info.starts_with("0.Name.1:POS:str:HAProxy\n1.Version.1:POS:str:"), "{info}");
    assert!(say(&mut cli, "show info float").await.unwrap().contains("Uptime_sec: 0."));
}

#[tokio::test]
async fn a_connection_closes_after_a_line_unless_prompted_to_stay() {
    let process = process();
    let talk = async |sent: &str| -> String {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let serving = tokio::spawn(cli(&process, Level::Admin).talk(server));
        client.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        serving.await.unwrap();
        answer
    };
    assert_eq!(talk("show cli level\nshow version\n").await, "admin\n\n");
    assert_eq!(
        talk("prompt\nshow cli level\nprompt\nshow version\n").await,
        "\n> admin\n\n> \n",
        "leaving the prompt ends the connection after that line"
    );
    assert_eq!(
        talk("prompt;set severity-output number\nset server x y\nquit\n").await.matches("[3]: ").count(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_and_an_endless_line_are_given_up() {
    let process = process();
    let (client, server) = tokio::io::duplex(1024);
    cli(&process, Level::Admin).talk(server).await;
    drop(client);
    let (mut client, server) = tokio::io::duplex(1024);
    let serving = tokio::spawn(cli(&process, Level::Admin).talk(server));
    let endless = "x".repeat(MAX_LINE * 2);
    // The other side closes while we still write.
    let _ = client.write_all(endless.as_bytes()).await;
    serving.await.unwrap();
}
