//! What a command has at hand: its arguments, the node, and where results go.

use super::args::Parsed;
use super::catalog::Tool;
use super::client::{Answer, Client, path};
use super::cluster_server;
use super::error::CtlError;
use super::format::{Formatter, Rows};
use crate::cluster::operator::{Done, Order};
use daemon::exit::Exit;
use hyper::Method;
use hyper::header::HeaderValue;
use serde_json::Value;
use std::io::Write;

/// What a command does.
pub(super) type Act = fn(&mut Run<'_>) -> Result<(), CtlError>;

/// A command while it runs.
pub(super) struct Run<'a> {
    /// Its line.
    pub(super) parsed: &'a Parsed,
    /// What the program was called.
    pub(super) tool: &'a str,
    kind: Tool,
    client: Option<Client>,
    node: Option<String>,
    formatter: Option<Formatter>,
    bold: bool,
    out: &'a mut dyn Write,
}

impl<'a> Run<'a> {
    /// A command that is about to run; `bold` says whether titles may stand out.
    pub(super) fn new(
        parsed: &'a Parsed,
        (kind, tool): (Tool, &'a str),
        client: Option<Client>,
        bold: bool,
        out: &'a mut dyn Write,
    ) -> Result<Run<'a>, CtlError> {
        let formatter = parsed.formatter()?;
        Ok(Run { parsed, tool, kind, client, node: None, formatter, bold, out })
    }

    /// Which tool it is.
    pub(super) fn kind(&self) -> Tool {
        self.kind
    }

    /// Argument `index`, or nothing.
    pub(super) fn argument(&self, index: usize) -> &'a str {
        self.parsed.arguments().get(index).map_or("", String::as_str)
    }

    /// Arguments from `index` on.
    pub(super) fn arguments_from(&self, index: usize) -> &'a [String] {
        self.parsed.arguments().get(index..).unwrap_or_default()
    }

    /// How results are to look.
    pub(super) fn formatter(&self) -> Formatter {
        self.formatter.unwrap_or_default()
    }

    /// What a person likes to read and a program does not.
    pub(super) fn say(&mut self, text: &str) -> Result<(), CtlError> {
        if self.parsed.is_quiet() || self.formatter().is_machine() {
            return Ok(());
        }
        self.print(text)
    }

    /// A line of the result.
    pub(super) fn print(&mut self, text: &str) -> Result<(), CtlError> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// A title over a part of the result, with an empty line before and after it.
    pub(super) fn title(&mut self, text: &str) -> Result<(), CtlError> {
        let shown = self.bolded(text);
        self.print(&format!("{shown}\n"))
    }

    /// Bold on a terminal.
    pub(super) fn bolded(&self, text: &str) -> String {
        if self.bold { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Rows in the wanted form.
    pub(super) fn rows(&mut self, rows: &Rows) -> Result<(), CtlError> {
        let (formatter, headers) = (self.formatter(), !self.parsed.hides_headers());
        Ok(rows.write(self.out, formatter, headers)?)
    }

    /// Rows in the wanted form, or with lines around them where none was asked for.
    pub(super) fn pretty_rows(&mut self, rows: &Rows) -> Result<(), CtlError> {
        let headers = !self.parsed.hides_headers();
        Ok(rows.write(self.out, self.formatter.unwrap_or(Formatter::Pretty), headers)?)
    }

    /// One value in the wanted form; `text` is for people.
    pub(super) fn value(&mut self, value: &Value, text: &str) -> Result<(), CtlError> {
        match self.formatter() {
            Formatter::Json | Formatter::JsonStream => self.print(&value.to_string()),
            Formatter::Erlang => self.print(&super::term::term(value)),
            _ => self.print(text),
        }
    }

    fn client(&mut self) -> Result<&mut Client, CtlError> {
        let none = || CtlError::plain(Exit::Software, "Error: this command was not meant to ask a node");
        self.client.as_mut().ok_or_else(none)
    }

    /// Whether the node is asked through its control socket.
    pub(super) fn is_local(&self) -> bool {
        self.client.as_ref().is_some_and(|client| client.local)
    }

    /// Whether another node of the cluster is meant, which the one on this machine asks.
    pub(super) fn is_passed_on(&self) -> bool {
        self.client.as_ref().is_some_and(|client| client.other.is_some())
    }

    /// Asks the node; the path's parts are encoded here.
    pub(super) fn ask(
        &mut self,
        method: Method,
        parts: &[&str],
        body: Option<&Value>,
    ) -> Result<Answer, CtlError> {
        self.client()?.ask(method, &path(parts), body)
    }

    /// Asks as somebody else.
    pub(super) fn ask_as(&mut self, user: &str, password: &str, parts: &[&str]) -> Result<Answer, CtlError> {
        self.client()?.ask_as(user, password, &path(parts))
    }

    /// Deletes something and says why.
    pub(super) fn delete_because(&mut self, parts: &[&str], reason: &str) -> Result<Answer, CtlError> {
        let reason: String = reason.chars().filter(|it| it.is_ascii() && !it.is_ascii_control()).collect();
        let name = hyper::header::HeaderName::from_static("x-reason");
        let header = HeaderValue::try_from(reason).ok().map(|value| (name, value));
        self.client()?.ask_with(Method::DELETE, &path(parts), None, header)
    }

    /// Deletes something on conditions.
    pub(super) fn delete_with(&mut self, parts: &[&str], query: &str) -> Result<Answer, CtlError> {
        let mark = if query.is_empty() { "" } else { "?" };
        self.client()?.ask(Method::DELETE, &format!("{}{mark}{query}", path(parts)), None)
    }

    /// Gets what must be there.
    pub(super) fn get(&mut self, parts: &[&str]) -> Result<Value, CtlError> {
        self.ask(Method::GET, parts, None)?.fine()
    }

    /// The same with a query.
    pub(super) fn get_with(&mut self, parts: &[&str], query: &str) -> Result<Value, CtlError> {
        self.client()?.ask(Method::GET, &format!("{}?{query}", path(parts)), None)?.fine()
    }

    /// The entries of a list.
    pub(super) fn list(&mut self, parts: &[&str]) -> Result<Vec<Value>, CtlError> {
        Ok(entries(self.get(parts)?))
    }

    /// The entries of a list with the given fields only.
    pub(super) fn list_with(&mut self, parts: &[&str], columns: &str) -> Result<Vec<Value>, CtlError> {
        Ok(entries(self.get_with(parts, &format!("columns={columns}"))?))
    }

    /// Makes or changes something.
    pub(super) fn put(&mut self, parts: &[&str], body: &Value) -> Result<(), CtlError> {
        self.ask(Method::PUT, parts, Some(body))?.fine().map(drop)
    }

    /// Asks for something that only the control socket offers.
    pub(super) fn ask_local(
        &mut self,
        method: Method,
        what: &str,
        body: Option<&Value>,
    ) -> Result<Value, CtlError> {
        self.local_answer(method, what, body)?.fine()
    }

    fn local_answer(&mut self, method: Method, what: &str, body: Option<&Value>) -> Result<Answer, CtlError> {
        if !self.is_local() {
            let text = "this command works on the node's own machine only, not over HTTP";
            return Err(CtlError::unsupported(text));
        }
        let client = self.client()?;
        client.renew()?;
        client.ask(method, &format!("/local/{what}"), body)
    }

    /// Gives the node an order that concerns its place in the cluster.
    pub(super) fn order(&mut self, order: &Order) -> Result<Done, CtlError> {
        let body = serde_json::to_value(order).map_err(std::io::Error::other)?;
        let answer = self.local_answer(Method::POST, "cluster", Some(&body))?;
        cluster_server::outcome(answer.status, answer.body).map_err(CtlError::from)
    }

    /// What another node of the cluster has there, or nothing.
    pub(super) fn answer_of(&mut self, node: &str, parts: &[&str]) -> Result<Value, CtlError> {
        let client = self.client()?;
        if !client.local {
            return Ok(Value::Null);
        }
        let meant = std::mem::replace(&mut client.other, HeaderValue::try_from(node).ok());
        let answer = client.ask(Method::GET, &path(parts), None);
        client.other = meant;
        Ok(answer.ok().filter(Answer::is_fine).map_or(Value::Null, |answer| answer.body))
    }

    /// The node's name.
    pub(super) fn node(&mut self) -> Result<String, CtlError> {
        if let Some(node) = &self.node {
            return Ok(node.clone());
        }
        let identity = if self.is_local() {
            self.ask_local(Method::GET, "identity", None)?
        } else {
            self.get_with(&["overview"], "columns=node")?
        };
        let node = identity["node"].as_str().unwrap_or("unknown").to_owned();
        self.node = Some(node.clone());
        Ok(node)
    }

    /// How long an answer may take, seconds.
    pub(super) fn timeout(&self) -> f64 {
        self.client.as_ref().map_or(60.0, |client| client.timeout.as_secs_f64())
    }

    /// The vhost that is meant; it must be there.
    pub(super) fn vhost(&mut self) -> Result<&'a str, CtlError> {
        let vhost = self.parsed.vhost();
        self.need_vhost(vhost)?;
        Ok(vhost)
    }

    /// A vhost must be there.
    pub(super) fn need_vhost(&mut self, vhost: &str) -> Result<(), CtlError> {
        let answer =
            self.client()?.ask(Method::GET, &format!("{}?columns=name", path(&["vhosts", vhost])), None)?;
        if answer.is_missing() {
            return Err(CtlError::no_vhost(vhost));
        }
        answer.fine().map(drop)
    }

    /// A user that must be there.
    pub(super) fn need_user(&mut self, name: &str) -> Result<Value, CtlError> {
        let answer = self.ask(Method::GET, &["users", name], None)?;
        if answer.is_missing() {
            return Err(CtlError::no_user(name));
        }
        answer.fine()
    }
}

fn entries(value: Value) -> Vec<Value> {
    match value {
        Value::Array(entries) => entries,
        _ => Vec::new(),
    }
}

/// JSON that somebody typed.
pub(super) fn typed_json(text: &str) -> Result<Value, CtlError> {
    serde_json::from_str(text)
        .map_err(|error| CtlError::unavailable(format!("JSON decoding error. Reason: {error}")))
}
