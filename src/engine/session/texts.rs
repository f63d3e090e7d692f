//! Texts of queries that a session remembers with their short way.
//!
//! In: the text of a simple query or of a Parse message. Out: its statement, prepared before, and the values of its literals.
//! Invariants: two texts are one when their tokens are, but for literals that a column is compared with; a text is looked at
//! when it comes a second time; bytes are bounded by `squilla.plan_cache`, what was not asked for longest goes first.
//! Deliberately absent: texts without a short way, whose plans cost more to keep than they would save.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use sqlparser::ast;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use squilla_core::error::Result;
use squilla_core::types::SqlType;

use crate::catalog::data::Relation;
use crate::session::planning::Lookup;
use crate::session::short::{is_candidate, parameter, query_of, shape};
use crate::session::short_plan::{spelled, text_value, varies};
use crate::session::{Execution, Parameters, Prepared, Session, TransactionStatus};
use crate::statement::{Statement, StatementKind, name_parts};

/// Longer texts are not worth it.
const TEXT_BYTES_MAX: usize = 4096;
/// Texts that differ in other literals than those that vary.
const VARIANTS_MAX: usize = 8;
/// Bytes of a token and of a prepared statement, about.
const TOKEN_BYTES: usize = 96;
const STATEMENT_BYTES: usize = 8192;

/// Tokens with marks in the places of literals; the types that a Parse message declared, None for a simple query.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    tokens: Vec<Token>,
    declared: Option<Vec<Option<SqlType>>>,
}

/// A literal of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Literal {
    token: Token,
    at: Location,
}

struct Shape {
    variants: Vec<Variant>,
    /// Nothing more is to be learnt of it.
    settled: bool,
    used: u64,
    bytes: usize,
}

/// A text that is known, but for the literals that vary.
#[derive(Clone)]
struct Variant {
    /// Literals that must be these.
    fixed: Vec<(usize, Token)>,
    /// Literals that are the values of parameters, in order.
    varying: Vec<usize>,
    prepared: Prepared,
}

/// What a session remembers.
#[derive(Default)]
pub(crate) struct Texts {
    shapes: HashMap<Key, Shape>,
    bytes: usize,
    clock: u64,
}

/// The key of a text, and its literals; None for texts that are no queries.
fn key_of(text: &str, declared: Option<&[Option<SqlType>]>) -> Option<(Key, Vec<Literal>)> {
    let start = text.trim_start().get(..6)?;
    if text.len() > TEXT_BYTES_MAX || !start.eq_ignore_ascii_case("select") {
        return None;
    }
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location().ok()?;
    let mut literals = Vec::new();
    let tokens = tokens.into_iter().map(|TokenWithSpan { token, span }| {
        let mark = match &token {
            Token::Number(digits, _) if digits.parse::<i32>().is_ok() => "\u{1}int4",
            Token::Number(digits, _) if digits.parse::<i64>().is_ok() => "\u{1}int8",
            Token::Number(..) => "\u{1}number",
            Token::SingleQuotedString(_) => "\u{1}text",
            _ => return token,
        };
        literals.push(Literal { token, at: span.start });
        Token::Placeholder(mark.to_owned())
    });
    let tokens = tokens.collect();
    Some((Key { tokens, declared: declared.map(<[Option<SqlType>]>::to_vec) }, literals))
}

/// What to do about a text.
enum Known {
    /// The statement, and the literals that are its parameters.
    Found(Prepared, Vec<Token>),
    /// It has come before: it is worth to be learnt.
    Learn,
    /// It is new, or there is nothing to learn.
    Nothing,
}

impl Texts {
    fn look_up(&mut self, key: Key, literals: &[Literal], generation: u64, bytes_max: usize) -> (Known, Option<Key>) {
        self.clock += 1;
        let clock = self.clock;
        if let Some(shape) = self.shapes.get_mut(&key) {
            shape.used = clock;
            let same = |fixed: &(usize, Token)| literals.get(fixed.0).is_some_and(|l| l.token == fixed.1);
            let found = shape.variants.iter().position(|v| v.fixed.iter().all(same));
            if let Some(variant) = found.and_then(|i| shape.variants.get(i)) {
                if variant.prepared.memo.get().is_some_and(|short| short.generation == generation) {
                    let values = variant.varying.iter().filter_map(|i| literals.get(*i)).map(|l| l.token.clone()).collect();
                    return (Known::Found(variant.prepared.clone(), values), None);
                }
                // Of other settings, or of another definition of its table.
                found.into_iter().for_each(|i| drop(shape.variants.swap_remove(i)));
                shape.settled = false;
            }
            return (if shape.settled { Known::Nothing } else { Known::Learn }, Some(key));
        }
        let bytes = key.tokens.len() * TOKEN_BYTES + size_of::<Shape>();
        if !self.make_room(bytes, bytes_max) {
            return (Known::Nothing, None);
        }
        self.bytes += bytes;
        self.shapes.insert(key, Shape { variants: Vec::new(), settled: false, used: clock, bytes });
        (Known::Nothing, None)
    }

    /// Remembers a text; without a statement there is nothing to know of it.
    fn learn(&mut self, key: &Key, variant: Option<Variant>, bytes_max: usize) {
        let variant = variant.filter(|_| self.make_room(STATEMENT_BYTES, bytes_max));
        let Some(shape) = self.shapes.get_mut(key) else { return };
        match variant {
            None => shape.settled = true,
            Some(variant) => {
                shape.variants.push(variant);
                shape.bytes += STATEMENT_BYTES;
                self.bytes += STATEMENT_BYTES;
                shape.settled = shape.variants.len() >= VARIANTS_MAX;
            }
        }
    }

    /// Whether there is room for so many bytes, if need be because others have gone.
    fn make_room(&mut self, bytes: usize, most: usize) -> bool {
        while self.bytes + bytes > most && !self.shapes.is_empty() {
            let mut order: Vec<u64> = self.shapes.values().map(|s| s.used).collect();
            order.sort_unstable();
            // A quarter goes at once, so that this is rare.
            let until = order.get(order.len() / 4).copied().unwrap_or(u64::MAX);
            let mut gone = 0;
            self.shapes.retain(|_, shape| {
                let stays = shape.used > until;
                gone += if stays { 0 } else { shape.bytes };
                stays
            });
            self.bytes -= gone;
        }
        self.bytes + bytes <= most
    }
}

impl Session {
    /// Answers the text of a simple query without parsing it, when it is one query that is known to have a short way.
    pub async fn answer_known(self: &Arc<Self>, text: &str) -> Result<Option<Execution>> {
        let Some((prepared, tokens)) = self.known(text, None).await else { return Ok(None) };
        let zone = self.settings().get("timezone").to_owned();
        let values = tokens.iter().zip(prepared.parameter_types()).map(|(token, ty)| value(token, ty, &zone));
        let Some(values) = values.collect::<Option<Parameters>>() else { return Ok(None) };
        let query_id = rand::random::<i64>() & i64::MAX;
        self.inner.lock().query_id = query_id;
        let shown: Arc<str> = Arc::from(shown(text));
        let prepared = Prepared { statement: Statement { text: Arc::clone(&shown), source: shown, ..prepared.statement.clone() }, ..prepared };
        let answer = self.in_short(&prepared, &values).await?;
        if answer.is_some() {
            self.log_start(&prepared.statement, query_id);
        }
        Ok(answer)
    }

    /// The statement of a Parse message, when it is known to have a short way that still holds.
    pub async fn prepared_known(self: &Arc<Self>, text: &str, declared: &[Option<SqlType>]) -> Option<Prepared> {
        let (prepared, _) = self.known(text, Some(declared)).await?;
        let current = prepared.memo.get().is_some_and(|short| short.is_current(self));
        current.then_some(prepared)
    }

    async fn known(self: &Arc<Self>, text: &str, declared: Option<&[Option<SqlType>]>) -> Option<(Prepared, Vec<Token>)> {
        let (generation, bytes_max) = {
            let inner = self.inner.lock();
            if inner.status == TransactionStatus::Failed {
                return None;
            }
            (inner.settings.generation(), usize::try_from(inner.settings.int("squilla.plan_cache")).unwrap_or(0))
        };
        if bytes_max == 0 {
            return None;
        }
        let (key, literals) = key_of(text, declared)?;
        let (known, key) = self.texts.lock().look_up(key, &literals, generation, bytes_max);
        match (known, key) {
            (Known::Found(prepared, values), _) => Some((prepared, values)),
            (Known::Learn, Some(key)) => {
                let session = Arc::clone(self);
                let (text, types) = (text.to_owned(), declared.map(<[Option<SqlType>]>::to_vec));
                let places = literals.clone();
                // Failures are told by the usual way.
                let variant = self.on_statement_thread(async move { Box::pin(session.learn(&text, types, &places)).await }).await.ok().flatten();
                self.texts.lock().learn(&key, variant.clone(), bytes_max);
                let variant = variant?;
                let values = variant.varying.iter().filter_map(|i| literals.get(*i)).map(|l| l.token.clone()).collect();
                Some((variant.prepared, values))
            }
            _ => None,
        }
    }

    /// Prepares a text with parameters in the places of its literals that vary.
    async fn learn(self: &Arc<Self>, text: &str, declared: Option<Vec<Option<SqlType>>>, literals: &[Literal]) -> Result<Option<Variant>> {
        let mut statements = self.parse(text)?;
        let (Some(statement), true) = (statements.pop(), statements.is_empty()) else { return Ok(None) };
        let Some(query) = query_of(&statement.kind).filter(|q| is_candidate(q)) else { return Ok(None) };
        let (mut types, mut varying) = (declared.clone().unwrap_or_default(), Vec::new());
        let mut query = query.clone();
        if declared.is_none() {
            if has_parameters(&query) {
                return Ok(None);
            }
            let data = self.snapshot();
            let search_path = self.search_path(&data);
            let lookup = Lookup { data: &data, search_path: &search_path, values: None, beside: &[] };
            let name = shape(&query).and_then(|s| s.name).map(name_parts);
            if let Some((_, _, relation)) = name.and_then(|name| lookup.find(&name)) {
                (varying, types) = vary(&mut query, relation, literals)?;
            }
        }
        let fixed = literals.iter().enumerate().filter(|(i, _)| !varying.contains(i)).map(|(i, l)| (i, l.token.clone())).collect();
        let kind = Arc::new(StatementKind::Sql(Box::new(query)));
        let statement = Statement { kind, ..statement };
        let prepared = self.prepare_here(&statement, &types).await?;
        let Some(plan) = &prepared.plan else { return Ok(None) };
        let short = self.short_way(&statement, plan, prepared.parameter_types())?;
        let Some(short) = short else { return Ok(None) };
        let generation = short.generation;
        prepared.memo.set(Some(short), generation);
        Ok(Some(Variant { fixed, varying, prepared }))
    }
}

/// Puts parameters in the places of literals that a column is compared with: which literals, and the types of the parameters.
fn vary(query: &mut ast::Statement, relation: &Relation, literals: &[Literal]) -> Result<(Vec<usize>, Vec<Option<SqlType>>)> {
    let mut places = Vec::new();
    for pair in shape(query).map(|s| s.pairs).unwrap_or_default() {
        let Some(column) = relation.columns.iter().find(|c| c.name == pair.column) else { continue };
        let Some(literal) = literals.iter().position(|l| l.at == pair.value.span.start) else { continue };
        if varies(&column.sql_type()?, &pair.value.value) {
            places.push((pair.value.span, literal));
        }
    }
    let mut types = Vec::with_capacity(places.len());
    for (_, literal) in &places {
        types.push(match literals.get(*literal).map(|l| &l.token) {
            Some(Token::Number(digits, _)) if digits.parse::<i32>().is_ok() => Some(SqlType::Int4),
            Some(Token::Number(..)) => Some(SqlType::Int8),
            // The column's.
            _ => None,
        });
    }
    let _ = ast::visit_expressions_mut(query, |expr| {
        if let ast::Expr::Value(value) = expr
            && let Some(number) = places.iter().position(|(span, _)| *span == value.span)
        {
            value.value = ast::Value::Placeholder(format!("${}", number + 1));
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
    Ok((places.into_iter().map(|(_, literal)| literal).collect(), types))
}

fn has_parameters(query: &ast::Statement) -> bool {
    ast::visit_expressions(query, |expr| match expr {
        ast::Expr::Value(value) if parameter(&value.value).is_some() => std::ops::ControlFlow::Break(()),
        _ => std::ops::ControlFlow::Continue(()),
    })
    .is_break()
}

/// The value of a literal for a parameter of a type; None where the usual way has to look at it.
fn value(token: &Token, ty: &SqlType, zone: &str) -> Option<ScalarValue> {
    match (token, ty) {
        (Token::Number(digits, _), SqlType::Int4) => digits.parse().ok().map(|n| ScalarValue::Int32(Some(n))),
        (Token::Number(digits, _), SqlType::Int8) => digits.parse().ok().map(|n| ScalarValue::Int64(Some(n))),
        (Token::SingleQuotedString(text), SqlType::Text | SqlType::Varchar(_)) => Some(ScalarValue::Utf8(Some(text.clone()))),
        (Token::SingleQuotedString(text), ty) if spelled(ty) => text_value(text, ty, zone),
        _ => None,
    }
}

/// A statement as pg_stat_activity shows it: without the semicolon.
fn shown(text: &str) -> &str {
    text.trim().trim_end_matches(';').trim_end()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn texts_are_one_but_for_their_literals() {
        let key = |text: &str| key_of(text, None).map(|(key, literals)| (key.tokens, literals.len()));
        assert_eq!(key("select a from t where id = 1"), key("select a from t where id = 234"));
        assert_eq!(key("SELECT 'x', 2").unwrap().1, 2);
        assert_ne!(key("select a from t where id = 1"), key("select a from t where id = 3000000000"));
        assert_ne!(key("select a from t where id = 1"), key("select a from t where id = '1'"));
        assert_ne!(key("select a from t"), key("select a from \"t\""));
        assert!(key("insert into t values (1)").is_none() && key("select").is_some() && key("sel").is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut texts = Texts::default();
        for n in 0..2000 {
            let (key, literals) = key_of(&format!("select c{n} from t"), None).unwrap();
            texts.look_up(key, &literals, 0, 100_000);
            assert!(texts.bytes <= 100_000, "{}", texts.bytes);
            assert_eq!(texts.bytes, texts.shapes.values().map(|s| s.bytes).sum::<usize>());
        }
        assert!(texts.shapes.len() > 50);
    }
}
