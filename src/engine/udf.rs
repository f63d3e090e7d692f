//! Our functions as DataFusion sees them: one marker UDF each, made from its declaration.
//!
//! In: `SqlFunction`s (contract + kernel). Out: `ScalarUDF`s that plan, coerce and type-check a call, and evaluate it in
//! place when its kernel is cheap. Dear kernels (media, fetch, model, set-returning) are lifted out of expressions by
//! `plan::lift` before execution. Invariant: the binder has put arguments in declared order and filled in defaults, so
//! every call has as many arguments as one of the signatures (variadic ones apart).
//! Deliberately absent: names of functions; nothing here knows any function in particular.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, new_empty_array};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DFSchema, DataFusionError, Result as DfResult, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use squilla_core::columns::Arg;
use squilla_core::declaration::{self, Declaration, Returns};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::kernel::{Call, Env, Kernel, SqlFunction};
use squilla_core::types::SqlType;

use crate::error::to_datafusion;
use crate::exec::invoke;

/// How a function of the engine itself types its calls: the types that arguments are cast to, and the columns of its rows.
/// None where it does not take these types.
pub type Typing = fn(&[DataType]) -> Option<(Vec<DataType>, Vec<FieldRef>)>;

/// One function with its parsed contract.
pub struct Function {
    /// Contract and kernel.
    pub function: &'static SqlFunction,
    /// Parsed contract.
    pub declaration: Arc<Declaration>,
    /// Family (folder of the contract).
    pub family: &'static str,
    /// Types of calls where the contract alone does not tell them.
    pub typing: Option<Typing>,
}

impl Function {
    /// Whether calls must be lifted out of expressions.
    pub fn is_dear(&self) -> bool {
        !matches!(self.function.kernel, Kernel::Scalar(_))
    }

    /// Whether a call gives rows.
    pub fn is_set_returning(&self) -> bool {
        self.declaration.is_set_returning()
    }

    /// The overload that takes these argument types, and the types to cast them to. Where several do, one that takes a
    /// file as it is beats one for which the whole file must be read.
    pub fn resolve(&self, actual: &[DataType]) -> Option<(usize, Vec<DataType>)> {
        if let Some(typing) = self.typing {
            return typing(actual).map(|(types, _)| (0, types));
        }
        let all = self.declaration.signatures.iter().enumerate();
        let fitting = all.filter_map(|(index, signature)| fit(signature, actual).map(|(reads, types)| (reads, index, types)));
        fitting.min_by_key(|(reads, index, _)| (*reads, *index)).map(|(_, index, types)| (index, types))
    }
}

impl Function {
    /// How many columns the rows of `call` have, WITH ORDINALITY left out. References of the call carry their types.
    pub fn width(&self, call: &Expr) -> usize {
        let empty = DFSchema::empty();
        let types: Vec<DataType> = match call {
            Expr::ScalarFunction(f) => f.args.iter().map(|a| a.get_type(&empty).unwrap_or(DataType::Null)).collect(),
            _ => Vec::new(),
        };
        self.columns(&types).map_or(0, |columns| columns.len())
    }

    /// The columns of the rows that a call over arguments of these types gives; None where it gives none.
    pub fn columns(&self, actual: &[DataType]) -> Option<Vec<FieldRef>> {
        if let Some(typing) = self.typing {
            return typing(actual).map(|(_, columns)| columns);
        }
        let (signature, _) = self.resolve(actual).or_else(|| Some((0, Vec::new())))?;
        match &self.declaration.signatures.get(signature)?.returns {
            Returns::Table(columns) => Some(columns.iter().map(|(name, ty)| Arc::new(ty.field(name.clone()))).collect()),
            Returns::Value(_) => None,
        }
    }
}

/// How many files would be read for their bytes, and the argument types after coercion; None when the types do not fit.
fn fit(signature: &declaration::Signature, actual: &[DataType]) -> Option<(usize, Vec<DataType>)> {
    let fixed = signature.arguments.iter().filter(|a| !a.variadic).count();
    let variadic = signature.arguments.last().filter(|a| a.variadic);
    if actual.len() < fixed || (variadic.is_none() && actual.len() != fixed) {
        return None;
    }
    let element = variadic.map(|a| match &a.ty {
        SqlType::Array(element) => (**element).clone(),
        other => other.clone(),
    });
    let declared = signature.arguments.iter().take(fixed).map(|a| a.ty.clone());
    let declared: Vec<SqlType> = declared.chain(std::iter::repeat_n(element.unwrap_or(SqlType::Any), actual.len() - fixed)).collect();
    let types: Vec<DataType> = actual.iter().zip(&declared).map(|(actual, declared)| coerce(declared, actual)).collect::<Option<_>>()?;
    let reads = actual.iter().zip(&declared).filter(|(a, d)| **d == SqlType::Bytea && SqlType::of_arrow(a) == SqlType::File).count();
    Some((reads, types))
}

/// The Arrow type an argument of type `actual` is cast to for a parameter of type `declared`; None when it does not fit.
fn coerce(declared: &SqlType, actual: &DataType) -> Option<DataType> {
    let text = matches!(actual, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let same = || Some(actual.clone());
    match declared {
        _ if actual == &DataType::Null => Some(declared.arrow()),
        SqlType::Any => same(),
        SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Name | SqlType::Json | SqlType::Jsonb => text.then(same)?,
        SqlType::Bytea => match actual {
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => same(),
            _ if SqlType::of_arrow(actual) == SqlType::File => same(),
            _ => None,
        },
        SqlType::Bit => matches!(actual, DataType::Binary | DataType::LargeBinary | DataType::BinaryView).then(same)?,
        SqlType::Bool => (actual == &DataType::Boolean).then(same)?,
        SqlType::Int2 | SqlType::Int4 | SqlType::Int8 => actual.is_integer().then(same)?,
        SqlType::Float4 | SqlType::Float8 | SqlType::Numeric(_) => match actual {
            DataType::Float32 | DataType::Float64 => same(),
            _ => actual.is_numeric().then_some(DataType::Float64),
        },
        SqlType::Interval => (text || matches!(actual, DataType::Interval(_) | DataType::Duration(_))).then(|| declared.arrow()),
        SqlType::Timestamptz | SqlType::Timestamp | SqlType::Date | SqlType::Time => (text || actual.is_temporal()).then(|| declared.arrow()),
        SqlType::Vector => match actual {
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) if item.data_type() == &DataType::Float32 => same(),
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) if item.data_type().is_numeric() => {
                Some(declared.arrow())
            }
            _ => None,
        },
        SqlType::Array(element) => match actual {
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                let wanted = coerce(element, item.data_type())?;
                if &wanted == item.data_type() { same() } else { Some(DataType::List(Arc::new(Field::new("item", wanted, true)))) }
            }
            _ => None,
        },
        SqlType::File => (text || SqlType::of_arrow(actual) == SqlType::File).then(same)?,
        SqlType::Image | SqlType::Audio | SqlType::Tensor | SqlType::Box2d | SqlType::Record(_) => {
            (SqlType::of_arrow(actual) == *declared).then(same)?
        }
        SqlType::Uuid => matches!(actual, DataType::FixedSizeBinary(16)).then(same)?,
        other => (other.arrow() == *actual).then(same)?,
    }
}

/// The family of the engine's own functions.
pub const BUILTIN: &str = "postgres";

/// Every function of the process by name.
pub struct Functions {
    by_name: HashMap<String, Arc<Function>>,
    udfs: HashMap<String, Arc<ScalarUDF>>,
}

impl Functions {
    /// Parses the contracts and makes the markers. `builtin` are the engine's own, with their typings. `env` serves plan-time
    /// checks and cheap kernels.
    pub fn new(
        families: &[(&'static str, &'static [&'static SqlFunction])],
        builtin: &[(&'static SqlFunction, Typing)],
        env: &Arc<Env>,
    ) -> Result<Self> {
        let mut by_name = HashMap::new();
        let mut udfs = HashMap::new();
        let given = families.iter().flat_map(|(family, functions)| functions.iter().map(|f| (*family, *f, None)));
        for (family, function, typing) in given.chain(builtin.iter().map(|(f, typing)| (BUILTIN, *f, Some(*typing)))) {
            let declaration = function.declaration()?;
            let name = declaration.name.clone();
            let entry = Arc::new(Function { function, declaration, family, typing });
            udfs.insert(name.clone(), Arc::new(ScalarUDF::new_from_impl(Marker::new(Arc::clone(&entry), Arc::clone(env)))));
            if by_name.insert(name.clone(), entry).is_some() {
                return Err(Error::internal(format!("function {name} is declared twice")));
            }
        }
        Ok(Self { by_name, udfs })
    }

    /// The function of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Function>> {
        self.by_name.get(name)
    }

    /// The marker of this name.
    pub fn udf(&self, name: &str) -> Option<&Arc<ScalarUDF>> {
        self.udfs.get(name)
    }

    /// All functions.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Function>> {
        self.by_name.values()
    }

    /// The markers, for registration in a session: not of the engine's own, whose names mean other things in a select list.
    pub fn udfs(&self) -> impl Iterator<Item = &Arc<ScalarUDF>> {
        self.udfs.iter().filter(|(name, _)| self.by_name.get(*name).is_none_or(|f| f.family != BUILTIN)).map(|(_, udf)| udf)
    }
}

/// The function behind a marker, when `udf` is one.
pub fn marker(udf: &ScalarUDF) -> Option<&Marker> {
    (udf.inner().as_ref() as &dyn std::any::Any).downcast_ref::<Marker>()
}

/// A function as a DataFusion UDF.
pub struct Marker {
    /// The function.
    pub entry: Arc<Function>,
    signature: Signature,
    env: Arc<Env>,
}

impl Marker {
    fn new(entry: Arc<Function>, env: Arc<Env>) -> Self {
        // Volatile keeps DataFusion from evaluating a dear call twice (pushing it through projections) or at plan time.
        let volatility = match entry.declaration.signatures.first().map(|s| s.volatility) {
            _ if entry.is_dear() => Volatility::Volatile,
            Some(declaration::Volatility::Immutable) => Volatility::Immutable,
            Some(declaration::Volatility::Stable) => Volatility::Stable,
            _ => Volatility::Volatile,
        };
        Self { entry, signature: Signature::user_defined(volatility), env }
    }

    fn no_match(&self, actual: &[DataType]) -> DataFusionError {
        let names: Vec<String> = actual.iter().map(|t| SqlType::of_arrow(t).name()).collect();
        let forms: Vec<String> = self
            .entry
            .declaration
            .signatures
            .iter()
            .map(|s| s.arguments.iter().map(|a| format!("{} {}", a.name, a.ty.name())).collect::<Vec<_>>().join(", "))
            .collect();
        to_datafusion(
            Error::new(Kind::UndefinedFunction, format!("function {}({}) does not exist", self.entry.declaration.name, names.join(", ")))
                .hint(format!("{} takes ({}). You might need to add explicit type casts.", self.entry.declaration.name, forms.join(") or ("))),
        )
    }

    /// The field of a result of this overload.
    pub fn result_field(&self, signature: usize, keep_errors: bool) -> Result<Field> {
        let returns = self.entry.declaration.signatures.get(signature).map(|s| &s.returns);
        let name = self.entry.declaration.name.as_str();
        match returns {
            Some(Returns::Value(ty)) if keep_errors => Ok(invoke::kept_type(ty).field(name)),
            Some(Returns::Value(ty)) => Ok(ty.field(name)),
            Some(Returns::Table(columns)) => Ok(SqlType::Array(Box::new(SqlType::Record(columns.clone()))).field(name)),
            None => Err(Error::internal("no such overload")),
        }
    }

    /// Runs the function's check of constants: a call of zero rows. `types` are those that arguments are cast to.
    fn check(&self, signature: usize, types: &[DataType], args: &ReturnFieldArgs) -> Result<()> {
        let Some(check) = self.entry.function.check else { return Ok(()) };
        let mut arrays = Vec::with_capacity(args.arg_fields.len());
        for ((field, scalar), ty) in args.arg_fields.iter().zip(args.scalar_arguments).zip(types) {
            // A constant that is cast later, and fails there, is not known here.
            let known = scalar.and_then(|value| value.cast_to(ty).ok()).and_then(|value| value.to_array().ok());
            arrays.push(match known {
                Some(array) => Arg { array, constant: true },
                None => Arg { array: new_empty_array(field.data_type()), constant: false },
            });
        }
        check(&Call { function: Arc::clone(&self.entry.declaration), signature, args: arrays, rows: 0, env: Arc::clone(&self.env) })
    }
}

/// The constant value of the on_error argument among evaluated constants.
fn keeps_errors(entry: &Function, signature: usize, scalars: &[Option<&ScalarValue>]) -> bool {
    let position = entry.declaration.signatures.get(signature).and_then(|s| s.position("on_error"));
    let value = position.and_then(|p| scalars.get(p).copied().flatten()).and_then(|v| v.try_as_str().flatten());
    value == Some("keep")
}

impl std::fmt::Debug for Marker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Marker({})", self.entry.declaration.name)
    }
}

impl PartialEq for Marker {
    fn eq(&self, other: &Self) -> bool {
        self.entry.declaration.name == other.entry.declaration.name
    }
}

impl Eq for Marker {}

impl Hash for Marker {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.entry.declaration.name.hash(state);
    }
}

impl ScalarUDFImpl for Marker {
    fn name(&self) -> &str {
        &self.entry.declaration.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Err(to_datafusion(Error::internal("a marker's type depends on its fields")))
    }

    fn coerce_types(&self, actual: &[DataType]) -> DfResult<Vec<DataType>> {
        self.entry.resolve(actual).map(|(_, types)| types).ok_or_else(|| self.no_match(actual))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let (signature, wanted) = self.entry.resolve(&types).ok_or_else(|| self.no_match(&types))?;
        self.check(signature, &wanted, &args).map_err(to_datafusion)?;
        let mut field = self.result_field(signature, keeps_errors(&self.entry, signature, args.scalar_arguments)).map_err(to_datafusion)?;
        // anyelement: the type of the first such argument.
        let declared = self.entry.declaration.signatures.get(signature);
        if let Some(Returns::Value(SqlType::Any)) = declared.map(|s| &s.returns)
            && let Some(position) = declared.and_then(|s| s.arguments.iter().position(|a| a.ty == SqlType::Any))
            && let Some(argument) = args.arg_fields.get(position)
        {
            field = argument.as_ref().clone().with_name(self.name()).with_nullable(true);
        }
        Ok(Arc::new(field))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let types: Vec<DataType> = args.args.iter().map(ColumnarValue::data_type).collect();
        let (signature, _) = self.entry.resolve(&types).ok_or_else(|| self.no_match(&types))?;
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let mut columns = Vec::with_capacity(args.args.len());
        for value in &args.args {
            columns.push(match value {
                ColumnarValue::Array(array) => Arg { array: Arc::clone(array), constant: false },
                ColumnarValue::Scalar(scalar) => Arg { array: scalar.to_array()?, constant: true },
            });
        }
        let array = invoke::in_place(&self.entry, signature, columns, rows, &self.env).map_err(to_datafusion)?;
        if constant && array.len() == 1 {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}
