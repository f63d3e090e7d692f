//! Decoding folded into the call that takes what was decoded.
//!
//! In: expressions of one plan node. Out: the same, where `model(decode(bytes))` is `model(bytes)` when the model's function
//! has an overload for the bytes and the decoding asks for nothing special: the model then decodes row by row into its own
//! input, at the size it needs, and no decoded value is ever a column. Invariant: a decoded value that is also used
//! elsewhere in the node stays as it is, so nothing is decoded twice. Deliberately absent: names of functions; which calls
//! only decode is declared ([`squilla_core::kernel::SqlFunction::decodes`]).

use std::collections::HashMap;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::ScalarFunction;
use squilla_core::kernel::Kernel;
use squilla_core::types::SqlType;

use crate::bind::defaults;
use crate::plan::lift::Lifting;
use crate::udf::{Marker, marker};

/// Folds what can be folded.
pub fn fuse(exprs: Vec<Expr>, lifting: &Lifting) -> DfResult<Vec<Expr>> {
    let mut uses: HashMap<Expr, usize> = HashMap::new();
    for expr in &exprs {
        expr.apply(|e| {
            if is_plain_decoding(e) {
                *uses.entry(e.clone()).or_default() += 1;
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    if uses.is_empty() {
        return Ok(exprs);
    }
    exprs.into_iter().map(|expr| expr.transform_up(|e| fold(e, &uses, lifting)).data()).collect()
}

/// A call that decodes its first argument and has defaults in all others; its policy on errors is compared apart.
fn is_plain_decoding(expr: &Expr) -> bool {
    let Expr::ScalarFunction(call) = expr else { return false };
    let Some(marker) = marker(&call.func).filter(|m| m.entry.function.decodes) else { return false };
    let Some(signature) = marker.entry.declaration.signatures.iter().find(|s| s.arguments.len() == call.args.len()) else { return false };
    signature.arguments.iter().zip(&call.args).skip(1).all(|(declared, given)| {
        let Expr::Literal(value, _) = given else { return false };
        let default = defaults::scalar(declared);
        declared.name == "on_error" || *value == default || (value.is_null() && default.is_null()) || same_text(value, &default)
    })
}

/// What becomes of rows that fail, as it was written or filled in.
fn on_error(call: &ScalarFunction) -> Option<String> {
    let signatures = &marker(&call.func)?.entry.declaration.signatures;
    let place = signatures.iter().find(|s| s.arguments.len() == call.args.len())?.position("on_error")?;
    match call.args.get(place)? {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_owned),
        _ => None,
    }
}

fn same_text(a: &ScalarValue, b: &ScalarValue) -> bool {
    matches!((a.try_as_str(), b.try_as_str()), (Some(Some(a)), Some(Some(b))) if a == b)
}

fn fold(expr: Expr, uses: &HashMap<Expr, usize>, lifting: &Lifting) -> DfResult<Transformed<Expr>> {
    let Expr::ScalarFunction(mut call) = expr else { return Ok(Transformed::no(expr)) };
    let Some(outer) = marker(&call.func).filter(|m| matches!(m.entry.function.kernel, Kernel::Model(_) | Kernel::ExpandList(_))) else {
        return Ok(Transformed::no(Expr::ScalarFunction(call)));
    };
    let policy = on_error(&call);
    let same_policy = |arg: &Expr| matches!(arg, Expr::ScalarFunction(inner) if on_error(inner) == policy);
    let places: Vec<usize> = (0..call.args.len()).filter(|i| call.args.get(*i).is_some_and(|a| uses.get(a) == Some(&1) && same_policy(a))).collect();
    if places.is_empty() || !takes_bytes(outer, &places, call.args.len()) {
        return Ok(Transformed::no(Expr::ScalarFunction(call)));
    }
    for place in places {
        if let Some(arg) = call.args.get_mut(place)
            && let Expr::ScalarFunction(inner) = arg
            && let Some(bytes) = inner.args.first().cloned()
        {
            *arg = bytes;
        }
    }
    lifting.note("decoding folded into the model call");
    Ok(Transformed::yes(Expr::ScalarFunction(call)))
}

/// Whether the function has an overload that takes bytes in these places, and otherwise as many arguments.
fn takes_bytes(outer: &Marker, places: &[usize], count: usize) -> bool {
    let is_bytes = |ty: &SqlType| *ty == SqlType::Bytea && ty.arrow() != DataType::Null;
    outer
        .entry
        .declaration
        .signatures
        .iter()
        .any(|s| s.arguments.len() == count && places.iter().all(|p| s.arguments.get(*p).is_some_and(|a| is_bytes(&a.ty))))
}
