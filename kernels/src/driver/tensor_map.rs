//! Tensor maps: what bulk copies of sm_90 are told of a matrix.

use crate::args::DevicePtr;
use cudarc::driver::DriverError;
use cudarc::driver::sys::{
    CUtensorMap, CUtensorMapDataType, CUtensorMapFloatOOBfill, CUtensorMapInterleave, CUtensorMapL2promotion,
    CUtensorMapSwizzle, cuTensorMapEncodeTiled,
};
use engine::dtype::DType;

/// The words of a `CUtensorMap`.
pub(crate) type TensorMap = [u64; 16];

/// Columns of a box of two-byte elements: 128 bytes, the longest row that can be swizzled.
pub(crate) const BOX_COLS: usize = 64;

/// A row-major matrix of two-byte elements in the card's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix {
    /// A multiple of 16.
    pub(crate) at: DevicePtr,
    pub(crate) dtype: DType,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Elements from row to row, a multiple of 8.
    pub(crate) stride: usize,
}

/// The map of a matrix for copies of `box_rows` (at most 256) by [`BOX_COLS`], swizzled by 128 bytes; what lies outside of
/// the matrix becomes zero.
///
/// # Errors
/// What the driver says.
pub(crate) fn tensor_map(matrix: &Matrix, box_rows: u32) -> Result<TensorMap, DriverError> {
    let mut map = CUtensorMap { opaque: [0; 16] };
    let dims = [matrix.cols as u64, matrix.rows as u64];
    let strides = [2 * matrix.stride as u64];
    let (sides, steps) = ([BOX_COLS as u32, box_rows], [1, 1]);
    let dtype = match matrix.dtype {
        DType::F16 => CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        _ => CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
    };
    // SAFETY: the arrays have the lengths that two dimensions ask for, and outlive the call, which only writes the map.
    unsafe {
        cuTensorMapEncodeTiled(
            &mut map,
            dtype,
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
