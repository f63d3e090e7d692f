//! Tensors and boxes in numbers.
//!
//! In: a tensor or boxes. Out: shape, values, areas. Deliberately absent: arithmetic on tensors.

use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_core::values::BoundingBox;

/// Sizes of the dimensions, outermost first.
pub static TENSOR_SHAPE: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/vector/tensor_shape.sql"), Kernel::Scalar(tensor_shape));

/// The values, row-major.
pub static TENSOR_DATA: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/vector/tensor_data.sql"), Kernel::Scalar(tensor_data));

/// Intersection over union.
pub static BOX_IOU: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/vector/box_iou.sql"), Kernel::Scalar(box_iou));

/// Square pixels.
pub static BOX_AREA: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/vector/box_area.sql"), Kernel::Scalar(box_area));

fn tensor_shape(call: &Call) -> Result<Outcome> {
    call.map_rows(|row| Ok(call.tensor("t", row)?.map(|t| t.shape.iter().map(|d| *d as i32).collect::<Vec<i32>>())))
}

fn tensor_data(call: &Call) -> Result<Outcome> {
    call.map_rows(|row| Ok(call.tensor("t", row)?.map(|t| t.data)))
}

fn box_iou(call: &Call) -> Result<Outcome> {
    call.map_rows(|row| Ok(call.bounding_box("a", row)?.zip(call.bounding_box("b", row)?).map(|(a, b)| iou(&a, &b))))
}

fn box_area(call: &Call) -> Result<Outcome> {
    call.map_rows(|row| Ok(call.bounding_box("b", row)?.map(|b| area(&b))))
}

fn area(b: &BoundingBox) -> f64 {
    (f64::from(b.x2) - f64::from(b.x1)).max(0.0) * (f64::from(b.y2) - f64::from(b.y1)).max(0.0)
}

/// 0 for boxes that do not meet and for boxes without area.
fn iou(a: &BoundingBox, b: &BoundingBox) -> f64 {
    let shared = area(&BoundingBox { x1: a.x1.max(b.x1), y1: a.y1.max(b.y1), x2: a.x2.min(b.x2), y2: a.y2.min(b.y2) });
    let union = area(a) + area(b) - shared;
    if union > 0.0 { shared / union } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_is_measured() {
        let b = |x1, y1, x2, y2| BoundingBox { x1, y1, x2, y2 };
        assert_eq!(iou(&b(0.0, 0.0, 2.0, 2.0), &b(1.0, 0.0, 3.0, 2.0)), 1.0 / 3.0);
        assert_eq!(iou(&b(0.0, 0.0, 1.0, 1.0), &b(2.0, 2.0, 3.0, 3.0)), 0.0);
        assert_eq!(iou(&b(1.0, 1.0, 1.0, 1.0), &b(1.0, 1.0, 1.0, 1.0)), 0.0);
        assert_eq!(area(&b(1.0, 1.0, 4.0, 3.0)), 6.0);
    }
}
