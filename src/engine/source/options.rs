//! Arguments of table functions: positional and named constants, checked against a declaration.
//!
//! In: a [`SourceCall`], as the binder read it. Out: typed values. Invariant: an unknown or repeated name, too many or
//! missing arguments are 42883 and name the valid ones; a value of the wrong type is 42804; all before anything is read.
//! Deliberately absent: expressions (arguments of table functions are constants) and what the options do.

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::common::ScalarValue;
use squilla_core::error::{Error, Kind, Result, did_you_mean};
use squilla_core::types::SqlType;

/// A call in FROM.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceCall {
    /// Lower case.
    pub name: String,
    /// In order.
    pub positional: Vec<ScalarValue>,
    /// `name => value`, names in lower case.
    pub named: Vec<(String, ScalarValue)>,
}

impl SourceCall {
    /// The paths, patterns and URLs that it reads: what its first argument says, one or several.
    pub fn places(&self) -> Vec<String> {
        let named = self.named.iter().find(|(n, _)| matches!(n.as_str(), "pattern" | "path" | "paths" | "location" | "url")).map(|(_, v)| v);
        let Some(value) = self.positional.first().or(named) else { return Vec::new() };
        if let Some(path) = text_of(value) {
            return vec![path.to_owned()];
        }
        let elements = match value {
            ScalarValue::List(list) if !list.is_empty() => list.value(0),
            ScalarValue::LargeList(list) if !list.is_empty() => list.value(0),
            ScalarValue::FixedSizeList(list) if !list.is_empty() => list.value(0),
            _ => return Vec::new(),
        };
        let values = (0..elements.len()).filter_map(|i| ScalarValue::try_from_array(&elements, i).ok());
        values.filter_map(|v| text_of(&v).map(str::to_owned)).collect()
    }
}

/// A parameter of a table function.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Name.
    pub name: &'static str,
    /// SQL type; a `text` path takes `text[]`, too.
    pub ty: &'static str,
    /// As SQL; None is required.
    pub default: Option<&'static str>,
}

/// A table function that reads files.
#[derive(Clone, Copy, Debug)]
pub struct SourceDeclaration {
    /// Name.
    pub name: &'static str,
    /// The first may be given by position, the rest by position or name.
    pub parameters: &'static [Parameter],
    /// Columns of the result; empty when the files decide.
    pub columns: fn() -> Vec<(&'static str, SqlType)>,
    /// For `\df+`.
    pub comment: &'static str,
}

impl SourceDeclaration {
    /// `path text, hive boolean DEFAULT false`
    pub fn arguments(&self) -> String {
        let parts: Vec<String> = self
            .parameters
            .iter()
            .map(|p| match p.default {
                Some(default) => format!("{} {} DEFAULT {default}", p.name, p.ty),
                None => format!("{} {}", p.name, p.ty),
            })
            .collect();
        parts.join(", ")
    }
}

/// The values of one call, by parameter.
#[derive(Debug)]
pub struct Arguments {
    function: &'static str,
    values: Vec<(&'static str, ScalarValue)>,
}

impl Arguments {
    /// Matches the call with the declaration. NULL counts as not given.
    pub fn bind(call: &SourceCall, declaration: &SourceDeclaration) -> Result<Self> {
        let name = declaration.name;
        let parameters = declaration.parameters;
        let usage = || format!("Usage: {name}({}).", declaration.arguments());
        if call.positional.len() > parameters.len() {
            return Err(Error::new(
                Kind::UndefinedFunction,
                format!("function {name} takes at most {} arguments, not {}", parameters.len(), call.positional.len()),
            )
            .hint(usage()));
        }
        let mut values: Vec<(&'static str, ScalarValue)> = parameters.iter().map(|p| p.name).zip(call.positional.iter().cloned()).collect();
        for (given, value) in &call.named {
            let Some(parameter) = parameters.iter().find(|p| p.name == given) else {
                let error = Error::new(Kind::UndefinedFunction, format!("function {name} has no argument \"{given}\""));
                let names: Vec<&str> = parameters.iter().map(|p| p.name).collect();
                let list = format!("Its arguments are {}.", names.join(", "));
                return Err(match did_you_mean(given, names) {
                    Some(near) => error.detail(list).hint(format!("Did you mean \"{near}\"?")),
                    None => error.hint(list),
                });
            };
            if values.iter().any(|(n, _)| *n == parameter.name) {
                return Err(Error::new(Kind::UndefinedFunction, format!("argument \"{given}\" of {name} is given twice")));
            }
            values.push((parameter.name, value.clone()));
        }
        values.retain(|(_, value)| !value.is_null());
        for parameter in parameters.iter().filter(|p| p.default.is_none()) {
            if !values.iter().any(|(n, _)| *n == parameter.name) {
                return Err(Error::new(Kind::UndefinedFunction, format!("function {name} needs its argument \"{}\"", parameter.name)).hint(usage()));
            }
        }
        Ok(Self { function: name, values })
    }

    fn get(&self, name: &str) -> Option<&ScalarValue> {
        self.values.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    fn wrong(&self, name: &str, wanted: &str, found: &ScalarValue) -> Error {
        Error::new(
            Kind::DatatypeMismatch,
            format!("argument \"{name}\" of {} must be {wanted}, not {}", self.function, SqlType::of_arrow(&found.data_type()).name()),
        )
    }

    /// text
    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        self.get(name).map(|v| text_of(v).ok_or_else(|| self.wrong(name, "text", v))).transpose()
    }

    /// One character of one byte.
    pub fn byte(&self, name: &str) -> Result<Option<u8>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match text.as_bytes() {
            [byte] => Ok(Some(*byte)),
            _ => Err(Error::invalid_argument(format!("argument \"{name}\" of {} must be a single one-byte character", self.function))),
        }
    }

    /// boolean, also as its text (options of external tables are text)
    pub fn boolean(&self, name: &str) -> Result<Option<bool>> {
        self.get(name)
            .map(|v| match v {
                ScalarValue::Boolean(Some(b)) => Ok(*b),
                other => text_of(other).and_then(squilla_core::settings::parse_bool).ok_or_else(|| self.wrong(name, "boolean", other)),
            })
            .transpose()
    }

    /// bigint, not negative
    pub fn count(&self, name: &str) -> Result<Option<u64>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = match value {
            ScalarValue::Int16(Some(n)) => i64::from(*n),
            ScalarValue::Int32(Some(n)) => i64::from(*n),
            ScalarValue::Int64(Some(n)) => *n,
            other => text_of(other).and_then(|t| t.trim().parse().ok()).ok_or_else(|| self.wrong(name, "bigint", other))?,
        };
        u64::try_from(number).map(Some).map_err(|_| Error::invalid_argument(format!("argument \"{name}\" of {} must not be negative", self.function)))
    }

    /// timestamptz, in microseconds since 1970; a time without zone is UTC
    pub fn time_us(&self, name: &str) -> Result<Option<i64>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.cast_to(&SqlType::Timestamptz.arrow()) {
            Ok(ScalarValue::TimestampMicrosecond(Some(us), _)) => Ok(Some(us)),
            _ => Err(self.wrong(name, "timestamptz", value)),
        }
    }

    /// text or text[] with at least one element
    pub fn paths(&self, name: &str) -> Result<Vec<String>> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        if let Some(path) = text_of(value) {
            return Ok(vec![path.to_owned()]);
        }
        let elements: Option<ArrayRef> = match value {
            ScalarValue::List(list) => (!list.is_empty()).then(|| list.value(0)),
            ScalarValue::LargeList(list) => (!list.is_empty()).then(|| list.value(0)),
            ScalarValue::FixedSizeList(list) => (!list.is_empty()).then(|| list.value(0)),
            _ => None,
        };
        let elements = elements.ok_or_else(|| self.wrong(name, "text or text[]", value))?;
        let mut paths = Vec::with_capacity(elements.len());
        for i in 0..elements.len() {
            let element = ScalarValue::try_from_array(&elements, i).map_err(crate::error::from_datafusion)?;
            match text_of(&element) {
                Some(path) => paths.push(path.to_owned()),
                None if element.is_null() => {
                    return Err(Error::invalid_argument(format!("an element of argument \"{name}\" of {} is NULL", self.function)));
                }
                None => return Err(self.wrong(name, "text or text[]", value)),
            }
        }
        if paths.is_empty() {
            return Err(Error::invalid_argument(format!("argument \"{name}\" of {} is an empty array", self.function)));
        }
        Ok(paths)
    }
}

fn text_of(value: &ScalarValue) -> Option<&str> {
    value.try_as_str().flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const F: SourceDeclaration = SourceDeclaration {
        name: "f",
        parameters: &[
            Parameter { name: "path", ty: "text", default: None },
            Parameter { name: "header", ty: "boolean", default: Some("true") },
            Parameter { name: "max_files", ty: "bigint", default: Some("NULL") },
        ],
        columns: Vec::new,
        comment: "",
    };

    fn call(positional: Vec<ScalarValue>, named: Vec<(&str, ScalarValue)>) -> SourceCall {
        SourceCall { name: "f".into(), positional, named: named.into_iter().map(|(n, v)| (n.to_owned(), v)).collect() }
    }

    #[test]
    fn arguments_are_matched() {
        let a = Arguments::bind(&call(vec!["x".into()], vec![("header", ScalarValue::from(false)), ("max_files", ScalarValue::Int32(Some(3)))]), &F)
            .unwrap();
        assert_eq!(a.paths("path").unwrap(), ["x"]);
        assert_eq!((a.boolean("header").unwrap(), a.count("max_files").unwrap()), (Some(false), Some(3)));
        let array = ScalarValue::List(ScalarValue::new_list_nullable(&["a".into(), "b".into()], &datafusion::arrow::datatypes::DataType::Utf8));
        assert_eq!(Arguments::bind(&call(vec![array], vec![]), &F).unwrap().paths("path").unwrap(), ["a", "b"]);
        assert_eq!(F.arguments(), "path text, header boolean DEFAULT true, max_files bigint DEFAULT NULL");
    }

    #[test]
    fn mistakes() {
        let code = |c: SourceCall| Arguments::bind(&c, &F).unwrap_err();
        let error = code(call(vec!["x".into()], vec![("heder", true.into())]));
        assert_eq!((error.sqlstate(), error.hint.as_deref()), ("42883", Some("Did you mean \"header\"?")));
        assert_eq!(code(call(vec![], vec![])).sqlstate(), "42883");
        assert_eq!(code(call(vec!["x".into(); 4], vec![])).sqlstate(), "42883");
        assert_eq!(code(call(vec!["x".into()], vec![("path", "y".into())])).sqlstate(), "42883");
        let a = Arguments::bind(&call(vec![1_i64.into()], vec![("max_files", ScalarValue::Int64(Some(-1)))]), &F).unwrap();
        assert_eq!(a.paths("path").unwrap_err().sqlstate(), "42804");
        assert_eq!(a.count("max_files").unwrap_err().sqlstate(), "22023");
    }
}
