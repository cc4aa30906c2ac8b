//! Sections that are read for their mistakes and not carried out: `peers`, `mailers`, `ring`, `cache`,
//! `program`, `http-errors`, `fcgi-app`, `log-forward`.

use super::args::Args;
use super::lexer::Word;

/// What a section is for, and the words in it.
struct Section {
    name: &'static str,
    words: &'static [&'static str],
    why: &'static str,
}

const SECTIONS: &[Section] = &[
    Section {
        name: "peers",
        words: &[
            "peer",
            "bind",
            "default-bind",
            "default-server",
            "server",
            "log",
            "table",
            "disabled",
            "enabled",
            "shards",
        ],
        why: "stick tables are not kept, so there is nothing to tell peers",
    },
    Section {
        name: "mailers",
        words: &["mailer", "timeout"],
        why: "no mail is sent; look at the log or at /metrics",
    },
    Section {
        name: "ring",
        words: &[
            "description",
            "format",
            "maxlen",
            "size",
            "server",
            "default-server",
            "timeout",
            "backing-file",
        ],
        why: "log lines go to addresses, sockets and outputs only",
    },
    Section {
        name: "cache",
        words: &["total-max-size", "max-object-size", "max-age", "process-vary", "max-secondary-entries"],
        why: "HTTP is not looked at",
    },
    Section {
        name: "program",
        words: &["command", "user", "group", "option", "no"],
        why: "other programs are started by the service manager",
    },
    Section { name: "http-errors", words: &["errorfile"], why: "HTTP is not looked at" },
    Section {
        name: "fcgi-app",
        words: &[
            "docroot",
            "index",
            "log-stderr",
            "path-info",
            "pass-header",
            "set-param",
            "option",
            "no",
            "acl",
        ],
        why: "HTTP is not looked at",
    },
    Section {
        name: "log-forward",
        words: &["bind", "dgram-bind", "log", "maxconn", "backlog", "timeout", "option"],
        why: "log lines of others are not forwarded",
    },
];

/// Which of the sections it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Other(usize);

/// The first line of such a section.
pub(super) fn begin(keyword: &Word, args: &mut Args<'_, '_>) -> Option<Other> {
    let at = SECTIONS.iter().position(|section| section.name == keyword.text)?;
    let section = &SECTIONS[at];
    args.warn(
        keyword,
        "section-not-used",
        format!("section `{}` is checked for mistakes only: {}", section.name, section.why),
        "",
    );
    Some(Other(at))
}

/// Another line of it.
pub(super) fn directive(other: Other, keyword: &Word, args: &mut Args<'_, '_>) {
    let Some(section) = SECTIONS.get(other.0) else { return };
    if !section.words.contains(&keyword.text.as_str()) {
        args.unknown(keyword, &format!("word in {}", section.name), &[section.words]);
    }
    args.skip_rest();
}
