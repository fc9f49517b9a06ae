//! The `gristmill` command.

fn main() -> std::process::ExitCode {
    jobs::command::main(std::env::args_os()).into()
}
