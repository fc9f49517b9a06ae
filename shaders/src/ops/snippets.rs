//! WGSL that several shaders share, to be put before their own source.

/// The index of an invocation over the whole dispatch.
pub(crate) const INVOCATION: &str = include_str!("snippets/invocation.wgsl");
/// Columns of a buffer.
pub(crate) const VIEW: &str = include_str!("snippets/view.wgsl");
/// The types of floats, and widening two of 16 bits.
pub(crate) const FLOATS: &str = include_str!("snippets/floats.wgsl");
/// Widening columns of a weight in blocks, at binding 2. Needs [`FLOATS`].
pub(crate) const WEIGHT: &str = include_str!("snippets/weight.wgsl");
/// The interface of the shaders of Linear, and the store of one element. Needs [`WEIGHT`] and [`VIEW`].
pub(crate) const LINEAR_INTERFACE: &str = include_str!("snippets/linear_interface.wgsl");
/// A value kept within a bound.
pub(crate) const SOFT_CAP: &str = include_str!("snippets/soft_cap.wgsl");
/// How the token of one output position is chosen.
pub(crate) const SAMPLE_ROW: &str = include_str!("snippets/sample_row.wgsl");
/// The sum of one float of each invocation of a workgroup.
pub(crate) const SUM: &str = include_str!("snippets/sum.wgsl");
