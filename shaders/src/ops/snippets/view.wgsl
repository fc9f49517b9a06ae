// Columns of a buffer.
struct View {
    // Words between rows.
    stride: u32,
    // The first column.
    start: u32,
}

// Where an element of a view is.
fn place(view: View, row: u32, col: u32) -> u32 {
    return row * view.stride + view.start + col;
}

