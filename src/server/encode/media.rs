//! The types of our own: file, image, audio, tensor, vector, box2d.
//!
//! In: struct columns as `squilla_core::columns` lays them out. Out: what a client sees of them; never megabytes by
//! accident: an image or an audio value is a placeholder unless the session asks for more.
//! Invariant: vector has pgvector's text and binary forms. Deliberately absent: codecs; one is injected by the style.

use std::io::Write as _;

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::datatypes::{DataType, Float32Type, Int32Type};
use squilla_core::columns::{self, Arg};
use squilla_core::error::{Error, Result};
use squilla_core::types::SqlType;
use squilla_core::values::AudioView;

use crate::encode::cells::Cells;
use crate::encode::column::{bytea_text, column, to};
use crate::encode::number::float4;
use crate::encode::style::{ImageOutput, Style};

// Writing into memory cannot fail, so the results of write! are dropped in this file.

/// `[1,2,3]`, or dimensions and big-endian floats.
pub fn vectors(cells: &mut Cells, array: &ArrayRef, binary: bool) -> Result<()> {
    let array = to(array, &SqlType::Vector.arrow())?;
    let list = array.as_list::<i32>();
    let values = to(list.values(), &DataType::Float32)?;
    let values = values.as_primitive::<Float32Type>().values();
    for row in 0..list.len() {
        if list.is_null(row) {
            cells.null();
            continue;
        }
        let offsets = list.value_offsets();
        let values = &values[offsets[row] as usize..offsets[row + 1] as usize];
        cells.write(|out| {
            if binary {
                out.extend_from_slice(&(values.len() as u16).to_be_bytes());
                out.extend_from_slice(&[0, 0]);
                values.iter().for_each(|v| out.extend_from_slice(&v.to_be_bytes()));
            } else {
                floats(out, values);
            }
        });
    }
    Ok(())
}

fn floats(out: &mut Vec<u8>, values: &[f32]) {
    out.push(b'[');
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        float4(out, *value, 1);
    }
    out.push(b']');
}

fn structure(array: &ArrayRef, ty: &SqlType) -> Result<ArrayRef> {
    to(array, &ty.arrow())
}

fn child<'a>(array: &'a StructArray, name: &str) -> Result<&'a ArrayRef> {
    array.column_by_name(name).ok_or_else(|| Error::internal(format!("field \"{name}\" is missing from {}", array.data_type())))
}

/// The URI.
pub fn files(cells: &mut Cells, array: &ArrayRef) -> Result<()> {
    let Some(file) = array.as_struct_opt() else {
        return column(cells, array, &SqlType::Text, false, &Style::default());
    };
    let mut uris = Cells::default();
    column(&mut uris, child(file, "uri")?, &SqlType::Text, false, &Style::default())?;
    for row in 0..file.len() {
        match uris.value(row) {
            Some(uri) if !file.is_null(row) => cells.push(uri),
            _ => cells.null(),
        }
    }
    Ok(())
}

/// What the session's image_output says.
pub fn images(cells: &mut Cells, array: &ArrayRef, binary: bool, style: &Style) -> Result<()> {
    let arg = Arg { array: structure(array, &SqlType::Image)?, constant: false };
    for row in 0..array.len() {
        let Some(image) = columns::image(&arg, row)? else {
            cells.null();
            continue;
        };
        let format = match style.image_output {
            ImageOutput::Placeholder => {
                cells.push(image.placeholder().as_bytes());
                continue;
            }
            ImageOutput::Jsonb => {
                cells.write(|out| {
                    let (mode, dtype) = (image.mode(), image.pixel.name());
                    let _ = write!(out, "{{\"mode\": \"{mode}\", \"dtype\": \"{dtype}\", \"width\": {}, \"height\": {}}}", image.width, image.height);
                });
                continue;
            }
            ImageOutput::Png => "png",
            ImageOutput::Jpeg => "jpeg",
        };
        let encoder = style.image_encoder.ok_or_else(|| Error::unsupported(format!("no {format} encoder is built in")))?;
        let bytes = encoder(image, format)?;
        if binary {
            cells.push(&bytes);
        } else {
            cells.write(|out| bytea_text(out, &bytes, style.bytea_hex));
        }
    }
    Ok(())
}

/// `<audio 12.4 s 16000 Hz mono>`
pub fn audios(cells: &mut Cells, array: &ArrayRef) -> Result<()> {
    let array = structure(array, &SqlType::Audio)?;
    let audio = array.as_struct();
    let samples = child(audio, "samples")?.as_list::<i32>();
    let rate = child(audio, "sample_rate")?.as_primitive::<Int32Type>();
    let channels = child(audio, "channels")?.as_primitive::<Int32Type>();
    for row in 0..audio.len() {
        if audio.is_null(row) {
            cells.null();
            continue;
        }
        let (rate, channels) = (rate.value(row).max(1) as u32, channels.value(row).clamp(1, i32::from(u16::MAX)) as u16);
        cells.push(AudioView::placeholder(samples.value_length(row) as usize, rate, channels).as_bytes());
    }
    Ok(())
}

/// jsonb with shape, dtype and data.
pub fn tensors(cells: &mut Cells, array: &ArrayRef, binary: bool) -> Result<()> {
    let arg = Arg { array: structure(array, &SqlType::Tensor)?, constant: false };
    for row in 0..array.len() {
        let Some(tensor) = columns::tensor(&arg, row)? else {
            cells.null();
            continue;
        };
        cells.write(|out| {
            if binary {
                out.push(1);
            }
            let _ = write!(out, "{{\"data\": [");
            for (i, value) in tensor.data.iter().enumerate() {
                out.extend_from_slice(if i > 0 { b", " } else { b"" });
                // JSON has no spelling for the values that are no numbers.
                if value.is_finite() { float4(out, *value, 1) } else { out.extend_from_slice(b"null") }
            }
            let _ = write!(out, "], \"dtype\": \"f32\", \"shape\": {:?}}}", tensor.shape);
        });
    }
    Ok(())
}

/// `(x1,y1),(x2,y2)`, or four doubles.
pub fn boxes(cells: &mut Cells, array: &ArrayRef, binary: bool) -> Result<()> {
    let arg = Arg { array: structure(array, &SqlType::Box2d)?, constant: false };
    for row in 0..array.len() {
        let Some(b) = columns::bounding_box(&arg, row)? else {
            cells.null();
            continue;
        };
        cells.write(|out| {
            if binary {
                [b.x1, b.y1, b.x2, b.y2].iter().for_each(|v| out.extend_from_slice(&f64::from(*v).to_be_bytes()));
                return;
            }
            for (before, value, after) in [("(", b.x1, ","), ("", b.y1, "),("), ("", b.x2, ","), ("", b.y2, ")")] {
                out.extend_from_slice(before.as_bytes());
                float4(out, value, 1);
                out.extend_from_slice(after.as_bytes());
            }
        });
    }
    Ok(())
}
