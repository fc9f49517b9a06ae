//! Tensor maps: what bulk copies of sm_90 are told of a matrix.

use crate::args::DevicePtr;
use cudarc::driver::DriverError;
use cudarc::driver::sys::{
    CUtensorMap, CUtensorMapDataType, CUtensorMapFloatOOBfill, CUtensorMapInterleave, CUtensorMapL2promotion,
    CUtensorMapSwizzle, cuTensorMapEncodeTiled,
};

/// The words of a `CUtensorMap`.
pub(crate) type TensorMap = [u64; 16];

/// Bytes of a row of a box: the longest that can be swizzled.
pub(crate) const BOX_BYTES: usize = 128;

/// The type of a matrix's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    F16,
    BF16,
    E4m3,
}

impl Element {
    /// Bytes of one.
    pub(crate) fn size(self) -> usize {
        if self == Element::E4m3 { 1 } else { 2 }
    }
}

/// A row-major matrix in the card's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix {
    /// A multiple of 16.
    pub(crate) at: DevicePtr,
    pub(crate) element: Element,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Bytes from row to row, a multiple of 16.
    pub(crate) stride: usize,
}

/// The map of a matrix for copies of `box_rows` (at most 256) by [`BOX_BYTES`], swizzled by 128 bytes; what lies outside of
/// the matrix becomes zero.
///
/// # Errors
/// What the driver says.
pub(crate) fn tensor_map(matrix: &Matrix, box_rows: u32) -> Result<TensorMap, DriverError> {
    let mut map = CUtensorMap { opaque: [0; 16] };
    let dims = [matrix.cols as u64, matrix.rows as u64];
    let strides = [matrix.stride as u64];
    let cols = BOX_BYTES / matrix.element.size();
    let (sides, steps) = ([cols as u32, box_rows], [1, 1]);
    let element = match matrix.element {
        Element::F16 => CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        Element::BF16 => CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        Element::E4m3 => CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_UINT8,
    };
    // SAFETY: the arrays have the lengths that two dimensions ask for, and outlive the call, which only writes the map.
    unsafe {
        cuTensorMapEncodeTiled(
            &mut map,
            element,
            2,
            matrix.at as *mut _,
            dims.as_ptr(),
            strides.as_ptr(),
            sides.as_ptr(),
            steps.as_ptr(),
            CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
            CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
            CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    }
    .result()?;
    Ok(map.opaque)
}
