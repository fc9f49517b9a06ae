//! Every shader under every set of constants that the ops use, through naga: no adapter is needed.

use crate::buffers::blocks::{FORMATS, format_code};
use crate::driver::shader::{IMMEDIATE_BYTES, Shader};
use crate::ops::tiles::{HARDWARE, SOFTWARE, WORKGROUP};
use crate::ops::{
    add, embed, gated_mul, gather_rows, kv_write, linear, paged_attention, rms_norm, rope, sample, soft_cap,
};
use crate::peak;
use naga::valid::{Capabilities, ValidationFlags, Validator};

type Constants = Vec<(&'static str, f64)>;

/// Parses a shader, validates it, settles its constants and validates what they leave.
fn validate(shader: &Shader, sets: &[Constants]) {
    let source = shader.source();
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|e| panic!("{}: {}", shader.name, e.emit_to_string(&source)));
    let capabilities =
        Capabilities::IMMEDIATES | Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    let info = validator.validate(&module).unwrap_or_else(|e| panic!("{}: {e:?}", shader.name));
    let bindings = module.global_variables.iter().filter(|(_, v)| v.binding.is_some()).count();
    assert_eq!(bindings, shader.bindings.len(), "{} declares other bindings", shader.name);
    let immediates = module.global_variables.iter().find(|(_, v)| v.space == naga::AddressSpace::Immediate);
    let params = immediates.map(|(_, v)| module.types[v.ty].inner.size(module.to_ctx()) as usize);
    assert_eq!(params, Some(shader.params), "{} declares other immediates", shader.name);
    assert!(shader.params <= IMMEDIATE_BYTES as usize);
    for set in sets {
        let constants = set.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        let entry = Some((naga::ShaderStage::Compute, "main"));
        naga::back::pipeline_constants::process_overrides(&module, &info, entry, &constants)
            .unwrap_or_else(|e| panic!("{} with {set:?}: {e}", shader.name));
    }
}

/// The formats of weights.
fn weights() -> impl Iterator<Item = f64> {
    FORMATS.into_iter().map(format_code)
}

/// The formats of KV pages.
fn pages() -> impl Iterator<Item = f64> {
    FORMATS.into_iter().filter(|format| format.plain().is_some()).map(format_code)
}

#[test]
fn shaders_without_constants() {
    for shader in [&add::SHADER, &gather_rows::SHADER, &rope::SHADER, &sample::SHADER, &sample::TARGETS] {
        validate(shader, &[Vec::new()]);
    }
}

#[test]
fn row_shaders() {
    let both = |name| [0.0, 1.0].map(|v| vec![(name, v)]);
    validate(&gated_mul::SHADER, &both("ACTIVATION"));
    validate(&rms_norm::SHADER, &both("HAS_ADD"));
    validate(&peak::SHADER, &both("COPY"));
    validate(&soft_cap::SHADER, &[vec![("CAP", 30.0)]]);
    let scaled = weights().flat_map(|f| [1.0, 45.25].map(|scale| vec![("FORMAT", f), ("SCALE", scale)]));
    validate(&embed::SHADER, &scaled.collect::<Vec<_>>());
    let pairs = pages().flat_map(|k| pages().map(move |v| vec![("K_FORMAT", k), ("V_FORMAT", v)]));
    validate(&kv_write::SHADER, &pairs.collect::<Vec<_>>());
}

#[test]
fn attention() {
    let mut sets = Vec::new();
    for (k, v) in pages().flat_map(|k| pages().map(move |v| (k, v))) {
        for (heads, chunks) in (1..=4).flat_map(|h| (1..=4).map(move |c| (f64::from(h), f64::from(c)))) {
            for softcap in [0.0, 50.0] {
                let pages = [("K_FORMAT", k), ("V_FORMAT", v)];
                let shape = [("HEADS", heads), ("CHUNKS", chunks), ("SOFTCAP", softcap)];
                sets.push([&pages[..], &shape].concat());
            }
        }
    }
    validate(&paged_attention::SHADER, &sets);
}

#[test]
fn linear_tiles() {
    let mut sets = Vec::new();
    let mut plain = Vec::new();
    for tile in [SOFTWARE, HARDWARE, WORKGROUP].concat() {
        for format in weights() {
            for flags in 0..8 {
                let flag = |bit: u32| f64::from(flags >> bit & 1);
                let shared = vec![("FORMAT", format), ("LANES", tile.lanes as f64), ("HAS_BIAS", flag(0))];
                let mut set = shared.clone();
                set.extend([("ROWS", tile.rows as f64), ("COLS", tile.cols as f64)]);
                set.extend([("ALIGNED", flag(1)), ("RAGGED", flag(2))]);
                sets.push(set);
                plain.push(shared);
            }
        }
    }
    validate(&linear::SHADER, &sets);
    validate(&linear::WORKGROUP_SHADER, &plain);
}
