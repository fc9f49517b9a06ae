//! The `gristmill` command.

#[global_allocator]
static ALLOCATOR: jobs::allocator::Allocator = jobs::allocator::Allocator;

fn main() -> std::process::ExitCode {
    // Vulkan drivers print an error where no desktop has set this, and nothing here needs a desktop.
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", std::env::temp_dir()) };
    }
    jobs::cli::main(std::env::args_os()).into()
}
