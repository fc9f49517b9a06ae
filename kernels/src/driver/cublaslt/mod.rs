//! Products of matrices through cuBLASLt, NVIDIA's own library: a choice of the user, and what benches compare with.
//!
//! It chooses its algorithm, and with it the order of sums, by the number of rows, so that a row's bits
//! depend on what shares its step. That is outside the numeric contract, and the device says so.
//!
//! cudarc's binding does not find `.so.13` and asks for an algorithm at every call, so only its constants are
//! used here.

mod functions;

use crate::args::DevicePtr;
use crate::driver::memory::DeviceMemory;
use cudarc::cublaslt::sys::{
    cublasComputeType_t as ComputeType, cublasLtMatmulAlgo_t as Algorithm,
    cublasLtMatmulDescAttributes_t as DescAttribute, cublasLtMatmulHeuristicResult_t as HeuristicResult,
    cublasLtMatmulPreferenceAttributes_t as PreferenceAttribute, cudaDataType_t as DataType,
};
use cudarc::driver::{CudaContext, CudaStream};
use engine::device::{DeviceError, DeviceKind, MemoryUse};
use engine::dtype::DType;
use functions::{Functions, Owned, Set, check, own};
use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, PoisonError};

/// Memory that algorithms may use, as NVIDIA recommends for Hopper (cuBLAS documentation, "cublasSetWorkspace").
const WORKSPACE: usize = 32 << 20;

/// `CUBLAS_OP_T` of `cublas_api.h`.
const TRANSPOSED: u32 = 1;

/// What the choice of an algorithm depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    rows: usize,
    k: usize,
    n: usize,
    x_stride: usize,
    out_stride: usize,
    x: DType,
    out: DType,
    /// The alignment of weight, x and out in bytes, at most 256.
    alignment: [u32; 3],
    add: bool,
}

/// The library on one card.
pub(crate) struct CublasLt {
    functions: &'static Functions,
    handle: Owned,
    workspace: DeviceMemory,
    chosen: Mutex<HashMap<Shape, Algorithm>>,
}

// SAFETY: the library's handle may be used from any thread (cuBLAS documentation, "Thread Safety").
unsafe impl Send for CublasLt {}
// SAFETY: as above; what was chosen is behind a lock.
unsafe impl Sync for CublasLt {}

impl CublasLt {
    /// Starts the library on the card whose context is bound to this thread.
    ///
    /// # Errors
    /// [`DeviceError::Absent`] with what is missing and the remedy, or [`DeviceError::OutOfMemory`].
    pub(crate) fn new(context: &Arc<CudaContext>) -> Result<CublasLt, DeviceError> {
        let functions = Functions::get()?;
        // SAFETY: the library writes the handle.
        let create = |handle| unsafe { (functions.create)(handle) };
        let handle = own(create, functions.destroy, "cublasLtCreate").map_err(|why| {
            DeviceError::Absent(format!(
                "libcublasLt does not start ({why}): install the version for the driver's CUDA, or use the built-in kernels"
            ))
        })?;
        let workspace = DeviceMemory::new(context, WORKSPACE, "cuBLASLt's workspace", MemoryUse::Plan)?;
        Ok(CublasLt { functions, handle, workspace, chosen: Mutex::default() })
    }
}

/// A row-major matrix on the card.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix {
    pub(crate) at: DevicePtr,
    pub(crate) dtype: DType,
    pub(crate) cols: usize,
    /// Elements from one row to the next.
    pub(crate) stride: usize,
}

/// `out = x weight^T`, or `out += x weight^T`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    pub(crate) x: Matrix,
    pub(crate) weight: Matrix,
    pub(crate) out: Matrix,
    pub(crate) add: bool,
}

impl CublasLt {
    /// Queues a product of so many rows.
    ///
    /// # Errors
    /// [`DeviceError::Lost`].
    pub(crate) fn multiply(
        &self,
        stream: &CudaStream,
        product: &Product,
        rows: usize,
    ) -> Result<(), DeviceError> {
        let f = self.functions;
        let Product { x, weight, out, add } = product;
        // Row-major [rows, k] is column-major [k, rows]: out^T = weight x^T, [n, rows] = [n, k] [k, rows].
        let desc = self.descriptor()?;
        let a = layout(f, x.dtype, x.cols, out.cols, weight.stride)?;
        let b = layout(f, x.dtype, x.cols, rows, x.stride)?;
        let d = layout(f, out.dtype, out.cols, rows, out.stride)?;
        let algorithm = self.algorithm(product, rows, [&desc, &a, &b, &d])?;
        let (alpha, beta) = (1.0, if *add { 1.0 } else { 0.0 });
        // SAFETY: the layouts are those of the plan's buffers, which outlive its steps; all else lives until
        // the call returns.
        let status = unsafe {
            (f.matmul)(
                self.handle.object,
                desc.object,
                &alpha,
                weight.at,
                a.object,
                x.at,
                b.object,
                &beta,
                out.at,
                d.object,
                out.at,
                d.object,
                &algorithm,
                self.workspace.at,
                WORKSPACE,
                stream.cu_stream().cast(),
            )
        };
        check(status, "cublasLtMatmul")
    }

    fn descriptor(&self) -> Result<Owned, DeviceError> {
        let f = self.functions;
        let (compute, scale) = (ComputeType::CUBLAS_COMPUTE_32F as u32, DataType::CUDA_R_32F as u32);
        // SAFETY: the library writes the descriptor.
        let create = |desc| unsafe { (f.desc_create)(desc, compute, scale) };
        let desc = own(create, f.desc_destroy, "cublasLtMatmulDescCreate")?;
        let attribute = DescAttribute::CUBLASLT_MATMUL_DESC_TRANSA as u32;
        set(f.desc_set, &desc, attribute, &TRANSPOSED, "cublasLtMatmulDescSetAttribute")?;
        Ok(desc)
    }

    /// The library's choice for so many rows, kept for the next time.
    fn algorithm(
        &self,
        product: &Product,
        rows: usize,
        [desc, a, b, d]: [&Owned; 4],
    ) -> Result<Algorithm, DeviceError> {
        let f = self.functions;
        let Product { x, weight, out, add } = product;
        let alignment = |m: &Matrix| 1 << m.at.trailing_zeros().min(8);
        let shape = Shape {
            rows,
            k: x.cols,
            n: out.cols,
            x_stride: x.stride,
            out_stride: out.stride,
            x: x.dtype,
            out: out.dtype,
            alignment: [alignment(weight), alignment(x), alignment(out)],
            add: *add,
        };
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(algorithm) = chosen.get(&shape) {
            return Ok(*algorithm);
        }
        // SAFETY: the library writes the preference.
        let create = |preference| unsafe { (f.preference_create)(preference) };
        let preference = own(create, f.preference_destroy, "cublasLtMatmulPreferenceCreate")?;
        let attribute = PreferenceAttribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        prefer(f, &preference, attribute, &WORKSPACE)?;
        let [weight, x, out] = shape.alignment;
        for (attribute, bytes) in [
            (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, weight),
            (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, x),
            (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, out),
            (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, out),
        ] {
            prefer(f, &preference, attribute, &bytes)?;
        }
        let (mut found, mut count) = (MaybeUninit::<HeuristicResult>::zeroed(), 0);
        // SAFETY: all objects live; the library writes at most the one result that it is asked for.
        let status = unsafe {
            (f.heuristic)(
                self.handle.object,
                desc.object,
                a.object,
                b.object,
                d.object,
                d.object,
                preference.object,
                1,
                found.as_mut_ptr(),
                &mut count,
            )
        };
        check(status, "cublasLtMatmulAlgoGetHeuristic")?;
        if count == 0 {
            let why = format!("cuBLASLt has no algorithm for {rows} rows of {} x {}", shape.k, shape.n);
            return Err(DeviceError::Lost { device: DeviceKind::Cuda, why });
        }
        // SAFETY: a result was written, over zeros; the algorithm is plain words.
        let algorithm = unsafe { (*found.as_ptr()).algo };
        chosen.insert(shape, algorithm);
        Ok(algorithm)
    }
}

/// A column-major matrix.
fn layout(
    f: &Functions,
    dtype: DType,
    rows: usize,
    cols: usize,
    stride: usize,
) -> Result<Owned, DeviceError> {
    let dtype = match dtype {
        DType::BF16 => DataType::CUDA_R_16BF,
        DType::F16 => DataType::CUDA_R_16F,
        DType::F32 | DType::E4M3 | DType::U32 => DataType::CUDA_R_32F,
    } as u32;
    // SAFETY: the library writes the layout.
    let create =
        |layout| unsafe { (f.layout_create)(layout, dtype, rows as u64, cols as u64, stride as i64) };
    own(create, f.layout_destroy, "cublasLtMatrixLayoutCreate")
}

fn prefer<T>(
    f: &Functions,
    of: &Owned,
    attribute: PreferenceAttribute,
    value: &T,
) -> Result<(), DeviceError> {
    set(f.preference_set, of, attribute as u32, value, "cublasLtMatmulPreferenceSetAttribute")
}

fn set<T>(call: Set, of: &Owned, attribute: u32, value: &T, what: &'static str) -> Result<(), DeviceError> {
    // SAFETY: the library reads as many bytes as the value has.
    check(unsafe { call(of.object, attribute, std::ptr::from_ref(value).cast(), size_of::<T>()) }, what)
}
