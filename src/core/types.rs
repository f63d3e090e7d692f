//! SQL types and their three faces: PostgreSQL name and OID, Arrow field, value.
//!
//! In: a type name from SQL or an Arrow field. Out: the other faces. Invariant: `SqlType::of_field(&t.field("x")) == t`
//! for every type without a type modifier. An extension type is told by the field metadata `ARROW:extension:name`, and,
//! where metadata was lost on the way through an expression, by the names of its struct fields.
//! Deliberately absent: value conversion (the server's encoder) and coercion rules (the engine's binder).

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, TimeUnit};

use crate::numeric;

/// Field metadata key of Arrow extension types.
pub const EXTENSION_KEY: &str = "ARROW:extension:name";

/// A type as SQL names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SqlType {
    /// boolean
    Bool,
    /// smallint
    Int2,
    /// integer
    Int4,
    /// bigint
    Int8,
    /// real
    Float4,
    /// double precision
    Float8,
    /// numeric, with precision and scale where declared
    Numeric(Option<(u8, i8)>),
    /// text
    Text,
    /// character varying, with its length where declared
    Varchar(Option<u32>),
    /// character, blank padded
    Char(Option<u32>),
    /// name (catalog identifiers)
    Name,
    /// "char", one byte (catalogs)
    SingleChar,
    /// oid
    Oid,
    /// int2vector: smallints of a catalog, written `1 2`
    Int2Vector,
    /// oidvector: oids of a catalog, written `23 25`
    OidVector,
    /// regclass, regproc, regtype, ...: an oid that prints as a name
    Reg(RegKind),
    /// bytea
    Bytea,
    /// date
    Date,
    /// time without time zone
    Time,
    /// timestamp without time zone
    Timestamp,
    /// timestamp with time zone
    Timestamptz,
    /// interval
    Interval,
    /// uuid
    Uuid,
    /// json
    Json,
    /// jsonb
    Jsonb,
    /// bit(n), n a multiple of 8, most significant bit first
    Bit,
    /// lazy reference to a file or object
    File,
    /// decoded pixels
    Image,
    /// decoded samples
    Audio,
    /// f32 tensor of any shape
    Tensor,
    /// f32 vector, pgvector's text and binary form
    Vector,
    /// box in pixels
    Box2d,
    /// array of a scalar type
    Array(Box<SqlType>),
    /// composite
    Record(Vec<(String, SqlType)>),
    /// anyelement in a declaration
    Any,
    /// no value
    Void,
    /// the type of NULL and of untyped literals
    Unknown,
}

/// The aliases of oid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegKind {
    /// regclass
    Class,
    /// regproc
    Proc,
    /// regprocedure
    Procedure,
    /// regtype
    Type,
    /// regnamespace
    Namespace,
    /// regrole
    Role,
}

impl SqlType {
    /// The type of this PostgreSQL name (`int4`, `double precision`, `text[]`, `numeric(10,2)`), or None.
    pub fn parse(name: &str) -> Option<SqlType> {
        let lower = name.trim().to_ascii_lowercase();
        if let Some(element) = lower.strip_suffix("[]") {
            return Some(SqlType::Array(Box::new(SqlType::parse(element)?)));
        }
        let (base, modifiers) = match lower.split_once('(') {
            Some((base, rest)) => {
                let (inside, after) = rest.split_once(')')?;
                (format!("{}{}", base.trim_end(), after), Some(inside.to_owned()))
            }
            None => (lower, None),
        };
        let base = base.strip_prefix("pg_catalog.").or_else(|| base.strip_prefix("squilla.")).unwrap_or(&base).to_owned();
        let length = || modifiers.as_deref().and_then(|m| m.trim().parse::<u32>().ok());
        Some(match base.as_str() {
            "bool" | "boolean" => SqlType::Bool,
            "int2" | "smallint" => SqlType::Int2,
            "int4" | "int" | "integer" => SqlType::Int4,
            "int8" | "bigint" => SqlType::Int8,
            "float4" | "real" => SqlType::Float4,
            "float8" | "double precision" | "double" | "float" => SqlType::Float8,
            "numeric" | "decimal" | "dec" => SqlType::Numeric(modifiers.as_deref().and_then(|m| {
                let mut parts = m.split(',').map(str::trim);
                Some((parts.next()?.parse().ok()?, parts.next().map_or(Some(0), |s| s.parse().ok())?))
            })),
            "text" => SqlType::Text,
            "varchar" | "character varying" => SqlType::Varchar(length()),
            "char" | "character" | "bpchar" => SqlType::Char(length()),
            "\"char\"" => SqlType::SingleChar,
            "name" => SqlType::Name,
            "oid" | "xid" | "cid" => SqlType::Oid,
            "int2vector" => SqlType::Int2Vector,
            "oidvector" => SqlType::OidVector,
            "regclass" => SqlType::Reg(RegKind::Class),
            "regproc" => SqlType::Reg(RegKind::Proc),
            "regprocedure" => SqlType::Reg(RegKind::Procedure),
            "regtype" => SqlType::Reg(RegKind::Type),
            "regnamespace" => SqlType::Reg(RegKind::Namespace),
            "regrole" => SqlType::Reg(RegKind::Role),
            "bytea" => SqlType::Bytea,
            "date" => SqlType::Date,
            "time" | "time without time zone" => SqlType::Time,
            "timestamp" | "timestamp without time zone" => SqlType::Timestamp,
            "timestamptz" | "timestamp with time zone" => SqlType::Timestamptz,
            "interval" => SqlType::Interval,
            "uuid" => SqlType::Uuid,
            "json" => SqlType::Json,
            "jsonb" => SqlType::Jsonb,
            "bit" | "bit varying" | "varbit" => SqlType::Bit,
            "file" => SqlType::File,
            "image" => SqlType::Image,
            "audio" => SqlType::Audio,
            "tensor" => SqlType::Tensor,
            "vector" => SqlType::Vector,
            "box2d" => SqlType::Box2d,
            "detection" => SqlType::Record(vec![
                ("label".into(), SqlType::Text),
                ("class_id".into(), SqlType::Int4),
                ("score".into(), SqlType::Float4),
                ("box".into(), SqlType::Box2d),
            ]),
            "any" | "anyelement" => SqlType::Any,
            "anyarray" => SqlType::Array(Box::new(SqlType::Any)),
            "void" => SqlType::Void,
            "unknown" => SqlType::Unknown,
            _ => return None,
        })
    }

    /// The name as `format_type` prints it, without modifier.
    pub fn name(&self) -> String {
        match self {
            SqlType::Bool => "boolean".into(),
            SqlType::Int2 => "smallint".into(),
            SqlType::Int4 => "integer".into(),
            SqlType::Int8 => "bigint".into(),
            SqlType::Float4 => "real".into(),
            SqlType::Float8 => "double precision".into(),
            SqlType::Numeric(_) => "numeric".into(),
            SqlType::Text => "text".into(),
            SqlType::Varchar(_) => "character varying".into(),
            SqlType::Char(_) => "character".into(),
            SqlType::Name => "name".into(),
            SqlType::SingleChar => "\"char\"".into(),
            SqlType::Oid => "oid".into(),
            SqlType::Int2Vector => "int2vector".into(),
            SqlType::OidVector => "oidvector".into(),
            SqlType::Reg(RegKind::Class) => "regclass".into(),
            SqlType::Reg(RegKind::Proc) => "regproc".into(),
            SqlType::Reg(RegKind::Procedure) => "regprocedure".into(),
            SqlType::Reg(RegKind::Type) => "regtype".into(),
            SqlType::Reg(RegKind::Namespace) => "regnamespace".into(),
            SqlType::Reg(RegKind::Role) => "regrole".into(),
            SqlType::Bytea => "bytea".into(),
            SqlType::Date => "date".into(),
            SqlType::Time => "time without time zone".into(),
            SqlType::Timestamp => "timestamp without time zone".into(),
            SqlType::Timestamptz => "timestamp with time zone".into(),
            SqlType::Interval => "interval".into(),
            SqlType::Uuid => "uuid".into(),
            SqlType::Json => "json".into(),
            SqlType::Jsonb => "jsonb".into(),
            SqlType::Bit => "bit".into(),
            SqlType::File => "file".into(),
            SqlType::Image => "image".into(),
            SqlType::Audio => "audio".into(),
            SqlType::Tensor => "tensor".into(),
            SqlType::Vector => "vector".into(),
            SqlType::Box2d => "box2d".into(),
            SqlType::Array(element) => format!("{}[]", element.name()),
            SqlType::Record(_) => "record".into(),
            SqlType::Any => "anyelement".into(),
            SqlType::Void => "void".into(),
            SqlType::Unknown => "unknown".into(),
        }
    }

    /// The OID in `pg_type`. Types of our own have fixed OIDs above 16384, so that clients may cache them.
    pub fn oid(&self) -> u32 {
        match self {
            SqlType::Bool => 16,
            SqlType::Int2 => 21,
            SqlType::Int4 => 23,
            SqlType::Int8 => 20,
            SqlType::Float4 => 700,
            SqlType::Float8 => 701,
            SqlType::Numeric(_) => 1700,
            SqlType::Text => 25,
            SqlType::Varchar(_) => 1043,
            SqlType::Char(_) => 1042,
            SqlType::Name => 19,
            SqlType::SingleChar => 18,
            SqlType::Oid => 26,
            SqlType::Int2Vector => 22,
            SqlType::OidVector => 30,
            SqlType::Reg(RegKind::Class) => 2205,
            SqlType::Reg(RegKind::Proc) => 24,
            SqlType::Reg(RegKind::Procedure) => 2202,
            SqlType::Reg(RegKind::Type) => 2206,
            SqlType::Reg(RegKind::Namespace) => 4089,
            SqlType::Reg(RegKind::Role) => 4096,
            SqlType::Bytea => 17,
            SqlType::Date => 1082,
            SqlType::Time => 1083,
            SqlType::Timestamp => 1114,
            SqlType::Timestamptz => 1184,
            SqlType::Interval => 1186,
            SqlType::Uuid => 2950,
            SqlType::Json => 114,
            SqlType::Jsonb => 3802,
            SqlType::Bit => 1560,
            SqlType::Vector => 16385,
            SqlType::File => 16401,
            SqlType::Image => 16403,
            SqlType::Audio => 16405,
            SqlType::Tensor => 16407,
            SqlType::Box2d => 16409,
            SqlType::Array(element) => element.array_oid(),
            SqlType::Record(_) => 2249,
            SqlType::Any => 2283,
            SqlType::Void => 2278,
            SqlType::Unknown => 705,
        }
    }

    /// The OID of the array over this type.
    pub fn array_oid(&self) -> u32 {
        match self {
            SqlType::Bool => 1000,
            SqlType::Int2 => 1005,
            SqlType::Int4 => 1007,
            SqlType::Int8 => 1016,
            SqlType::Float4 => 1021,
            SqlType::Float8 => 1022,
            SqlType::Numeric(_) => 1231,
            SqlType::Text | SqlType::Unknown => 1009,
            SqlType::Varchar(_) => 1015,
            SqlType::Char(_) => 1014,
            SqlType::Name => 1003,
            SqlType::SingleChar => 1002,
            SqlType::Oid => 1028,
            SqlType::Int2Vector => 1006,
            SqlType::OidVector => 1013,
            SqlType::Reg(RegKind::Class) => 2210,
            SqlType::Reg(RegKind::Proc) => 1008,
            SqlType::Reg(RegKind::Procedure) => 2207,
            SqlType::Reg(RegKind::Type) => 2211,
            SqlType::Reg(RegKind::Namespace) => 4090,
            SqlType::Reg(RegKind::Role) => 4097,
            SqlType::Bytea => 1001,
            SqlType::Date => 1182,
            SqlType::Time => 1183,
            SqlType::Timestamp => 1115,
            SqlType::Timestamptz => 1185,
            SqlType::Interval => 1187,
            SqlType::Uuid => 2951,
            SqlType::Json => 199,
            SqlType::Jsonb => 3807,
            SqlType::Bit => 1561,
            SqlType::Vector | SqlType::File | SqlType::Image | SqlType::Audio | SqlType::Tensor | SqlType::Box2d => self.oid() + 1,
            SqlType::Array(_) => self.oid(),
            SqlType::Record(_) => 2287,
            SqlType::Any => 2277,
            SqlType::Void => 2278,
        }
    }

    /// The name of the Arrow extension that marks this type, where Arrow's own type does not tell it.
    pub fn extension(&self) -> Option<&'static str> {
        Some(match self {
            SqlType::Varchar(_) => "squilla.varchar",
            SqlType::Char(_) => "squilla.bpchar",
            SqlType::Name => "squilla.name",
            SqlType::SingleChar => "squilla.char",
            SqlType::Oid => "squilla.oid",
            SqlType::Int2Vector => "squilla.int2vector",
            SqlType::OidVector => "squilla.oidvector",
            SqlType::Reg(RegKind::Class) => "squilla.regclass",
            SqlType::Reg(RegKind::Proc) => "squilla.regproc",
            SqlType::Reg(RegKind::Procedure) => "squilla.regprocedure",
            SqlType::Reg(RegKind::Type) => "squilla.regtype",
            SqlType::Reg(RegKind::Namespace) => "squilla.regnamespace",
            SqlType::Reg(RegKind::Role) => "squilla.regrole",
            SqlType::Uuid => "arrow.uuid",
            SqlType::Json => "arrow.json",
            SqlType::Jsonb => "squilla.jsonb",
            SqlType::Bit => "squilla.bit",
            SqlType::File => "squilla.file",
            SqlType::Image => "squilla.image",
            SqlType::Audio => "squilla.audio",
            SqlType::Tensor => "squilla.tensor",
            SqlType::Vector => "squilla.vector",
            SqlType::Box2d => "squilla.box2d",
            _ => return None,
        })
    }

    /// The Arrow type that holds values of this type.
    pub fn arrow(&self) -> DataType {
        let utc: Arc<str> = Arc::from("UTC");
        match self {
            SqlType::Bool => DataType::Boolean,
            SqlType::Int2 => DataType::Int16,
            SqlType::Int4 => DataType::Int32,
            SqlType::Int8 => DataType::Int64,
            SqlType::Oid | SqlType::Reg(_) => DataType::Int64,
            SqlType::Float4 => DataType::Float32,
            SqlType::Float8 => DataType::Float64,
            SqlType::Numeric(m) => m.map_or(numeric::FREE, |(p, s)| DataType::Decimal128(p.clamp(1, 38), s)),
            SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Name | SqlType::SingleChar => DataType::Utf8,
            SqlType::Uuid => DataType::FixedSizeBinary(16),
            SqlType::Json | SqlType::Jsonb | SqlType::Any => DataType::Utf8,
            SqlType::Bytea | SqlType::Bit => DataType::LargeBinary,
            SqlType::Date => DataType::Date32,
            SqlType::Time => DataType::Time64(TimeUnit::Microsecond),
            SqlType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            SqlType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some(utc)),
            SqlType::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            SqlType::Vector => DataType::List(Arc::new(Field::new("item", DataType::Float32, true))),
            SqlType::File | SqlType::Image | SqlType::Audio | SqlType::Tensor | SqlType::Box2d => {
                self.struct_fields().map_or(DataType::Null, DataType::Struct)
            }
            SqlType::Array(element) => DataType::List(Arc::new(element.field("item"))),
            SqlType::Int2Vector => DataType::List(Arc::new(SqlType::Int2.field("item"))),
            SqlType::OidVector => DataType::List(Arc::new(SqlType::Oid.field("item"))),
            SqlType::Record(fields) => DataType::Struct(fields.iter().map(|(name, ty)| ty.field(name)).collect()),
            SqlType::Void | SqlType::Unknown => DataType::Null,
        }
    }

    fn struct_fields(&self) -> Option<Fields> {
        let f = |name: &str, ty: DataType| Field::new(name, ty, true);
        Some(match self {
            SqlType::File => Fields::from(vec![
                f("uri", DataType::Utf8),
                f("size", DataType::Int64),
                f("etag", DataType::Utf8),
                f("last_modified", SqlType::Timestamptz.arrow()),
                f("content_type", DataType::Utf8),
            ]),
            SqlType::Image => Fields::from(vec![
                f("data", DataType::LargeBinary),
                f("width", DataType::Int32),
                f("height", DataType::Int32),
                f("channels", DataType::Int32),
                f("dtype", DataType::Utf8),
            ]),
            SqlType::Audio => Fields::from(vec![
                f("samples", DataType::List(Arc::new(f("item", DataType::Float32)))),
                f("sample_rate", DataType::Int32),
                f("channels", DataType::Int32),
            ]),
            SqlType::Tensor => Fields::from(vec![
                f("data", DataType::List(Arc::new(f("item", DataType::Float32)))),
                f("shape", DataType::List(Arc::new(f("item", DataType::Int32)))),
            ]),
            SqlType::Box2d => {
                Fields::from(vec![f("x1", DataType::Float32), f("y1", DataType::Float32), f("x2", DataType::Float32), f("y2", DataType::Float32)])
            }
            _ => return None,
        })
    }

    /// A nullable Arrow field of this type, with the metadata that tells it apart.
    pub fn field(&self, name: impl Into<String>) -> Field {
        let field = Field::new(name, self.arrow(), true);
        match self.extension() {
            Some(extension) => {
                let mut metadata = HashMap::from([(EXTENSION_KEY.to_owned(), extension.to_owned())]);
                if let SqlType::Varchar(Some(n)) | SqlType::Char(Some(n)) = self {
                    metadata.insert("squilla.length".into(), n.to_string());
                }
                field.with_metadata(metadata)
            }
            None => field,
        }
    }

    /// The SQL type of an Arrow field.
    pub fn of_field(field: &Field) -> SqlType {
        let length = || field.metadata().get("squilla.length").and_then(|n| n.parse().ok());
        match field.metadata().get(EXTENSION_KEY).map(String::as_str) {
            Some("squilla.varchar") => SqlType::Varchar(length()),
            Some("squilla.bpchar") => SqlType::Char(length()),
            Some("squilla.name") => SqlType::Name,
            Some("squilla.char") => SqlType::SingleChar,
            Some("squilla.oid") => SqlType::Oid,
            Some("squilla.regclass") => SqlType::Reg(RegKind::Class),
            Some("squilla.int2vector") => SqlType::Int2Vector,
            Some("squilla.oidvector") => SqlType::OidVector,
            Some("squilla.regprocedure") => SqlType::Reg(RegKind::Procedure),
            Some("squilla.regproc") => SqlType::Reg(RegKind::Proc),
            Some("squilla.regtype") => SqlType::Reg(RegKind::Type),
            Some("squilla.regnamespace") => SqlType::Reg(RegKind::Namespace),
            Some("squilla.regrole") => SqlType::Reg(RegKind::Role),
            Some("arrow.uuid") => SqlType::Uuid,
            Some("arrow.json") => SqlType::Json,
            Some("squilla.jsonb") => SqlType::Jsonb,
            Some("squilla.bit") => SqlType::Bit,
            Some("squilla.vector") => SqlType::Vector,
            _ => SqlType::of_arrow(field.data_type()),
        }
    }

    /// The SQL type of a bare Arrow type; extension structs are told by the names of their fields.
    pub fn of_arrow(ty: &DataType) -> SqlType {
        match ty {
            DataType::Null => SqlType::Unknown,
            DataType::Boolean => SqlType::Bool,
            DataType::Int8 | DataType::Int16 | DataType::UInt8 => SqlType::Int2,
            DataType::Int32 | DataType::UInt16 => SqlType::Int4,
            DataType::Int64 | DataType::UInt32 => SqlType::Int8,
            DataType::UInt64 => SqlType::Numeric(Some((20, 0))),
            DataType::Float16 | DataType::Float32 => SqlType::Float4,
            DataType::Float64 => SqlType::Float8,
            ty if numeric::style(ty) != numeric::Style::Exact => SqlType::Numeric(None),
            DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => {
                SqlType::Numeric(Some((*p, *s)))
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => SqlType::Text,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => SqlType::Bytea,
            DataType::Date32 | DataType::Date64 => SqlType::Date,
            DataType::Time32(_) | DataType::Time64(_) => SqlType::Time,
            DataType::Timestamp(_, None) => SqlType::Timestamp,
            DataType::Timestamp(_, Some(_)) => SqlType::Timestamptz,
            DataType::Interval(_) | DataType::Duration(_) => SqlType::Interval,
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::FixedSizeList(item, _)
            | DataType::ListView(item)
            | DataType::LargeListView(item) => {
                match SqlType::of_field(item) {
                    SqlType::Array(inner) => SqlType::Array(inner), // PostgreSQL has one type for all numbers of dimensions
                    element => SqlType::Array(Box::new(element)),
                }
            }
            DataType::Struct(fields) => SqlType::of_struct(fields),
            DataType::Dictionary(_, value) => SqlType::of_arrow(value),
            DataType::RunEndEncoded(_, value) => SqlType::of_field(value),
            DataType::Map(_, _) | DataType::Union(_, _) => SqlType::Jsonb,
        }
    }

    fn of_struct(fields: &Fields) -> SqlType {
        let names: Vec<&str> = fields.iter().map(|f| f.name().as_str()).collect();
        match names.as_slice() {
            ["uri", "size", "etag", "last_modified", "content_type"] => SqlType::File,
            ["data", "width", "height", "channels", "dtype"] => SqlType::Image,
            ["samples", "sample_rate", "channels"] => SqlType::Audio,
            ["data", "shape"] => SqlType::Tensor,
            ["x1", "y1", "x2", "y2"] => SqlType::Box2d,
            _ => SqlType::Record(fields.iter().map(|f: &FieldRef| (f.name().clone(), SqlType::of_field(f))).collect()),
        }
    }

    /// The `typmod` of `pg_attribute` and RowDescription: -1 where the type has none.
    pub fn typmod(&self) -> i32 {
        match self {
            SqlType::Varchar(Some(n)) | SqlType::Char(Some(n)) => *n as i32 + 4,
            SqlType::Numeric(Some((p, s))) => ((i32::from(*p) << 16) | (i32::from(*s) & 0x7ff)) + 4,
            _ => -1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_leads_back_to_its_type() {
        for name in [
            "boolean",
            "smallint",
            "integer",
            "bigint",
            "real",
            "double precision",
            "text",
            "bytea",
            "date",
            "time",
            "timestamp",
            "timestamptz",
            "interval",
            "uuid",
            "json",
            "jsonb",
            "bit",
            "file",
            "image",
            "audio",
            "tensor",
            "vector",
            "box2d",
            "text[]",
            "real[]",
            "box2d[]",
            "regclass",
            "name",
            "oid",
        ] {
            let ty = SqlType::parse(name);
            assert!(ty.is_some(), "{name}");
            if let Some(ty) = ty {
                assert_eq!(SqlType::of_field(&ty.field("x")), ty);
            }
        }
    }

    #[test]
    fn modifiers_are_read() {
        assert_eq!(SqlType::parse("numeric(10,2)"), Some(SqlType::Numeric(Some((10, 2)))));
        assert_eq!(SqlType::parse("character varying(20)").map(|t| t.typmod()), Some(24));
        assert_eq!(SqlType::parse("timestamp(3) with time zone"), Some(SqlType::Timestamptz));
        assert_eq!(SqlType::parse("nonsense"), None);
    }
}
