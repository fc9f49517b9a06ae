// Spreads the inputs of a step, which cross to the card in one copy, over their buffers.
#include "number.cuh"

struct Part {
    u32 *to;
    u32 from; // in words from the start of the copy
    u32 rows;
    u32 cols;
    u32 stride; // of a row at `to`
};

struct Args {
    const Part *parts;
    const u32 *words;
};

// blockIdx.y is the part; the blocks of a part share its words.
extern "C" __global__ void unpack(Args a) {
    const Part part = a.parts[blockIdx.y];
    const u32 total = part.rows * part.cols;
    for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += gridDim.x * blockDim.x) {
        part.to[size_t(i / part.cols) * part.stride + i % part.cols] = a.words[part.from + i];
    }
}
