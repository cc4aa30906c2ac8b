//! The Containerfile, step by step, on a bare Debian that stands for its base image: what it copies is there, what it
//! runs works, and what it starts does what it says.

use super::packages::Root;
use harness::programs;
use std::fmt::Write as _;
use xtask::package::PROGRAMS;

const CONTAINERFILE: &str = include_str!("../../../configs/container/Containerfile");

/// A stage of the file.
#[derive(Debug, Default)]
struct Stage {
    name: String,
    from: String,
    /// Instructions with what they take.
    steps: Vec<(String, String)>,
}

impl Stage {
    fn last(&self, instruction: &str) -> Option<&str> {
        self.steps.iter().rev().find(|(name, _)| name == instruction).map(|(_, rest)| rest.as_str())
    }

    /// A list of words in JSON's form as words of a shell.
    fn words(&self, instruction: &str) -> String {
        let text = self.last(instruction).unwrap_or_else(|| panic!("{} has no {instruction}", self.name));
        let list = &text[text.find('[').expect("the exec form")..];
        let words: Vec<String> = serde_json::from_str(list).expect("a list in JSON");
        words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ")
    }
}

fn stages(text: &str) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    let joined = text.replace("\\\n", " ");
    for line in joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (instruction, rest) = line.split_once(' ').expect("an instruction and what it takes");
        if instruction == "FROM" {
            let (from, name) = rest.split_once(" AS ").expect("every stage has a name");
            stages.push(Stage { name: name.to_owned(), from: from.to_owned(), steps: Vec::new() });
        } else {
            let stage = stages.last_mut().expect("FROM comes first");
            stage.steps.push((instruction.to_owned(), rest.trim().to_owned()));
        }
    }
    stages
}

fn stage(name: &str) -> Stage {
    stages(CONTAINERFILE).into_iter().find(|stage| stage.name == name).expect("the stage is there")
}

/// Follows a stage inside; returns the user that it ends as.
fn build(root: &Root, stage: &Stage) -> Option<String> {
    for (instruction, rest) in &stage.steps {
        match instruction.as_str() {
            "COPY" => {
                let words: Vec<&str> = rest.split_whitespace().collect();
                let ["--from=build", from, to] = words[..] else { panic!("COPY {rest}") };
                let program = from.strip_prefix("/src/target/release/").expect("a program that was built");
                let to = root.path().join(to.trim_start_matches('/'));
                std::fs::copy(programs::folder().join(program), to).unwrap();
            }
            "RUN" if rest.contains("apt-get update") => {
                // Nothing can be fetched inside: what would be has to be there.
                let (_, list) = rest.split_once("apt-get install").expect("it installs");
                let list = list.split("&&").next().unwrap_or_default();
                let names = list.split_whitespace().filter(|word| !word.starts_with('-'));
                let asked: String = names.map(|name| format!("dpkg -s {name}\n")).collect();
                root.shell(&asked).unwrap();
            }
            "RUN" => drop(root.shell(rest).unwrap()),
            "USER" | "VOLUME" | "EXPOSE" | "HEALTHCHECK" | "STOPSIGNAL" | "ENTRYPOINT" => {}
            other => panic!("{other} is not known here"),
        }
    }
    stage.last("USER").map(str::to_owned)
}

/// How a container's user runs a command.
fn run_as(user: Option<&str>, environment: &str, command: &str) -> String {
    let path = "PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin";
    match user {
        Some(user) => format!(
            "setpriv --reuid={user} --regid={user} --clear-groups env -i {path} HOME=\"$(getent passwd {user} | cut -d: -f6)\" {environment} {command}"
        ),
        None => format!("env -i {path} HOME=/root {environment} {command}"),
    }
}

/// Lines that start what the stage starts, and stop it at the end.
fn script(stage: &Stage, user: Option<&str>, environment: &str, while_it_runs: &str) -> String {
    let start = run_as(user, environment, &stage.words("ENTRYPOINT"));
    let signal = stage.last("STOPSIGNAL").unwrap_or("SIGTERM");
    let mut text = format!("{start} >/tmp/log 2>&1 &\nit=$!\n");
    text += "tries() { for _ in $(seq 300); do \"$@\" >/dev/null 2>&1 && return 0; sleep 0.1; done; cat /tmp/log; return 1; }\n";
    for port in stage.last("EXPOSE").unwrap_or_default().split_whitespace().filter(|port| *port != "25672") {
        // On all addresses: a container's ports are reached from outside.
        let _ = writeln!(
            text,
            "tries sh -c \"ss -Hltn 'sport = :{port}' | grep -v 127.0.0.1 | grep -q :{port}\""
        );
    }
    if stage.last("HEALTHCHECK").is_some() {
        let _ = writeln!(text, "tries {}", run_as(user, "", &stage.words("HEALTHCHECK")));
    }
    let signal = signal.trim_start_matches("SIG");
    text + while_it_runs + &format!("\nkill -{signal} $it\nwait $it || test $? -ge 128\necho it went well\n")
}

#[test]
fn every_program_is_built_without_symbols_and_has_an_image() {
    let build = stage("build");
    let run = build.last("RUN").unwrap();
    let base = stage("base");
    assert!(base.from.contains("debian:bookworm"), "tests have a bookworm in its place: {}", base.from);
    for program in PROGRAMS {
        assert!(run.contains(&format!("-p {}", program.name)), "{run}");
        assert!(run.contains("strip ") && run.contains(&format!("target/release/{}", program.name)), "{run}");
        let own = stage(program.name);
        assert_eq!(own.from, "base");
        let links: String =
            own.steps.iter().filter(|(name, _)| name == "RUN").map(|(_, rest)| rest.as_str()).collect();
        for name in program.answers_to {
            assert!(links.contains(name), "{} has no {name}", program.name);
        }
    }
}

#[test]
fn images_start_what_they_say_on_a_bare_debian() {
    let Some(root) = Root::bare("containers") else { return };
    let broker = stage("broker");
    let user = build(&root, &broker);
    let used = "broker pub --create --url amqp://app:secret@192.0.2.11:5672/ orders hello
broker get --url amqp://app:secret@192.0.2.11:5672/ --raw --ack orders
rabbitmqctl --data /var/lib/broker list_queues name";
    let environment = "RABBITMQ_DEFAULT_USER=app RABBITMQ_DEFAULT_PASS=secret";
    let text = root.shell(&script(&broker, user.as_deref(), environment, used)).unwrap();
    assert!(text.contains("\nhello\n") && text.ends_with("it went well\n"), "{text}");

    let proxy = stage("proxy");
    let user = build(&root, &proxy);
    root.write(
        "etc/proxy/proxy.toml",
        "[listen.amqp]\nbind = \":5672\"\nservers.A = \"192.0.2.11:5673\"\n[stats.monitor]\nbind = \":8100\"\n",
    );
    let used = "curl -sf 'http://192.0.2.11:8100/monitor;csv' | grep amqp,A";
    let text = root.shell(&script(&proxy, user.as_deref(), "", used)).unwrap();
    assert!(text.contains("amqp,A,") && text.ends_with("it went well\n"), "{text}");

    let agent = stage("vip-agent");
    let user = build(&root, &agent);
    root.write(
        "etc/vip-agent/vip.toml",
        "[[instance]]\nname = \"VI_1\"\ninterface = \"eth0\"\nvirtual_router_id = 66\naddresses = [\"192.0.2.66/24\"]\n",
    );
    let used = "tries sh -c 'ip addr show eth0 | grep -q 192.0.2.66'";
    let text = root.shell(&script(&agent, user.as_deref(), "", used)).unwrap();
    assert!(text.ends_with("it went well\n"), "{text}");
    root.passed();
}
