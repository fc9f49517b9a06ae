//! What the tests share: a device, the way from source to function, and children with settings of their own.
// Every test binary compiles this module and uses a part of it.
#![allow(dead_code)]

use cudarc::driver::{CudaContext, CudaFunction, CudaStream};
use cudarc::nvrtc::{Ptx, sys};
use std::ffi::{CString, c_char};
use std::process::Command;
use std::sync::Arc;

/// The header with all inline PTX, as the CUDA device's kernels include it.
pub const PTX: &str = include_str!("../../../../kernels/src/include/ptx.cuh");

/// The header with the inline PTX of sm_90a.
pub const PTX_SM90: &str = include_str!("../../../../kernels/src/include/ptx_sm90.cuh");

/// The stand-in's device and one stream.
pub fn device() -> (Arc<CudaContext>, Arc<CudaStream>) {
    gristmill_standin::install().unwrap();
    let context = CudaContext::new(0).unwrap();
    // SAFETY: the tests order their streams themselves.
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream().unwrap();
    (context, stream)
}

/// Compiles to a cubin with `ptx.cuh` and `ptx_sm90.cuh` at hand; the log where that fails.
pub fn cubin(source: &str, options: &[&str]) -> Result<Vec<u8>, String> {
    let c = |text: &str| CString::new(text).unwrap();
    let (source, name) = (c(source), c("test.cu"));
    let headers = [PTX, PTX_SM90].map(c);
    let includes = ["ptx.cuh", "ptx_sm90.cuh"].map(c);
    let options: Vec<CString> = options.iter().map(|o| c(o)).collect();
    let options: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
    let headers = headers.each_ref().map(|header| header.as_ptr());
    let includes = includes.each_ref().map(|include| include.as_ptr());
    // SAFETY: every pointer outlives the calls, and the buffers have the sizes that NVRTC asked for.
    unsafe {
        let mut program = std::ptr::null_mut();
        sys::nvrtcCreateProgram(
            &mut program,
            source.as_ptr(),
            name.as_ptr(),
            headers.len() as i32,
            headers.as_ptr(),
            includes.as_ptr(),
        )
        .result()
        .unwrap();
        let compiled = sys::nvrtcCompileProgram(program, options.len() as i32, options.as_ptr()).result();
        let log = cudarc::nvrtc::result::get_program_log(program).unwrap();
        let log = String::from_utf8_lossy(&log.iter().map(|&b| b as u8).collect::<Vec<_>>()).into_owned();
        let mut size = 0;
        sys::nvrtcGetCUBINSize(program, &mut size).result().unwrap();
        let mut bytes = vec![0u8; size];
        sys::nvrtcGetCUBIN(program, bytes.as_mut_ptr().cast()).result().unwrap();
        sys::nvrtcDestroyProgram(&mut program).result().unwrap();
        compiled.map(|()| bytes).map_err(|error| format!("{error}: {log}"))
    }
}

/// Compiles for sm_80 and loads one kernel.
pub fn kernel(context: &Arc<CudaContext>, source: &str, name: &str) -> CudaFunction {
    variant(context, source, name, &[])
}

/// The same with more options.
pub fn variant(context: &Arc<CudaContext>, source: &str, name: &str, options: &[&str]) -> CudaFunction {
    variant_for(context, "sm_80", source, name, options)
}

/// The same for another architecture.
pub fn variant_for(
    context: &Arc<CudaContext>,
    architecture: &str,
    source: &str,
    name: &str,
    options: &[&str],
) -> CudaFunction {
    let architecture = format!("--gpu-architecture={architecture}");
    let image = cubin(source, &[&[&architecture, "--std=c++17"], options].concat()).unwrap();
    context.load_module(Ptx::from_binary(image)).unwrap().load_function(name).unwrap()
}

/// Runs `body` in a child process with these settings, and returns all that it printed. `test` is the calling test.
pub fn child(test: &str, settings: &[(&str, &str)], body: impl FnOnce()) -> Option<String> {
    if std::env::var_os("STANDIN_CHILD").is_some() {
        body();
        return None;
    }
    gristmill_standin::build().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env("STANDIN_CHILD", "1");
    for (name, value) in settings {
        command.env(format!("GRISTMILL_STANDIN_{name}"), value);
    }
    let output = command.output().unwrap();
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    said.push_str(&format!("\n{}", output.status));
    Some(said)
}
