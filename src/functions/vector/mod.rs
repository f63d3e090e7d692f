//! The vector functions, with those of tensors and boxes, and their list.

mod bits;
mod distance;
mod parts;
mod rows;
mod tensor;

use squilla_core::kernel::SqlFunction;

/// The functions of this family.
pub static FUNCTIONS: &[&SqlFunction] = &[
    &distance::L2_DISTANCE,
    &distance::L1_DISTANCE,
    &distance::INNER_PRODUCT,
    &distance::VECTOR_NEGATIVE_INNER_PRODUCT,
    &distance::COSINE_DISTANCE,
    &distance::COSINE_SIMILARITY,
    &parts::VECTOR_DIMS,
    &parts::VECTOR_NORM,
    &parts::L2_NORMALIZE,
    &parts::SUBVECTOR,
    &parts::BINARY_QUANTIZE,
    &bits::HAMMING_DISTANCE,
    &bits::JACCARD_DISTANCE,
    &tensor::TENSOR_SHAPE,
    &tensor::TENSOR_DATA,
    &tensor::BOX_IOU,
    &tensor::BOX_AREA,
];
