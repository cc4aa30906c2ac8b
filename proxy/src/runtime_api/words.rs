//! From a line to commands, and from a command to words.

/// Words of one command at most, as in HAProxy.
const MAX_WORDS: usize = 64;

/// The commands of a line; `\;` is no separator.
pub(super) fn commands(line: &str) -> Vec<String> {
    let mut commands = vec![String::new()];
    let mut escaped = false;
    for c in line.chars() {
        let is_separator = c == ';' && !escaped;
        if is_separator {
            commands.push(String::new());
        } else if let Some(last) = commands.last_mut() {
            last.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    // A separator at the end begins no command, except on a line that has nothing else.
    while commands.len() > 1 && commands.last().is_some_and(|last| last.trim().is_empty()) {
        commands.pop();
    }
    commands
}

/// The words of a command; a backslash keeps the character after it.
pub(super) fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = command.chars();
    while let Some(c) = characters.next() {
        if c == ' ' || c == '\t' {
            words.extend(word.take());
            continue;
        }
        let kept = if c == '\\' { characters.next().unwrap_or(c) } else { c };
        word.get_or_insert_default().push(kept);
    }
    words.extend(word);
    words.truncate(MAX_WORDS);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fall_into_commands_and_words() {
        assert_eq!(commands("show info;show stat"), ["show info", "show stat"]);
        assert_eq!(commands("a\\;b; c;"), ["a\\;b", " c"]);
        assert_eq!(commands(""), [""]);
        assert_eq!(commands(";;"), [""]);
        assert_eq!(words("  show   cli\tlevel "), ["show", "cli", "level"]);
        assert_eq!(words("a\\;b c\\ d"), ["a;b", "c d"]);
        assert!(words("").is_empty());
        assert_eq!(words(&"x ".repeat(1000)).len(), MAX_WORDS);
    }
}
