//! Parameters go through the reader and come out of the encoder as they went in.
#![allow(clippy::unwrap_used)]

use squilla_core::error::Kind;
use squilla_core::types::SqlType;

use super::datetime::Clock;
use super::{Input, value};
use crate::encode::cells::Cells;
use crate::encode::column::column;
use crate::encode::style::Style;
use crate::encode::zone::Zone;

fn input() -> Input {
    Input { clock: Clock { zone: Zone::utc(), day_first: false, now_us: 0 }, reg_oids: None }
}

fn encoded(array: &arrow::array::ArrayRef, ty: &SqlType, binary: bool) -> Vec<u8> {
    let mut cells = Cells::default();
    column(&mut cells, array, ty, binary, &Style::default()).unwrap();
    cells.value(0).unwrap().to_vec()
}

#[test]
fn text_and_binary_are_the_same_value() {
    for (ty, text) in [
        ("boolean", "t"),
        ("smallint", "-7"),
        ("integer", "42"),
        ("bigint", "-9223372036854775808"),
        ("real", "0.1"),
        ("double precision", "1e-07"),
        ("numeric", "12345.6780"),
        ("numeric(10,2)", "-0.05"),
        ("text", "a b"),
        ("bytea", "\\x00ff"),
        ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("date", "2024-02-29"),
        ("time", "13:14:15.5"),
        ("timestamp", "1999-12-31 23:59:59.999999"),
        ("timestamptz", "2024-01-01 00:00:00+00"),
        ("interval", "1 mon -2 days +03:00:00"),
        ("json", "{\"a\": [1]}"),
        ("jsonb", "{\"a\": [1]}"),
        ("vector", "[1,2.5]"),
        ("oid", "4000000000"),
        ("bit", "10000001"),
        ("box2d", "(1,2.5),(3,4)"),
        ("file", "s3://b/k"),
        ("text[]", "{a,NULL,\"b c\"}"),
        ("integer[]", "{}"),
        ("integer[]", "{{1,2},{3,4}}"),
        ("date", "infinity"),
        ("timestamp", "-infinity"),
        ("numeric[]", "{1.5}"),
        ("name", "pg_class"),
    ] {
        let ty = SqlType::parse(ty).unwrap();
        let from_text = value(&ty, Some(text.as_bytes()), false, &input()).unwrap();
        assert_eq!(String::from_utf8(encoded(&from_text, &ty, false)).unwrap(), text);
        let binary = encoded(&from_text, &ty, true);
        let from_binary = value(&ty, Some(&binary), true, &input()).unwrap();
        assert_eq!(from_binary.to_data(), from_text.to_data(), "{text}");
    }
}

#[test]
fn bad_bytes_are_refused() {
    let kind = |ty: &str, bytes: &[u8], binary: bool| value(&SqlType::parse(ty).unwrap(), Some(bytes), binary, &input()).unwrap_err().kind;
    assert_eq!(kind("integer", &[0, 1], true), Kind::ProtocolViolation);
    assert_eq!(kind("integer", &[0; 5], true), Kind::InvalidBinary);
    assert_eq!(kind("integer", b"xyz", false), Kind::InvalidText);
    assert_eq!(kind("text", b"\xff\xfe", false), Kind::InvalidEncoding);
    assert_eq!(kind("text", b"a\0b", true), Kind::InvalidEncoding);
    assert_eq!(kind("jsonb", b"\x02{}", true), Kind::InvalidBinary);
    assert_eq!(kind("json", b"{", false), Kind::InvalidText);
    assert_eq!(kind("bit", &[0, 0], true), Kind::InvalidBinary);
    assert_eq!(kind("vector", &[0, 2, 0, 0, 1], true), Kind::InvalidBinary);
    assert_eq!(kind("integer[]", &[0, 0, 0, 9], true), Kind::InvalidBinary);
    assert_eq!(kind("numeric(3,1)", b"1000", false), Kind::OutOfRange);
    assert_eq!(kind("varchar(2)", b"abc", false), Kind::StringTooLong);
    assert_eq!(kind("image", b"x", false), Kind::Unsupported);
    assert!(value(&SqlType::Int4, None, false, &input()).unwrap().is_null(0));
}
