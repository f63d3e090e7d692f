//! The syntax of SQL/JSON paths.
//!
//! In: text such as `strict $.a[0 to last] ? (@.b == "x")`. Out: a tree. Invariant: text that is no path is 42601, as in
//! PostgreSQL. Deliberately absent: what the tree means (`json_path`).

use regex::{Regex, RegexBuilder};
use serde_json::Value;
use squilla_core::error::{Error, Kind, Result};

/// A path and its mode.
pub struct Path {
    /// Whether structural errors are errors.
    pub strict: bool,
    /// What it selects.
    pub expr: Expr,
}

/// An expression.
#[derive(Clone)]
pub enum Expr {
    /// `$`
    Root,
    /// `@`
    Current,
    /// `last`
    Last,
    /// A scalar.
    Literal(Value),
    /// `$name`
    Variable(String),
    /// A step from each value.
    Access(Box<Expr>, Box<Access>),
    /// `-x`
    Negative(Box<Expr>),
    /// `!p`
    Not(Box<Expr>),
    /// `left op right`
    Binary(Box<Expr>, Operator, Box<Expr>),
    /// `exists(path)`
    Exists(Box<Expr>),
    /// `(p) is unknown`
    Unknown(Box<Expr>),
    /// `x starts with "prefix"`
    StartsWith(Box<Expr>, String),
    /// `x like_regex "pattern"`
    LikeRegex(Box<Expr>, Regex),
}

/// A step.
#[derive(Clone)]
pub enum Access {
    /// `.name`
    Member(String),
    /// `.*`
    AnyMember,
    /// `.**`
    Deep,
    /// `[*]`
    AnyItem,
    /// `[a, b to c]`
    Items(Vec<(Expr, Option<Expr>)>),
    /// `? (p)`
    Filter(Expr),
    /// `.name()`
    Method(String),
}

/// An operator between two operands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `&&`
    And,
    /// `||`
    Or,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// `+`
    Plus,
    /// `-`
    Minus,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Modulo,
}

impl Operator {
    /// Whether it computes a number.
    pub fn is_arithmetic(self) -> bool {
        matches!(self, Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo)
    }

    /// Whether it compares.
    pub fn compares(self) -> bool {
        !self.is_arithmetic() && !matches!(self, Operator::And | Operator::Or)
    }

    /// Whether two scalars compare so; None where they cannot be compared.
    pub fn holds(self, left: &Value, right: &Value) -> Option<bool> {
        let order = match (left, right) {
            (Value::Null, Value::Null) => std::cmp::Ordering::Equal,
            // null differs from everything else.
            (Value::Null, _) | (_, Value::Null) => return Some(self == Operator::NotEqual),
            (Value::Bool(l), Value::Bool(r)) => l.cmp(r),
            (Value::Number(l), Value::Number(r)) => l.as_f64()?.partial_cmp(&r.as_f64()?)?,
            (Value::String(l), Value::String(r)) => l.cmp(r),
            _ => return None,
        };
        Some(match self {
            Operator::Equal => order.is_eq(),
            Operator::NotEqual => order.is_ne(),
            Operator::Less => order.is_lt(),
            Operator::LessEqual => order.is_le(),
            Operator::Greater => order.is_gt(),
            _ => order.is_ge(),
        })
    }
}

impl Expr {
    /// With `last` filled in.
    pub fn with_last(&self, last: &Value) -> Expr {
        match self {
            Expr::Last => Expr::Literal(last.clone()),
            Expr::Binary(l, op, r) => Expr::Binary(Box::new(l.with_last(last)), *op, Box::new(r.with_last(last))),
            Expr::Negative(inner) => Expr::Negative(Box::new(inner.with_last(last))),
            other => other.clone(),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    depth: usize,
}

/// Nesting of a path.
const DEPTH_MAX: usize = 200;

/// Reads a path.
///
/// # Errors
/// 42601.
pub fn parse(text: &str) -> Result<Path> {
    let mut parser = Parser { text, rest: text, depth: 0 };
    let strict = parser.word("strict");
    if !strict {
        parser.word("lax");
    }
    let expr = parser.or()?;
    parser.blanks();
    if parser.rest.is_empty() { Ok(Path { strict, expr }) } else { Err(parser.bad()) }
}

impl<'a> Parser<'a> {
    fn bad(&self) -> Error {
        let at: String = self.rest.chars().take(10).collect();
        let near = if at.is_empty() { "at end of jsonpath input".to_owned() } else { format!("at or near \"{at}\" of jsonpath input") };
        Error::new(Kind::Syntax, format!("syntax error {near}")).detail(format!("The path is {}.", self.text))
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn accept(&mut self, symbol: &str) -> bool {
        self.blanks();
        match self.rest.strip_prefix(symbol) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, symbol: &str) -> Result<()> {
        if self.accept(symbol) { Ok(()) } else { Err(self.bad()) }
    }

    fn identifier(&self) -> &'a str {
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
        self.rest.get(..end).unwrap_or("")
    }

    fn word(&mut self, word: &str) -> bool {
        self.blanks();
        let own = self.identifier();
        if own == word {
            self.rest = self.rest.get(own.len()..).unwrap_or("");
        }
        own == word
    }

    fn string(&mut self) -> Result<Option<String>> {
        self.blanks();
        if !self.rest.starts_with('"') {
            return Ok(None);
        }
        let mut end = 1;
        let bytes = self.rest.as_bytes();
        while bytes.get(end).is_some_and(|b| *b != b'"') {
            end += if bytes.get(end) == Some(&b'\\') { 2 } else { 1 };
        }
        let quoted = self.rest.get(..=end).ok_or_else(|| self.bad())?;
        let value = serde_json::from_str(quoted).map_err(|_| self.bad())?;
        self.rest = self.rest.get(end + 1..).unwrap_or("");
        Ok(Some(value))
    }

    fn chain(&mut self, next: fn(&mut Self) -> Result<Expr>, operators: &[(&str, Operator)]) -> Result<Expr> {
        let mut left = next(self)?;
        'more: loop {
            for (symbol, op) in operators {
                if self.accept(symbol) {
                    let right = next(self)?;
                    left = Expr::Binary(Box::new(left), *op, Box::new(right));
                    continue 'more;
                }
            }
            return Ok(left);
        }
    }

    fn or(&mut self) -> Result<Expr> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Error::new(Kind::TooComplex, "jsonpath is nested too deep"));
        }
        let expr = self.chain(Self::and, &[("||", Operator::Or)]);
        self.depth -= 1;
        expr
    }

    fn and(&mut self) -> Result<Expr> {
        self.chain(Self::comparison, &[("&&", Operator::And)])
    }

    fn comparison(&mut self) -> Result<Expr> {
        let left = self.sum()?;
        for (symbol, op) in [
            ("==", Operator::Equal),
            ("!=", Operator::NotEqual),
            ("<>", Operator::NotEqual),
            ("<=", Operator::LessEqual),
            (">=", Operator::GreaterEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ] {
            if self.accept(symbol) {
                let right = self.sum()?;
                return Ok(Expr::Binary(Box::new(left), op, Box::new(right)));
            }
        }
        if self.word("starts") {
            if !self.word("with") {
                return Err(self.bad());
            }
            let prefix = self.string()?.ok_or_else(|| self.bad())?;
            return Ok(Expr::StartsWith(Box::new(left), prefix));
        }
        if self.word("like_regex") {
            let pattern = self.string()?.ok_or_else(|| self.bad())?;
            let flags = if self.word("flag") { self.string()?.unwrap_or_default() } else { String::new() };
            let regex = RegexBuilder::new(&pattern).case_insensitive(flags.contains('i')).build();
            let regex = regex.map_err(|_| Error::new(Kind::InvalidRegex, "invalid regular expression"))?;
            return Ok(Expr::LikeRegex(Box::new(left), regex));
        }
        if self.word("is") {
            return if self.word("unknown") { Ok(Expr::Unknown(Box::new(left))) } else { Err(self.bad()) };
        }
        Ok(left)
    }

    fn sum(&mut self) -> Result<Expr> {
        self.chain(Self::product, &[("+", Operator::Plus), ("-", Operator::Minus)])
    }

    fn product(&mut self) -> Result<Expr> {
        self.chain(Self::unary, &[("*", Operator::Multiply), ("/", Operator::Divide), ("%", Operator::Modulo)])
    }

    fn unary(&mut self) -> Result<Expr> {
        if self.accept("-") {
            return Ok(Expr::Negative(Box::new(self.unary()?)));
        }
        self.blanks();
        if self.rest.starts_with('!') && !self.rest.starts_with("!=") {
            self.accept("!");
            return Ok(Expr::Not(Box::new(self.unary()?)));
        }
        let primary = self.primary()?;
        self.steps(primary)
    }

    fn primary(&mut self) -> Result<Expr> {
        if self.accept("(") {
            let inner = self.or()?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.accept("$") {
            if let Some(name) = self.rest.starts_with('"').then(|| self.string()).transpose()?.flatten() {
                return Ok(Expr::Variable(name));
            }
            let name = self.identifier();
            self.rest = self.rest.get(name.len()..).unwrap_or("");
            return Ok(if name.is_empty() { Expr::Root } else { Expr::Variable(name.to_owned()) });
        }
        if self.accept("@") {
            return Ok(Expr::Current);
        }
        if let Some(text) = self.string()? {
            return Ok(Expr::Literal(Value::from(text)));
        }
        let end = self.rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(self.rest.len());
        if let Some(digits) = self.rest.get(..end).filter(|d| d.starts_with(|c: char| c.is_ascii_digit())) {
            let value: Value = serde_json::from_str(digits).map_err(|_| self.bad())?;
            self.rest = self.rest.get(end..).unwrap_or("");
            return Ok(Expr::Literal(value));
        }
        match self.identifier() {
            word @ ("true" | "false" | "null") => {
                self.rest = self.rest.get(word.len()..).unwrap_or("");
                Ok(Expr::Literal(serde_json::from_str(word).unwrap_or_default()))
            }
            "last" => {
                self.word("last");
                Ok(Expr::Last)
            }
            "exists" => {
                self.word("exists");
                self.expect("(")?;
                let inner = self.or()?;
                self.expect(")")?;
                Ok(Expr::Exists(Box::new(inner)))
            }
            _ => Err(self.bad()),
        }
    }

    fn steps(&mut self, mut expr: Expr) -> Result<Expr> {
        loop {
            let access = if self.accept(".") {
                self.member()?
            } else if self.accept("[") {
                self.subscript()?
            } else if self.accept("?") {
                self.expect("(")?;
                let predicate = self.or()?;
                self.expect(")")?;
                Access::Filter(predicate)
            } else {
                return Ok(expr);
            };
            expr = Expr::Access(Box::new(expr), Box::new(access));
        }
    }

    fn member(&mut self) -> Result<Access> {
        if self.accept("**") {
            return Ok(Access::Deep);
        }
        if self.accept("*") {
            return Ok(Access::AnyMember);
        }
        if let Some(name) = self.string()? {
            return Ok(Access::Member(name));
        }
        let name = self.identifier();
        if name.is_empty() {
            return Err(self.bad());
        }
        self.rest = self.rest.get(name.len()..).unwrap_or("");
        if self.accept("(") {
            self.expect(")")?;
            return Ok(Access::Method(name.to_owned()));
        }
        Ok(Access::Member(name.to_owned()))
    }

    fn subscript(&mut self) -> Result<Access> {
        if self.accept("*") {
            self.expect("]")?;
            return Ok(Access::AnyItem);
        }
        let mut ranges = Vec::new();
        loop {
            let from = self.sum()?;
            let to = if self.word("to") { Some(self.sum()?) } else { None };
            ranges.push((from, to));
            if !self.accept(",") {
                break;
            }
        }
        self.expect("]")?;
        Ok(Access::Items(ranges))
    }
}
