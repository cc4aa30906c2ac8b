//! One line of haproxy.cfg into words: quotes, escapes, comments and environment variables.
//!
//! * `\ `, `\#`, `\\`, `\"`, `\'` stand for the character; `\n`, `\r`, `\t`, `\xHH` as in C.
//! * `'...'` keeps everything; `"..."` expands `$NAME`, `${NAME}`, `${NAME-default}` and escapes.
//! * `"${NAME[*]}"` gives a word for each part of the value.
//! * `#` outside quotes begins a comment.

/// Longest line HAProxy reads, in bytes.
pub const MAX_LINE_BYTES: usize = 2048;
/// Most words HAProxy reads of a line.
pub const MAX_WORDS: usize = 64;

/// A word and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The text after quotes, escapes and variables.
    pub text: String,
    /// Column of its first character, from 1.
    pub column: usize,
    /// Characters it takes in the file.
    pub length: usize,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LexError {
    /// In words.
    pub message: String,
    /// Column, from 1.
    pub column: usize,
    /// Characters to mark.
    pub length: usize,
}

/// Splits `line` into words; `variable` looks an environment variable up.
///
/// # Errors
/// When a quote stays open, an escape is unknown or the line is too long.
pub fn words(line: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Word>, LexError> {
    words_within(line, variable, MAX_LINE_BYTES, MAX_WORDS)
}

/// As [`words`], with other limits.
///
/// # Errors
/// As [`words`].
pub fn words_within(
    line: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    max_bytes: usize,
    max_words: usize,
) -> Result<Vec<Word>, LexError> {
    if line.len() >= max_bytes {
        let message = format!("line is longer than {max_bytes} bytes");
        return Err(LexError { message, column: 1, length: 1 });
    }
    let characters: Vec<char> = line.chars().collect();
    let mut lexer = Lexer { characters, at: 0, variable };
    let mut words = Vec::new();
    while lexer.word(&mut words)? {
        if words.len() > max_words {
            let word = &words[max_words];
            let message = format!("more than {max_words} words on one line");
            return Err(LexError { message, column: word.column, length: word.length });
        }
    }
    Ok(words)
}

struct Lexer<'a> {
    characters: Vec<char>,
    at: usize,
    variable: &'a dyn Fn(&str) -> Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    None,
    Single,
    Double,
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    /// Adds the next word, or several when a list is expanded. `false` at the end of the line.
    fn word(&mut self, words: &mut Vec<Word>) -> Result<bool, LexError> {
        while self.peek().is_some_and(is_blank) {
            self.at += 1;
        }
        let start = self.at;
        let mut text = String::new();
        let mut quote = Quote::None;
        let mut quote_at = start;
        while let Some(c) = self.peek() {
            match (quote, c) {
                (Quote::None, c) if is_blank(c) => break,
                (Quote::None, '#') => {
                    // A comment ends the line.
                    let end = self.at;
                    self.at = self.characters.len();
                    if end > start {
                        words.push(make_word(text, start, end));
                    }
                    return Ok(false);
                }
                (Quote::None, '\'') | (Quote::None, '"') => {
                    quote = if c == '"' { Quote::Double } else { Quote::Single };
                    quote_at = self.at;
                    self.at += 1;
                }
                (Quote::Single, '\'') | (Quote::Double, '"') => {
                    quote = Quote::None;
                    self.at += 1;
                }
                (Quote::None | Quote::Double, '\\') => text.push(self.escape(quote)?),
                (Quote::Double, '$') => {
                    let (value, is_list) = self.expand()?;
                    if !is_list {
                        text.push_str(&value);
                        continue;
                    }
                    // Each part of a list is a word of its own; the first and the last take what is around.
                    for (index, part) in value.split_ascii_whitespace().take(MAX_WORDS + 1).enumerate() {
                        if index > 0 {
                            words.push(make_word(std::mem::take(&mut text), start, self.at));
                        }
                        text.push_str(part);
                    }
                }
                (_, c) => {
                    text.push(c);
                    self.at += 1;
                }
            }
        }
        if quote != Quote::None {
            return Err(LexError {
                message: "quote is not closed".to_owned(),
                column: quote_at + 1,
                length: 1,
            });
        }
        let found = self.at > start;
        if found {
            words.push(make_word(text, start, self.at));
        }
        Ok(found)
    }

    fn escape(&mut self, quote: Quote) -> Result<char, LexError> {
        let start = self.at;
        self.at += 1;
        let wrong = |message: &str, end: usize| LexError {
            message: message.to_owned(),
            column: start + 1,
            length: end - start,
        };
        let Some(c) = self.peek() else {
            return Err(wrong("backslash at the end of the line", self.at));
        };
        self.at += 1;
        let meant = match c {
            ' ' | '#' | '\'' if quote == Quote::None => c,
            '\\' | '"' | '$' => c,
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'x' => {
                let digits: String = self.characters.iter().skip(self.at).take(2).collect();
                let code = u8::from_str_radix(&digits, 16)
                    .ok()
                    .filter(|code| digits.len() == 2 && *code != 0)
                    .ok_or_else(|| wrong("\\x needs two hexadecimal digits", self.at))?;
                self.at += 2;
                char::from(code)
            }
            // HAProxy keeps the backslash before any other character.
            _ => {
                self.at -= 1;
                '\\'
            }
        };
        Ok(meant)
    }

    /// `$NAME`, `${NAME}`, `${NAME-default}`, `${NAME[*]}`; the cursor stands on the `$`. The second part
    /// says whether it is a list.
    fn expand(&mut self) -> Result<(String, bool), LexError> {
        let start = self.at;
        self.at += 1;
        let braced = self.peek() == Some('{');
        if braced {
            self.at += 1;
        }
        let name = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
        let mut default = None;
        let mut is_list = false;
        if braced {
            if self.characters[self.at..].starts_with(&['[', '*', ']']) {
                self.at += 3;
                is_list = true;
            }
            if self.peek() == Some('-') {
                self.at += 1;
                default = Some(self.take_while(|c| c != '}' && c != '"'));
            }
            if self.peek() != Some('}') {
                return Err(LexError {
                    message: "`${` is not closed by `}`".to_owned(),
                    column: start + 1,
                    length: self.at - start,
                });
            }
            self.at += 1;
        }
        if name.is_empty() {
            return Err(LexError {
                message: "no variable name after `$`; write \\$ for a dollar sign".to_owned(),
                column: start + 1,
                length: 1,
            });
        }
        let value = (self.variable)(&name).filter(|value| !value.is_empty());
        Ok((value.or(default).unwrap_or_default(), is_list))
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(c) = self.peek().filter(|c| wanted(*c)) {
            taken.push(c);
            self.at += 1;
        }
        taken
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn make_word(text: String, start: usize, end: usize) -> Word {
    Word { text, column: start + 1, length: end - start }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(line: &str) -> Vec<String> {
        let variable = |name: &str| (name == "PORT").then(|| "5672".to_owned());
        words(line, &variable).unwrap().into_iter().map(|word| word.text).collect()
    }

    fn error(line: &str) -> (usize, String) {
        let error = words(line, &|_| None).unwrap_err();
        (error.column, error.message)
    }

    #[test]
    fn quotes_escapes_and_comments() {
        assert_eq!(texts("  mode\ttcp  # the mode"), ["mode", "tcp"]);
        assert_eq!(texts(r"stats realm Haproxy\ Statistics"), ["stats", "realm", "Haproxy Statistics"]);
        assert_eq!(texts(r#"a 'b c#"d' "e f""#), ["a", r#"b c#"d"#, "e f"]);
        assert_eq!(texts(r"x\#y \\ \d \x41"), ["x#y", r"\", r"\d", "A"]);
        assert_eq!(texts(r#"description """#), ["description", ""]);
        assert_eq!(texts("a#b"), ["a"]);
        assert_eq!(texts("# only"), Vec::<String>::new());
        assert_eq!(texts(r#"ab"cd"'ef'"#), ["abcdef"]);
    }

    #[test]
    fn variables_are_expanded_in_double_quotes_only() {
        assert_eq!(texts(r#"bind ":${PORT}" '$PORT' $PORT"#), ["bind", ":5672", "$PORT", "$PORT"]);
        assert_eq!(texts(r#""$PORT/${NONE-7}/${NONE}""#), ["5672/7/"]);
        assert_eq!(texts(r#""\$PORT""#), ["$PORT"]);
        let list = |name: &str| (name == "A").then(|| " a  b c ".to_owned());
        let found: Vec<_> =
            words(r#"x "-${A[*]}-" "${B[*]}" y"#, &list).unwrap().into_iter().map(|word| word.text).collect();
        assert_eq!(found, ["x", "-a", "b", "c-", "", "y"]);
    }

    #[test]
    fn words_know_their_place() {
        let found = words("  bind  \":5672\" x", &|_| None).unwrap();
        let places: Vec<_> = found.iter().map(|word| (word.column, word.length)).collect();
        assert_eq!(places, [(3, 4), (9, 7), (17, 1)]);
    }

    #[test]
    fn mistakes_have_a_column() {
        assert_eq!(error(r#"a "b"#).0, 3);
        assert_eq!(error(r"a b\").0, 4);
        assert_eq!(error(r#""${PORT""#).0, 2);
        assert_eq!(error(r"\xZZ").0, 1);
        assert!(error(&"x ".repeat(70)).1.contains("64 words"));
        assert!(error(&"x".repeat(3000)).1.contains("2048"));
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "\\PC{0,200}") {
            if let Ok(found) = words(&line, &|_| Some("v".to_owned())) {
                for word in found {
                    prop_assert!(word.column >= 1 && word.length >= 1);
                }
            }
        }

        #[test]
        fn no_line_of_special_characters_makes_it_panic(line in "[ \\\\\"'#${}a\\-x0-9\\[\\]]{0,80}") {
            let _ = words(&line, &|_| None);
        }
    }
}
