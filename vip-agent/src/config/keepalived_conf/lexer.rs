//! keepalived.conf into words, braces and line ends.
//!
//! `#` and `!` start a comment anywhere outside quotes, a brace needs no blank around it
//! (`vrrp_script chk_haproxy{`), quotes keep blanks together and may hold `\"`.

use super::expand::shown;

/// A word and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) place: Place,
}

/// Where something stands, counted from 1, and how many characters it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Index of the file among the files read.
    pub(super) file: usize,
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) length: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(Word),
    Open(Place),
    Close(Place),
    LineEnd,
}

/// Cuts a line into tokens. An open quote ends with its line, as in keepalived; the places of such are answered.
pub(super) fn lex_line(line: &str, file: usize, number: usize, tokens: &mut Vec<Token>) -> Vec<Place> {
    let mut open_quotes = Vec::new();
    let characters: Vec<char> = line.chars().collect();
    let mut at = 0;
    while let Some(&character) = characters.get(at) {
        let place = |length| Place { file, line: number, column: at + 1, length };
        match character {
            '#' | '!' => break,
            '{' => {
                tokens.push(Token::Open(place(1)));
                at += 1;
            }
            '}' => {
                tokens.push(Token::Close(place(1)));
                at += 1;
            }
            blank if blank.is_whitespace() => at += 1,
            _ => {
                let (text, end, closed) = word(&characters, at);
                let place = place(end - at);
                if !closed {
                    open_quotes.push(place);
                }
                tokens.push(Token::Word(Word { text: shown(&text), place }));
                at = end;
            }
        }
    }
    open_quotes
}

/// Cuts a whole text.
#[cfg(test)]
pub(super) fn lex(text: &str, file: usize) -> (Vec<Token>, Vec<Place>) {
    let (mut tokens, mut open_quotes) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        open_quotes.extend(lex_line(line, file, index + 1, &mut tokens));
        tokens.push(Token::LineEnd);
    }
    (tokens, open_quotes)
}

/// One word from `start`: its text, where it ends, and whether its quotes are closed.
fn word(characters: &[char], start: usize) -> (String, usize, bool) {
    let mut text = String::new();
    let mut at = start;
    let mut quote: Option<char> = None;
    while let Some(&character) = characters.get(at) {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (Some('"'), '\\') if matches!(characters.get(at + 1), Some('"' | '\\')) => {
                at += 1;
                text.push(characters[at]);
            }
            (Some(_), inside) => text.push(inside),
            (None, '"' | '\'') => quote = Some(character),
            (None, '$') if characters.get(at + 1) == Some(&'{') => {
                // ${NAME} is one word although braces are in it.
                while let Some(&inside) = characters.get(at).filter(|inside| **inside != '}') {
                    text.push(inside);
                    at += 1;
                }
                if characters.get(at).is_some() {
                    text.push('}');
                }
            }
            (None, '{' | '}' | '#' | '!') => break,
            (None, blank) if blank.is_whitespace() => break,
            (None, plain) => text.push(plain),
        }
        at += 1;
    }
    (text, at.min(characters.len()), quote.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        lex(text, 0)
            .0
            .into_iter()
            .map(|token| match token {
                Token::Word(word) => word.text,
                Token::Open(_) => "{".into(),
                Token::Close(_) => "}".into(),
                Token::LineEnd => ";".into(),
            })
            .collect()
    }

    #[test]
    fn words_braces_and_comments() {
        assert_eq!(
            words("vrrp_script chk{ # x\n a \"b c\"!x"),
            ["vrrp_script", "chk", "{", ";", "a", "b c", ";"]
        );
        assert_eq!(words("router_id C ## comment"), ["router_id", "C", ";"]);
        assert_eq!(words("a{b}c"), ["a", "{", "b", "}", "c", ";"]);
        assert_eq!(words("x ${A}/y '#no'"), ["x", "${A}/y", "#no", ";"]);
        assert_eq!(words(r#""a \" b" x"y z""#), ["a \" b", "xy z", ";"]);
    }

    #[test]
    fn an_open_quote_ends_with_its_line_and_is_reported() {
        let (tokens, open) = lex("a \"b\nc", 3);
        assert_eq!(tokens.len(), 5);
        assert_eq!(open, [Place { file: 3, line: 1, column: 3, length: 2 }]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_cut_without_panic(text in "[\\PC\n]{0,200}") {
            let _ = lex(&text, 0);
        }
    }
}
