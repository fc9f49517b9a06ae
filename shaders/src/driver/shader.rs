//! A shader's source and interface.

/// Bytes of immediates that an adapter must offer: 16 words, the longest `Params` of a shader.
pub(crate) const IMMEDIATE_BYTES: u32 = 64;

/// Invocations in a workgroup of the shaders that serve one element or one run of columns each.
pub(crate) const LANES: usize = 64;

/// How a shader uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    Write,
}

/// A shader and its interface. Bindings are 0, 1, ... of group 0.
#[derive(Debug)]
pub(crate) struct Shader {
    /// The stem of its own file.
    pub name: &'static str,
    /// The files that it is made of: the snippets that it uses, then its own.
    pub files: &'static [&'static str],
    /// Bytes of its immediates, `Params`.
    pub params: usize,
    /// Its bindings in order.
    pub bindings: &'static [Access],
}

impl Shader {
    /// The whole source.
    pub fn source(&self) -> String {
        self.files.concat()
    }
}
