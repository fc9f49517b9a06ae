//! A kernel: a source of ours with the options that make one variant of it.

use crate::args::{CStruct, Layout};

/// Resources that a variant may take on any architecture, written beside it and checked in CI. Spills to
/// local memory are never allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of shared memory of a block, static and dynamic together.
    pub shared: u32,
}

/// One variant of one source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// The file, for messages.
    pub file: &'static str,
    /// The source as its file has it; [`Kernel::source`] is what is compiled.
    pub text: &'static str,
    /// The name of the `extern "C"` function.
    pub entry: &'static str,
    /// `-D` options: types, tile shapes.
    pub defines: Vec<(&'static str, String)>,
    /// The structs that the host fills for it: its arguments first.
    pub structs: Vec<Layout>,
    /// Bytes of dynamic shared memory that a launch takes.
    pub dynamic_shared: u32,
    /// What the variant may take.
    pub budget: Budget,
}

/// The headers that sources include: names and texts.
pub const HEADERS: [(&str, &str); 9] = [
    ("ptx.cuh", include_str!("include/ptx.cuh")),
    ("ptx_sm90.cuh", include_str!("include/ptx_sm90.cuh")),
    ("number.cuh", include_str!("include/number.cuh")),
    ("weight.cuh", include_str!("include/weight.cuh")),
    ("pages.cuh", include_str!("include/pages.cuh")),
    ("attention.cuh", include_str!("include/attention.cuh")),
    ("attention_tile.cuh", include_str!("include/attention_tile.cuh")),
    ("kv_block.cuh", include_str!("include/kv_block.cuh")),
    ("sample.cuh", include_str!("include/sample.cuh")),
];

impl Kernel {
    /// A variant of a source whose entry takes `A`.
    pub(crate) fn new<A: CStruct>(
        file: &'static str,
        text: &'static str,
        entry: &'static str,
        registers: u32,
    ) -> Self {
        let budget = Budget { registers, shared: 48 << 10 };
        let structs = vec![A::LAYOUT];
        Kernel { file, text, entry, defines: Vec::new(), structs, dynamic_shared: 0, budget }
    }

    /// Checks another struct that the host fills for the kernel.
    pub(crate) fn with_struct<S: CStruct>(mut self) -> Self {
        self.structs.push(S::LAYOUT);
        self
    }

    pub(crate) fn define(mut self, name: &'static str, value: impl ToString) -> Self {
        self.defines.push((name, value.to_string()));
        self
    }

    pub(crate) fn shared(mut self, bytes: u32) -> Self {
        self.dynamic_shared = bytes;
        self.budget.shared = self.budget.shared.max(bytes);
        self
    }

    /// What is compiled: the source, and after it the checks that its structs are those of the host.
    pub fn source(&self) -> String {
        let checks: String = self.structs.iter().map(Layout::assertions).collect();
        format!("{}\n{checks}", self.text)
    }

    /// Whether it waits for the kernels before it itself, so that it may be launched before they are done.
    pub(crate) fn waits(&self) -> bool {
        ["take_turn();", "wait_for_kernels_before();"].iter().any(|wait| self.text.contains(wait))
    }

    /// Compiler options without the architecture.
    pub fn options(&self) -> Vec<String> {
        let mut options = vec![
            "--std=c++17".into(),
            // Products and sums are fused where the source says fmaf, and nowhere else: the bits must not
            // depend on what the compiler sees around an expression.
            "--fmad=false".into(),
        ];
        options.extend(self.defines.iter().map(|(name, value)| format!("-D{name}={value}")));
        options
    }
}
