//! `cargo xtask codegen`: turns `crates/amqp/methods.table` into Rust.
//!
//! The table is ours and explains its own format. One file per class goes to
//! `crates/amqp/src/method/generated/`, plus `mod.rs` with the `Method` enum. The files are checked in; with
//! `--check` nothing is written and a difference is an error, so CI notices a stale file.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

const TABLE: &str = "crates/amqp/methods.table";
const OUTPUT: &str = "crates/amqp/src/method/generated";

/// Writes the generated files, or with `check` only compares them.
///
/// # Errors
///
/// The table has a mistake (with its line), `rustfmt` cannot run, a file cannot be written, or with `check` a
/// file on disk is not what the table gives.
pub fn run(check: bool) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let text = std::fs::read_to_string(root.join(TABLE)).with_context(|| format!("reading {TABLE}"))?;
    let classes = parse(&text)?;
    let output = root.join(OUTPUT);
    let mut files = vec![(output.join("mod.rs"), rustfmt(root, &method_enum(&classes)?)?)];
    for class in &classes {
        files.push((output.join(format!("{}.rs", class.name)), rustfmt(root, &class_module(class)?)?));
    }
    if check { compare(&output, &files) } else { write(&output, &files) }
}

fn write(output: &Path, files: &[(PathBuf, String)]) -> Result<()> {
    std::fs::create_dir_all(output)?;
    for (path, text) in files {
        if std::fs::read_to_string(path).ok().as_ref() != Some(text) {
            std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
        }
    }
    for stray in strays(output, files)? {
        std::fs::remove_file(&stray).with_context(|| format!("removing {}", stray.display()))?;
    }
    Ok(())
}

fn compare(output: &Path, files: &[(PathBuf, String)]) -> Result<()> {
    let mut stale: Vec<_> = files
        .iter()
        .filter(|(path, text)| std::fs::read_to_string(path).ok().as_ref() != Some(text))
        .map(|(path, _)| path.clone())
        .collect();
    stale.extend(strays(output, files)?);
    if let Some(first) = stale.first() {
        bail!(
            "{} file(s) do not match {TABLE}, first {}: run `cargo xtask codegen`",
            stale.len(),
            first.display()
        );
    }
    Ok(())
}

/// Files in the output folder that the table no longer gives.
fn strays(output: &Path, files: &[(PathBuf, String)]) -> Result<Vec<PathBuf>> {
    let wanted: BTreeSet<_> = files.iter().map(|(path, _)| path.clone()).collect();
    let Ok(entries) = std::fs::read_dir(output) else { return Ok(Vec::new()) };
    let mut strays = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if !wanted.contains(&path) {
            strays.push(path);
        }
    }
    Ok(strays)
}

fn rustfmt(root: &Path, source: &str) -> Result<String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--emit", "stdout", "--config-path"])
        .arg(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting rustfmt (rustup component add rustfmt)")?;
    let mut stdin = child.stdin.take().context("stdin of rustfmt")?;
    // rustfmt reads all of its input before it writes, so writing first cannot block for ever.
    stdin.write_all(source.as_bytes())?;
    drop(stdin);
    let done = child.wait_with_output()?;
    ensure!(done.status.success(), "rustfmt refused the generated code");
    Ok(String::from_utf8(done.stdout)?)
}

struct Class {
    name: String,
    id: u16,
    doc: String,
    methods: Vec<Method>,
}

struct Method {
    name: String,
    id: u16,
    client: bool,
    server: bool,
    content: bool,
    doc: String,
    fields: Vec<Field>,
}

struct Field {
    /// None for a reserved field.
    name: Option<String>,
    kind: Kind,
    secret: bool,
    doc: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Octet,
    Short,
    Long,
    LongLong,
    ShortStr,
    LongStr,
    Table,
    Bit,
}

impl Kind {
    fn parse(word: &str) -> Result<Self> {
        Ok(match word {
            "octet" => Self::Octet,
            "short" => Self::Short,
            "long" => Self::Long,
            "longlong" => Self::LongLong,
            "shortstr" => Self::ShortStr,
            "longstr" => Self::LongStr,
            "table" => Self::Table,
            "bit" => Self::Bit,
            _ => bail!("unknown type {word:?}"),
        })
    }

    fn rust(self) -> &'static str {
        match self {
            Self::Octet => "u8",
            Self::Short => "u16",
            Self::Long => "u32",
            Self::LongLong => "u64",
            Self::ShortStr => "&'a str",
            Self::LongStr => "&'a [u8]",
            Self::Table => "Table<'a>",
            Self::Bit => "bool",
        }
    }

    fn borrows(self) -> bool {
        matches!(self, Self::ShortStr | Self::LongStr | Self::Table)
    }

    /// The function of the reader and, after `put_`, of the writer.
    fn function(self) -> &'static str {
        match self {
            Self::Octet | Self::Bit => "u8",
            Self::Short => "u16",
            Self::Long => "u32",
            Self::LongLong => "u64",
            Self::ShortStr => "shortstr",
            Self::LongStr => "longstr",
            Self::Table => "table",
        }
    }

    fn zero(self) -> &'static str {
        match self {
            Self::ShortStr => "\"\"",
            Self::LongStr => "b\"\"",
            Self::Table => "Table::default()",
            _ => "0",
        }
    }
}

fn parse(text: &str) -> Result<Vec<Class>> {
    let mut classes: Vec<Class> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        parse_line(&mut classes, line).with_context(|| format!("{TABLE}:{}: {line}", index + 1))?;
    }
    check_ids(&classes)?;
    Ok(classes)
}

fn parse_line(classes: &mut Vec<Class>, line: &str) -> Result<()> {
    let (head, doc) = line.split_once('|').unwrap_or((line, ""));
    let words: Vec<_> = head.split_whitespace().collect();
    let doc = doc.trim().to_owned();
    match words[..] {
        ["class", name, id] => {
            classes.push(Class { name: name.to_owned(), id: id.parse()?, doc, methods: Vec::new() });
        }
        ["method", name, id, from, ref rest @ ..] => {
            let content = match rest {
                [] => false,
                ["content"] => true,
                _ => bail!("unexpected words after {from:?}"),
            };
            let (client, server) = match from {
                "client" => (true, false),
                "server" => (false, true),
                "both" => (true, true),
                _ => bail!("expected client, server or both, not {from:?}"),
            };
            let class = classes.last_mut().context("a method before the first class")?;
            let (name, id) = (name.to_owned(), id.parse()?);
            class.methods.push(Method { name, id, client, server, content, doc, fields: Vec::new() });
        }
        ["reserved", kind] => {
            let field = Field { name: None, kind: Kind::parse(kind)?, secret: false, doc };
            last_method(classes)?.fields.push(field);
        }
        ["secret", kind, name] => {
            let field = Field { name: Some(name.to_owned()), kind: Kind::parse(kind)?, secret: true, doc };
            last_method(classes)?.fields.push(field);
        }
        [kind, name] => {
            let field = Field { name: Some(name.to_owned()), kind: Kind::parse(kind)?, secret: false, doc };
            last_method(classes)?.fields.push(field);
        }
        _ => bail!("neither a class, a method nor a field"),
    }
    Ok(())
}

fn last_method(classes: &mut [Class]) -> Result<&mut Method> {
    classes.last_mut().and_then(|class| class.methods.last_mut()).context("a field before the first method")
}

fn check_ids(classes: &[Class]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for class in classes {
        for method in &class.methods {
            ensure!(seen.insert((class.id, method.id)), "({}, {}) is there twice", class.id, method.id);
            let name = format!("{}.{}", class.name, method.name);
            ensure!(!method.doc.is_empty(), "{name} has no description");
            let bare = method.fields.iter().find(|field| field.name.is_some() && field.doc.is_empty());
            ensure!(bare.is_none(), "a field of {name} has no description");
        }
    }
    Ok(())
}

impl Method {
    fn struct_name(&self) -> String {
        camel(&self.name)
    }

    fn named(&self) -> impl Iterator<Item = (&str, &Field)> {
        self.fields.iter().filter_map(|field| Some((field.name.as_deref()?, field)))
    }

    fn borrows(&self) -> bool {
        self.named().any(|(_, field)| field.kind.borrows())
    }

    fn lifetime(&self) -> &'static str {
        if self.borrows() { "<'a>" } else { "" }
    }
}

fn camel(name: &str) -> String {
    name.split('-')
        .map(|part| {
            let mut letters = part.chars();
            letters
                .next()
                .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
                .unwrap_or_default()
        })
        .collect()
}

/// One file: the structs of a class, how they are read and written.
fn class_module(class: &Class) -> Result<String> {
    let mut out = String::new();
    writeln!(out, "//! Class `{}` ({}). {}\n//!", class.name, class.id, class.doc)?;
    writeln!(
        out,
        "//! @generated by `cargo xtask codegen` from `crates/amqp/methods.table`; do not edit.\n"
    )?;
    let uses = |kind| class.methods.iter().any(|method| method.fields.iter().any(|field| field.kind == kind));
    if class.methods.iter().any(|method| method.fields.iter().any(|field| field.secret)) {
        writeln!(out, "use std::fmt;\n")?;
    }
    if uses(Kind::Table) {
        writeln!(out, "use crate::table::Table;")?;
    }
    if class.methods.iter().any(|method| !method.fields.is_empty()) {
        writeln!(out, "use crate::wire::Put;")?;
    }
    writeln!(out, "use crate::wire::{{Reader, WireError}};\nuse crate::method::MethodFields;\n")?;
    for method in &class.methods {
        method_struct(&mut out, class, method)?;
        if method.fields.iter().any(|field| field.secret) {
            method_debug(&mut out, method)?;
        }
        method_fields(&mut out, class, method)?;
    }
    Ok(out)
}

fn method_struct(out: &mut String, class: &Class, method: &Method) -> Result<()> {
    let from = match (method.client, method.server) {
        (true, true) => "either side",
        (true, false) => "the client",
        _ => "the server",
    };
    let content = if method.content { ", followed by content" } else { "" };
    writeln!(
        out,
        "/// `{}.{}`, from {from}{content}: {}",
        class.name,
        method.name,
        lower_first(&method.doc)
    )?;
    let debug = if method.fields.iter().any(|field| field.secret) { "" } else { "Debug, " };
    writeln!(out, "#[derive({debug}Clone, Copy, PartialEq, Eq, Default)]")?;
    if method.named().next().is_none() {
        writeln!(out, "pub struct {};\n", method.struct_name())?;
        return Ok(());
    }
    writeln!(out, "pub struct {}{} {{", method.struct_name(), method.lifetime())?;
    for (name, field) in method.named() {
        writeln!(out, "/// {}\npub {name}: {},", field.doc, field.kind.rust())?;
    }
    writeln!(out, "}}\n")?;
    Ok(())
}

fn lower_first(doc: &str) -> String {
    let mut letters = doc.chars();
    letters.next().map(|first| first.to_ascii_lowercase().to_string() + letters.as_str()).unwrap_or_default()
}

/// A Debug that shows how long a secret is and not what it is.
fn method_debug(out: &mut String, method: &Method) -> Result<()> {
    let name = method.struct_name();
    writeln!(out, "impl fmt::Debug for {name}<'_> {{")?;
    writeln!(out, "fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {{\nf.debug_struct(\"{name}\")")?;
    for (name, field) in method.named() {
        if field.secret {
            writeln!(out, ".field(\"{name}\", &format_args!(\"({{}} octets)\", self.{name}.len()))")?;
        } else {
            writeln!(out, ".field(\"{name}\", &self.{name})")?;
        }
    }
    writeln!(out, ".finish()\n}}\n}}\n")?;
    Ok(())
}

fn method_fields(out: &mut String, class: &Class, method: &Method) -> Result<()> {
    let name = method.struct_name();
    writeln!(out, "impl<'a> MethodFields<'a> for {name}{} {{", method.lifetime())?;
    writeln!(out, "const CLASS_ID: u16 = {};\nconst METHOD_ID: u16 = {};", class.id, method.id)?;
    writeln!(out, "const NAME: &'static str = \"{}.{}\";\n", class.name, method.name)?;
    let (reader, writer) = if method.fields.is_empty() { ("_", "_") } else { ("reader", "out") };
    writeln!(out, "#[inline]\nfn decode_fields({reader}: &mut Reader<'a>) -> Result<Self, WireError> {{")?;
    decode_body(out, method)?;
    writeln!(out, "}}\n\n#[inline]\nfn encode_fields(&self, {writer}: &mut Vec<u8>) {{")?;
    encode_body(out, method)?;
    writeln!(out, "}}\n}}\n")?;
    Ok(())
}

fn decode_body(out: &mut String, method: &Method) -> Result<()> {
    for run in runs(&method.fields) {
        let field = &run[0];
        let function = field.kind.function();
        match (&field.name, field.kind) {
            (_, Kind::Bit) if run.iter().all(|field| field.name.is_none()) => writeln!(out, "reader.u8()?;")?,
            (_, Kind::Bit) => {
                writeln!(out, "let bits = reader.u8()?;")?;
                for (bit, field) in run.iter().enumerate() {
                    if let Some(name) = &field.name {
                        writeln!(out, "let {name} = bits & {:#04x} != 0;", 1 << bit)?;
                    }
                }
            }
            // A reserved string is skipped without a look at its encoding: nobody reads it.
            (None, Kind::ShortStr) => writeln!(out, "reader.shortbytes()?;")?,
            (None, _) => writeln!(out, "reader.{function}()?;")?,
            (Some(name), _) => writeln!(out, "let {name} = reader.{function}()?;")?,
        }
    }
    let names: Vec<_> = method.named().map(|(name, _)| name).collect();
    if names.is_empty() {
        writeln!(out, "Ok(Self)")?;
    } else {
        writeln!(out, "Ok(Self {{ {} }})", names.join(", "))?;
    }
    Ok(())
}

fn encode_body(out: &mut String, method: &Method) -> Result<()> {
    for run in runs(&method.fields) {
        let field = &run[0];
        let function = field.kind.function();
        match (&field.name, field.kind) {
            (_, Kind::Bit) => {
                let bits: Vec<_> = run
                    .iter()
                    .enumerate()
                    .filter_map(|(bit, field)| Some((bit, field.name.as_deref()?)))
                    .map(|(bit, name)| match bit {
                        0 => format!("u8::from(self.{name})"),
                        _ => format!("(u8::from(self.{name}) << {bit})"),
                    })
                    .collect();
                let bits = if bits.is_empty() { "0".to_owned() } else { bits.join(" | ") };
                writeln!(out, "out.put_u8({bits});")?;
            }
            (None, kind) => writeln!(out, "out.put_{function}({});", kind.zero())?,
            (Some(name), _) => writeln!(out, "out.put_{function}(self.{name});")?,
        }
    }
    Ok(())
}

/// Fields as they share octets: up to eight bits in a row together, everything else alone.
fn runs(fields: &[Field]) -> Vec<&[Field]> {
    let mut runs = Vec::new();
    let mut rest = fields;
    while let Some(first) = rest.first() {
        let length = match first.kind {
            Kind::Bit => rest.iter().take(8).take_while(|field| field.kind == Kind::Bit).count(),
            _ => 1,
        };
        let (run, after) = rest.split_at(length);
        runs.push(run);
        rest = after;
    }
    runs
}

/// `mod.rs`: the enum over all methods.
fn method_enum(classes: &[Class]) -> Result<String> {
    let mut out = String::from(
        "//! The `Method` enum and one module of structs per class.\n//!\n\
         //! @generated by `cargo xtask codegen` from `crates/amqp/methods.table`; do not edit.\n\n\
         use crate::method::{MethodError, MethodFields, fields};\n\n",
    );
    for class in classes {
        writeln!(out, "pub mod {};", class.name)?;
    }
    let all: Vec<_> = classes
        .iter()
        .flat_map(|class| class.methods.iter().map(move |method| (class, method)))
        .map(|(class, method)| (format!("{}{}", camel(&class.name), method.struct_name()), class, method))
        .collect();
    writeln!(
        out,
        "\n/// A method of AMQP 0-9-1 or of RabbitMQ's extensions, borrowing from the frame it came in."
    )?;
    writeln!(out, "#[derive(Debug, Clone, Copy, PartialEq, Eq)]\npub enum Method<'a> {{")?;
    for (variant, class, method) in &all {
        writeln!(out, "/// `{}.{}`", class.name, method.name)?;
        writeln!(out, "{variant}({}::{}{}),", class.name, method.struct_name(), method.lifetime())?;
    }
    writeln!(out, "}}\n\nimpl<'a> Method<'a> {{")?;
    writeln!(out, "/// Reads the arguments of the method with these ids; `None` for ids nobody has.")?;
    writeln!(
        out,
        "#[inline]\npub(super) fn decode_arguments(class_id: u16, method_id: u16, arguments: &'a [u8])"
    )?;
    writeln!(out, "-> Option<Result<Self, MethodError>> {{\nSome(match (class_id, method_id) {{")?;
    for (variant, class, method) in &all {
        writeln!(out, "({}, {}) => fields(arguments).map(Self::{variant}),", class.id, method.id)?;
    }
    writeln!(out, "_ => return None,\n}})\n}}\n")?;
    writeln!(out, "/// Appends the arguments, without the ids.\n#[inline]")?;
    writeln!(out, "pub(super) fn encode_arguments(&self, out: &mut Vec<u8>) {{\nmatch self {{")?;
    for (variant, ..) in &all {
        writeln!(out, "Self::{variant}(fields) => fields.encode_fields(out),")?;
    }
    writeln!(out, "}}\n}}\n")?;
    enum_getter(
        &mut out,
        &all,
        "The numbers of class and method.",
        "ids(&self) -> (u16, u16)",
        |class, method| format!("({}, {})", class.id, method.id),
    )?;
    let doc = "The name as the standard writes it, such as `basic.publish` or `queue.declare-ok`.";
    enum_getter(&mut out, &all, doc, "name(&self) -> &'static str", |class, method| {
        format!("\"{}.{}\"", class.name, method.name)
    })?;
    let doc = "Whether a content header and body follow.";
    enum_flag(&mut out, &all, doc, "has_content", |method| method.content)?;
    enum_flag(&mut out, &all, "Whether a client may send it.", "from_client", |method| method.client)?;
    enum_flag(&mut out, &all, "Whether a server may send it.", "from_server", |method| method.server)?;
    writeln!(out, "}}\n")?;
    out.push_str(
        "macro_rules! from_fields {\n($($variant:ident($fields:ty),)*) => {$(\nimpl<'a> From<$fields> for Method<'a> {\n\
         #[inline]\nfn from(fields: $fields) -> Self { Self::$variant(fields) }\n}\n)*};\n}\n\nfrom_fields! {\n",
    );
    for (variant, class, method) in &all {
        writeln!(out, "    {variant}({}::{}{}),", class.name, method.struct_name(), method.lifetime())?;
    }
    writeln!(out, "}}")?;
    Ok(out)
}

type Entry<'a> = (String, &'a Class, &'a Method);

fn enum_getter(
    out: &mut String,
    all: &[Entry<'_>],
    doc: &str,
    signature: &str,
    value: impl Fn(&Class, &Method) -> String,
) -> Result<()> {
    writeln!(out, "/// {doc}\n#[must_use]\npub fn {signature} {{\nmatch self {{")?;
    for (variant, class, method) in all {
        writeln!(out, "Self::{variant}(_) => {},", value(class, method))?;
    }
    writeln!(out, "}}\n}}\n")?;
    Ok(())
}

fn enum_flag(
    out: &mut String,
    all: &[Entry<'_>],
    doc: &str,
    name: &str,
    value: impl Fn(&Method) -> bool,
) -> Result<()> {
    writeln!(out, "/// {doc}\n#[must_use]\n#[inline]\npub fn {name}(&self) -> bool {{\nmatches!(self, ")?;
    let variants: Vec<_> = all
        .iter()
        .filter(|entry| value(entry.2))
        .map(|(variant, ..)| format!("Self::{variant}(_)"))
        .collect();
    writeln!(out, "{})\n}}\n", variants.join(" | "))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checked_in_files_are_current() {
        run(true).unwrap();
    }

    #[test]
    fn a_mistake_in_the_table_is_told_with_its_line() {
        for (text, told) in [
            ("method start 10 server | d", "a method before the first class"),
            ("class basic 60 | d\nshort x | d", "a field before the first method"),
            ("class basic 60 | d\nmethod qos 10 nobody | d", "expected client, server or both"),
            ("class basic 60 | d\nmethod qos 10 client body | d", "unexpected words after"),
            ("class basic 60 | d\nmethod qos 10 client | d\nfloat x | d", "unknown type \"float\""),
            ("class basic sixty | d", "invalid digit"),
            ("classes", "neither a class, a method nor a field"),
        ] {
            let error = format!("{:#}", parse(text).err().unwrap());
            let line = text.lines().count();
            assert!(error.contains(told) && error.contains(&format!("methods.table:{line}")), "{error}");
        }
        let twice = "class a 1 | d\nmethod b 2 client | d\nmethod c 2 client | d";
        assert!(parse(twice).err().unwrap().to_string().contains("(1, 2) is there twice"));
        let bare = "class a 1 | d\nmethod b 2 client | d\nshort x";
        assert!(parse(bare).err().unwrap().to_string().contains("a field of a.b has no description"));
    }

    #[test]
    fn bits_share_octets_up_to_eight() {
        let field = |kind| Field { name: None, kind, secret: false, doc: String::new() };
        let mut fields: Vec<_> = (0..10).map(|_| field(Kind::Bit)).collect();
        fields.push(field(Kind::Short));
        fields.push(field(Kind::Bit));
        let lengths: Vec<_> = runs(&fields).iter().map(|run| run.len()).collect();
        assert_eq!(lengths, [8, 2, 1, 1]);
    }

    #[test]
    fn names_become_camel_case() {
        assert_eq!(camel("recover-async"), "RecoverAsync");
        assert_eq!(camel("tx"), "Tx");
    }
}
