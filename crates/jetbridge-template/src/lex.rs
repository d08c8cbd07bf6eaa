//! The words of the language of [`expr`](crate::expr).

use std::collections::VecDeque;

use crate::expr::Infix;
use crate::scalar;
use crate::tree::{Node, Value};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Literal(Node),
    Env(String),
    /// A reference or the name of an operator.
    Word(String),
    /// `@name` behind an operator.
    Target(String),
    /// `glued` if no blank stands before it.
    Open {
        glued: bool,
    },
    Close,
    BraceOpen,
    BraceClose,
    Comma,
    Colon,
    Question,
    Not,
    Infix(Infix),
    End,
}

/// The tokens of one expression.
pub(crate) struct Lexer<'a> {
    tokens: VecDeque<Token>,
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Result<Self, String> {
        let mut lexer = Self { tokens: VecDeque::new(), text, at: 0 };
        while let Some(token) = lexer.scan()? {
            lexer.tokens.push_back(token);
        }
        Ok(lexer)
    }

    pub(crate) fn peek(&self) -> &Token {
        self.tokens.front().unwrap_or(&Token::End)
    }

    pub(crate) fn next(&mut self) -> Token {
        self.tokens.pop_front().unwrap_or(Token::End)
    }

    pub(crate) fn unread(&mut self, token: Token) {
        self.tokens.push_front(token);
    }

    /// True if the token after the next is an infix operator.
    pub(crate) fn second_is_infix(&self) -> bool {
        matches!(self.tokens.get(1), Some(Token::Infix(_) | Token::Question))
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn scan(&mut self) -> Result<Option<Token>, String> {
        let before = self.at;
        self.at += self.rest().len() - self.rest().trim_start().len();
        let blank_before = self.at > before || before == 0;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(None) };
        let glued = !blank_before && !self.text[..self.at].ends_with('(');
        let one = |token| Ok(Some((token, 1)));
        let scanned: Result<Option<(Token, usize)>, String> = match first {
            '(' => one(Token::Open { glued }),
            ')' => one(Token::Close),
            '{' => one(Token::BraceOpen),
            '}' => one(Token::BraceClose),
            ',' => one(Token::Comma),
            '?' => one(Token::Question),
            ':' => one(Token::Colon),
            '"' | '\'' => self.text_literal(rest).map(Some),
            '@' if glued => {
                let length = word_length(&rest[1..]);
                Ok(Some((Token::Target(rest[1..=length].to_owned()), length + 1)))
            }
            _ => self.operator_or_word(rest, blank_before).map(Some),
        };
        let Some((token, length)) = scanned? else { return Ok(None) };
        self.at += length;
        Ok(Some(token))
    }

    fn operator_or_word(&self, rest: &str, blank: bool) -> Result<(Token, usize), String> {
        const TWO: [(&str, Infix); 6] = [
            ("||", Infix::Or),
            ("&&", Infix::And),
            ("==", Infix::Eq),
            ("!=", Infix::Ne),
            ("<=", Infix::Le),
            (">=", Infix::Ge),
        ];
        const ONE: [(&str, Infix); 7] = [
            ("<", Infix::Lt),
            (">", Infix::Gt),
            ("+", Infix::Add),
            ("-", Infix::Sub),
            ("*", Infix::Mul),
            ("/", Infix::Div),
            ("%", Infix::Rem),
        ];
        if let Some((text, infix)) = TWO.iter().find(|(text, _)| rest.starts_with(text)) {
            return Ok((Token::Infix(*infix), text.len()));
        }
        let spaced = rest.chars().nth(1).is_none_or(char::is_whitespace);
        if let Some((_, infix)) = ONE.iter().find(|(text, _)| rest.starts_with(text)) {
            let number = rest.starts_with(['+', '-']) && blank && !spaced;
            if !number || word_length(rest) < 2 {
                return Ok((Token::Infix(*infix), 1));
            }
        }
        if rest.starts_with('!') {
            return Ok((Token::Not, 1));
        }
        let length = word_length(rest);
        if length == 0 {
            return Err(format!("syntax error near: {}", self.text));
        }
        if rest[length..].starts_with(['"', '\'']) {
            return Err(self.touching());
        }
        Ok((word(&rest[..length]), length))
    }

    fn text_literal(&self, rest: &str) -> Result<(Token, usize), String> {
        let Some((text, length)) = unquoted(rest) else {
            return Err(format!("a quoted text is not closed in: {}", self.text));
        };
        if rest[length..].starts_with(|c: char| c.is_alphanumeric() || "\"'_$".contains(c)) {
            return Err(self.touching());
        }
        Ok((Token::Literal(Node::text(text)), length))
    }

    /// Two arguments would be read where one was meant.
    fn touching(&self) -> String {
        format!(
            "a name in quotes stands in brackets, as a[\"b.c\"], and a text stands alone; not so \
             in: {}",
            self.text
        )
    }
}

/// The text in the quotes that `source` starts with, and the bytes of all of it; `None` if they
/// are not closed.
pub(crate) fn unquoted(source: &str) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut chars = source.char_indices();
    let (_, quote) = chars.next()?;
    while let Some((index, c)) = chars.next() {
        match c {
            '\\' if quote == '"' => match chars.next()?.1 {
                'n' => text.push('\n'),
                'r' => text.push('\r'),
                't' => text.push('\t'),
                other => text.push(other),
            },
            c if c == quote => return Some((text, index + 1)),
            c => text.push(c),
        }
    }
    None
}

/// Where a reader of a reference is: in brackets, and in quotes there, nothing ends it.
#[derive(Default)]
pub(crate) struct Brackets {
    open: usize,
    quote: Option<char>,
    escaped: bool,
}

impl Brackets {
    /// Behind the first bracket.
    pub(crate) fn opened() -> Self {
        Self { open: 1, ..Self::default() }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.open == 0
    }

    /// Takes the next character; true if it is one of the brackets, or in them.
    pub(crate) fn take(&mut self, c: char) -> bool {
        match (self.quote, c) {
            (Some(_), _) if std::mem::take(&mut self.escaped) => true,
            (Some('"'), '\\') => {
                self.escaped = true;
                true
            }
            (Some(quote), _) => {
                self.quote = self.quote.filter(|_| c != quote);
                true
            }
            (None, '[') => {
                self.open += 1;
                true
            }
            (None, ']') => {
                self.open = self.open.saturating_sub(1);
                true
            }
            (None, '"' | '\'') => {
                self.quote = (self.open > 0).then_some(c);
                self.open > 0
            }
            (None, _) => self.open > 0,
        }
    }
}

/// Bytes of the name, reference or number that `text` starts with.
fn word_length(text: &str) -> usize {
    let mut brackets = Brackets::default();
    for (index, c) in text.char_indices() {
        let next = text[index + c.len_utf8()..].chars().next();
        let ends = match c {
            c if brackets.take(c) => false,
            // A colon ends a word where a blank, or nothing, follows it.
            ':' => next.is_none_or(char::is_whitespace),
            c => c.is_whitespace() || "(){},\"'|&=<>!?*%@".contains(c),
        };
        if ends {
            return index;
        }
    }
    text.len()
}

fn word(text: &str) -> Token {
    match text {
        "nil" | "null" | "~" | "Nil" | "Null" | "NIL" | "NULL" => {
            return Token::Literal(Node::default());
        }
        "true" | "True" | "TRUE" => return Token::Literal(Node::new(Value::Bool(true))),
        "false" | "False" | "FALSE" => return Token::Literal(Node::new(Value::Bool(false))),
        _ => {}
    }
    if let Some(name) = text.strip_prefix('$')
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'))
    {
        return Token::Env(name.to_owned());
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let numeric = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    if numeric {
        // Decimal always: a leading zero means nothing between the parentheses.
        let plain = text.strip_prefix('+').unwrap_or(text);
        if let Ok(n) = plain.parse() {
            return Token::Literal(Node::new(Value::Int(n)));
        }
        if let Some(Value::Float(f)) = scalar::number(text) {
            return Token::Literal(Node::new(Value::Float(f)));
        }
    }
    Token::Word(text.to_owned())
}
