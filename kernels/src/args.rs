//! Structs that kernels take: `#[repr(C)]` here, the same fields in the `.cu` file, and checks that the compiler of
//! kernels makes of the two.

use bytemuck::Pod;

/// An address in the card's memory.
pub(crate) type DevicePtr = u64;

/// How a struct lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// The name of the struct.
    pub name: &'static str,
    /// Its bytes.
    pub size: usize,
    /// Its fields and their offsets in bytes.
    pub fields: &'static [(&'static str, usize)],
}

impl Layout {
    /// C++ that does not compile if the source's struct of this name lies in memory in another way.
    pub fn assertions(&self) -> String {
        let Layout { name, size, .. } = self;
        let mut text = format!("static_assert(sizeof({name}) == {size}, \"size of {name}\");\n");
        // NVRTC knows no offsets up to CUDA 13.2, so a card does without them; the tests have seen that they are right.
        text += "#if defined(GRISTMILL_STANDIN) || defined(OFFSETS)\n";
        for (field, offset) in self.fields {
            text += &format!(
                "static_assert(__builtin_offsetof({name}, {field}) == {offset}, \"{name}::{field}\");\n"
            );
        }
        text + "#endif\n"
    }
}

/// A struct that the sources declare too, under the same name and with the same fields.
pub(crate) trait CStruct: Pod {
    /// How it lies in memory.
    const LAYOUT: Layout;
}

/// Makes a struct of another crate a [`CStruct`]; fields that are not named are not compared.
macro_rules! c_layout {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::args::CStruct for $name {
            const LAYOUT: $crate::args::Layout = $crate::args::Layout {
                name: stringify!($name),
                size: size_of::<$name>(),
                fields: &[$((stringify!($field), std::mem::offset_of!($name, $field))),*],
            };
        }
    };
}
pub(crate) use c_layout;

/// Declares a [`CStruct`]. Its fields fill it without holes, so that a struct with an odd number of words ends in `pad`.
macro_rules! c_struct {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
        $vis struct $name {
            $($(#[$doc])* $vis $field: $type),*
        }

        $crate::args::c_layout!($name { $($field),* });
    };
}
pub(crate) use c_struct;

/// The arguments of a launch, as bytes.
#[derive(Clone, Debug)]
pub(crate) struct ArgBytes {
    /// Whole words, so that 8-byte fields are aligned.
    words: Box<[u64]>,
    layout: Layout,
}

impl ArgBytes {
    pub(crate) fn new<A: CStruct>(args: &A) -> ArgBytes {
        let mut words = vec![0_u64; size_of::<A>().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut words)[..size_of::<A>()].copy_from_slice(bytemuck::bytes_of(args));
        ArgBytes { words: words.into(), layout: A::LAYOUT }
    }

    /// The layout of the struct that this was.
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Where the bytes are.
    pub(crate) fn as_ptr(&self) -> *const u64 {
        self.words.as_ptr()
    }
}

/// A size as the kernels' `u32`.
pub(crate) fn word(n: usize) -> u32 {
    // No dimension of a plan comes near it.
    u32::try_from(n).unwrap_or(u32::MAX)
}
