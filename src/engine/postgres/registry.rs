//! Everything of this module, for a session to register.
//!
//! In: the source of the picture. Out: functions, aggregates, table functions, planners, rules, and `pg_proc` entries.
//! Invariant: what `pg_proc` tells of a built-in function can be called. Deliberately absent: the session itself.

use std::sync::Arc;

use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::prelude::SessionContext;
use squilla_core::types::SqlType;

use crate::postgres::cast_rule::TextCasts;
use crate::postgres::catalog_functions::{COMMENTS, DEFINITIONS, REG, VISIBILITY};
use crate::postgres::expression_planner::PostgresExpressions;
use crate::postgres::function::{self, Function};
use crate::postgres::privilege_functions::PRIVILEGES;
use crate::postgres::session_functions::SESSION;
use crate::postgres::size_functions::SIZES;
use crate::postgres::table_functions::TABLE_FUNCTIONS;
use crate::postgres::text_functions::TEXT;
use crate::postgres::type_planner::PostgresTypes;
use crate::postgres::{
    aggregate, arithmetic, bounded, buckets, bytes, cast, checked, concat, encoding, expand_array, fields, hashing, json, json_edit, json_path,
    number, options, ordered_aggregate, regexp, series, special_functions, subquery_rule, time, to_char, vector_aggregate, whole_row,
};
use crate::system::procs::{Proc, internal};
use crate::system::view::ViewSource;

static LISTS: &[&[Function]] = &[VISIBILITY, DEFINITIONS, COMMENTS, REG, PRIVILEGES, SESSION, SIZES, TEXT];

/// The scalar functions, bound to one session's picture.
pub fn functions(source: &Arc<dyn ViewSource>) -> Vec<ScalarUDF> {
    let mut all: Vec<ScalarUDF> = LISTS.iter().copied().flat_map(|list| function::udfs(list, source)).collect();
    all.extend(special_functions::udfs());
    all.extend(encoding::udfs());
    all.extend(bytes::udfs());
    all.extend(concat::udfs());
    all.extend(json::udfs());
    all.extend(json_edit::udfs());
    all.extend(json_path::udfs());
    all.extend(regexp::udfs());
    all.extend(options::udfs());
    all.push(whole_row::udf());
    all.extend(hashing::udfs());
    all.push(buckets::udf());
    all.extend(checked::udfs());
    all.extend(bounded::udfs());
    all.extend(expand_array::udfs());
    all.push(to_char::udf());
    all.push(series::udf());
    all.extend(arithmetic::udfs());
    all.extend(number::udfs());
    all.extend(time::udfs());
    all.extend(fields::udfs());
    all.extend(to_char::inverses());
    all.push(cast::cast_udf());
    all.push(cast::text_udf());
    all
}

/// Names of scalar functions that read the session's picture or act on sessions: they run where the session is.
pub fn session_bound() -> impl Iterator<Item = &'static str> {
    let of_lists = LISTS.iter().copied().filter(|list| !std::ptr::eq(*list, TEXT)).flatten().map(|f| f.name);
    of_lists.chain(crate::session::admin::NAMES.iter().copied())
}

/// The aggregates.
pub fn aggregates() -> Vec<AggregateUDF> {
    let mut all = vec![aggregate::single_udaf()];
    all.extend(vector_aggregate::udafs());
    all.extend(ordered_aggregate::udafs());
    all
}

/// What `pg_proc` tells of these functions.
pub fn procs() -> Vec<Proc> {
    let mut all: Vec<Proc> = LISTS.iter().copied().flat_map(function::procs).collect();
    all.extend(
        special_functions::SIGNATURES.iter().map(|(name, arguments, returns, comment)| Proc {
            comment: (*comment).to_owned(),
            ..internal(name, arguments.iter().copied(), *returns)
        }),
    );
    all.extend(series::SIGNATURES.iter().map(|(name, arguments, returns)| Proc { set: true, ..internal(name, arguments.iter().copied(), *returns) }));
    all.extend(TABLE_FUNCTIONS.iter().map(|(name, _)| Proc { set: true, ..internal(name, [], 2249) }));
    all
}

/// What `pg_proc` tells of DataFusion's own functions, from their signatures.
pub fn builtin_procs(context: &SessionContext) -> Vec<Proc> {
    let state = context.state();
    let mut all = Vec::new();
    let ours: Vec<Proc> = procs();
    let known = |name: &str| ours.iter().any(|p| p.name == name) || name.starts_with("squilla_");
    for (name, udf) in state.scalar_functions().iter().filter(|(name, _)| !known(name)) {
        let returns = |types: &[arrow::datatypes::DataType]| udf.return_type(types).ok();
        all.extend(described(name, &udf.signature().type_signature, returns).map(|p| Proc { volatility: volatility(udf.signature()), ..p }));
    }
    for (name, udf) in state.aggregate_functions().iter().filter(|(name, _)| !known(name)) {
        let returns = |types: &[arrow::datatypes::DataType]| udf.return_type(types).ok();
        all.extend(described(name, &udf.signature().type_signature, returns).map(|p| Proc { kind: "a", strict: false, ..p }));
    }
    for (name, udf) in state.window_functions().iter().filter(|(name, _)| !known(name)) {
        all.extend(
            described(name, &udf.signature().type_signature, |types| types.first().cloned().or(Some(arrow::datatypes::DataType::Int64)))
                .map(|p| Proc { kind: "w", strict: false, ..p }),
        );
    }
    all
}

fn volatility(signature: &datafusion::logical_expr::Signature) -> &'static str {
    use datafusion::logical_expr::Volatility::{Immutable, Stable};
    match signature.volatility {
        Immutable => "i",
        Stable => "s",
        _ => "v",
    }
}

fn described(
    name: &str,
    signature: &datafusion::logical_expr::TypeSignature,
    returns: impl Fn(&[arrow::datatypes::DataType]) -> Option<arrow::datatypes::DataType>,
) -> impl Iterator<Item = Proc> {
    let examples = signature.get_example_types();
    // A signature that names no types takes any.
    let examples = if examples.is_empty() { vec![Vec::new()] } else { examples };
    let procs: Vec<Proc> = examples
        .into_iter()
        .take(16)
        .filter_map(|types| {
            let any = types.is_empty() && !matches!(signature, datafusion::logical_expr::TypeSignature::Nullary);
            // Some functions of DataFusion index their argument types: they are not asked without any.
            let counts = any && name == "count";
            let result = (!any).then(|| returns(&types)).flatten().map_or(SqlType::Any, |t| SqlType::of_arrow(&t));
            let result = if counts { SqlType::Int8 } else { result };
            let arguments: Vec<u32> = if any { vec![2276] } else { types.iter().map(|t| SqlType::of_arrow(t).oid()).collect() };
            (!arguments.contains(&705)).then(|| internal(name, arguments, if result == SqlType::Unknown { 2283 } else { result.oid() }))
        })
        .collect();
    procs.into_iter()
}

/// A session state with all of this in it.
pub fn install(builder: SessionStateBuilder, functions: &[ScalarUDF]) -> SessionStateBuilder {
    builder
        .with_type_planner(Arc::new(PostgresTypes))
        .with_analyzer_rule(Arc::new(TextCasts::new(functions)))
        .with_analyzer_rule(subquery_rule::rule())
}

/// Registers the functions and the planner of expressions.
pub fn register(context: &mut SessionContext, functions: &[ScalarUDF]) -> datafusion::error::Result<()> {
    for function in functions {
        context.register_udf(function.clone());
    }
    for aggregate in aggregates() {
        context.register_udaf(aggregate);
    }
    for (name, rows) in TABLE_FUNCTIONS {
        context.register_udtf(name, Arc::new(*rows));
    }
    datafusion::execution::FunctionRegistry::register_expr_planner(context, Arc::new(PostgresExpressions))
}
