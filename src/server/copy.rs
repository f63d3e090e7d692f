//! COPY in the text, CSV and binary formats.
//!
//! In: the options of a COPY statement. Out: the checked options that writing (`copy::write`) and reading (`copy::read`)
//! share. Invariant: options that PostgreSQL refuses together are refused here with the same SQLSTATE.
//! Deliberately absent: files; COPY to and from files is the engine's.

pub mod read;
pub mod receive;
pub mod write;

use squilla_core::error::{Error, Kind, Result};
use squilla_engine::statement::copy::CopyOption;

/// The three formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    /// Tab separated, backslash escapes.
    Text,
    /// RFC 4180.
    Csv,
    /// Length and bytes.
    Binary,
}

/// Some columns, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Columns {
    /// Every column.
    All,
    /// These positions.
    Some(Vec<usize>),
}

impl Columns {
    /// Whether the column at this position is meant.
    pub fn has(&self, position: usize) -> bool {
        match self {
            Columns::All => true,
            Columns::Some(list) => list.contains(&position),
        }
    }
}

/// What the first line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Data.
    None,
    /// Names; ignored when read.
    Names,
    /// Names that must be those of the columns.
    Match,
}

/// The value of an option as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// The name alone.
    Flag,
    /// `name value`
    Text(&'a str),
    /// `name (a, b)` or `name *`
    List(&'a [String]),
}

impl<'a> From<&'a CopyOption> for Value<'a> {
    fn from(option: &'a CopyOption) -> Self {
        match option {
            CopyOption::Flag => Value::Flag,
            CopyOption::Value(text) => Value::Text(text),
            CopyOption::List(list) => Value::List(list),
        }
    }
}

/// Checked options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    /// The format.
    pub format: CopyFormat,
    /// Between fields.
    pub delimiter: u8,
    /// What NULL looks like.
    pub null: String,
    /// First line.
    pub header: Header,
    /// Around CSV fields.
    pub quote: u8,
    /// Before a quote inside a CSV field.
    pub escape: u8,
    /// Written with quotes always.
    pub force_quote: Columns,
    /// Never read as NULL.
    pub force_not_null: Columns,
    /// Read as NULL even in quotes.
    pub force_null: Columns,
}

fn syntax(message: impl Into<String>) -> Error {
    Error::new(Kind::Syntax, message)
}

impl Default for CopyOptions {
    fn default() -> Self {
        let none = || Columns::Some(Vec::new());
        Self {
            format: CopyFormat::Text,
            delimiter: b'\t',
            null: "\\N".into(),
            header: Header::None,
            quote: b'"',
            escape: b'"',
            force_quote: none(),
            force_not_null: none(),
            force_null: none(),
        }
    }
}

impl CopyOptions {
    /// Checks options; `names` are the columns copied and `from` says whether data comes in.
    pub fn new<'a>(options: impl IntoIterator<Item = (&'a str, Value<'a>)>, names: &[&str], from: bool) -> Result<Self> {
        let (mut format, mut delimiter, mut null, mut quote, mut escape) = (None, None, None, None, None);
        let mut out = Self::default();
        for (name, value) in options {
            match name {
                "format" => format = Some(format_of(&text(name, &value)?)?),
                "csv" if value == Value::Flag => format = Some(CopyFormat::Csv),
                "binary" if value == Value::Flag => format = Some(CopyFormat::Binary),
                "delimiter" | "delimiters" => delimiter = Some(byte("delimiter", &text(name, &value)?)?),
                "null" => null = Some(text(name, &value)?),
                "quote" => quote = Some(byte("quote", &text(name, &value)?)?),
                "escape" => escape = Some(byte("escape", &text(name, &value)?)?),
                "header" => out.header = header(&value, from)?,
                "force_quote" => out.force_quote = columns(name, &value, names)?,
                "force_not_null" => out.force_not_null = columns(name, &value, names)?,
                "force_null" => out.force_null = columns(name, &value, names)?,
                "freeze" => {}
                "encoding" => encoding(&text(name, &value)?)?,
                other => return Err(syntax(format!("option \"{other}\" not recognized"))),
            }
        }
        out.format = format.unwrap_or(CopyFormat::Text);
        let csv = out.format == CopyFormat::Csv;
        if out.format == CopyFormat::Binary && (delimiter.is_some() || null.is_some() || out.header != Header::None) {
            let which = if delimiter.is_some() {
                "DELIMITER"
            } else if null.is_some() {
                "NULL"
            } else {
                "HEADER"
            };
            return Err(if which == "HEADER" {
                Error::unsupported("cannot specify HEADER in BINARY mode")
            } else {
                syntax(format!("cannot specify {which} in BINARY mode"))
            });
        }
        for (given, which) in [(quote.is_some(), "quote"), (escape.is_some(), "escape")] {
            if given && !csv {
                return Err(Error::unsupported(format!("COPY {which} available only in CSV mode")));
            }
        }
        out.delimiter = delimiter.unwrap_or(if csv { b',' } else { b'\t' });
        out.null = null.unwrap_or_else(|| if csv { String::new() } else { "\\N".into() });
        out.quote = quote.unwrap_or(b'"');
        out.escape = escape.unwrap_or(out.quote);
        out.check(csv, from)?;
        Ok(out)
    }

    fn check(&self, csv: bool, from: bool) -> Result<()> {
        let none = Columns::Some(Vec::new());
        if matches!(self.delimiter, b'\n' | b'\r') {
            return Err(Error::invalid_argument("COPY delimiter cannot be newline or carriage return"));
        }
        if self.null.contains(['\n', '\r']) {
            return Err(Error::invalid_argument("COPY null representation cannot use newline or carriage return"));
        }
        if !csv && b"\\.abcdefghijklmnopqrstuvwxyz0123456789".contains(&self.delimiter) {
            return Err(Error::invalid_argument(format!("COPY delimiter cannot be \"{}\"", char::from(self.delimiter))));
        }
        if csv && self.delimiter == self.quote {
            return Err(Error::invalid_argument("COPY delimiter and quote must be different"));
        }
        if self.null.as_bytes().contains(&self.delimiter) {
            return Err(Error::unsupported("COPY delimiter must not appear in the NULL specification"));
        }
        if csv && self.null.as_bytes().contains(&self.quote) {
            return Err(Error::unsupported("CSV quote character must not appear in the NULL specification"));
        }
        for (given, which, wrong_way, way) in [
            (self.force_quote != none, "force quote", from, "TO"),
            (self.force_not_null != none, "force not null", !from, "FROM"),
            (self.force_null != none, "force null", !from, "FROM"),
        ] {
            if given && !csv {
                return Err(Error::unsupported(format!("COPY {which} available only in CSV mode")));
            }
            if given && wrong_way {
                return Err(Error::unsupported(format!("COPY {which} only available using COPY {way}")));
            }
        }
        Ok(())
    }
}

fn text(name: &str, value: &Value<'_>) -> Result<String> {
    match value {
        Value::Text(text) => Ok((*text).to_owned()),
        _ => Err(syntax(format!("{name} requires a parameter"))),
    }
}

fn format_of(name: &str) -> Result<CopyFormat> {
    match name.to_ascii_lowercase().as_str() {
        "text" => Ok(CopyFormat::Text),
        "csv" => Ok(CopyFormat::Csv),
        "binary" => Ok(CopyFormat::Binary),
        other => Err(Error::invalid_argument(format!("COPY format \"{other}\" not recognized"))
            .hint("Between client and server COPY speaks text, csv and binary.")),
    }
}

fn byte(name: &str, text: &str) -> Result<u8> {
    match text.as_bytes() {
        [one] => Ok(*one),
        _ => Err(Error::unsupported(format!("COPY {name} must be a single one-byte character"))),
    }
}

fn header(value: &Value<'_>, from: bool) -> Result<Header> {
    match value {
        Value::Flag => Ok(Header::Names),
        Value::Text(t) if t.eq_ignore_ascii_case("match") && from => Ok(Header::Match),
        Value::Text(t) if t.eq_ignore_ascii_case("match") => Err(Error::unsupported("cannot use \"match\" with HEADER in COPY TO")),
        Value::Text(t) if matches!(t.to_ascii_lowercase().as_str(), "true" | "on" | "1") => Ok(Header::Names),
        Value::Text(t) if matches!(t.to_ascii_lowercase().as_str(), "false" | "off" | "0") => Ok(Header::None),
        _ => Err(syntax("header requires a Boolean value or \"match\"")),
    }
}

fn columns(option: &str, value: &Value<'_>, names: &[&str]) -> Result<Columns> {
    match value {
        Value::Text("*") => Ok(Columns::All),
        Value::List(list) if list.iter().any(|n| n == "*") => Ok(Columns::All),
        Value::List(list) => {
            let position = |wanted: &String| {
                let missing =
                    || Error::new(Kind::InvalidColumnReference, format!("{} column \"{wanted}\" not referenced by COPY", option.to_uppercase()));
                names.iter().position(|n| n == wanted).ok_or_else(missing)
            };
            list.iter().map(position).collect::<Result<_>>().map(Columns::Some)
        }
        _ => Err(Error::invalid_argument(format!("argument to option \"{option}\" must be a list of column names"))),
    }
}

fn encoding(name: &str) -> Result<()> {
    match name.to_ascii_lowercase().replace(['-', '_'], "").as_str() {
        "utf8" | "unicode" | "sqlascii" => Ok(()),
        _ => Err(Error::unsupported(format!("COPY in encoding \"{name}\" is not supported")).hint("Use UTF8.")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn options(list: &[(&str, Value<'_>)], from: bool) -> Result<CopyOptions> {
        CopyOptions::new(list.iter().cloned(), &["a", "b"], from)
    }

    #[test]
    fn defaults_follow_the_format() {
        assert_eq!(options(&[], true).unwrap(), CopyOptions::default());
        let csv = options(&[("format", Value::Text("csv")), ("header", Value::Flag), ("force_quote", Value::List(&["b".into()]))], false).unwrap();
        assert_eq!((csv.delimiter, csv.null.as_str(), csv.header), (b',', "", Header::Names));
        assert!(csv.force_quote.has(1) && !csv.force_quote.has(0));
        assert_eq!(options(&[("csv", Value::Flag), ("quote", Value::Text("'"))], true).unwrap().escape, b'\'');
    }

    #[test]
    fn contradictions_are_refused() {
        for (list, from) in [
            (vec![("format", Value::Text("xml"))], true),
            (vec![("delimiter", Value::Text("ab"))], true),
            (vec![("delimiter", Value::Text("a"))], true),
            (vec![("quote", Value::Text("'"))], true),
            (vec![("format", Value::Text("binary")), ("delimiter", Value::Text(","))], true),
            (vec![("csv", Value::Flag), ("force_null", Value::Text("*"))], false),
            (vec![("csv", Value::Flag), ("force_quote", Value::Text("*"))], true),
            (vec![("csv", Value::Flag), ("force_null", Value::List(&["zz".into()]))], true),
            (vec![("nonsense", Value::Flag)], true),
            (vec![("null", Value::Text("a\tb"))], true),
            (vec![("header", Value::Text("match"))], false),
            (vec![("encoding", Value::Text("latin1"))], true),
        ] {
            assert!(options(&list, from).is_err(), "{list:?}");
        }
    }
}
