//! Functions as `pg_proc` tells them.
//!
//! In: the declarations of our functions, and DataFusion's and our own built-in functions. Out: one [`Proc`] an overload.
//! Invariant: the OID of an overload follows from its name and argument types alone. Deliberately absent: the kernels.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use squilla_core::declaration::{Argument, Declaration, Default, Returns, Signature, Volatility};
use squilla_core::error::Result;
use squilla_core::types::SqlType;

use crate::system::relation::{Rows, Value};
use crate::system::types::{self, TYPES};
use crate::system::view::SystemView;
use crate::system::{classes, oids, operators};

/// How an argument is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Given by the caller.
    In,
    /// Collects the remaining arguments.
    Variadic,
    /// A column of RETURNS TABLE.
    Table,
}

/// One argument or result column.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcArgument {
    /// Name; empty where there is none.
    pub name: String,
    /// OID of the type; of the array where variadic.
    pub ty: u32,
    /// Mode.
    pub mode: Mode,
    /// Default as SQL.
    pub default: Option<String>,
}

/// One overload of one function.
#[derive(Clone, Debug, PartialEq)]
pub struct Proc {
    /// OID.
    pub oid: u32,
    /// Name.
    pub name: String,
    /// OID of the schema.
    pub schema: u32,
    /// `f`, `a` or `w`.
    pub kind: &'static str,
    /// OID of the language.
    pub language: u32,
    /// Arguments, then result columns.
    pub arguments: Vec<ProcArgument>,
    /// OID of the result type.
    pub returns: u32,
    /// Gives rows.
    pub set: bool,
    /// `i`, `s` or `v`.
    pub volatility: &'static str,
    /// NULL for NULL.
    pub strict: bool,
    /// `u`, `r` or `s`.
    pub parallel: &'static str,
    /// Role that owns it.
    pub owner: String,
    /// `prosrc`.
    pub source: String,
    /// Family of our own functions; empty for built-in ones.
    pub family: String,
    /// Comment.
    pub comment: String,
}

impl Proc {
    /// The arguments that a caller gives.
    pub fn inputs(&self) -> impl Iterator<Item = &ProcArgument> {
        self.arguments.iter().filter(|a| a.mode != Mode::Table)
    }

    /// `name(type, type)`, unique among functions.
    pub fn signature(&self) -> String {
        format!("{}({})", self.name, self.inputs().map(|a| types::format_type(a.ty, None)).collect::<Vec<_>>().join(", "))
    }

    /// What `pg_get_function_arguments` prints.
    pub fn arguments_text(&self, defaults: bool) -> String {
        let one = |a: &ProcArgument| {
            let mut text = if a.mode == Mode::Variadic { "VARIADIC ".to_owned() } else { String::new() };
            if !a.name.is_empty() {
                text.push_str(&quote_identifier(&a.name));
                text.push(' ');
            }
            text.push_str(&types::format_type(a.ty, None));
            if let Some(default) = a.default.as_ref().filter(|_| defaults) {
                text.push_str(" DEFAULT ");
                text.push_str(default);
            }
            text
        };
        self.inputs().map(one).collect::<Vec<_>>().join(", ")
    }

    /// What `pg_get_function_result` prints.
    pub fn result_text(&self) -> String {
        let columns: Vec<String> = self
            .arguments
            .iter()
            .filter(|a| a.mode == Mode::Table)
            .map(|a| format!("{} {}", quote_identifier(&a.name), types::format_type(a.ty, None)))
            .collect();
        if !columns.is_empty() {
            return format!("TABLE({})", columns.join(", "));
        }
        let setof = if self.set { "SETOF " } else { "" };
        format!("{setof}{}", types::format_type(self.returns, None))
    }

    /// The defaults as `proargdefaults` holds them.
    pub fn defaults_text(&self) -> Option<String> {
        let defaults: Vec<&str> = self.inputs().filter_map(|a| a.default.as_deref()).collect();
        (!defaults.is_empty()).then(|| defaults.join(", "))
    }
}

/// Functions with ways to find one: those that are built in, then those that users made.
#[derive(Clone, Debug, Default)]
pub struct Procs {
    built_in: Arc<ProcList>,
    user: Arc<ProcList>,
}

/// Functions by OID and by name.
#[derive(Debug, Default)]
pub struct ProcList {
    list: Vec<Proc>,
    by_oid: HashMap<u32, usize>,
    by_name: HashMap<String, Vec<usize>>,
}

impl From<Vec<Proc>> for ProcList {
    fn from(list: Vec<Proc>) -> Self {
        let by_oid = list.iter().enumerate().map(|(i, p)| (p.oid, i)).collect();
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (i, p) in list.iter().enumerate() {
            by_name.entry(p.name.clone()).or_default().push(i);
        }
        Self { list, by_oid, by_name }
    }
}

impl ProcList {
    fn named(&self, name: &str) -> impl Iterator<Item = &Proc> {
        self.by_name.get(name).into_iter().flatten().filter_map(|i| self.list.get(*i))
    }
}

impl From<Vec<Proc>> for Procs {
    fn from(list: Vec<Proc>) -> Self {
        Self { built_in: Arc::new(list.into()), user: Arc::default() }
    }
}

impl Procs {
    /// The same built-in functions with other functions of users.
    pub fn with_user(&self, user: Vec<Proc>) -> Self {
        Self { built_in: Arc::clone(&self.built_in), user: Arc::new(user.into()) }
    }

    /// Those that users made.
    pub fn user(&self) -> &[Proc] {
        &self.user.list
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Proc> {
        self.built_in.list.iter().chain(&self.user.list)
    }

    /// The function of this OID.
    pub fn by_oid(&self, oid: u32) -> Option<&Proc> {
        let find = |l: &'_ Arc<ProcList>| l.by_oid.get(&oid).copied();
        match find(&self.user) {
            Some(i) => self.user.list.get(i),
            None => find(&self.built_in).and_then(|i| self.built_in.list.get(i)),
        }
    }

    /// The functions of this name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Proc> {
        self.built_in.named(name).chain(self.user.named(name))
    }
}

/// A name in double quotes where SQL needs them.
pub fn quote_identifier(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$');
    if plain && !crate::postgres::keywords::is_reserved(name) { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// A string literal.
pub fn quote_literal(text: &str) -> String {
    let body = text.replace('\'', "''");
    if body.contains('\\') { format!("E'{}'", body.replace('\\', "\\\\")) } else { format!("'{body}'") }
}

/// OID of a type's input, output, ... function.
pub fn type_function_oid(name: &str) -> u32 {
    oids::derived("type function", name)
}

fn default_text(argument: &Argument) -> Option<String> {
    Some(match argument.default.as_ref()? {
        Default::Null => format!("NULL::{}", argument.ty.name()),
        Default::Bool(v) => v.to_string(),
        Default::Number(v) => v.clone(),
        Default::Text(v) => format!("{}::{}", quote_literal(v), argument.ty.name()),
    })
}

fn overload(declaration: &Declaration, family: &str, signature: &Signature) -> Proc {
    let mut arguments: Vec<ProcArgument> = signature
        .arguments
        .iter()
        .map(|a| ProcArgument {
            name: a.name.clone(),
            ty: if a.variadic && !matches!(a.ty, SqlType::Array(_)) { a.ty.array_oid() } else { a.ty.oid() },
            mode: if a.variadic { Mode::Variadic } else { Mode::In },
            default: default_text(a),
        })
        .collect();
    let (returns, set) = match &signature.returns {
        Returns::Value(ty) => (ty.oid(), false),
        Returns::Table(columns) => {
            arguments.extend(columns.iter().map(|(name, ty)| ProcArgument { name: name.clone(), ty: ty.oid(), mode: Mode::Table, default: None }));
            (if let [(_, only)] = columns.as_slice() { only.oid() } else { 2249 }, true)
        }
    };
    Proc {
        oid: 0,
        name: declaration.name.clone(),
        schema: oids::OWN_SCHEMA_OID,
        kind: "f",
        language: oids::LANGUAGE_SQUILLA_OID,
        arguments,
        returns,
        set,
        volatility: match signature.volatility {
            Volatility::Immutable => "i",
            Volatility::Stable => "s",
            Volatility::Volatile => "v",
        },
        strict: signature.strict,
        parallel: "s",
        owner: String::new(),
        source: declaration.name.clone(),
        family: family.to_owned(),
        comment: declaration.comment.clone(),
    }
}

/// The overloads of one of our functions.
pub fn declared(declaration: &Declaration, family: &str) -> Vec<Proc> {
    declaration.signatures.iter().map(|s| overload(declaration, family, s)).collect()
}

/// A function inside, with unnamed arguments.
pub fn internal(name: &str, arguments: impl IntoIterator<Item = u32>, returns: u32) -> Proc {
    let arguments = arguments.into_iter().map(|ty| ProcArgument { name: String::new(), ty, mode: Mode::In, default: None }).collect();
    Proc {
        oid: 0,
        name: name.to_owned(),
        schema: oids::CATALOG_SCHEMA_OID,
        kind: "f",
        language: oids::LANGUAGE_INTERNAL_OID,
        arguments,
        returns,
        set: false,
        volatility: "i",
        strict: true,
        parallel: "s",
        owner: String::new(),
        source: name.to_owned(),
        family: String::new(),
        comment: String::new(),
    }
}

/// Input, output, receive and send functions of every type.
static TYPE_FUNCTIONS: LazyLock<Vec<Proc>> = LazyLock::new(|| {
    let (cstring, internal_type, bytea) = (2275, 2281, 17);
    let mut seen = HashSet::new();
    let mut procs = Vec::new();
    for ty in TYPES.iter() {
        let array = ty.functions[0] == "array_in";
        let own = if array { 2277 } else { ty.oid };
        let shapes = [(vec![cstring], own), (vec![own], cstring), (vec![internal_type], own), (vec![own], bytea)];
        for (name, (arguments, returns)) in ty.functions.iter().zip(shapes) {
            if name != "-" && seen.insert(name.clone()) {
                procs.push(Proc { oid: type_function_oid(name), ..internal(name, arguments, returns) });
            }
        }
    }
    let name = "array_subscript_handler";
    procs.push(Proc { oid: type_function_oid(name), ..internal(name, [internal_type], internal_type) });
    procs
});

/// Gives every function its OID, and drops overloads that look the same to a caller.
pub fn assemble(procs: impl IntoIterator<Item = Proc>) -> Vec<Proc> {
    let mut seen: HashSet<(u32, String)> = HashSet::new();
    let mut taken: HashSet<u32> = TYPE_FUNCTIONS.iter().map(|p| p.oid).collect();
    let mut all: Vec<Proc> = procs.into_iter().filter(|p| seen.insert((p.schema, p.signature()))).collect();
    // In the order of names, so that a clash of two hashes is always solved alike.
    all.sort_by_cached_key(|p| (p.schema, p.signature()));
    for proc in &mut all {
        let mut oid = oids::derived("proc", &proc.signature());
        while !taken.insert(oid) {
            oid = oids::DERIVED | (oid + 1);
        }
        proc.oid = oid;
    }
    all.extend(TYPE_FUNCTIONS.iter().cloned());
    all
}

/// Fills `pg_proc`.
pub fn pg_proc(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for p in view.procs.iter() {
        let all_modes = p.arguments.iter().any(|a| a.mode != Mode::In);
        let named = p.arguments.iter().any(|a| !a.name.is_empty());
        let variadic = p.arguments.iter().find(|a| a.mode == Mode::Variadic).and_then(|a| types::by_oid(a.ty)).map_or(0, |t| t.element);
        let mode = |a: &ProcArgument| match a.mode {
            Mode::In => "i",
            Mode::Variadic => "v",
            Mode::Table => "t",
        };
        rows.push([
            ("oid", p.oid.into()),
            ("proname", (&p.name).into()),
            ("pronamespace", p.schema.into()),
            ("proowner", (if p.owner.is_empty() { oids::SUPERUSER_OID } else { view.role_oid(&p.owner) }).into()),
            ("prolang", p.language.into()),
            ("procost", (if p.language == oids::LANGUAGE_SQL_OID { 100.0 } else { 1.0 }).into()),
            ("prorows", if p.set { 1000.0 } else { 0.0 }.into()),
            ("provariadic", variadic.into()),
            ("prokind", p.kind.into()),
            ("proisstrict", p.strict.into()),
            ("proretset", p.set.into()),
            ("provolatile", p.volatility.into()),
            ("proparallel", p.parallel.into()),
            ("pronargs", p.inputs().count().into()),
            ("pronargdefaults", p.inputs().filter(|a| a.default.is_some()).count().into()),
            ("prorettype", p.returns.into()),
            ("proargtypes", p.inputs().map(|a| a.ty).collect::<Vec<u32>>().into()),
            ("proallargtypes", all_modes.then(|| p.arguments.iter().map(|a| a.ty).collect::<Vec<u32>>()).into()),
            ("proargmodes", all_modes.then(|| p.arguments.iter().map(mode).collect::<Vec<_>>()).into()),
            ("proargnames", named.then(|| p.arguments.iter().map(|a| a.name.clone()).collect::<Vec<_>>()).into()),
            ("proargdefaults", p.defaults_text().into()),
            ("prosrc", (&p.source).into()),
        ]);
    }
    Ok(())
}

/// Fills `pg_aggregate`.
pub fn pg_aggregate(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for p in view.procs.iter().filter(|p| p.kind == "a") {
        rows.push([
            ("aggfnoid", p.oid.into()),
            ("aggkind", "n".into()),
            ("aggfinalmodify", "r".into()),
            ("aggmfinalmodify", "r".into()),
            ("aggtranstype", 2281u32.into()),
        ]);
    }
    Ok(())
}

/// Comments of functions and types, for `pg_description`.
pub fn descriptions(view: &SystemView) -> Vec<(u32, u32, &str)> {
    let mut all: Vec<(u32, u32, &str)> = Vec::new();
    all.extend(view.procs.iter().filter(|p| !p.comment.is_empty()).map(|p| (p.oid, oids::PG_PROC, p.comment.as_str())));
    for t in TYPES.iter().filter(|t| !t.comment.is_empty()) {
        all.push((t.oid, oids::PG_TYPE, t.comment));
    }
    for (_, oid, comment) in oids::SYSTEM_SCHEMAS {
        all.push((*oid, oids::PG_NAMESPACE, comment));
    }
    for (object, class, text) in classes::descriptions() {
        all.push((object, class, text));
    }
    all.extend(operators::descriptions().map(|(oid, text)| (oid, oids::PG_OPERATOR, text)));
    all
}

/// A value for a column that is NULL when empty.
pub fn non_empty(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_declaration_becomes_its_overloads() {
        let sql = "CREATE FUNCTION pages(data bytea, max_pages integer DEFAULT NULL, layout text DEFAULT 'plain') RETURNS TABLE(page_no integer, text text) LANGUAGE squilla IMMUTABLE STRICT AS 'pages';
                   CREATE FUNCTION pages(data file) RETURNS integer LANGUAGE squilla VOLATILE AS 'pages'; COMMENT ON FUNCTION pages IS 'The pages.';";
        let procs = assemble(declared(&Declaration::parse(sql).unwrap(), "document"));
        let table = procs.iter().find(|p| p.name == "pages" && p.set).unwrap();
        assert_eq!(table.arguments_text(true), "data bytea, max_pages integer DEFAULT NULL::integer, layout text DEFAULT 'plain'::text");
        assert_eq!(table.result_text(), "TABLE(page_no integer, text text)");
        assert_eq!(table.signature(), "pages(bytea, integer, text)");
        let value = procs.iter().find(|p| p.name == "pages" && !p.set).unwrap();
        assert_eq!((value.result_text().as_str(), value.volatility), ("integer", "v"));
        assert!(procs.iter().any(|p| p.name == "array_in" && p.oid == type_function_oid("array_in")));
        let mut oids: Vec<u32> = procs.iter().map(|p| p.oid).collect();
        oids.sort_unstable();
        oids.dedup();
        assert_eq!(oids.len(), procs.len());
    }
}
