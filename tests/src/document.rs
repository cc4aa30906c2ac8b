//! The commands in documents: blocks of code, and what a line of shell in them calls.
//!
//! ````text
//! ```sh runnable          a test runs them from top to bottom
//! ```sh not-run: REASON   it does not, for this reason; programs, words and flags have to exist all the same
//! ````

/// A block of code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Line of its first line in the document, from 1.
    pub line: usize,
    /// What stands behind the backquotes.
    pub kind: String,
    /// Its lines.
    pub text: String,
}

impl Block {
    /// Whether it has commands.
    #[must_use]
    pub fn is_shell(&self) -> bool {
        self.kind.split_whitespace().next() == Some("sh")
    }

    /// Whether a test runs them.
    #[must_use]
    pub fn is_runnable(&self) -> bool {
        self.kind == "sh runnable"
    }

    /// Why no test runs them, if it says so.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        let reason = self.kind.strip_prefix("sh not-run:")?.trim();
        (!reason.is_empty()).then_some(reason)
    }

    /// Its commands as words, with their lines: pipes and lists are taken apart, comments and here-documents left out.
    #[must_use]
    pub fn commands(&self) -> Vec<(usize, Vec<String>)> {
        let mut found = Vec::new();
        let mut until: Option<String> = None;
        let mut joined = String::new();
        for (index, line) in self.text.lines().enumerate() {
            if let Some(end) = &until {
                if line.trim() == end {
                    until = None;
                }
                continue;
            }
            if let Some(begun) = line.strip_suffix('\\') {
                joined.push_str(begun);
                continue;
            }
            let whole = std::mem::take(&mut joined) + line;
            if let Some((_, end)) = whole.split_once("<<") {
                let end = end.trim_start_matches('-').split_whitespace().next().unwrap_or_default();
                until = Some(end.trim_matches(['\'', '"']).to_owned());
            }
            found.extend(split(&whole).into_iter().map(|words| (self.line + index, words)));
        }
        found
    }
}

/// All blocks of a document in Markdown.
#[must_use]
pub fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(kind), None) => {
                open = Some(Block { line: index + 2, kind: kind.trim().to_owned(), text: String::new() });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

/// The commands of a line, each as its words; `sudo` and what is set before a command is left out.
fn split(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word = String::new();
    let mut quote = None;
    let mut is_word = false;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            (it, Some(open)) if it == open => quote = None,
            (it, Some(_)) => word.push(it),
            ('\'' | '"', None) => {
                quote = Some(letter);
                is_word = true;
            }
            ('#', None) if !is_word => break,
            (' ' | '\t' | '|' | ';' | '&' | '>' | '<', None) => {
                if is_word {
                    commands.last_mut().expect("there is always one").push(std::mem::take(&mut word));
                    is_word = false;
                }
                match letter {
                    '|' | ';' | '&' => commands.push(Vec::new()),
                    // Where it goes is no word of the command.
                    '>' | '<' => {
                        while letters.next_if(|it| " <>&-".contains(*it)).is_some() {}
                        while letters.next_if(|it| !it.is_whitespace() && !"|;".contains(*it)).is_some() {}
                    }
                    _ => {}
                }
            }
            (it, None) => {
                word.push(it);
                is_word = true;
            }
        }
    }
    if is_word {
        commands.last_mut().expect("there is always one").push(word);
    }
    let skipped = |word: &str| {
        word == "sudo"
            || word.split_once('=').is_some_and(|(name, _)| {
                !name.is_empty() && name.chars().all(|it| it.is_ascii_uppercase() || it == '_')
            })
    };
    for command in &mut commands {
        let from = command.iter().take_while(|word| skipped(word)).count();
        command.drain(..from);
    }
    commands.retain(|command| !command.is_empty());
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_with_their_kind_and_line() {
        let text = "# T\n\n```sh runnable\nls -l\n```\n\n```toml\na = 1\n```\n```sh\nid\n```\n";
        let found = blocks(text);
        assert_eq!(found.len(), 3);
        assert_eq!((found[0].line, found[0].text.as_str()), (4, "ls -l\n"));
        assert!(
            found[0].is_runnable() && !found[1].is_shell() && found[2].is_shell() && !found[2].is_runnable()
        );
    }

    #[test]
    fn a_block_that_is_not_run_says_why() {
        let of = |kind: &str| Block { line: 1, kind: kind.to_owned(), text: String::new() };
        assert_eq!(of("sh not-run: it needs a cluster").reason(), Some("it needs a cluster"));
        assert_eq!(
            (of("sh not-run:").reason(), of("sh").reason(), of("sh runnable").reason()),
            (None, None, None)
        );
        assert!(of("sh not-run: x").is_shell() && !of("sh not-run: not runnable").is_runnable());
    }

    #[test]
    fn commands_are_taken_apart_as_a_shell_would() {
        let text = "sudo PORT=1 broker ctl add_user app 'a b' # why\nproxy -c -f x && vip-agent status | head\n\
                    cat > /etc/x <<'EOF'\nbroker nonsense\nEOF\nbroker pub q \\\n  hello > /dev/null\n";
        let block = Block { line: 10, kind: "sh".to_owned(), text: text.to_owned() };
        let words = |line: usize, words: &[&str]| (line, words.iter().map(ToString::to_string).collect());
        assert_eq!(
            block.commands(),
            [
                words(10, &["broker", "ctl", "add_user", "app", "a b"]),
                words(11, &["proxy", "-c", "-f", "x"]),
                words(11, &["vip-agent", "status"]),
                words(11, &["head"]),
                words(12, &["cat"]),
                words(16, &["broker", "pub", "q", "hello"]),
            ]
        );
    }
}
