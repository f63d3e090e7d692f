//! Operators and casts: `pg_operator` and `pg_cast`.
//!
//! In: the operators that expressions take here, by families of types. Out: rows with OIDs that follow from symbol and
//! types. Invariant: what is listed can be written in a query. Deliberately absent: `oprcode` of operators that
//! DataFusion evaluates itself; there is no function behind them that a query could call.

use std::sync::LazyLock;

use squilla_core::error::Result;
use squilla_core::types::SqlType;

use crate::system::oids;
use crate::system::relation::Rows;
use crate::system::view::SystemView;

const BOOL: u32 = 16;
const BYTEA: u32 = 17;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
const TEXT: u32 = 25;
const OID: u32 = 26;
const JSON: u32 = 114;
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const DATE: u32 = 1082;
const TIME: u32 = 1083;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;
const INTERVAL: u32 = 1186;
const NUMERIC: u32 = 1700;
const ANYARRAY: u32 = 2277;
const JSONB: u32 = 3802;

/// One operator.
#[derive(Clone, Copy, Debug)]
pub struct Operator {
    /// Symbol.
    pub name: &'static str,
    /// OID of the left type; 0 for a prefix operator.
    pub left: u32,
    /// OID of the right type.
    pub right: u32,
    /// OID of the result.
    pub result: u32,
    /// What it does.
    pub comment: &'static str,
}

impl Operator {
    /// The OID.
    pub fn oid(&self) -> u32 {
        oids::derived("operator", &format!("{} {} {}", self.left, self.name, self.right))
    }
}

/// Types with an order.
const ORDERED: &[u32] = &[
    BOOL,
    BYTEA,
    18,
    19,
    INT8,
    INT2,
    INT4,
    TEXT,
    OID,
    FLOAT4,
    FLOAT8,
    1042,
    DATE,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    INTERVAL,
    NUMERIC,
    2950,
    JSONB,
    ANYARRAY,
];
/// Pairs of different types that compare.
const PAIRS: &[(u32, u32)] =
    &[(INT2, INT4), (INT2, INT8), (INT4, INT8), (FLOAT4, FLOAT8), (DATE, TIMESTAMP), (DATE, TIMESTAMPTZ), (TIMESTAMP, TIMESTAMPTZ), (19, TEXT)];
const COMPARISONS: &[(&str, &str)] =
    &[("=", "equal"), ("<>", "not equal"), ("<", "less than"), ("<=", "less than or equal"), (">", "greater than"), (">=", "greater than or equal")];
const NUMBERS: &[u32] = &[INT2, INT4, INT8, FLOAT4, FLOAT8, NUMERIC];

/// Operators that are written one by one: symbol, left, right, result, comment.
#[rustfmt::skip]
const OTHERS: &[(&str, u32, u32, u32, &str)] = &[
    ("||", TEXT, TEXT, TEXT, "concatenate"), ("||", BYTEA, BYTEA, BYTEA, "concatenate"), ("||", ANYARRAY, ANYARRAY, ANYARRAY, "concatenate"),
    ("||", JSONB, JSONB, JSONB, "concatenate"),
    ("~~", TEXT, TEXT, BOOL, "matches LIKE expression"), ("!~~", TEXT, TEXT, BOOL, "does not match LIKE expression"),
    ("~~*", TEXT, TEXT, BOOL, "matches LIKE expression, case-insensitive"), ("!~~*", TEXT, TEXT, BOOL, "does not match LIKE expression, case-insensitive"),
    ("~", TEXT, TEXT, BOOL, "matches regular expression, case-sensitive"), ("!~", TEXT, TEXT, BOOL, "does not match regular expression, case-sensitive"),
    ("~*", TEXT, TEXT, BOOL, "matches regular expression, case-insensitive"),
    ("!~*", TEXT, TEXT, BOOL, "does not match regular expression, case-insensitive"),
    ("+", DATE, INT4, DATE, "add"), ("-", DATE, INT4, DATE, "subtract"), ("-", DATE, DATE, INT4, "subtract"),
    ("+", DATE, INTERVAL, TIMESTAMP, "add"), ("-", DATE, INTERVAL, TIMESTAMP, "subtract"),
    ("+", TIMESTAMP, INTERVAL, TIMESTAMP, "add"), ("-", TIMESTAMP, INTERVAL, TIMESTAMP, "subtract"), ("-", TIMESTAMP, TIMESTAMP, INTERVAL, "subtract"),
    ("+", TIMESTAMPTZ, INTERVAL, TIMESTAMPTZ, "add"), ("-", TIMESTAMPTZ, INTERVAL, TIMESTAMPTZ, "subtract"),
    ("-", TIMESTAMPTZ, TIMESTAMPTZ, INTERVAL, "subtract"), ("+", INTERVAL, INTERVAL, INTERVAL, "add"), ("-", INTERVAL, INTERVAL, INTERVAL, "subtract"),
    ("*", INTERVAL, FLOAT8, INTERVAL, "multiply"),
    ("->", JSON, TEXT, JSON, "get json object field"), ("->>", JSON, TEXT, TEXT, "get json object field as text"),
    ("->", JSON, INT4, JSON, "get json array element"), ("->>", JSON, INT4, TEXT, "get json array element as text"),
    ("#>", JSON, 1009, JSON, "get value from json with path elements"), ("#>>", JSON, 1009, TEXT, "get value from json as text with path elements"),
    ("->", JSONB, TEXT, JSONB, "get jsonb object field"), ("->>", JSONB, TEXT, TEXT, "get jsonb object field as text"),
    ("->", JSONB, INT4, JSONB, "get jsonb array element"), ("->>", JSONB, INT4, TEXT, "get jsonb array element as text"),
    ("#>", JSONB, 1009, JSONB, "get value from jsonb with path elements"), ("#>>", JSONB, 1009, TEXT, "get value from jsonb as text with path elements"),
    ("@>", JSONB, JSONB, BOOL, "contains"), ("<@", JSONB, JSONB, BOOL, "is contained by"), ("?", JSONB, TEXT, BOOL, "key exists"),
    ("@>", ANYARRAY, ANYARRAY, BOOL, "contains"), ("<@", ANYARRAY, ANYARRAY, BOOL, "is contained by"), ("&&", ANYARRAY, ANYARRAY, BOOL, "overlaps"),
];

/// The vector operators: symbol, the function behind it, comment.
const VECTORS: &[(&str, &str, &str)] = &[
    ("<->", "l2_distance", "Euclidean distance"),
    ("<=>", "cosine_distance", "cosine distance"),
    ("<#>", "vector_negative_inner_product", "negative inner product"),
    ("<+>", "l1_distance", "taxicab distance"),
];

/// Every operator over built-in types.
pub static OPERATORS: LazyLock<Vec<Operator>> = LazyLock::new(|| {
    let mut all = Vec::new();
    let same = ORDERED.iter().map(|t| (*t, *t));
    let pairs = PAIRS.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]);
    for (left, right) in same.chain(pairs) {
        all.extend(COMPARISONS.iter().map(|(name, comment)| Operator { name, left, right, result: BOOL, comment }));
    }
    for ty in NUMBERS {
        for (name, comment) in [("+", "add"), ("-", "subtract"), ("*", "multiply"), ("/", "divide")] {
            all.push(Operator { name, left: *ty, right: *ty, result: *ty, comment });
        }
        all.push(Operator { name: "-", left: 0, right: *ty, result: *ty, comment: "negate" });
        all.push(Operator { name: "+", left: 0, right: *ty, result: *ty, comment: "unary plus" });
    }
    for ty in [INT2, INT4, INT8, NUMERIC] {
        all.push(Operator { name: "%", left: ty, right: ty, result: ty, comment: "modulus" });
    }
    for ty in [FLOAT8, NUMERIC] {
        all.push(Operator { name: "^", left: ty, right: ty, result: ty, comment: "exponentiation" });
    }
    for ty in [INT2, INT4, INT8] {
        for (name, comment) in
            [("&", "bitwise and"), ("|", "bitwise or"), ("#", "bitwise exclusive or"), ("<<", "bitwise shift left"), (">>", "bitwise shift right")]
        {
            let right = if name.len() == 2 { INT4 } else { ty };
            all.push(Operator { name, left: ty, right, result: ty, comment });
        }
    }
    all.extend(OTHERS.iter().map(|(name, left, right, result, comment)| Operator { name, left: *left, right: *right, result: *result, comment }));
    all
});

/// OID of the equality operator of a type.
pub fn equality(ty: u32) -> Option<u32> {
    let ty = match ty {
        1043 => TEXT,
        other => other,
    };
    OPERATORS.iter().find(|o| o.name == "=" && o.left == ty && o.right == ty).map(Operator::oid)
}

fn commuted(name: &str) -> Option<&'static str> {
    Some(match name {
        "=" => "=",
        "<>" => "<>",
        "<" => ">",
        ">" => "<",
        "<=" => ">=",
        ">=" => "<=",
        _ => return None,
    })
}

fn negated(name: &str) -> Option<&'static str> {
    Some(match name {
        "=" => "<>",
        "<>" => "=",
        "<" => ">=",
        ">" => "<=",
        "<=" => ">",
        ">=" => "<",
        "~~" => "!~~",
        "!~~" => "~~",
        "~" => "!~",
        "!~" => "~",
        "~*" => "!~*",
        "!~*" => "~*",
        "~~*" => "!~~*",
        "!~~*" => "~~*",
        _ => return None,
    })
}

/// OIDs of the operators that are not PostgreSQL's.
pub fn own() -> impl Iterator<Item = u32> {
    let vector = SqlType::Vector.oid();
    VECTORS.iter().map(move |(name, _, _)| Operator { name, left: vector, right: vector, result: 0, comment: "" }.oid())
}

/// Fills `pg_operator`.
pub fn pg_operator(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for o in OPERATORS.iter() {
        let other = |name: Option<&'static str>, left, right| name.map_or(0, |name| Operator { name, left, right, ..*o }.oid());
        rows.push([
            ("oid", o.oid().into()),
            ("oprname", o.name.into()),
            ("oprnamespace", oids::CATALOG_SCHEMA_OID.into()),
            ("oprowner", oids::SUPERUSER_OID.into()),
            ("oprkind", (if o.left == 0 { "l" } else { "b" }).into()),
            ("oprcanmerge", (o.name == "=").into()),
            ("oprcanhash", (o.name == "=").into()),
            ("oprleft", o.left.into()),
            ("oprright", o.right.into()),
            ("oprresult", o.result.into()),
            ("oprcom", other(commuted(o.name), o.right, o.left).into()),
            ("oprnegate", other(negated(o.name), o.left, o.right).into()),
        ]);
    }
    for (name, function, _) in VECTORS {
        let Some(code) = view.procs.named(function).next() else { continue };
        let vector = SqlType::Vector.oid();
        let operator = Operator { name, left: vector, right: vector, result: code.returns, comment: "" };
        rows.push([
            ("oid", operator.oid().into()),
            ("oprname", (*name).into()),
            ("oprnamespace", oids::OWN_SCHEMA_OID.into()),
            ("oprowner", oids::SUPERUSER_OID.into()),
            ("oprkind", "b".into()),
            ("oprleft", vector.into()),
            ("oprright", vector.into()),
            ("oprresult", code.returns.into()),
            ("oprcom", operator.oid().into()),
            ("oprcode", code.oid.into()),
        ]);
    }
    Ok(())
}

/// Comments of operators, for `pg_description`.
pub fn descriptions() -> impl Iterator<Item = (u32, &'static str)> {
    let vector = SqlType::Vector.oid();
    let own = VECTORS.iter().map(move |(name, _, comment)| (Operator { name, left: vector, right: vector, result: 0, comment }.oid(), *comment));
    OPERATORS.iter().map(|o| (o.oid(), o.comment)).chain(own)
}

/// Casts: source, target, context (`i` implicit, `a` in assignments, `e` explicit), method (`f` function, `b` binary, `i` by text).
#[rustfmt::skip]
const CASTS: &[(u32, u32, &str, &str)] = &[
    (INT2, INT4, "i", "f"), (INT2, INT8, "i", "f"), (INT2, FLOAT4, "i", "f"), (INT2, FLOAT8, "i", "f"), (INT2, NUMERIC, "i", "f"),
    (INT4, INT2, "a", "f"), (INT4, INT8, "i", "f"), (INT4, FLOAT4, "i", "f"), (INT4, FLOAT8, "i", "f"), (INT4, NUMERIC, "i", "f"), (INT4, BOOL, "e", "f"),
    (INT8, INT2, "a", "f"), (INT8, INT4, "a", "f"), (INT8, FLOAT4, "i", "f"), (INT8, FLOAT8, "i", "f"), (INT8, NUMERIC, "i", "f"), (INT8, OID, "i", "f"),
    (FLOAT4, INT2, "a", "f"), (FLOAT4, INT4, "a", "f"), (FLOAT4, INT8, "a", "f"), (FLOAT4, FLOAT8, "i", "f"), (FLOAT4, NUMERIC, "a", "f"),
    (FLOAT8, INT2, "a", "f"), (FLOAT8, INT4, "a", "f"), (FLOAT8, INT8, "a", "f"), (FLOAT8, FLOAT4, "a", "f"), (FLOAT8, NUMERIC, "a", "f"),
    (NUMERIC, INT2, "a", "f"), (NUMERIC, INT4, "a", "f"), (NUMERIC, INT8, "a", "f"), (NUMERIC, FLOAT4, "i", "f"), (NUMERIC, FLOAT8, "i", "f"),
    (BOOL, INT4, "e", "f"), (BOOL, TEXT, "a", "f"), (BOOL, 1043, "a", "f"),
    (INT4, OID, "i", "b"), (OID, INT4, "a", "b"), (OID, INT8, "a", "f"), (OID, 2205, "i", "b"), (2205, OID, "i", "b"), (OID, 2206, "i", "b"), (2206, OID, "i", "b"),
    (OID, 24, "i", "b"), (24, OID, "i", "b"), (OID, 2202, "i", "b"), (2202, OID, "i", "b"), (OID, 4089, "i", "b"), (4089, OID, "i", "b"),
    (OID, 4096, "i", "b"), (4096, OID, "i", "b"), (TEXT, 2205, "i", "f"), (1043, 2205, "i", "f"),
    (TEXT, 1043, "i", "b"), (1043, TEXT, "i", "b"), (TEXT, 1042, "i", "b"), (1042, TEXT, "i", "f"), (1042, 1043, "i", "f"), (1043, 1042, "i", "b"),
    (TEXT, 18, "a", "f"), (18, TEXT, "i", "f"), (19, TEXT, "i", "f"), (TEXT, 19, "i", "f"), (19, 1043, "a", "f"), (1043, 19, "i", "f"),
    (DATE, TIMESTAMP, "i", "f"), (DATE, TIMESTAMPTZ, "i", "f"), (TIMESTAMP, DATE, "a", "f"), (TIMESTAMP, TIME, "a", "f"), (TIMESTAMP, TIMESTAMPTZ, "i", "f"),
    (TIMESTAMPTZ, DATE, "a", "f"), (TIMESTAMPTZ, TIME, "a", "f"), (TIMESTAMPTZ, TIMESTAMP, "a", "f"), (TIME, INTERVAL, "i", "f"), (INTERVAL, TIME, "a", "f"),
    (JSON, JSONB, "a", "i"), (JSONB, JSON, "a", "i"), (JSONB, BOOL, "e", "f"), (JSONB, INT4, "e", "f"), (JSONB, INT8, "e", "f"), (JSONB, NUMERIC, "e", "f"),
    (JSONB, FLOAT8, "e", "f"),
];

/// OIDs of casts are below those of users' objects, so that nobody takes them for a user's.
const FIRST_CAST: u32 = 10_100;

/// Fills `pg_cast`.
pub fn pg_cast(_: &SystemView, rows: &mut Rows) -> Result<()> {
    for (oid, (source, target, context, method)) in (FIRST_CAST..).zip(CASTS) {
        rows.push([
            ("oid", oid.into()),
            ("castsource", (*source).into()),
            ("casttarget", (*target).into()),
            ("castcontext", (*context).into()),
            ("castmethod", (*method).into()),
        ]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_have_different_oids() {
        let mut oids: Vec<u32> = OPERATORS.iter().map(Operator::oid).collect();
        let all = oids.len();
        oids.sort_unstable();
        oids.dedup();
        assert_eq!(oids.len(), all);
    }

    #[test]
    fn types_compare_for_equality() {
        assert!(equality(23).is_some() && equality(1043) == equality(25) && equality(16401).is_none());
    }
}
