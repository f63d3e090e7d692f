//! Casts and operators whose result depends on the type of x: `x::text`, numbers to integers, text beside moments, integer
//! arithmetic.
//!
//! In: an analyzed plan. Out: the plan, with casts to text of reg* values, arrays, bytea, times, floats and composites
//! turned into the functions that print them, casts of pictures and recordings to bytea into the functions that write their
//! files, and with checked arithmetic. Invariant: no type changes.
//! Deliberately absent: casts from text that are written, which the syntax tells (`rewrite`).

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DFSchemaRef, ScalarValue};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan, ScalarUDF};
use datafusion::optimizer::AnalyzerRule;
use squilla_core::types::{RegKind, SqlType};

use crate::bind::defaults;
use crate::postgres::{cast, checked, number, special_functions};
use crate::udf::marker;

/// The rule, and the functions it puts in.
#[derive(Debug)]
pub struct TextCasts {
    text: Arc<ScalarUDF>,
    cast: Arc<ScalarUDF>,
    round: Arc<ScalarUDF>,
    regs: Vec<(RegKind, Arc<ScalarUDF>)>,
    /// What gives the bytes of pixels and of samples, and in which format.
    encoders: Vec<(SqlType, Arc<ScalarUDF>, &'static str)>,
}

impl TextCasts {
    /// `functions` are the session's; those it needs are picked by name.
    pub fn new(functions: &[ScalarUDF]) -> Self {
        let find = |name: &str| functions.iter().find(|f| f.name() == name).cloned().map(Arc::new);
        let kinds = [
            (RegKind::Class, "regclass_text"),
            (RegKind::Proc, "regproc_text"),
            (RegKind::Procedure, "regprocedure_text"),
            (RegKind::Type, "regtype_text"),
            (RegKind::Namespace, "regnamespace_text"),
            (RegKind::Role, "regrole_text"),
        ];
        let regs = kinds.into_iter().filter_map(|(kind, name)| Some((kind, find(name)?))).collect();
        Self { text: Arc::new(cast::text_udf()), cast: Arc::new(cast::cast_udf()), round: Arc::new(number::round()), regs, encoders: Vec::new() }
    }

    /// The same with the functions behind `image::bytea` and `audio::bytea`, which `known` finds by name.
    #[must_use]
    pub fn with_encoders(mut self, known: impl Fn(&str) -> Option<Arc<ScalarUDF>>) -> Self {
        let wanted = [(SqlType::Image, "encode_image", "png"), (SqlType::Audio, "encode_audio", "wav")];
        self.encoders = wanted.into_iter().filter_map(|(ty, name, format)| Some((ty, known(name)?, format))).collect();
        self
    }

    /// `value::bytea` of a picture or a recording, as the call that writes its file.
    fn encoded(&self, call: &ScalarFunction, schema: &DFSchema) -> Option<Expr> {
        let [value, Expr::Literal(name, _)] = call.args.as_slice() else { return None };
        name.try_as_str().flatten().filter(|name| name.eq_ignore_ascii_case("bytea"))?;
        let ty = SqlType::of_field(&value.to_field(schema).ok()?.1);
        let (_, udf, format) = self.encoders.iter().find(|(of, ..)| *of == ty)?;
        let signature = marker(udf)?.entry.declaration.signatures.iter().find(|s| s.arguments.first().is_some_and(|a| a.ty == ty))?;
        let options = signature.arguments.iter().skip(1).map(|argument| match argument.name.as_str() {
            "format" => ScalarValue::Utf8(Some((*format).to_owned())),
            _ => defaults::scalar(argument),
        });
        let args = std::iter::once(value.clone()).chain(options.map(|value| Expr::Literal(value, None))).collect();
        Some(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(udf), args)))
    }

    fn printer(&self, ty: &SqlType) -> Option<Arc<ScalarUDF>> {
        match ty {
            SqlType::Reg(kind) => self.regs.iter().find(|(k, _)| k == kind).map(|(_, udf)| Arc::clone(udf)),
            SqlType::Array(_) | SqlType::Int2Vector | SqlType::OidVector | SqlType::Vector | SqlType::Bytea | SqlType::Bit | SqlType::Uuid => {
                Some(Arc::clone(&self.text))
            }
            SqlType::Float4 | SqlType::Float8 | SqlType::Timestamp | SqlType::Timestamptz | SqlType::Interval => Some(Arc::clone(&self.text)),
            SqlType::Numeric(None) => Some(Arc::clone(&self.text)),
            SqlType::File | SqlType::Image | SqlType::Audio | SqlType::Tensor | SqlType::Box2d | SqlType::Record(_) => Some(Arc::clone(&self.text)),
            _ => None,
        }
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema) -> DataFusionResult<Transformed<Expr>> {
        expr.transform_up(|expr| match expr {
            Expr::Cast(Cast { expr: inner, field }) if matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => {
                let ty = inner.to_field(schema).ok().map(|(_, f)| SqlType::of_field(&f));
                match ty.and_then(|ty| self.printer(&ty)) {
                    Some(udf) => {
                        let call = Expr::ScalarFunction(ScalarFunction::new_udf(udf, vec![*inner]));
                        let text = if field.data_type() == &DataType::Utf8 && field.metadata().is_empty() {
                            call
                        } else {
                            Expr::Cast(Cast { expr: Box::new(call), field })
                        };
                        Ok(Transformed::yes(text))
                    }
                    None => Ok(Transformed::no(Expr::Cast(Cast { expr: inner, field }))),
                }
            }
            Expr::ScalarFunction(call) if call.func.name() == cast::CAST => Ok(match self.encoded(&call, schema) {
                Some(bytes) => Transformed::yes(bytes),
                None => Transformed::no(Expr::ScalarFunction(call)),
            }),
            // Told here: a scan that evaluates expressions itself knows the types of its file, not ours.
            Expr::ScalarFunction(call) if call.func.name() == special_functions::TYPE_OF && call.args.iter().any(Expr::any_column_refs) => {
                Ok(match call.args.first().map(|value| value.to_field(schema)) {
                    Some(Ok((_, of))) => Transformed::yes(type_of(&SqlType::of_field(&of))),
                    _ => Transformed::no(Expr::ScalarFunction(call)),
                })
            }
            // Text beside a moment is read in the session's time zone.
            Expr::Cast(Cast { expr: inner, field })
                if matches!(field.data_type(), DataType::Timestamp(_, Some(_))) && inner.get_type(schema).is_ok_and(|t| t.is_string()) =>
            {
                let name = Expr::Literal(ScalarValue::Utf8(Some("timestamptz".into())), None);
                let call = ScalarFunction::new_udf(Arc::clone(&self.cast), vec![*inner, name]);
                Ok(Transformed::yes(Expr::Cast(Cast { expr: Box::new(Expr::ScalarFunction(call)), field })))
            }
            // Numbers are rounded to integers, not cut.
            Expr::Cast(Cast { expr: inner, field }) if field.data_type().is_integer() => {
                let broken = inner.get_type(schema).is_ok_and(|t| t.is_floating() || t.is_decimal());
                let rounded = matches!(inner.as_ref(), Expr::ScalarFunction(f) if f.func.name() == "round");
                let value =
                    if broken && !rounded { Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&self.round), vec![*inner])) } else { *inner };
                Ok(Transformed::new_transformed(Expr::Cast(Cast { expr: Box::new(value), field }), broken && !rounded))
            }
            // Integers fail where DataFusion's operators wrap around.
            Expr::BinaryExpr(binary) => {
                let of_one_type = || match (binary.left.get_type(schema), binary.right.get_type(schema)) {
                    (Ok(left), Ok(right)) => left == right && checked::integer(&left),
                    _ => false,
                };
                match checked::of(binary.op).filter(|_| of_one_type()) {
                    Some(udf) => {
                        let arguments = vec![*binary.left, *binary.right];
                        Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(udf, arguments))))
                    }
                    None => Ok(Transformed::no(Expr::BinaryExpr(binary))),
                }
            }
            other => Ok(Transformed::no(other)),
        })
    }
}

/// What `pg_typeof` says of a type.
fn type_of(ty: &SqlType) -> Expr {
    let field = SqlType::Reg(RegKind::Type).field(special_functions::TYPE_OF);
    Expr::Literal(ScalarValue::Int64(Some(i64::from(ty.oid()))), Some(FieldMetadata::from(&field)))
}

impl AnalyzerRule for TextCasts {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DataFusionResult<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let schema = inputs(&plan);
            // An expression's name is what parents refer to it by: it stays.
            let named = matches!(plan, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_));
            plan.map_expressions(|expr| {
                let name = expr.schema_name().to_string();
                let alias = named && !matches!(expr, Expr::Alias(_));
                let rewritten = self.rewrite(expr, &schema)?;
                if rewritten.transformed && alias && rewritten.data.schema_name().to_string() != name {
                    return Ok(Transformed::yes(rewritten.data.alias(name)));
                }
                Ok(rewritten)
            })?
            .map_data(LogicalPlan::recompute_schema)
        })
        .map(|t| t.data)
    }

    fn name(&self) -> &str {
        "squilla_text_casts"
    }
}

fn inputs(plan: &LogicalPlan) -> DFSchemaRef {
    match plan {
        LogicalPlan::TableScan(scan) => Arc::clone(&scan.projected_schema),
        _ => Arc::new(merge_schema(&plan.inputs())),
    }
}
