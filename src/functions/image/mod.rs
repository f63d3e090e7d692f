//! The image functions: one file each, and their list.

mod convert_image;
mod crop_image;
mod decode_image;
mod encode_image;
mod flip_image;
mod header;
mod image_channels;
mod image_format;
mod image_hash;
mod image_height;
mod image_info;
mod image_mode;
mod image_stats;
mod image_tiles;
mod image_to_tensor;
mod image_width;
mod normalize_image;
mod pad_image;
mod resize_image;
mod rotate_image;
mod source;
mod tensor_to_image;
#[cfg(test)]
pub(crate) mod testing;
mod thumbnail;

use squilla_core::kernel::SqlFunction;

/// The functions of this family.
pub static FUNCTIONS: &[&SqlFunction] = &[
    &convert_image::CONVERT_IMAGE,
    &crop_image::CROP_IMAGE,
    &decode_image::DECODE_IMAGE,
    &encode_image::ENCODE_IMAGE,
    &flip_image::FLIP_IMAGE,
    &image_channels::IMAGE_CHANNELS,
    &image_format::IMAGE_FORMAT,
    &image_hash::IMAGE_HASH,
    &image_height::IMAGE_HEIGHT,
    &image_info::IMAGE_INFO,
    &image_mode::IMAGE_MODE,
    &image_stats::IMAGE_STATS,
    &image_tiles::IMAGE_TILES,
    &image_to_tensor::IMAGE_TO_TENSOR,
    &image_width::IMAGE_WIDTH,
    &normalize_image::NORMALIZE_IMAGE,
    &pad_image::PAD_IMAGE,
    &resize_image::RESIZE_IMAGE,
    &rotate_image::ROTATE_IMAGE,
    &tensor_to_image::TENSOR_TO_IMAGE,
    &thumbnail::THUMBNAIL,
];
