//! Linear through cuBLASLt, NVIDIA's own library: the yardstick of the benches, and `--gemm cublaslt`.
//!
//! It chooses its algorithm, and with it the order of sums, by the number of rows, so that a row's bits
//! depend on what shares its step. That is outside the numeric contract, and the device says so.
//!
//! cudarc's binding finds no `.so.13` and asks for an algorithm at every call, so only its constants are
//! used here.

use crate::kernel::{Kernel, type_name};
use crate::launch::{Args, Call, Extent, Launch, block_per_row, threads_for};
use crate::library;
use crate::memory::DeviceMemory;
use crate::program::{Operand, Site};
use cudarc::cublaslt::sys::{
    cublasComputeType_t as ComputeType, cublasLtMatmulAlgo_t as Algorithm,
    cublasLtMatmulDescAttributes_t as DescAttribute, cublasLtMatmulHeuristicResult_t as Found,
    cublasLtMatmulPreferenceAttributes_t as PreferenceAttribute, cudaDataType_t as DataType,
};
use cudarc::driver::{CudaContext, CudaStream};
use engine::device::{DeviceError, DeviceKind};
use engine::dtype::DType;
use engine::plan::{BufferId, Rows, View};
use libloading::Library;
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Memory that algorithms may use, as NVIDIA recommends for Hopper (cuBLAS documentation, "cublasSetWorkspace").
const WORKSPACE: usize = 32 << 20;

/// `CUBLAS_OP_T` of `cublas_api.h`.
const TRANSPOSED: u32 = 1;

/// A handle, a descriptor, a layout or a preference.
type Object = *mut c_void;
type Status = u32;
type Destroy = unsafe extern "C" fn(Object) -> Status;
type Set = unsafe extern "C" fn(Object, u32, *const c_void, usize) -> Status;
type Heuristic = unsafe extern "C" fn(
    Object,
    Object,
    Object,
    Object,
    Object,
    Object,
    Object,
    c_int,
    *mut Found,
    *mut c_int,
) -> Status;
type Matmul = unsafe extern "C" fn(
    Object,
    Object,
    *const f32,
    u64,
    Object,
    u64,
    Object,
    *const f32,
    u64,
    Object,
    u64,
    Object,
    *const Algorithm,
    u64,
    usize,
    *mut c_void,
) -> Status;

/// The functions that are called here, as `cublasLt.h` declares them; device pointers are integers.
struct Functions {
    create: unsafe extern "C" fn(*mut Object) -> Status,
    destroy: Destroy,
    desc_create: unsafe extern "C" fn(*mut Object, u32, u32) -> Status,
    desc_set: Set,
    desc_destroy: Destroy,
    layout_create: unsafe extern "C" fn(*mut Object, u32, u64, u64, i64) -> Status,
    layout_destroy: Destroy,
    preference_create: unsafe extern "C" fn(*mut Object) -> Status,
    preference_set: Set,
    preference_destroy: Destroy,
    heuristic: Heuristic,
    matmul: Matmul,
    /// Keeps the code of the functions above in memory.
    _library: Library,
}

impl Functions {
    /// Those of this process, found on first use.
    fn get() -> Result<&'static Functions, DeviceError> {
        static FUNCTIONS: OnceLock<Result<Functions, String>> = OnceLock::new();
        FUNCTIONS.get_or_init(Functions::load).as_ref().map_err(|why| DeviceError::Absent(why.clone()))
    }

    fn load() -> Result<Functions, String> {
        let (of_13, of_12) =
            (["libcublasLt.so.13", "cublasLt64_13.dll"], ["libcublasLt.so.12", "cublasLt64_12.dll"]);
        let names = library::fitting(of_13, of_12, "libcublasLt.so");
        let library = library::open(&names, None).ok_or(
            "libcublasLt not found: pip install nvidia-cublas, set CUDA_HOME to a CUDA toolkit, or leave out \
             --gemm cublaslt",
        )?;
        // SAFETY: the signatures are those of cublasLt.h (CUDA 12 and 13).
        unsafe {
            Ok(Functions {
                create: function(&library, "cublasLtCreate")?,
                destroy: function(&library, "cublasLtDestroy")?,
                desc_create: function(&library, "cublasLtMatmulDescCreate")?,
                desc_set: function(&library, "cublasLtMatmulDescSetAttribute")?,
                desc_destroy: function(&library, "cublasLtMatmulDescDestroy")?,
                layout_create: function(&library, "cublasLtMatrixLayoutCreate")?,
                layout_destroy: function(&library, "cublasLtMatrixLayoutDestroy")?,
                preference_create: function(&library, "cublasLtMatmulPreferenceCreate")?,
                preference_set: function(&library, "cublasLtMatmulPreferenceSetAttribute")?,
                preference_destroy: function(&library, "cublasLtMatmulPreferenceDestroy")?,
                heuristic: function(&library, "cublasLtMatmulAlgoGetHeuristic")?,
                matmul: function(&library, "cublasLtMatmul")?,
                _library: library,
            })
        }
    }
}

/// A function of the library.
///
/// # Safety
/// `T` must be its type.
unsafe fn function<T: Copy>(library: &Library, name: &str) -> Result<T, String> {
    // SAFETY: passed on to the caller.
    let found = unsafe { library.get::<T>(name.as_bytes()) };
    found.map(|f| *f).map_err(|e| format!("libcublasLt is too old, CUDA 12 or later is needed: {e}"))
}

/// An object of the library, destroyed when it is dropped.
struct Owned {
    object: Object,
    destroy: Destroy,
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: made by the library and destroyed once; an error here has no remedy.
        unsafe { (self.destroy)(self.object) };
    }
}

/// Makes an object; `create` is one of the library's functions with its arguments.
fn own(
    create: impl FnOnce(*mut Object) -> Status,
    destroy: Destroy,
    what: &'static str,
) -> Result<Owned, DeviceError> {
    let mut object: Object = std::ptr::null_mut();
    done(create(&mut object), what)?;
    Ok(Owned { object, destroy })
}

fn done(status: Status, what: &'static str) -> Result<(), DeviceError> {
    match status {
        0 => Ok(()),
        _ => Err(DeviceError::Lost {
            device: DeviceKind::Cuda,
            why: format!("{what} gave status {status} of cublasStatus_t"),
        }),
    }
}

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
    aligned: [u32; 3],
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
                "libcublasLt does not start ({why}): is it of the driver's CUDA version? Or leave out --gemm cublaslt"
            ))
        })?;
        let workspace =
            DeviceMemory::new(context, WORKSPACE, "cuBLASLt's workspace", "leave out --gemm cublaslt")?;
        Ok(CublasLt { functions, handle, workspace, chosen: Mutex::default() })
    }
}

/// One Linear: `out = x weight^T`, or `out += x weight^T`.
pub(crate) struct Product {
    blas: Arc<CublasLt>,
    rows: Rows,
    x: Operand,
    weight: Operand,
    out: Operand,
    add: bool,
}

impl Product {
    /// Queues the product for the rows of an extent.
    pub(crate) fn run(&self, stream: &CudaStream, extent: &Extent) -> Result<(), DeviceError> {
        match extent.dims.count(self.rows) {
            0 => Ok(()),
            rows => self.multiply(stream, rows),
        }
    }

    fn multiply(&self, stream: &CudaStream, rows: usize) -> Result<(), DeviceError> {
        let (blas, f) = (&*self.blas, self.blas.functions);
        let (x, weight, out) = (&self.x, &self.weight, &self.out);
        // Row-major [rows, k] is column-major [k, rows]: out^T = weight x^T, [n, rows] = [n, k] [k, rows].
        let desc = self.descriptor()?;
        let a = layout(f, x.dtype, x.cols, out.cols, weight.stride)?;
        let b = layout(f, x.dtype, x.cols, rows, x.stride)?;
        let d = layout(f, out.dtype, out.cols, rows, out.stride)?;
        let algorithm = self.algorithm(rows, [&desc, &a, &b, &d])?;
        let (alpha, beta) = (1.0, if self.add { 1.0 } else { 0.0 });
        // SAFETY: the layouts are those of the plan's buffers, which outlive its steps; all else lives until
        // the call returns.
        let status = unsafe {
            (f.matmul)(
                blas.handle.object,
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
                blas.workspace.at,
                WORKSPACE,
                stream.cu_stream().cast(),
            )
        };
        done(status, "cublasLtMatmul")
    }

    fn descriptor(&self) -> Result<Owned, DeviceError> {
        let f = self.blas.functions;
        let (compute, scale) = (ComputeType::CUBLAS_COMPUTE_32F as u32, DataType::CUDA_R_32F as u32);
        // SAFETY: the library writes the descriptor.
        let create = |desc| unsafe { (f.desc_create)(desc, compute, scale) };
        let desc = own(create, f.desc_destroy, "cublasLtMatmulDescCreate")?;
        let attribute = DescAttribute::CUBLASLT_MATMUL_DESC_TRANSA as u32;
        set(f.desc_set, &desc, attribute, &TRANSPOSED, "cublasLtMatmulDescSetAttribute")?;
        Ok(desc)
    }

    /// The library's choice for so many rows, asked for once.
    fn algorithm(&self, rows: usize, [desc, a, b, d]: [&Owned; 4]) -> Result<Algorithm, DeviceError> {
        let (blas, f) = (&*self.blas, self.blas.functions);
        let aligned = |o: &Operand| 1 << o.at.trailing_zeros().min(8);
        let shape = Shape {
            rows,
            k: self.x.cols,
            n: self.out.cols,
            x_stride: self.x.stride,
            out_stride: self.out.stride,
            x: self.x.dtype,
            out: self.out.dtype,
            aligned: [aligned(&self.weight), aligned(&self.x), aligned(&self.out)],
            add: self.add,
        };
        let mut chosen = blas.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(algorithm) = chosen.get(&shape) {
            return Ok(*algorithm);
        }
        // SAFETY: the library writes the preference.
        let create = |preference| unsafe { (f.preference_create)(preference) };
        let preference = own(create, f.preference_destroy, "cublasLtMatmulPreferenceCreate")?;
        let most = PreferenceAttribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        prefer(f, &preference, most, &WORKSPACE)?;
        let [weight, x, out] = shape.aligned;
        for (attribute, bytes) in [
            (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, weight),
            (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, x),
            (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, out),
            (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, out),
        ] {
            prefer(f, &preference, attribute, &bytes)?;
        }
        let (mut found, mut count) = (MaybeUninit::<Found>::zeroed(), 0);
        // SAFETY: all objects live; the library writes at most the one result that it is asked for.
        let status = unsafe {
            (f.heuristic)(
                blas.handle.object,
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
        done(status, "cublasLtMatmulAlgoGetHeuristic")?;
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
        DType::F32 | DType::U32 => DataType::CUDA_R_32F,
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
    done(unsafe { call(of.object, attribute, std::ptr::from_ref(value).cast(), size_of::<T>()) }, what)
}

/// Fills rows with the bias, to which the product is then added.
pub(crate) fn bias_kernel(bias: DType, out: DType) -> Kernel {
    Kernel::new("bias.cu", include_str!("bias.cu"), "fill_bias", 40)
        .define("TB", type_name(bias))
        .define("TO", type_name(out))
}

/// A Linear as a product of the library, after its bias if it has one. `add` says that `out` holds a
/// residual to add to; then there is no bias.
pub(crate) fn lower(
    site: &mut Site,
    blas: &Arc<CublasLt>,
    (x, weight, bias, out): (View, BufferId, Option<BufferId>, View),
    add: bool,
) -> Vec<Call<Launch>> {
    let (x, weight, out) = (site.view(x), site.buffer(weight), site.view(out));
    let mut calls = Vec::new();
    if let Some(bias) = bias.map(|b| site.buffer(b)) {
        calls.push(Call::Launch(Launch {
            kernels: vec![bias_kernel(bias.dtype, out.dtype)],
            args: Args::default()
                .pointer(site.rows(out.rows))
                .pointer(bias.at)
                .pointer(out.at)
                .word(out.cols)
                .word(out.stride),
            shape: block_per_row(out.rows, threads_for(out.cols)),
        }));
    }
    let add = add || bias.is_some();
    calls.push(Call::Product(Product { blas: blas.clone(), rows: x.rows, x, weight, out, add }));
    calls
}
