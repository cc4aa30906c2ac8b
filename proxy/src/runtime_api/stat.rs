//! `show stat`, `show info`, their schema, and `clear counters`.

use super::{Answer, Cli, Reply};
use crate::config::Level;
use crate::stats::row::{Row, RowKind, rows};
use crate::stats::{csv, info, json, typed};

/// `show stat [{<iid>|<proxy>} <type> <sid>] [desc|json|no-maint|typed|up]*`
pub(super) fn statistics(cli: &mut Cli, words: &[&str]) -> Answer {
    let (wanted, words) = Wanted::read(cli, words)?;
    let has = |word: &str| words.contains(&word);
    let (only_up, without_maintenance) = (has("up"), has("no-maint"));
    let sections = cli.process.sections();
    let rows: Vec<Row> = sections
        .iter()
        .filter(|section| wanted.section.is_none_or(|id| section.config.id == id))
        .flat_map(|section| rows(&cli.process, section, true))
        .filter(|row| wanted.takes(row))
        .filter(|row| {
            let is_hidden = (only_up && row.extra.is_down)
                || ((only_up || without_maintenance) && row.extra.class == "maintain");
            row.kind != RowKind::Server || !is_hidden
        })
        .map(|row| if only_up || without_maintenance { row.where_some_are_hidden() } else { row })
        .collect();
    Ok(Reply::text(if has("typed") {
        typed::statistics(&rows, has("desc"))
    } else if has("json") {
        json::document(&rows) + "\n"
    } else {
        csv::table(&rows)
    }))
}

/// Which rows `show stat` is asked for.
struct Wanted {
    section: Option<u32>,
    /// Sum of 1 frontends, 2 backends, 4 servers, 8 listeners.
    types: u32,
    row: Option<u32>,
}

impl Wanted {
    fn read<'a, 'b>(cli: &Cli, words: &'a [&'b str]) -> Result<(Self, &'a [&'b str]), Reply> {
        let everything = Self { section: None, types: u32::MAX, row: None };
        // HAProxy takes the three only together.
        let [first, kind, row, rest @ ..] = words else { return Ok((everything, words)) };
        if ["desc", "json", "no-maint", "typed", "up"].contains(first) {
            return Ok((everything, words));
        }
        let section = match first.parse::<i64>() {
            Ok(number) => u32::try_from(number).ok(),
            Err(_) => {
                let sections = cli.process.sections();
                let found = sections.iter().find(|section| section.config.name == *first);
                let found = found.map(|section| section.config.id);
                Some(found.ok_or_else(|| Reply::error("No such proxy.\n"))?)
            }
        };
        // A negative number is everything; HAProxy reads what is no number as 0.
        let types = u32::try_from(kind.parse::<i64>().unwrap_or(0)).unwrap_or(u32::MAX);
        let row = u32::try_from(row.parse::<i64>().unwrap_or(0)).ok();
        Ok((Self { section, types, row }, rest))
    }

    fn takes(&self, row: &Row) -> bool {
        let bit = match row.kind {
            RowKind::Frontend => 1,
            RowKind::Backend => 2,
            RowKind::Server => 4,
            RowKind::Listener => 8,
        };
        // Frontends and backends have the number 0.
        self.types & bit != 0 && self.row.is_none_or(|id| row.number("sid") == u64::from(id))
    }
}

/// `show info [desc|json|typed|float]*`
pub(super) fn info(cli: &mut Cli, words: &[&str]) -> Answer {
    let has = |word: &str| words.contains(&word);
    let items = info::items(&cli.process, has("float"));
    Ok(Reply::text(if has("typed") {
        typed::information(&items, has("desc"))
    } else if has("json") {
        json::information(&items) + "\n"
    } else {
        typed::plain_information(&items, has("desc"))
    }))
}

/// `show schema json`
pub(super) fn schema(_cli: &mut Cli, _words: &[&str]) -> Answer {
    Ok(Reply::text(json::schema() + "\n"))
}

/// `clear counters [all]`: maxima, or everything that only counts up.
pub(super) fn clear_counters(cli: &mut Cli, words: &[&str]) -> Answer {
    let all = words.first() == Some(&"all");
    cli.need(if all { Level::Admin } else { Level::Operator })?;
    let clear = |counters: &crate::counters::Counters| counters.clear(all);
    clear(&cli.process.counters);
    for section in cli.process.sections().iter() {
        if let Some(frontend) = &section.frontend {
            clear(&frontend.counters);
        }
        if let Some(backend) = &section.backend {
            clear(&backend.counters);
            backend.servers().iter().for_each(|server| clear(&server.counters));
        }
    }
    Ok(Reply::done())
}
