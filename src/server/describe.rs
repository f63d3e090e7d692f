//! Columns of a result, as messages tell of them.
//!
//! In: fields of the engine and format codes of the client. Out: columns for the encoder, and RowDescription. Invariant: as
//! many columns as fields. Deliberately absent: values (encode).

use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::{FieldDescription, RowDescription};
use squilla_core::error::{Error, Kind};
use squilla_core::types::SqlType;
use squilla_engine::session::ResultField;

use crate::encode::OutputColumn;
use crate::running::Stop;

/// The columns of a result in the formats asked for: none means text, one is for all.
pub fn outputs(fields: &[ResultField], formats: &[i16]) -> std::result::Result<Vec<OutputColumn>, Stop> {
    if formats.len() > 1 && formats.len() != fields.len() {
        let message = format!("bind message has {} result formats but query has {} columns", formats.len(), fields.len());
        return Err(Stop::Failed(Error::new(Kind::ProtocolViolation, message)));
    }
    let format = |i: usize| formats.get(if formats.len() == 1 { 0 } else { i }).copied().unwrap_or(0);
    fields
        .iter()
        .enumerate()
        .map(|(i, field)| match format(i) {
            code @ (0 | 1) => Ok(OutputColumn { ty: field.ty.clone(), binary: code == 1 }),
            other => Err(Stop::Failed(Error::invalid_argument(format!("unsupported format code: {other}")))),
        })
        .collect()
}

/// RowDescription.
pub fn row_description(fields: &[ResultField], columns: &[OutputColumn]) -> PgWireBackendMessage {
    let fields = fields.iter().zip(columns).map(|(field, column)| {
        // A NUL would end the name on the wire.
        let name = field.name.replace('\0', "");
        FieldDescription::new(
            name,
            field.table_oid as i32,
            field.column_number,
            field.ty.oid(),
            type_size(&field.ty),
            field.ty.typmod(),
            i16::from(column.binary),
        )
    });
    PgWireBackendMessage::RowDescription(RowDescription::new(fields.collect()))
}

/// `typlen`: bytes of a fixed-size type, -1 for the others.
fn type_size(ty: &SqlType) -> i16 {
    match ty {
        SqlType::Bool | SqlType::SingleChar => 1,
        SqlType::Int2 => 2,
        SqlType::Int4 | SqlType::Float4 | SqlType::Oid | SqlType::Reg(_) | SqlType::Date | SqlType::Void => 4,
        SqlType::Int8 | SqlType::Float8 | SqlType::Time | SqlType::Timestamp | SqlType::Timestamptz => 8,
        SqlType::Interval | SqlType::Uuid => 16,
        SqlType::Name => 64,
        SqlType::Unknown => -2,
        _ => -1,
    }
}
