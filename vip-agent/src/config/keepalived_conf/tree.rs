//! Tokens into statements: a keyword, its words, and the block behind it if there is one.

use super::lexer::{Place, Token, Word};

/// Blocks inside blocks deeper than this are refused.
const MAX_DEPTH: usize = 16;

/// One statement of the file.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) keyword: Word,
    pub(super) words: Vec<Word>,
    pub(super) block: Option<Vec<Statement>>,
}

impl Statement {
    /// The words after the keyword, as text.
    pub(super) fn texts(&self) -> Vec<String> {
        self.words.iter().map(|word| word.text.clone()).collect()
    }

    /// Statements of the block; empty without one.
    pub(super) fn children(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }
}

/// What is wrong with the braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BraceError {
    pub(super) place: Place,
    pub(super) message: &'static str,
}

/// Builds the statements of a file. Broken braces are reported and read as well as they can be.
pub(super) fn build(tokens: Vec<Token>) -> (Vec<Statement>, Vec<BraceError>) {
    let mut builder = Builder { tokens: tokens.into_iter().peekable(), errors: Vec::new() };
    let mut statements = Vec::new();
    loop {
        statements.extend(builder.block(0));
        match builder.tokens.next() {
            Some(Token::Close(place)) => {
                builder.errors.push(BraceError { place, message: "this `}` closes nothing" });
            }
            _ => return (statements, builder.errors),
        }
    }
}

struct Builder {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    errors: Vec<BraceError>,
}

impl Builder {
    /// Statements up to a `}` that belongs to the caller, or the end.
    fn block(&mut self, depth: usize) -> Vec<Statement> {
        let mut statements: Vec<Statement> = Vec::new();
        let mut current: Option<Statement> = None;
        while let Some(token) = self.tokens.peek() {
            match token {
                Token::Close(_) => break,
                Token::LineEnd => statements.extend(current.take()),
                Token::Word(word) => match &mut current {
                    Some(statement) => statement.words.push(word.clone()),
                    None => {
                        current = Some(Statement { keyword: word.clone(), words: Vec::new(), block: None });
                    }
                },
                Token::Open(place) => {
                    let place = *place;
                    self.tokens.next();
                    let inner = if depth < MAX_DEPTH {
                        self.block(depth + 1)
                    } else {
                        self.errors.push(BraceError { place, message: "blocks are nested too deeply" });
                        self.tokens.by_ref().for_each(drop);
                        Vec::new()
                    };
                    if !matches!(self.tokens.peek(), Some(Token::Close(_))) {
                        self.errors.push(BraceError { place, message: "this `{` is never closed" });
                        self.tokens.by_ref().for_each(drop);
                    } else {
                        self.tokens.next();
                    }
                    // The brace may stand on the line after its keyword.
                    match current.take().or_else(|| statements.pop().filter(|last| last.block.is_none())) {
                        Some(mut statement) => {
                            statement.block = Some(inner);
                            statements.push(statement);
                        }
                        None => self.errors.push(BraceError { place, message: "a block without a keyword" }),
                    }
                    continue;
                }
            }
            self.tokens.next();
        }
        statements.extend(current);
        statements
    }
}

#[cfg(test)]
mod tests {
    use super::super::lexer::lex;
    use super::*;

    fn show(statements: &[Statement]) -> String {
        statements
            .iter()
            .map(|statement| {
                let mut text = statement.keyword.text.clone();
                for word in &statement.words {
                    text = format!("{text} {}", word.text);
                }
                match &statement.block {
                    Some(block) => format!("{text} [{}]", show(block)),
                    None => text,
                }
            })
            .collect::<Vec<_>>()
            .join(", ")
    }

    #[test]
    fn blocks_on_one_line_on_the_next_line_and_nested() {
        let text = "a b{\n c d\n e { f\n }\n}\ng\n{\nh\n}\nu { 1.2.3.4 }\n";
        let (statements, errors) = build(lex(text, 0).0);
        assert_eq!(show(&statements), "a b [c d, e [f]], g [h], u [1.2.3.4]");
        assert_eq!(errors, []);
    }

    #[test]
    fn broken_braces_are_named() {
        let messages = |text: &str| -> Vec<&str> {
            build(lex(text, 0).0).1.into_iter().map(|error| error.message).collect()
        };
        assert_eq!(messages("a {\nb\n"), ["this `{` is never closed"]);
        assert_eq!(messages("a\n}\n"), ["this `}` closes nothing"]);
        assert_eq!(messages("{\n}\n"), ["a block without a keyword"]);
        assert!(!messages(&"a {".repeat(100)).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn any_braces_are_read_without_panic(text in "[ab{} \n\"#!]{0,80}") {
            let _ = build(lex(&text, 0).0);
        }
    }
}
